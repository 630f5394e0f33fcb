"""The Wasserstein GAN as first published: a critic kept smooth by clipping its weights (Arjovsky et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.losses.base import DiscriminatorPass, LossTerms
from pggan.losses.wgan import Wasserstein
from pggan.networks.discriminator import Discriminator
from pggan.networks.layers import EqualizedWeight


class ClippedWasserstein(Wasserstein):
    """After every step of D each of its weights is clipped to [-clip, clip] (algorithm 1, line 7), as it is used.

    An equalized weight is used `scale` times as large as it is stored: what is stored goes to `clip / scale`.
    """

    def __init__(self, clip: float) -> None:
        super().__init__()
        self.clip = clip

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        terms = super().d_terms(step)
        return LossTerms(terms.losses, {**terms.stats, "estimate": -terms.losses["wasserstein"]})

    @torch.no_grad()
    def after_d_step(self, terms: dict[str, Tensor], discriminator: Discriminator) -> None:
        used: set[int] = set()
        for module in discriminator.modules():
            if isinstance(module, EqualizedWeight):
                module.set_effective_weight(module.effective_weight().clamp(-self.clip, self.clip))
                used |= {id(module.weight), id(module.magnitude)}
        for parameter in discriminator.parameters():
            if id(parameter) not in used:
                parameter.clamp_(-self.clip, self.clip)
