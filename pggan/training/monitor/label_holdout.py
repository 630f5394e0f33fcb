"""Labels kept from training, and how often D tells the classes of pictures whose labels it was not shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pggan.config.schedule import ScheduleState
from pggan.data.store.store import Store
from pggan.training.engine import loss_functions
from pggan.training.engine.state import TrainState
from pggan.utils.errors import DataError

# Pictures that a tick asks about, and what they may take of memory.
PICTURES, BYTES = 512, 64 << 20
# Pictures asked about at once.
TOGETHER = 64
# Stream of the split, beside those of the order of pictures.
SPLIT = 0x1ABE1


def split_labels(classes: NDArray[Any], share: float, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which labels (N,) training sees, and the numbers of the pictures whose known labels it does not, ascending.

    Of each class the same share, one at least; decided by seed and labels alone. A label of -1 is not known: it is
    in neither. Of one seed, a larger share shows what a smaller one does, too.
    """
    shown = np.zeros(len(classes), bool)
    order = np.random.default_rng((seed, SPLIT)).permutation(len(classes))
    for kind in np.unique(classes[classes >= 0]):
        members = order[classes[order] == kind]
        shown[members[: max(1, round(share * len(members)))]] = True
    return shown, np.flatnonzero(~shown & (classes >= 0))


class HeldOutLabels:
    """The split of a run's labels: `labels` int32 (N, columns) as training sees them, -1 where it does not."""

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
        # the same pictures at every tick, in an order that mixes the classes
        self.asked = np.random.default_rng((state.config.seed, SPLIT, 1)).permutation(held_out)[:PICTURES]

    @torch.no_grad()
    def accuracy(self, moment: ScheduleState) -> float:
        """The share of held-out labels, 0 to 1, that D's largest class logit names, at the run's level and alpha."""
        state = self.state
        alpha = torch.tensor(moment.alpha, dtype=torch.float32, device=state.device)
        parameters = loss_functions.detached_parameters_of(state.discriminator)
        right = 0
        asked = self.asked[: self._count(moment.resolution)]
        for start in range(0, len(asked), self._together()):
            part = asked[start : start + self._together()]
            images = torch.from_numpy(self.store.read(moment.resolution, part.tolist())).to(state.device)
            reals = loss_functions.real_images(images, alpha)
            logits = loss_functions.discriminate(state.setup, parameters, reals, moment.level, alpha).class_logits
            assert logits is not None, "a run with labels has class logits"
            right += int((logits.argmax(dim=1).cpu().numpy() == self.classes[part]).sum())
        return right / len(asked)

    def _together(self) -> int:
        group = self.state.discriminator.config.minibatch_group
        return group * max(1, TOGETHER // group)

    def _count(self, resolution: int) -> int:
        """As many as memory takes, in whole groups of the minibatch statistic."""
        group = self.state.discriminator.config.minibatch_group
        fitting = min(len(self.asked), max(1, BYTES // (self.store.channels * resolution**2)))
        return fitting if fitting < group else fitting // group * group


def exam_of(store: Store, column: int, state: TrainState) -> HeldOutLabels | None:
    """The exam of a run with a technique that keeps labels from training; its objectives are told how many it sees."""
    share = min(objective.shown_labels for objective in state.setup.objectives)
    if share >= 1:
        known = float((store.labels[:, column] >= 0).mean()) if state.config.label_size else 1.0
        exam, labelled = None, max(known, 1 / len(store))
    else:
        exam = HeldOutLabels(store, column, state, share)
        labelled = exam.labelled
    for objective in state.setup.objectives:
        objective.labelled = labelled
    return exam
