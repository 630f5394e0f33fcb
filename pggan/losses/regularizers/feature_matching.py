"""Feature matching (Salimans et al. 2016, section 3.1)."""

from __future__ import annotations

import torch

from pggan.losses.base import GeneratorPass, LossTerms, Regularizer
from pggan.utils.distributed import all_reduce_mean, world_from_environment


class FeatureMatching(Regularizer):
    """g becomes (`replace`) or gains (`add`) `weight * ||E f(x) - E f(G(z))||^2`; f: features before D's last layer.

    The means are over the minibatch of all processes. Their all-reduce makes the step eager.
    """

    needs_reals = True

    def __init__(self, feature_matching: float, feature_matching_mode: str) -> None:
        super().__init__()
        self.weight, self.replaces_g = feature_matching, feature_matching_mode == "replace"
        self.all_reduces = world_from_environment().size > 1
        self.compilable = not self.all_reduces

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        with torch.no_grad():
            real = step.d(step.batch.reals).features.mean(dim=0)
        fake = step.fake.features.mean(dim=0)
        if self.all_reduces:
            means = [real.clone(), fake.detach().clone()]
            all_reduce_mean(means, world_from_environment())
            # the value of all processes with this process's gradient: averaged, it is the whole minibatch's gradient
            real, fake = means[0], fake + (means[1] - fake.detach())
        distance = (real - fake).square().sum()
        return LossTerms({"feature_matching": distance * self.weight}, {})
