"""Changes of size: nearest neighbour and box filter, the [1 2 1] filter that makes them bilinear, and the fade."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

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


def _constant(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Makes a filter once for eager passes.

    Compiled ones compute it on the device: a copy from the host would wait, and cannot be captured.
    """

    @functools.cache
    def once(*arguments: Any) -> Tensor:
        with torch.inference_mode(False):  # else the one of a first generated picture could not be saved for gradients
            return make(*arguments)

    return lambda *arguments: (make if torch.compiler.is_compiling() else once)(*arguments)


@_constant
def _blur_kernel(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Returns the filter [1 2 1] / 4 along both sides, (3, 3)."""
    row = (2 - (torch.arange(3, dtype=dtype, device=device) - 1).abs()) / 4
    return row[:, None] * row


@_constant
def _box_spread(device: torch.device, dtype: torch.dtype, share: float, turned: bool) -> Tensor:
    """Returns the matrix (9, 16) by which a 3x3 kernel, `turned` by 180 degrees or not, meets a 2x2 box of `share`."""
    taps = torch.eye(9, dtype=dtype, device=device).reshape(9, 3, 3)
    spread = share * (
        F.pad(taps, (0, 1, 0, 1)) + F.pad(taps, (1, 0, 0, 1)) + F.pad(taps, (0, 1, 1, 0)) + F.pad(taps, (1, 0, 1, 0))
    )
    return (spread.flip(0) if turned else spread).reshape(9, 16)


def blur(x: Tensor) -> Tensor:
    """Filters (N, C, H, W) by [1 2 1] / 4 along both sides, with zeros around it.

    After an upscale by nearest neighbour the two are bilinear interpolation; before a 2x2 average the two halve the
    sides by [1 3 3 1] / 8 (Karras et al. 2019, section 2, after Zhang 2019).
    """
    channels = x.shape[1]
    kernel = _blur_kernel(x.device, x.dtype).expand(channels, 1, 3, 3)
    return convolution(x, kernel, None, Geometry(padding=1, groups=channels))


def spread_kernel(weight: Tensor, share: float, turned: bool = False) -> Tensor:
    """Spreads 3x3 kernels (outputs, inputs, 3, 3) to 4x4, for scaling fused with convolution.

    They are convolved with a 2x2 box of `share`, as a matrix product, which takes a tenth of the time of pooling;
    `turned`: after a turn by 180 degrees.
    """
    spread = _box_spread(weight.device, weight.dtype, share, turned)
    return (weight.reshape(-1, 9) @ spread).reshape(*weight.shape[:2], 4, 4)


def fade(fine: Tensor, coarse: Tensor, alpha: Tensor) -> Tensor:
    """Fade-in: blends `alpha * fine + (1 - alpha) * coarse`, both (N, C, R, R), in their dtype; `alpha` is 0-d.

    Exact at alpha 0 and 1. Figure 2.
    """
    share = alpha.to(fine.dtype)
    return fine * share + coarse * (1 - share)
