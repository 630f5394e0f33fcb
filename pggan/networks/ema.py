"""Exponential moving average (EMA) of the generator, which makes all images (Karras et al. 2018, appendix A.1)."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update(average: nn.Module, live: nn.Module, decay: float) -> None:
    """Applies the EMA decay: `average <- decay * average + (1 - decay) * live` for every parameter, in one call."""
    torch._foreach_lerp_(list(average.parameters()), list(live.parameters()), 1.0 - decay)
