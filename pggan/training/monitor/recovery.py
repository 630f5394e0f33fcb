"""Rollback: back to the newest checkpoint that can be read, or to the last good one of a run that diverged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pggan.config.train import TrainConfig
from pggan.training.engine.state import TrainState
from pggan.training.monitor.disk_full import tolerate_write_errors
from pggan.training.monitor.display import Display
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log import RunLog
from pggan.utils import distributed
from pggan.utils.errors import ModelError, TrainingError


class TrainingDiverged(Exception):  # noqa: N818 (it ends no run: the training loop rolls back)
    """The run has diverged and has to roll back; `reason` says how."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def restore(state: TrainState, run: RunDirectory, display: Display, interim: bool = True) -> Path | None:
    """Loads the newest checkpoint that can be read, the same in every process.

    Args:
        state: receives the checkpoint.
        run: the directory that holds the checkpoints.
        display: shows every checkpoint that cannot be read.
        interim: whether checkpoints count that signals asked for.

    Returns:
        The checkpoint's path; None where the run has none.

    Raises:
        ModelError: there are checkpoints, and none of them can be read.
        TrainingError: this process does not see those of the main process.
    """
    checkpoints = run.states(interim)
    newest = -1  # index of the newest readable one
    if state.world.is_main_process:
        for index in reversed(range(len(checkpoints))):
            try:
                state.load(checkpoints[index])
                newest = index
                break
            except ModelError as error:
                display.note(f"{error}; trying the one before")
    newest = distributed.all_reduce_max(newest, state.world)
    if newest < 0 and checkpoints:
        raise ModelError(f"none of the training states in {run.path} can be read; start a new run")
    if newest < 0:
        return None
    if not state.world.is_main_process:
        if newest >= len(checkpoints):
            raise TrainingError(
                f"{run.path} is another folder on this machine; it has to lie on storage that all share"
            )
        state.load(checkpoints[newest])
    return checkpoints[newest]


def roll_back(
    state: TrainState,
    run: RunDirectory,
    config: TrainConfig,
    reason: str,
    log: RunLog | None,
    display: Display,
    start_again: Callable[[], None],
) -> None:
    """Takes a diverged run back to its last good checkpoint, or to its beginning, and lowers the learning rates.

    Args:
        state: is reset to the checkpoint.
        run: the directory that holds the checkpoints.
        config: says how often a run may roll back, and the factor on its learning rates.
        reason: how the run diverged, in words.
        log: is cut to the checkpoint, and records the rollback; None in processes that write no log.
        display: shows the rollback.
        start_again: resets the state to the beginning of the run, where there is no checkpoint.

    Raises:
        TrainingError: the run has rolled back as often as it may; the message has the diagnosis.
    """
    diverged_at, factor = state.nimg, state.progress.lr_factor * config.rollback_lr
    times = state.progress.rollbacks + 1
    if times > config.max_rollbacks:
        _record(log, display, "stopped", diverged_at, reason=reason, rollbacks=times - 1)
        raise TrainingError(
            f"the run went wrong at {diverged_at / 1000:g} kimg: {reason}; it had gone back {times - 1} times already. "
            "Try lower rates (--g-lr, --d-lr), --precision fp32, or look at the samples before that"
        )
    # from where a run without signals would go on, too
    if restore(state, run, display, interim=False) is None:
        start_again()
    state.progress.rollbacks, state.progress.lr_factor = times, factor
    if log is not None:
        with tolerate_write_errors(display, "the log"):
            log.rewind(state.nimg)
        run.give_up(state.nimg)
        # a run that is stopped or killed before the next checkpoint has rolled back all the same
        with tolerate_write_errors(display, "the checkpoint"):
            state.save(run.state(state.nimg) if state.nimg else run.interim_state(0))
    _record(log, display, "rollback", diverged_at, to=state.nimg, reason=reason, lr_factor=factor, times=times)
    display.note(
        f"went wrong at {diverged_at / 1000:g} kimg: {reason}; back to {state.nimg / 1000:g} kimg with {factor:g} "
        f"times the learning rates ({times} of {config.max_rollbacks} returns)"
    )


def _record(log: RunLog | None, display: Display, kind: str, nimg: int, **values: object) -> None:
    if log is not None:
        with tolerate_write_errors(display, "the log"):
            log.event({"event": kind, "at_nimg": nimg, **values})
