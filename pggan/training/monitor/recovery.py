"""Going back: to the newest checkpoint that can be read, to the last good one of a run that went wrong; full disks."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pggan.config.train import TrainConfig
from pggan.training.engine.state import TrainState, groups
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log import RunLog
from pggan.utils import distributed
from pggan.utils.distributed import World
from pggan.utils.errors import ModelError, OutOfMemoryError, TrainingError, UsageError

if TYPE_CHECKING:
    from pggan.training.loop import Display

T = TypeVar("T")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


class TrainingDiverged(Exception):  # noqa: N818 (a report more than an error)
    """The run has to go back; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def check_share(config: TrainConfig, state: TrainState, world: World) -> None:
    """Raises `UsageError` where a minibatch cannot be shared so that its groups stay whole."""
    for resolution in config.resolutions() if world.size > 1 else ():
        batch = int(config.batch.at(resolution))
        apart = groups(state.discriminator.config, batch)
        if apart % world.size:
            raise UsageError(
                f"{world.size} processes cannot share a batch of {batch} at {resolution}x{resolution}: it has {apart} "
                f"groups of the minibatch statistic; give a --batch whose groups are a multiple of {world.size}"
            )


def restore(state: TrainState, run: RunDirectory, display: Display) -> Path | None:
    """Loads the newest training state that can be read, the same in every process; None where there is none.

    Raises `ModelError` where there are some and none can be read.
    """
    states = run.states()
    wanted = -1
    if state.world.is_main_process:
        for number in range(len(states) - 1, -1, -1):
            try:
                state.load(states[number])
            except ModelError as error:
                display.note(f"{error}; trying the one before")
                continue
            wanted = number
            break
    wanted = distributed.all_reduce_max(wanted, state.world)
    if wanted < 0 and states:
        raise ModelError(f"none of the training states in {run.path} can be read; start a new run")
    if wanted < 0:
        return None
    if not state.world.is_main_process:
        state.load(states[wanted])
    return states[wanted]


def roll_back(
    state: TrainState,
    run: RunDirectory,
    config: TrainConfig,
    reason: str,
    log: RunLog | None,
    display: Display,
    start_again: Callable[[], None],
) -> None:
    """Takes a run that went wrong back to its last good checkpoint, or its beginning, with lower learning rates.

    Raises `TrainingError` with the diagnosis where it has been back as often as it may.
    """
    was, factor = state.nimg, float(state.counters["lr_factor"]) * config.rollback_lr
    times = int(state.counters["rollbacks"]) + 1
    if times > config.max_rollbacks:
        event(log, "stopped", was, reason=reason, rollbacks=times - 1)
        raise TrainingError(
            f"the run went wrong at {was / 1000:g} kimg: {reason}; it had gone back {times - 1} times already. Try "
            "lower rates (--g-lr, --d-lr), --precision fp32, or look at the samples before that"
        )
    if restore(state, run, display) is None:
        start_again()
    state.counters["rollbacks"], state.counters["lr_factor"] = times, factor
    if log is not None:
        log.rewind(state.nimg)
    event(log, "rollback", was, to=state.nimg, reason=reason, lr_factor=factor, times=times)
    display.note(
        f"went wrong at {was / 1000:g} kimg: {reason}; back to {state.nimg / 1000:g} kimg with {factor:g} times the "
        f"learning rates ({times} of {config.max_rollbacks} returns)"
    )


def event(log: RunLog | None, what: str, nimg: int, **values: object) -> None:
    if log is not None:
        log.event({"event": what, "at_nimg": nimg, **values})


def count_steps(state: TrainState) -> int:
    """Adds the players' skipped and faulty steps to the counters; returns the faulty ones since the last time."""
    faults = 0
    for scaler in (state.g_scaler, state.d_scaler):
        skipped, found = scaler.read_counts()
        state.counters["skipped"] += skipped
        faults += found
    state.counters["faults"] += faults
    return faults


def kept(display: Display, work: Callable[[], T], what: str) -> T | None:
    """Does some writing; a full or failing disk is told, and the run goes on with what it had saved before.

    So is memory that has no room for a single picture.
    """
    try:
        return work()
    except OutOfMemoryError as error:
        display.note(f"WARNING: {what} could not be made: {error}. The run goes on")
        return None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        where = f" ({error.filename})" if error.filename else ""
        display.note(
            f"WARNING: {what} could not be written: {error.strerror}{where}. The run goes on, and what was saved "
            "before is kept; free some space"
        )
        return None
