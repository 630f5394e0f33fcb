"""Semi-supervised learning with K + 1 classes (Salimans et al. 2016, section 5)."""

from __future__ import annotations

from torch import Tensor

from pggan.losses.base import DiscriminatorPass, LossTerms, Regularizer
from pggan.networks.discriminator import DiscriminatorOutput


class SemiSupervised(Regularizer):
    """D's answer is that of K logits l, the K + 1-th, of generated pictures, fixed at 0: `D_real(x) = Z / (Z + 1)`,
    `Z = sum exp l`, so that its score is `log Z`. d gains the cross-entropy of the classes on labelled reals.

    Training sees the share `labelled` of the known labels, as many of each class; the others tell `heldout_accuracy`.
    The cross-entropy is that of a labelled picture: what few of them there are weigh as much together as many.
    """

    def __init__(self, semi_supervised: bool, labelled: float, class_weight: float) -> None:
        super().__init__()
        self.weight, self.shown_labels = class_weight, labelled

    def judged(self, output: DiscriminatorOutput) -> DiscriminatorOutput:
        return output._replace(score=_logits(output).logsumexp(dim=1))

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        logits, labels = _logits(step.real), step.batch.labels
        log_likelihood = (labels * logits.log_softmax(dim=1)).sum() / (len(labels) * self.labelled)
        right = (logits.argmax(dim=1) == labels.argmax(dim=1)) & (labels.sum(dim=1) > 0)
        accuracy = right.to(logits.dtype).mean() / self.labelled
        return LossTerms({"supervised": -log_likelihood * self.weight}, {"labelled_accuracy": accuracy})


def _logits(output: DiscriminatorOutput) -> Tensor:
    assert output.class_logits is not None, "the discriminator has no class logits"
    return output.class_logits
