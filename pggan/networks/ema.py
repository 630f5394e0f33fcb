"""Running averages of the generator: the exponential moving average (EMA), which makes all images, and power functions.

The EMA is that of Karras et al. 2018, appendix A.1; its half-life: `Schedule.average_decay`. Power-function averages
are those of Karras et al. 2024 (EDM2), section 3 and appendix C.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pggan.networks.generator import Generator

# Lengths of the power-function averages that snapshots keep: standard deviations as shares of the training.
POWER_LENGTHS = (0.05, 0.1)
# Lengths that a power function can have: that of a plain mean, 1 / sqrt(12), is the longest with an exponent >= 0.
SHORTEST, LONGEST = 0.001, 0.28


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


def power_exponent(length: float) -> float:
    """Returns the exponent of the profile t^exponent on [0, T] whose standard deviation is `length * T`.

    It is the largest root of (x + 2)^2 (x + 3) = (x + 1) / length^2 (Karras et al. 2024, equation 126).
    """
    inverse = length**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def power_decay(length: float, images: int, batch: int) -> float:
    """Returns the decay of a power-function average in the step that brings it from `images - batch` to `images`.

    It is 0 in the first step, so that no initial weights are in the average.
    """
    return float((1 - batch / images) ** (power_exponent(length) + 1))


@torch.no_grad()
def update_power(average: Generator, live: Generator, length: float, images: int, batch: int) -> None:
    """Updates a power-function average in place: `average <- decay * average + (1 - decay) * live`.

    Args:
        average: The average.
        live: The generator, of the same configuration.
        length: Standard deviation of the average's profile, as a share of its images.
        images: Images over which the average goes, those of this step among them.
        batch: Images of this step.
    """
    decay = power_decay(length, images, batch)
    torch._foreach_lerp_(list(average.parameters()), list(live.parameters()), 1 - decay)
