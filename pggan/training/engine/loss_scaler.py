"""Dynamic loss scaling for mixed precision in fp16 (reference release), and the check that gradients are finite."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

START, GROWTH, BACKOFF = 64.0, 0.0005, 1.0
# log2 of the scale below which half precision is not what overflows: gradients that are not finite then are a fault.
SEARCH_ENDS = 0.0


class LossScaler:
    """One player's scale, as log2: grows a little with every good step, halves when a gradient is not finite.

    It starts far too high on purpose: the first steps overflow and are skipped until it fits. Where `enabled` is
    false the scale is 1. Everything stays on the device: `skipped` and `faults` count there.
    """

    def __init__(self, enabled: bool, device: torch.device) -> None:
        self.enabled = enabled
        self.log2 = torch.tensor(START if enabled else 0.0, dtype=torch.float32, device=device)
        # steps skipped since the counts were read last, and those of them that were no search for the scale
        self.skipped = torch.zeros((), device=device)
        self.faults = torch.zeros((), device=device)

    def load(self, log2: Tensor) -> None:
        """Takes over a checkpoint's scale (log2); that of a run in another precision is not this one's."""
        if self.enabled and log2.item() != 0:
            self.log2.copy_(log2)

    def scale(self) -> Tensor:
        return torch.exp2(self.log2)

    def check_finite_and_update(self, gradients: Iterable[Tensor | None]) -> Tensor:
        """Returns 1.0 where these unscaled gradients are finite, else 0.0: the step is skipped; adapts the scale."""
        norms = torch._foreach_norm([g for g in gradients if g is not None])
        # the largest of norms: infinite or NaN where any value is (a sum of finite norms might overflow)
        good = torch.stack([norm.float() for norm in norms]).amax().isfinite().float()
        searching = (self.log2 > SEARCH_ENDS).float() if self.enabled else torch.zeros_like(good)
        self.skipped += 1 - good
        self.faults += (1 - good) * (1 - searching)
        if self.enabled:
            self.log2 += good * (GROWTH + BACKOFF) - BACKOFF
        return good

    def read_counts(self) -> tuple[int, int]:
        """Returns the steps skipped since the last reading, and the faults among them."""
        counts = torch.stack([self.skipped, self.faults]).tolist()
        self.skipped.zero_()
        self.faults.zero_()
        return int(counts[0]), int(counts[1])
