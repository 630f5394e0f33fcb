"""MS-SSIM between pairs of generated images, a measure of variation: the lower, the more varied.

Wang, Simoncelli and Bovik 2003; Odena et al. 2016 for variation. The pairs are images 0-1, 2-3, ...
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.metrics.base import Batch, Metric, Setting, State
from pggan.utils.errors import UsageError

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
FILTER_SIZE, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
CPU_PIXELS = 1 << 20  # filtered at once on a CPU, which takes a dozen times their memory
LEAST_RESOLUTION = 2 ** (len(SCALE_WEIGHTS) - 1)


class MSSSIM(Metric):
    """Mean MS-SSIM of pairs; the state is sums over pairs. Raises `UsageError` below 16x16.

    Images 2i and 2i + 1 have to come to the same process.
    """

    names: ClassVar = {"": "msssim"}
    sums = True

    def __init__(self, setting: Setting, role: str | None = None) -> None:
        super().__init__(setting, role)
        if setting.resolution < LEAST_RESOLUTION:
            raise UsageError(
                f"msssim needs pictures of {LEAST_RESOLUTION}x{LEAST_RESOLUTION} at least, not {setting.resolution}: "
                "leave msssim out"
            )
        self.begin(0)

    def begin(self, count: int) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._unpaired: dict[int, Tensor] = {}

    def feed(self, batch: Batch) -> None:
        first, second = [], []
        for number, image in zip(batch.numbers, batch.images):
            partner = self._unpaired.pop(number ^ 1, None)
            if partner is None:
                self._unpaired[number] = image
            else:
                first.append(partner)
                second.append(image)
        if first:
            values = ms_ssim(torch.stack(first), torch.stack(second)).cpu().double()
            self._sums += torch.stack([torch.tensor(len(first)), values.sum(), (values * values).sum()])

    def end(self) -> State:
        return {"sums": self._sums}

    def result(self, fakes: State, reals: State) -> dict[str, float]:
        """Returns `msssim` and `msssim_std`, its standard error over the pairs. Raises `UsageError` without a pair."""
        count, total, squares = fakes["sums"].tolist()
        if count < 1:
            raise UsageError("msssim wants 2 pictures at least")
        mean = total / count
        return {"msssim": mean, "msssim_std": (max(squares / count - mean * mean, 0) / count) ** 0.5}


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Returns the MS-SSIM (N,), 0 to 1, of pairs of images (N, C, R, R) with values 0 to 255."""
    x, y = a.float() - 128, b.float() - 128  # centred at 0: the variances lose no digits
    value = torch.ones(len(x), device=x.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        ssim, structure = ssim_and_structure(x, y)
        is_last = scale == len(SCALE_WEIGHTS) - 1
        value = value * (ssim if is_last else structure).clamp_min(0) ** weight
        if not is_last:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return value


def ssim_and_structure(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean SSIM and mean contrast-structure term, (N,) each, of pairs (N, C, S, S) of values minus 128."""
    n = len(x)
    stacked = torch.cat((x, y, x * x, y * y, x * y))
    mean_x, mean_y, xx, yy, xy = _gaussian_blur(stacked).split(n)
    variances = (xx - mean_x * mean_x) + (yy - mean_y * mean_y)
    structure = (2 * (xy - mean_x * mean_y) + C2) / (variances + C2)
    luminance_x, luminance_y = mean_x + 128, mean_y + 128
    luminance = (2 * luminance_x * luminance_y + C1) / (luminance_x * luminance_x + luminance_y * luminance_y + C1)
    ssim = luminance * structure
    return ssim.mean((1, 2, 3)), structure.mean((1, 2, 3))


def _gaussian_blur(x: Tensor) -> Tensor:
    """Filters with a Gaussian of 11 pixels and deviation 1.5, without padding; both shrink with images below 11."""
    size = min(FILTER_SIZE, x.shape[-1])
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    kernel = torch.exp(-(offsets**2) / (2 * (SIGMA * size / FILTER_SIZE) ** 2))
    kernel = (kernel / kernel.sum()).to(x)
    flat = x.flatten(0, 1)[:, None]
    at_once = max(1, CPU_PIXELS // x.shape[-1] ** 2) if x.device.type == "cpu" else len(flat)
    columns, rows = kernel.view(1, 1, size, 1), kernel.view(1, 1, 1, size)
    flat = torch.cat([F.conv2d(F.conv2d(planes, columns), rows) for planes in flat.split(at_once)])
    return flat.reshape(*x.shape[:2], *flat.shape[2:])
