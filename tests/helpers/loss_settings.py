"""Configurations of every loss and technique, derived from their tables, so that a new entry is tested by itself."""

from __future__ import annotations

from pggan.config.losses import OBJECTIVES, REGULARIZERS
from tests.helpers.train_steps import CLASSES

LOSSES = OBJECTIVES.names()


SWITCHES = [spec for spec in REGULARIZERS if spec.switch]


def value_of(option):
    """Another value than the default, to switch something on."""
    if option.choices:
        return option.choices[-1]
    if option.kind is bool:
        return not option.default
    return option.low + 0.9 * (min(option.high, 1) - option.low)


def labels_of(spec):
    """The labels that a technique needs."""
    return {"labels": "kind", "label_size": CLASSES} if "labels" in spec.needs else {}


def switched_on(spec):
    """The option that switches a technique on."""
    return spec.switch, value_of(spec.switch_option)


def technique(spec):
    return {"loss": "gan", "loss_options": (switched_on(spec),), **labels_of(spec)}


# every technique that does without labels, with every option of theirs and of the loss at another value
EVERYTHING = {
    "loss": "gan", "g_norm": "virtual-batch", "d_norm": "layer", "diversity": "discrimination", "categorical": (3,),
    "continuous": 1, "loss_options": tuple(
        (option.name, value_of(option))
        for spec in [OBJECTIVES["gan"], *(spec for spec in SWITCHES if not labels_of(spec))]
        for option in spec.options if option.name not in {"ada_target", "ada_kimg"}  # --augment-p fixes what they tune
    ),
}  # fmt: skip


SETTINGS = {
    **{loss: {"loss": loss} for loss in LOSSES},
    **{spec.name: technique(spec) for spec in SWITCHES},
    "everything": EVERYTHING,
}
