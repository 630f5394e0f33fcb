"""Semi-supervised learning with K + 1 classes (Salimans et al. 2016, section 5)."""

from __future__ import annotations

from torch import Tensor

from pggan.losses.base import DiscriminatorPass, LossTerms, Regularizer
from pggan.networks.discriminator import DiscriminatorOutput


class SemiSupervised(Regularizer):
    """D's score becomes `log Z`, `Z = sum exp l` over K class logits l; d gains `weight * H`, H the cross-entropy.

    The logit of class K + 1, generated images, is fixed at 0, so that `P(real | x) = Z / (Z + 1) = sigmoid(log Z)`. H
    is the mean over labelled reals: few of them weigh as much as many. Training sees the share `labelled` of the known
    labels, the same share of each class; the others measure `heldout_accuracy`.
    """

    def __init__(self, semi_supervised: bool, labelled: float, class_weight: float) -> None:
        super().__init__()
        self.weight, self.shown_labels = class_weight, labelled

    def transform_output(self, output: DiscriminatorOutput) -> DiscriminatorOutput:
        return output._replace(score=_logits(output).logsumexp(dim=1))

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        logits, labels = _logits(step.real), step.batch.labels
        log_likelihood = (labels * logits.log_softmax(dim=1)).sum() / (len(labels) * self.labelled)
        correct = (logits.argmax(dim=1) == labels.argmax(dim=1)) & (labels.sum(dim=1) > 0)
        accuracy = correct.to(logits.dtype).mean() / self.labelled
        return LossTerms({"supervised": -log_likelihood * self.weight}, {"labelled_accuracy": accuracy})


def _logits(output: DiscriminatorOutput) -> Tensor:
    assert output.class_logits is not None, "the discriminator has no class logits"
    return output.class_logits
