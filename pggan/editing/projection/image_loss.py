"""How far images are from one picture, differentiably: bands of a Laplacian pyramid, and features of a network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from pggan.generation.model import Model
from pggan.metrics.laplacian import LOWEST, downsample, upsample
from pggan.metrics.preprocessing import resize_images, to_rgb
from pggan.networks.discriminator import Discriminator
from pggan.networks.layers import EqualizedWeight
from pggan.utils.devices import widest_dtype
from pggan.utils.errors import ModelError, UsageError

LOSSES = ("auto", "pyramid", "discriminator", "efficientnet")
# Weight of the features beside the pyramid's bands.
FEATURE_WEIGHT = 0.1

Features = Callable[[Tensor], list[Tensor]]


class ImageLoss:
    """The distance (N,) of images (N, C, R, R) in [-1, 1] from one picture (C, R, R).

    It is the sum of the mean absolute differences of the bands of a Laplacian pyramid down to 16x16 (Bojanowski et al.
    2018), and of features whose channels are normalised to unit length at each place (Zhang et al. 2018, LPIPS, without
    its learned weights). Where the picture is white or black, images may be beyond: 8 bits hold no more.

    Args:
        picture: The picture.
        features: A network's features; None: the pyramid alone.
    """

    def __init__(self, picture: Tensor, features: Features | None = None) -> None:
        self._features = features
        self._limits = limits_of(picture)
        self._bands = pyramid_bands(picture[None])
        with torch.no_grad():
            self._targets = _normalised(features, picture[None]) if features is not None else []

    def __call__(self, images: Tensor) -> Tensor:
        images = images.clamp(*self._limits)
        distances = [(a - b).abs().mean(dim=(1, 2, 3)) for a, b in zip(pyramid_bands(images), self._bands)]
        if self._features is not None:
            pairs = zip(_normalised(self._features, images), self._targets)
            parts = [(a - b).square().flatten(2).sum(dim=1).mean(dim=1) for a, b in pairs]
            distances.append(FEATURE_WEIGHT * torch.stack(parts).sum(dim=0))
        return torch.stack(distances).sum(dim=0)


def limits_of(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the least and largest values (C, R, R) that are told apart from a picture's in 8 bits."""
    far = torch.full_like(picture, float("inf"))
    return torch.where(picture <= -1, -torch.ones_like(far), -far), torch.where(picture >= 1, torch.ones_like(far), far)


def pyramid_bands(images: Tensor) -> list[Tensor]:
    """Returns the bands of images (N, C, R, R), the finest first; the last is the low-pass rest at 16x16 (or R)."""
    bands = []
    while images.shape[-1] > LOWEST:
        smaller = downsample(images)
        bands.append(images - upsample(smaller))
        images = smaller
    return [*bands, images]


def feature_network(model: Model, loss: str) -> Features | None:
    """Returns the features that a loss of `LOSSES` adds to the pyramid; None for the pyramid alone.

    "auto": those of the model's own discriminator, where its file keeps one.

    Raises:
        UsageError: There is no such loss, or a package is missing.
        ModelError: The file keeps no discriminator.
    """
    if loss not in LOSSES:
        raise UsageError(f"unknown loss {loss!r}; choose one of: {', '.join(LOSSES)}")
    discriminator = model.file.discriminator
    if loss == "efficientnet":
        return _efficientnet_features(model)
    if loss == "discriminator" and discriminator is None:
        raise ModelError(f"{model.name} keeps no discriminator; give --loss pyramid or efficientnet")
    return None if loss == "pyramid" or discriminator is None else _discriminator_features(model, discriminator)


def _normalised(features: Features, images: Tensor) -> list[Tensor]:
    """Returns features (N, F, ...) with unit length over F."""
    return [maps / (maps.square().sum(dim=1, keepdim=True) + 1e-8).sqrt() for maps in features(images)]


def _recorded(network: nn.Module, layers: list[nn.Module], run: Callable[[], object]) -> list[Tensor]:
    """Returns what each of a network's layers puts out while `run()` runs it."""
    outputs: list[Tensor] = []

    def record(module: nn.Module, inputs: object, output: Tensor) -> None:
        outputs.append(output if output.ndim > 2 else output[:, :, None])

    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _discriminator_features(model: Model, discriminator: Discriminator) -> Features:
    """Outputs of all layers of D before its head, where samples do not depend on each other yet."""
    level, group = model.file.level, discriminator.config.minibatch_group
    alpha = torch.full((), model.file.alpha, dtype=widest_dtype(model.device), device=model.device)
    names = [name for name in discriminator.layers_at(level) if not name.startswith("head.")]
    layers = [layer for name, layer in discriminator.named_modules() if name in names]

    def features(images: Tensor) -> list[Tensor]:
        # chunks: the head divides a batch into groups of this size
        chunks = images.split(group)
        parts = [_recorded(discriminator, layers, partial(discriminator, chunk, level, alpha)) for chunk in chunks]
        return [torch.cat(maps) for maps in zip(*parts)]

    if not any(isinstance(layer, EqualizedWeight) for layer in layers):
        raise ModelError(f"the discriminator of {model.name} has no features; give --loss pyramid")
    return features


def _efficientnet_features(model: Model) -> Features:
    """Outputs of the stages of EfficientNet-Lite0 (ImageNet) that halve the resolution, but for the last."""
    from pggan.metrics.efficientnet import SIDE, EfficientNetLite0

    network = EfficientNetLite0(model.device).network
    layers = [network._blocks[number] for number in (0, 2, 4, 10)]

    def features(images: Tensor) -> list[Tensor]:
        values = resize_images(to_rgb(images) * 127.5 + 127.5, SIDE)
        return _recorded(network, layers, lambda: network((values - 127) / 128))

    return features
