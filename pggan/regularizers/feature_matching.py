"""Feature matching (Salimans et al. 2016, section 3.1)."""

from __future__ import annotations

import torch

from pggan.objectives.base import GeneratorPass, Regularizer, Terms


class FeatureMatching(Regularizer):
    """g becomes (`replace`) or gains (`add`) `weight * ||E f(x) - E f(G(z))||^2`, f the features before D's last layer.

    The means are those of a process's share of the minibatch.
    """

    wants_reals = True

    def __init__(self, feature_matching: float, feature_matching_mode: str) -> None:
        super().__init__()
        self.weight, self.replaces_g = feature_matching, feature_matching_mode == "replace"

    def g_terms(self, step: GeneratorPass) -> Terms:
        with torch.no_grad():
            wanted = step.d(step.batch.reals).features.mean(dim=0)
        distance = (wanted - step.fake.features.mean(dim=0)).square().sum()
        return Terms({"feature_matching": distance * self.weight}, {})
