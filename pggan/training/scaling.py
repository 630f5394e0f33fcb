"""Dynamic loss scaling for half precision (reference release, fp16 mode)."""

from __future__ import annotations

import torch
from torch import Tensor

START, GROWTH, BACKOFF = 64.0, 0.0005, 1.0


class LossScaler:
    """One player's scale, as log2: grows a little with every good step, halves when a gradient is not finite.

    It starts far too high on purpose: the first steps overflow and are skipped until it fits. Where `enabled` is
    false the scale is 1 and a step is always good.
    """

    def __init__(self, enabled: bool, device: torch.device) -> None:
        self.enabled = enabled
        self.log2 = torch.tensor(START if enabled else 0.0, dtype=torch.float32, device=device)

    def scale(self) -> Tensor:
        return torch.exp2(self.log2)

    def accept(self, gradients: dict[str, Tensor | None]) -> bool:
        """Whether these (unscaled) gradients are finite and the step may be taken; adapts the scale."""
        if not self.enabled:
            return True
        sums = [g.sum() for g in gradients.values() if g is not None]
        good = bool(torch.isfinite(torch.stack(sums).sum()))
        self.log2 += GROWTH if good else -BACKOFF
        return good
