"""The relativistic pairing loss (Jolicoeur-Martineau 2018; Huang et al. 2024, R3GAN, equation 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from pggan.losses.base import DiscriminatorPass, GeneratorPass, LossTerms, Objective


class RelativisticPairing(Objective):
    """d: `E softplus(D(G(z)) - D(x))`; g: `E softplus(D(x) - D(G(z)))`, over pairs of a real and a generated image."""

    needs_reals = True

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        return LossTerms({"pairs": F.softplus(step.fake.score - step.real.score).mean()}, {})

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        with torch.no_grad():
            real = step.d(step.batch.reals).score
        return LossTerms({"g_pairs": F.softplus(real - step.fake.score).mean()}, {})
