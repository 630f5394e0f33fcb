"""WGAN with weight clipping, as first published (Arjovsky et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.losses.base import DiscriminatorPass, LossTerms
from pggan.losses.wgan import Wasserstein
from pggan.networks.discriminator import Discriminator
from pggan.networks.layers import EqualizedWeight


class ClippedWasserstein(Wasserstein):
    """The Wasserstein loss; after every D step `w <- clip(w, -clip, clip)` (algorithm 1, line 7).

    w is the effective weight: equalized weights are clipped after their scaling. The statistic `estimate` is the
    estimated Wasserstein distance.
    """

    def __init__(self, clip: float) -> None:
        super().__init__()
        self.clip = clip

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        terms = super().d_terms(step)
        return LossTerms(terms.losses, {**terms.stats, "estimate": -terms.losses["wasserstein"]})

    @torch.no_grad()
    def after_d_step(self, terms: dict[str, Tensor], discriminator: Discriminator) -> None:
        scales, clipped = {}, set()
        for module in discriminator.modules():
            if isinstance(module, EqualizedWeight) and module.magnitude is None:
                scales[id(module.weight)] = module.scale
            elif isinstance(module, EqualizedWeight):
                module.set_effective_weight(module.effective_weight().clamp(-self.clip, self.clip))
                clipped |= {id(module.weight), id(module.magnitude)}
        others: list[Tensor] = [parameter for parameter in discriminator.parameters() if id(parameter) not in clipped]
        bounds = [self.clip / scales.get(id(parameter), 1.0) for parameter in others]
        # few launches on a GPU
        torch._foreach_clamp_max_(others, bounds)
        torch._foreach_clamp_min_(others, [-bound for bound in bounds])
