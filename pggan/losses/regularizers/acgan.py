"""Auxiliary classifier of a conditional run (Odena et al. 2017; as in the reference release)."""

from __future__ import annotations

from torch import Tensor

from pggan.losses.base import DiscriminatorPass, GeneratorPass, LossTerms, Regularizer


def cross_entropy(logits: Tensor | None, labels: Tensor) -> Tensor:
    """Mean softmax cross-entropy (0-d) of logits (N, K) against one-hot labels (N, K); rows of zeros add nothing.

    A mean over all N, so that the parts of a minibatch add up to the whole.
    """
    assert logits is not None, "the discriminator has no class logits"
    return -(labels * logits.log_softmax(dim=1)).sum() / len(labels)


class Classification(Regularizer):
    """d gains the cross-entropy on reals and on fakes, g that on fakes."""

    def __init__(self, class_weight: float) -> None:
        super().__init__()
        self.weight = class_weight

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        real = cross_entropy(step.real.class_logits, step.batch.labels)
        fake = cross_entropy(step.fake.class_logits, step.batch.fake_labels)
        return LossTerms({"class_real": real * self.weight, "class_fake": fake * self.weight}, {})

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        fake = cross_entropy(step.fake.class_logits, step.batch.fake_labels)
        return LossTerms({"g_class": fake * self.weight}, {})
