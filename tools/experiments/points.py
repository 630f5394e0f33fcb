"""Players for points in the plane: points (N, 2) go through the product's steps as pictures (N, 2, 1, 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pggan.config.train import DiscriminatorConfig
from pggan.networks.heads import DiscriminatorOutput, FlatHead
from pggan.networks.layers import EqualizedLinear, EqualizedWeight

LATENT = 8


class PointGenerator(nn.Module):
    """Three layers, latents (N, 8) to points (N, 2, 1, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = _layers(LATENT, width)
        self.out = EqualizedLinear(width, 2, 1.0, equalized=False)

    def forward(
        self, latents: Tensor, level: int, alpha: Tensor, labels: Tensor, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.out(self.layers(latents))[:, :, None, None]


class PointDiscriminator(nn.Module):
    """Three layers with the product's last layers and minibatch layers; with `decodes`, an auto-encoder of points.

    A hidden code as wide as points would let everything through: an auto-encoder's is of one number.
    """

    def __init__(self, width: int, diversity: str = "none", decodes: bool = False) -> None:
        super().__init__()
        self.config = config = DiscriminatorConfig(
            resolution=4, equalized=False, diversity=diversity, stddev_group=16, discrimination_kernels=16,
            discrimination_dim=4, discrimination_group=64, decodes=decodes, hidden_size=1,
        )  # fmt: skip
        self.layers = _layers(2, width)
        self.head = FlatHead(width, config)
        self.decoder = nn.Sequential(_layers(1, width), EqualizedLinear(width, 2, 1.0, False)) if decodes else None

    def layers_at(self, level: int) -> dict[str, EqualizedWeight]:
        """No layer: each pass computes its own weights, which costs nothing at this size."""
        return {}

    def forward(
        self, images: Tensor, level: int, alpha: Tensor, dtype: torch.dtype | None = None
    ) -> DiscriminatorOutput:
        out = self.head(self.layers(images.flatten(1)))
        if self.decoder is None:
            return out
        points = self.decoder(out.features)[:, :, None, None]
        return out._replace(score=-(images - points).abs().mean(dim=(1, 2, 3)), reconstruction=points)


def _layers(inputs: int, width: int) -> nn.Sequential:
    first, second = (EqualizedLinear(size, width, equalized=False) for size in (inputs, width))
    return nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2))
