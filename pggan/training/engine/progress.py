"""Progress of a run: the counters that a checkpoint holds beside the tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

from pggan.config.strict_json import is_kind

# Fields that younger versions added; a checkpoint without them gets their defaults.
ADDED_LATER = frozenset(
    {
        "evaluate", "best_kind", "best_level", "best_score", "best_nimg", "snapshot", "tick_iterations", "tick_images",
        "tick_seconds", "tick_faults", "processor_seconds", "averaged", "averaged_level",
    }
)  # fmt: skip
# Largest counter: more images than any run sees, and levels up to 4096x4096.
MAX_COUNT, MAX_LEVEL = 10**13, 12


@dataclass
class Progress:
    """How far a run is. The field names are the keys in the checkpoint."""

    nimg: int = 0  # real images shown to D, over all processes
    iteration: int = 0  # G steps
    tick: int = 0  # lines of the log
    next_tick: int = 0  # images seen at which the next line is due
    phase: int = 0  # index of the schedule's phase of the last iteration
    seconds: float = 0.0  # of training, without evaluation and saving
    processor_seconds: float = 0.0  # in that time, of all threads of the first process
    skipped: int = 0  # steps that the loss scaler skipped
    faults: int = 0  # those of them with a fault: not finite, and no search for the loss scale
    rollbacks: int = 0  # returns to an earlier checkpoint after divergence
    lr_factor: float = 1.0  # what rollbacks have made of the learning rates
    best_diversity: float = 0.0  # highest diversity of G's images relative to the reals
    evaluate: int = 0  # level whose evaluation is pending; 0: none
    best_kind: int = 0  # CRC-32 of what the best model's score measures
    best_level: int = 0  # level of the best model
    best_score: float = 0.0
    best_nimg: int = 0  # images seen by the best model
    snapshot: int = 0  # level whose snapshot is pending; 0: none
    averaged: int = 0  # images over which the power-function averages go: since `averaged_level` began
    averaged_level: int = 0  # level of these averages; 0: none yet
    # since the last line of the log; not 0 in a checkpoint that a signal asked for between two lines
    tick_iterations: int = 0
    tick_images: int = 0  # shown to D in `tick_seconds`
    tick_seconds: float = 0.0  # of training
    tick_faults: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> Progress:
        """Reads a checkpoint's counters. Raises `ValueError` where they are another version's, or no counts."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not names - ADDED_LATER <= set(values) <= names:
            raise ValueError("it is another version's; use the pggan that wrote it")
        kinds = get_type_hints(cls)
        for name, value in values.items():
            most = MAX_LEVEL if name in ("evaluate", "best_level", "averaged_level") else MAX_COUNT
            if not is_kind(value, kinds[name]) or not (name == "best_score" or 0 <= value <= most):
                raise ValueError(f"its counter {name} is damaged")
        return cls(**values)
