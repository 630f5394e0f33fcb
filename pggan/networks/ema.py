"""Exponential moving average (EMA) of the generator, which makes all images (Karras et al. 2018, appendix A.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pggan.networks.generator import Generator


@torch.no_grad()
def update(average: Generator, live: Generator, decay: Callable[[int], float]) -> None:
    """Applies the EMA decay: `average <- decay * average + (1 - decay) * live` for every parameter.

    Args:
        average: The average, changed in place.
        live: The generator, of the same configuration.
        decay: Returns the decay of the layers of a level; levels of one decay are updated in one call.
    """
    groups: dict[float, tuple[list[Tensor], list[Tensor]]] = {}
    for (name, own), parameter in zip(average.named_parameters(), live.parameters(), strict=True):
        averages, parameters = groups.setdefault(decay(average.layer_level(name)), ([], []))
        averages.append(own)
        parameters.append(parameter)
    for rate, (averages, parameters) in groups.items():
        torch._foreach_lerp_(averages, parameters, 1.0 - rate)
