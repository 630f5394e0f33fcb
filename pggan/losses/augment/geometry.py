"""Affine transforms of pictures with resampling that neither aliases nor blurs much.

The picture is doubled in size, read there bilinearly, and halved again; both with Johnston's 12-tap quadrature mirror
filter (J. D. Johnston 1980, filter 12A). It is symmetric, so that pictures mirrored at their edges stay that, and
doubling and halving alone give a picture back within half a percent. (Karras et al. 2020 use the sym6 wavelet, which
is not symmetric.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.losses.augment.blitting import mirrored

_HALF = (-0.003809699, 0.01885659, -0.002710326, -0.08469594, 0.08846992, 0.4843894)
TAPS = len(_HALF) * 2


def lowpass(device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """The filter, (12,), with sum 1."""
    taps = torch.tensor([*_HALF, *reversed(_HALF)], dtype=torch.float64)
    return (taps / taps.sum()).to(device=device, dtype=dtype)


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Matrices (N, 3, 3) that multiply by x and y, (N,)."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrices(x, zero, zero, zero, y, zero, zero, zero, one)


def rotation(angle: Tensor) -> Tensor:
    """Matrices (N, 3, 3) that turn by `angle` (N,) radians."""
    zero, one, cos, sin = torch.zeros_like(angle), torch.ones_like(angle), angle.cos(), angle.sin()
    return _matrices(cos, -sin, zero, sin, cos, zero, zero, zero, one)


def translation(x: Tensor, y: Tensor) -> Tensor:
    """Matrices (N, 3, 3) that add x and y, (N,)."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrices(one, zero, x, zero, one, y, zero, zero, one)


def _matrices(*entries: Tensor) -> Tensor:
    return torch.stack(entries, dim=1).reshape(-1, 3, 3)


def product(*matrices: Tensor) -> Tensor:
    """Their product, entry by entry: a GPU's fast matrix units would round coordinates."""
    found = matrices[0]
    for matrix in matrices[1:]:
        found = (found[:, :, :, None] * matrix[:, None]).sum(dim=2)
    return found


def resample(x: Tensor, sources: Tensor, filter: Tensor) -> Tensor:
    """Pictures (N, C, R, R) read where `sources` (N, 3, 3) say, mirrored beyond their edges.

    A matrix maps a place of the result to the place that it shows; -1 .. 1 is from edge to edge, x right and y down.
    `filter`: `lowpass`, in the pictures' type. Not twice differentiable with respect to the pictures.
    """
    side = x.shape[-1]
    fine = doubled(x, filter)
    margin = TAPS // 2 - 1  # what the halving reads about the picture
    at = torch.arange(-margin, 2 * side + margin, device=x.device, dtype=sources.dtype)
    at = (at + 0.5) / side - 1
    across, down = at[None, None, :], at[None, :, None]
    entry = sources[:, :, :, None, None]
    places = [entry[:, axis, 0] * across + entry[:, axis, 1] * down + entry[:, axis, 2] for axis in (0, 1)]
    grid = torch.stack(places, dim=3).to(x.dtype)
    read = F.grid_sample(fine, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _along_both(read, filter, F.conv2d)


def doubled(x: Tensor, filter: Tensor) -> Tensor:
    """(N, C, R, R) to (N, C, 2R, 2R), mirrored beyond the edges."""
    side, border = x.shape[-1], TAPS // 4
    at = mirrored(torch.arange(-border, side + border, device=x.device), side)
    wide = x.index_select(2, at).index_select(3, at)
    fine = _along_both(wide, filter * 2, F.conv_transpose2d)
    cut = TAPS - 1
    return fine[:, :, cut : cut + 2 * side, cut : cut + 2 * side]


def _along_both(x: Tensor, filter: Tensor, convolve: Callable[..., Tensor]) -> Tensor:
    """Every channel convolved with stride 2 along both axes."""
    n, c = x.shape[:2]
    y = x.reshape(n * c, 1, *x.shape[2:])
    y = convolve(y, filter.reshape(1, 1, -1, 1), stride=(2, 1))
    y = convolve(y, filter.reshape(1, 1, 1, -1), stride=(1, 2))
    return y.reshape(n, c, *y.shape[2:])
