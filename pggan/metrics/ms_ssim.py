"""MS-SSIM between pairs of generated pictures: how alike they are (lower: more varied).

Wang, Simoncelli and Bovik 2003; Odena et al. 2016 for variation; pairs of pictures 0-1, 2-3, ...
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.metrics.base import Batch, Metric, Setting, State
from pggan.utils.errors import UsageError

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
FILTER, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
LEAST = 2 ** (len(WEIGHTS) - 1)


class MSSSIM(Metric):
    """Sums over pairs. Pictures 2i and 2i + 1 have to come to the same process. Raises `UsageError` below 16x16."""

    name = "msssim"
    sums = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        if setting.resolution < LEAST:
            raise UsageError(f"msssim wants pictures of {LEAST}x{LEAST} at least, these are {setting.resolution}")
        self.begin(0)

    def begin(self, room: int) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._waiting: dict[int, Tensor] = {}

    def feed(self, batch: Batch) -> None:
        first, second = [], []
        for number, picture in zip(batch.numbers, batch.pictures):
            other = self._waiting.pop(number ^ 1, None)
            if other is None:
                self._waiting[number] = picture
            else:
                first.append(other)
                second.append(picture)
        if first:
            values = ms_ssim(torch.stack(first), torch.stack(second)).double().cpu()
            self._sums += torch.stack([torch.tensor(len(first)), values.sum(), (values * values).sum()])

    def end(self) -> State:
        return {"sums": self._sums}

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        """`msssim` and `msssim_std`, its standard error over the pairs. Raises `UsageError` without any pair."""
        count, total, squares = fakes["sums"].tolist()
        if count < 1:
            raise UsageError("msssim wants 2 pictures at least")
        mean = total / count
        return {"msssim": mean, "msssim_std": (max(squares / count - mean * mean, 0) / count) ** 0.5}


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Of pairs of pictures (N, C, R, R), values 0 to 255: (N,), 0 to 1."""
    x, y = a.float() - 128, b.float() - 128  # about 0: the variances lose no digits
    value = torch.ones(len(x), device=x.device)
    for level, weight in enumerate(WEIGHTS):
        ssim, structure = ssim_parts(x, y)
        last = level == len(WEIGHTS) - 1
        value = value * (ssim if last else structure).clamp_min(0) ** weight
        if not last:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return value


def ssim_parts(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term of pairs (N, C, S, S) of values less 128: (N,) each."""
    n = len(x)
    stacked = torch.cat((x, y, x * x, y * y, x * y))
    mean_x, mean_y, xx, yy, xy = _smoothed(stacked).split(n)
    variances = (xx - mean_x * mean_x) + (yy - mean_y * mean_y)
    structure = (2 * (xy - mean_x * mean_y) + C2) / (variances + C2)
    lit_x, lit_y = mean_x + 128, mean_y + 128
    ssim = (2 * lit_x * lit_y + C1) / (lit_x * lit_x + lit_y * lit_y + C1) * structure
    return ssim.mean((1, 2, 3)), structure.mean((1, 2, 3))


def _smoothed(x: Tensor) -> Tensor:
    """Gaussian of 11 pixels and deviation 1.5, both smaller in proportion where the picture is; valid places only."""
    size = min(FILTER, x.shape[-1])
    at = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    kernel = torch.exp(-(at**2) / (2 * (SIGMA * size / FILTER) ** 2))
    kernel = (kernel / kernel.sum()).to(x)
    flat = x.flatten(0, 1)[:, None]
    flat = F.conv2d(F.conv2d(flat, kernel.view(1, 1, size, 1)), kernel.view(1, 1, 1, size))
    return flat.reshape(*x.shape[:2], *flat.shape[2:])
