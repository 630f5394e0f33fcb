"""Changes of size: nearest neighbour and box filter, the [1 2 1] filter that makes them bilinear, and the fade."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.networks.convolution import Geometry, convolution


def upscale(x: Tensor) -> Tensor:
    """Doubles the sides by nearest neighbour: (N, C, H, W) to (N, C, 2H, 2W)."""
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)


def downscale(x: Tensor) -> Tensor:
    """Halves the sides by a 2x2 box filter: (N, C, 2H, 2W) to (N, C, H, W)."""
    return F.avg_pool2d(x, 2)


def blur(x: Tensor) -> Tensor:
    """Filters (N, C, H, W) by [1 2 1] / 4 along both sides, with zeros around it.

    After an upscale by nearest neighbour the two are bilinear interpolation; before a 2x2 average the two halve the
    sides by [1 3 3 1] / 8 (Karras et al. 2019, section 2, after Zhang 2019).
    """
    channels = x.shape[1]
    kernel = _blur_kernel(x.device, x.dtype) if torch.compiler.is_compiling() else _cached_kernel(x.device, x.dtype)
    return convolution(x, kernel.expand(channels, 1, 3, 3), None, Geometry(padding=1, groups=channels))


def _blur_kernel(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Returns the filter, (3, 3), computed on the device: a copy from the host would wait, and cannot be captured."""
    row = (2 - (torch.arange(3, dtype=dtype, device=device) - 1).abs()) / 4
    return row[:, None] * row


@functools.cache
def _cached_kernel(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Returns the filter for eager passes, made once."""
    with torch.inference_mode(False):  # else the one of a first generated picture could not be saved for gradients
        return _blur_kernel(device, dtype)


def fade(fine: Tensor, coarse: Tensor, alpha: Tensor) -> Tensor:
    """Blends `alpha * fine + (1 - alpha) * coarse`, in the inputs' dtype; exact at alpha 0 and 1. Figure 2."""
    share = alpha.to(fine.dtype)
    return fine * share + coarse * (1 - share)
