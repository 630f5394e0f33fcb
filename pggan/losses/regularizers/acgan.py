"""ACGAN (Odena et al. 2017; as in the reference release): D reads labels, classes and numbers, of conditional runs."""

from __future__ import annotations

import torch
from torch import Tensor

from pggan.losses.base import DiscriminatorPass, GeneratorPass, LossTerms, Regularizer


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns `-mean sum labels * log softmax(logits)`, 0-d; logits (N, K), one-hot labels (N, K), zeros if unknown.

    The mean is over all N samples, labelled or not, so that micro-batches add up to the whole minibatch.
    """
    return -(labels * logits.log_softmax(dim=1)).sum() / len(labels)


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean squared error of numbers, 0-d; outputs and labels (N, 1), NaN if unknown, which counts as 0."""
    difference = (outputs - labels.nan_to_num()) * labels.isfinite()
    return difference.square().sum() / len(labels)


class Classification(Regularizer):
    """D reads each label column of an image: cross-entropy of classes, squared error of numbers.

    With H the sum over columns of classes and S that over numbers, d gains `class_weight * (H(reals) + H(fakes)) +
    number_weight * S(reals)`, and g gains `class_weight * H(fakes) + number_weight * S(fakes)`. D learns numbers from
    reals alone: taught on fakes, too, it agrees with G on signs of its own, and pictures obey less.
    """

    def __init__(self, class_weight: float, number_weight: float) -> None:
        super().__init__()
        self.weight, self.number_weight = class_weight, number_weight

    def terms(self, outputs: Tensor | None, labels: Tensor, classes: str, numbers: str) -> dict[str, Tensor]:
        """Returns the terms by name (`classes`, `numbers`) as far as there are such columns."""
        assert outputs is not None, "the discriminator has no class logits"
        sums: dict[str, Tensor] = {}
        layout = self.label_layout or (labels.shape[1],)
        widths = [size or 1 for size in layout]
        for size, output, label in zip(layout, torch.split(outputs, widths, 1), torch.split(labels, widths, 1)):
            name = classes if size else numbers
            if size:
                term = cross_entropy(output, label) * self.weight
            else:
                term = squared_error(output, label) * self.number_weight
            sums[name] = sums[name] + term if name in sums else term
        return sums

    def d_terms(self, step: DiscriminatorPass) -> LossTerms:
        real = self.terms(step.real.class_logits, step.batch.labels, "class_real", "number_real")
        fake = self.terms(step.fake.class_logits, step.batch.fake_labels, "class_fake", "number_fake")
        stats = {name: fake.pop(name) for name in ("number_fake",) if name in fake}
        return LossTerms({**real, **fake}, stats)

    def g_terms(self, step: GeneratorPass) -> LossTerms:
        return LossTerms(self.terms(step.fake.class_logits, step.batch.fake_labels, "g_class", "g_number"), {})
