"""Preprocessing of images for feature networks: grey to RGB, resizing, how many images run at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CPU_CHUNK, GPU_CHUNK = 4, 64


def chunk_size(device: torch.device) -> int:
    """Returns how many images a feature network takes in one forward pass.

    Few on a CPU: above that, each activation exceeds what the allocator reuses, and requesting its memory from the
    system anew costs more than the arithmetic.
    """
    return CPU_CHUNK if device.type == "cpu" else GPU_CHUNK


def to_rgb(images: Tensor) -> Tensor:
    """Returns images (N, C, R, R) with 3 channels: grey ones three times, premultiplied RGBA over black."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images[:, :3]


def run_in_chunks(
    network: Callable[[Tensor], Sequence[Tensor]], images: Tensor, device: torch.device
) -> dict[str, Tensor]:
    """Returns the `features` and `logits`, on the CPU, that a network on a device computes of images (N, C, R, R)."""
    outputs = [
        [output.cpu() for output in network(chunk)] for chunk in to_rgb(images.to(device)).split(chunk_size(device))
    ]
    features, logits = map(torch.cat, zip(*outputs))
    return {"features": features, "logits": logits}


def resize_images(images: Tensor, side: int) -> Tensor:
    """Resizes float images (N, C, R, R) to `side` pixels a side: bilinear, antialiased when shrinking."""
    if images.shape[-1] == side:
        return images
    shrinks = side < images.shape[-1]
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=shrinks)
