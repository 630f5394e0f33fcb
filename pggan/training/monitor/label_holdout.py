"""Held-out labels of semi-supervised runs, and D's classification accuracy on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pggan.config.schedule import ScheduleState
from pggan.data.store.store import Store
from pggan.training.engine import loss_functions
from pggan.training.engine.state import TrainState
from pggan.utils.errors import DataError

# Images that the accuracy is measured on, and the most memory that they may take together (bytes of uint8).
IMAGES, BYTES = 512, 64 << 20
# Images that D classifies at once.
BATCH = 64
# Random stream of the split, apart from those that shuffle the images.
SPLIT = 0x1ABE1


def split_labels(classes: NDArray[Any], share: float, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Splits labels into those that training sees and those held out. Depends on nothing but the arguments.

    Args:
        classes: label of every image, (N,); -1 where it is unknown, which belongs to neither part.
        share: of every class that training sees, 0 to 1; at least one label of each. With the same seed, a larger
            share contains a smaller one.
        seed: of the run.

    Returns:
        Which labels training sees, bool (N,), and the indices of the held-out images, ascending.
    """
    shown = np.zeros(len(classes), bool)
    order = np.random.default_rng((seed, SPLIT)).permutation(len(classes))
    for kind in np.unique(classes[classes >= 0]):
        members = order[classes[order] == kind]
        shown[members[: max(1, round(share * len(members)))]] = True
    return shown, np.flatnonzero(~shown & (classes >= 0))


class HeldOutLabels:
    """A run's held-out labels. `labels`: int32 (N, columns) as training sees them, -1 where held out or unknown.

    `labelled`: share of the images whose label training sees.
    """

    def __init__(self, store: Store, column: int, state: TrainState, share: float) -> None:
        classes = store.labels[:, column]
        shown, held_out = split_labels(classes, share, state.config.seed)
        if not len(held_out):
            raise DataError(f"--labelled {share:g} leaves no label to measure D by; give less, or 1 to measure nothing")
        self.store, self.state = store, state
        self.classes = classes
        self.labels = store.labels.copy()
        self.labels[~shown, column] = -1
        self.labelled = float(shown.mean())
        # the same images at every tick, in an order that mixes the classes
        self._indices = np.random.default_rng((state.config.seed, SPLIT, 1)).permutation(held_out)[:IMAGES]

    @torch.no_grad()
    def accuracy(self, scheduled: ScheduleState) -> float:
        """Returns the share of held-out images, 0 to 1, whose class has D's largest logit."""
        state = self.state
        alpha = torch.tensor(scheduled.alpha, dtype=torch.float32, device=state.device)
        parameters = loss_functions.detached_parameters_of(state.discriminator)
        correct = 0
        indices = self._indices[: self._count(scheduled.resolution)]
        group = state.discriminator.config.minibatch_group
        batch = group * max(1, BATCH // group)
        for start in range(0, len(indices), batch):
            part = indices[start : start + batch]
            images = torch.from_numpy(self.store.read(scheduled.resolution, part.tolist())).to(state.device)
            reals = loss_functions.real_images(images, alpha)
            logits = loss_functions.discriminate(state.context, parameters, reals, scheduled.level, alpha).class_logits
            assert logits is not None, "a run with labels has class logits"
            correct += int((logits.argmax(dim=1).cpu().numpy() == self.classes[part]).sum())
        return correct / len(indices)

    def _count(self, resolution: int) -> int:
        """Images to measure on: as many as fit BYTES, in whole minibatch-stddev groups."""
        group = self.state.discriminator.config.minibatch_group
        fitting = min(len(self._indices), max(1, BYTES // (self.store.channels * resolution**2)))
        return fitting if fitting < group else fitting // group * group


def hold_out_labels(store: Store, columns: Sequence[int], state: TrainState) -> HeldOutLabels | None:
    """Holds out labels where an objective asks for it, and sets every objective's share of labelled images.

    Args:
        store: the data.
        columns: indices of the run's label columns.
        state: has the objectives.

    Returns:
        The held-out labels; None where training sees all.
    """
    share = min(objective.shown_labels for objective in state.context.objectives)
    if share >= 1:
        known = float((store.labels[:, list(columns)] >= 0).all(axis=1).mean()) if columns else 1.0
        held_out, labelled = None, max(known, 1 / len(store))
    else:
        held_out = HeldOutLabels(store, columns[0], state, share)
        labelled = held_out.labelled
    for objective in state.context.objectives:
        objective.labelled = labelled
    return held_out
