"""Colours of the lower levels of a finished network.

While a level is trained, its own toRGB layer reads its features. The blocks change afterwards, those layers do not: in
a finished network the lower levels' pictures have wild colours. `refit_colours` fits these layers anew by linear
least squares, so that a level shows the finished picture as far as its features hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.generation.level_features import level_features, progressive
from pggan.generation.model import Model
from pggan.networks.generator import ProgressiveGenerator
from pggan.networks.layers import EqualizedConv2d
from pggan.utils.devices import metrics_device

# Pictures that the layers are fitted to. Those of large networks take seconds each: fewer of them fit the layers of
# 64x64 and more, and their pictures of 64x64 the layers below.
MIDDLE_LEVEL, PICTURES, LARGE_PICTURES = 6, 64, 12
BATCH = 4
# Weight decay as a share of the features' mean square: few pictures leave some directions of the features open.
RIDGE = 1e-3


def levels_to_refit(model: Model) -> range:
    """Returns the levels whose toRGB layers the finished picture does not use."""
    config = model.file.generator.config
    if not isinstance(model.file.generator, ProgressiveGenerator):
        return range(0)
    return range(config.min_level, model.file.level - (1 if model.file.alpha < 1 else 0))


@torch.inference_mode()
def refit_colours(model: Model, advance: Callable[[float], None] = lambda share: None) -> None:
    """Fits the toRGB layers of the lower levels to the finished pictures of the first seeds, in place. Deterministic.

    Args:
        model: Its generator is changed where it does not draw at its own level.
        advance: Is called with the share that is done; what it raises ends the work.
    """
    levels = levels_to_refit(model)
    if not levels:
        return
    if model.file.level <= MIDDLE_LEVEL:
        _fit(model, levels, model.file.level, PICTURES, advance)
        return
    _fit(model, range(MIDDLE_LEVEL, levels.stop), model.file.level, LARGE_PICTURES, lambda share: advance(0.9 * share))
    below = range(levels.start, min(MIDDLE_LEVEL, levels.stop))
    _fit(model, below, MIDDLE_LEVEL, PICTURES, lambda share: advance(0.9 + 0.1 * share))


def _fit(model: Model, levels: range, source: int, count: int, advance: Callable[[float], None]) -> None:
    """Fits the layers of `levels` to the pictures of a higher level, `source`, of the seeds below `count`."""
    generator = progressive(model)
    batch = BATCH if source <= MIDDLE_LEVEL else 1
    sums: dict[int, tuple[Tensor, Tensor]] = {}
    host = metrics_device(model.device)  # where there is float64
    for start in range(0, count, batch):
        seeds = range(start, min(start + batch, count))
        latents, labels = model.seed_latents(seeds), model.seed_labels(seeds)
        finished = model.synthesize(latents, labels, source)
        if generator.config.output == "tanh":
            finished = finished.clamp(-0.999, 0.999).atanh()
        for level, features in level_features(model, latents, labels, levels.stop - 1):
            if level not in levels:
                continue
            rows = features.permute(0, 2, 3, 1).flatten(0, 2).to(host).double()
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
            targets = F.adaptive_avg_pool2d(finished, 2**level).permute(0, 2, 3, 1).flatten(0, 2).to(host).double()
            square, product = rows.T @ rows, rows.T @ targets
            if level in sums:
                square, product = square + sums[level][0], product + sums[level][1]
            sums[level] = square, product
        advance((start + len(seeds)) / count)
    for level, (square, product) in sums.items():
        _set_layer(generator, level, _solve(square, product))


def _solve(square: Tensor, product: Tensor) -> Tensor:
    """Returns weights and biases (width + 1, C) of the ridge regression with these normal equations."""
    decay = RIDGE * square.diagonal()[:-1].mean()
    penalty = torch.full_like(square[0], float(decay))
    penalty[-1] = 0  # not the bias
    solution: Tensor = torch.linalg.solve(square + penalty.diag(), product)
    return solution


def _set_layer(generator: ProgressiveGenerator, level: int, solution: Tensor) -> None:
    layer = cast(EqualizedConv2d, list(generator.to_rgb.values())[level - 2])
    layer.set_effective_weight(solution[:-1].T[:, :, None, None].to(layer.weight.dtype))
    layer.bias.copy_(solution[-1].to(layer.bias.dtype))
