"""The generator's running average, from which all pictures are made (Karras et al. 2018, appendix A.1)."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update(average: nn.Module, live: nn.Module, decay: float) -> None:
    """`average <- decay * average + (1 - decay) * live`, parameter by parameter, in one pass."""
    torch._foreach_lerp_(list(average.parameters()), list(live.parameters()), 1.0 - decay)
