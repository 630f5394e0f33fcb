"""Feature matching (Salimans et al. 2016, section 3.1)."""

from __future__ import annotations

import torch

from pggan.losses.base import GeneratorPass, LossTerms, Regularizer
from pggan.utils.distributed import all_reduce_mean, world_from_environment


class FeatureMatching(Regularizer):
    """g becomes (`replace`) or gains (`add`) `weight * ||E f(x) - E f(G(z))||^2`, f the features before D's last layer.

    The means are those of the minibatch of all processes, which have to talk for them: the step is then eager.
    """

    wants_reals = True

    def __init__(self, feature_matching: float, feature_matching_mode: str) -> None:
        super().__init__()
        self.weight, self.replaces_g = feature_matching, feature_matching_mode == "replace"
        self.functional = world_from_environment().size == 1

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        with torch.no_grad():
            wanted = step.d(step.batch.reals).features.mean(dim=0)
        found = step.fake.features.mean(dim=0)
        if not self.functional:
            everyone = [wanted.clone(), found.detach().clone()]
            all_reduce_mean(everyone, world_from_environment())
            # of everyone's value, with this process's share of the gradient: their mean is that of the whole
            wanted, found = everyone[0], found + (everyone[1] - found.detach())
        distance = (wanted - found).square().sum()
        return LossTerms({"feature_matching": distance * self.weight}, {})
