"""ACGAN, the auxiliary classifier of conditional runs (Odena et al. 2017; as in the reference release)."""

from __future__ import annotations

from torch import Tensor

from pggan.losses.base import DiscriminatorPass, GeneratorPass, LossTerms, Regularizer


def cross_entropy(logits: Tensor | None, labels: Tensor) -> Tensor:
    """Returns `-mean sum labels * log softmax(logits)`, 0-d; logits (N, K), one-hot labels (N, K), zeros if unknown.

    The mean is over all N samples, labelled or not, so that micro-batches add up to the whole minibatch.
    """
    assert logits is not None, "the discriminator has no class logits"
    return -(labels * logits.log_softmax(dim=1)).sum() / len(labels)


class Classification(Regularizer):
    """d gains `weight * (H(reals) + H(fakes))`, g gains `weight * H(fakes)`, where H is the classes' cross-entropy."""

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
