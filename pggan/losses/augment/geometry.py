"""Affine transforms of images, with resampling that hardly aliases or blurs.

Images are upsampled x2, read bilinearly and downsampled x2, with Johnston's 12-tap quadrature mirror filter (J. D.
Johnston 1980, filter 12A). Karras et al. 2020 use the sym6 wavelet. Johnston's filter is symmetric, so that reflection
at the edges survives it; upsampling and downsampling alone reproduce an image within half a percent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.losses.augment.blitting import mirrored

_HALF = (-0.003809699, 0.01885659, -0.002710326, -0.08469594, 0.08846992, 0.4843894)
TAPS = len(_HALF) * 2


def lowpass(dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns the filter, (12,), with sum 1."""
    taps = torch.tensor([*_HALF, *reversed(_HALF)], dtype=torch.float64)
    return (taps / taps.sum()).to(dtype)


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Returns matrices (N, 3, 3) that multiply coordinates by x and y, (N,)."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrices(x, zero, zero, zero, y, zero, zero, zero, one)


def rotation(angle: Tensor) -> Tensor:
    """Returns matrices (N, 3, 3) that rotate by `angle` (N,) radians."""
    zero, one, cos, sin = torch.zeros_like(angle), torch.ones_like(angle), angle.cos(), angle.sin()
    return _matrices(cos, -sin, zero, sin, cos, zero, zero, zero, one)


def translation(x: Tensor, y: Tensor) -> Tensor:
    """Returns matrices (N, 3, 3) that add x and y, (N,), to coordinates."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrices(one, zero, x, zero, one, y, zero, zero, one)


def _matrices(*entries: Tensor) -> Tensor:
    """Stacks nine entries (N,), row by row, to matrices (N, 3, 3)."""
    return torch.stack(entries, dim=1).reshape(-1, 3, 3)


def product(*matrices: Tensor) -> Tensor:
    """Returns the matrix product of (N, 3, 3) factors without matmul, which in TF32 would round coordinates."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = (result[:, :, :, None] * matrix[:, None]).sum(dim=2)
    return result


def resample(x: Tensor, sources: Tensor, filter: Tensor) -> Tensor:
    """Applies affine transforms to images, with reflection at their edges. Differentiable once by the images.

    Args:
        x: Images (N, C, R, R).
        sources: (N, 3, 3) from output to input coordinates: -1 .. 1 from edge to edge, x to the right, y down.
        filter: `lowpass()` in the images' dtype.
    """
    side = x.shape[-1]
    fine = upsample(x, filter)
    margin = TAPS // 2 - 1  # the border that downsampling reads
    at = torch.arange(-margin, 2 * side + margin, device=x.device, dtype=sources.dtype)
    at = (at + 0.5) / side - 1
    across, down = at[None, None, :], at[None, :, None]
    entry = sources[:, :, :, None, None]
    coordinates = [entry[:, axis, 0] * across + entry[:, axis, 1] * down + entry[:, axis, 2] for axis in (0, 1)]
    grid = torch.stack(coordinates, dim=3).to(x.dtype)
    read = F.grid_sample(fine, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _along_both(read, filter, F.conv2d)


def upsample(x: Tensor, filter: Tensor) -> Tensor:
    """Doubles the sides, with reflection at the edges: (N, C, R, R) to (N, C, 2R, 2R)."""
    side, border = x.shape[-1], TAPS // 4
    at = mirrored(torch.arange(-border, side + border, device=x.device), side)
    wide = x.index_select(2, at).index_select(3, at)
    fine = _along_both(wide, filter * 2, F.conv_transpose2d)
    cut = TAPS - 1
    return fine[:, :, cut : cut + 2 * side, cut : cut + 2 * side]


def _along_both(x: Tensor, filter: Tensor, convolve: Callable[..., Tensor]) -> Tensor:
    """Convolves every channel with the filter along both axes, with stride 2."""
    n, c = x.shape[:2]
    y = x.reshape(n * c, 1, *x.shape[2:])
    y = convolve(y, filter.reshape(1, 1, -1, 1), stride=(2, 1))
    y = convolve(y, filter.reshape(1, 1, 1, -1), stride=(1, 2))
    return y.reshape(n, c, *y.shape[2:])
