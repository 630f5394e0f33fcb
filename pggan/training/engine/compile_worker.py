"""Compiling beside the run: a process of its own fills the compiler's cache, so that no growth step waits for it.

The process builds the same networks, lets torch compile the same functions and ends before it would run them: it never
holds a step's activations. The run goes on without compiled steps meanwhile, and then only has to load the code. When
it has, the next resolution's turn comes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pggan.config.train import TrainConfig, from_json, to_json
from pggan.training.engine.step_executor import COMPILING
from pggan.utils.formatting import one_line
from pggan.utils.parent_watch import exit_with_parent
from pggan.utils.process_pool import available_cores

if TYPE_CHECKING:
    from pggan.training.engine.state import TrainState

# Lower priority than the run's.
NICENESS = 10
_PROGRAM = "from pggan.training.engine.compile_worker import main; main()"


class Task(NamedTuple):
    """What to compile: the step at a level, for so many images at once; gradient penalties by forward mode or not."""

    level: int
    images: int
    forward: bool = False


class CompileWorker:
    """At most one process, for what the run needs now, or needs next. `note` is told what it compiles.

    `upcoming(level)`: the task of the level after it, None where there is none or it is not compiled.
    """

    def __init__(
        self,
        config: TrainConfig,
        device: str,
        precision: str,
        upcoming: Callable[[int], Task | None],
        note: Callable[[str], None] = lambda message: None,
    ) -> None:
        import torch

        self._about: dict[str, Any] = {"config": to_json(config), "device": device, "precision": precision}
        self._about["threads"] = torch.get_num_threads()  # the compiler's code for CPUs counts on it
        self._upcoming, self._note = upcoming, note
        self._process: subprocess.Popen[bytes] | None = None
        self._task: Task | None = None  # the process's
        self._done: set[Task] = set()

    def ready(self, level: int, images: int, forward: bool = False) -> bool:
        """Whether that step's code is in the compiler's cache; begins making it if need be.

        Raises `RuntimeError` where it could not be made.
        """
        task = Task(level, images, forward)
        if task in self._done:
            return True
        if task != self._task:
            self._begin(task)
            side = 2**level
            self._note(f"compiling the step at {side}x{side} beside the run, which goes on without until then")
        return self._finished(task)

    def entered(self, level: int, forward: bool = False) -> None:
        """The run has this level's code: time for the next one's."""
        task = self._upcoming(level)
        task = task and task._replace(forward=forward)
        if task is not None and task not in self._done and task != self._task:
            self._begin(task)

    def close(self) -> None:
        """Ends the process, if one is at work."""
        process, self._process, self._task = self._process, None, None
        if process is not None and process.poll() is None:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)  # the compiler's own processes, too
            process.kill()
        if process is not None:
            process.communicate()

    def _begin(self, task: Task) -> None:
        self.close()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(place or os.getcwd() for place in sys.path)}
        # a process of its own, not one of the run's
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,  # closed when the run dies, however it does
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is the run's
        )
        self._task = task
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**self._about, **task._asdict()}).encode() + b"\n")
        self._process.stdin.flush()

    def _finished(self, task: Task) -> bool:
        process = self._process
        assert process is not None, "begun above"
        if process.poll() is None:
            return False
        said = process.communicate()[0].decode(errors="replace").strip()
        self._process, self._task = None, None
        if process.returncode:
            raise RuntimeError(said.splitlines()[-1] if said else f"its process ended with {process.returncode}")
        self._done.add(task)
        return True


def compiling_ahead(state: TrainState, modes: Mapping[int, str], note: Callable[[str], None]) -> CompileWorker | None:
    """What compiles beside a run of these modes by level; None where nothing is compiled, within a GPU's budget, of
    which it would take a part, and on a CPU whose cores are all the run's: its threads would wait for each other.
    """
    import torch

    config, device = state.config, state.device
    compiling = {level for level, mode in modes.items() if any(form in COMPILING for form in mode.split("|"))}
    if not compiling or (config.budget is not None and device.type == "cuda"):
        return None
    if device.type == "cpu" and torch.get_num_threads() >= available_cores():
        return None

    def upcoming(level: int) -> Task | None:
        following = level + 1
        if following not in compiling or following in state.recomputed:
            return None
        own = int(config.batch.at(2**following)) // state.world.size
        return Task(following, own // state.num_micro_batches(following, own))

    return CompileWorker(config, str(device), state.precision, upcoming, note)


class _Compiled(Exception):  # noqa: N818 (no error)
    """The functions are compiled; running them is the run's part."""


def main() -> None:
    """The process: reads its task from standard input, says on standard output what went wrong."""
    asked = json.loads(sys.stdin.buffer.readline())
    exit_with_parent()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        fill_cache(asked)
    except Exception as error:  # noqa: BLE001 (whatever it is, the run does without)
        print(one_line(error))
        sys.exit(1)


def fill_cache(asked: Mapping[str, Any], backend: Callable[..., Any] | None = None) -> None:
    """Compiles both players' gradients and stops before they run. `asked`: as `CompileWorker` writes it.

    `backend`: None for the compiler.
    """
    import torch

    from pggan.training.engine.gradients import build_gradient_fn, eager, needed
    from pggan.training.engine.state import TrainState
    from pggan.utils.devices import pick_device, set_precision

    torch.set_num_threads(asked["threads"])
    config, device = from_json(TrainConfig, asked["config"]), pick_device(asked["device"])
    set_precision(asked["precision"])
    level = asked["level"]
    # which weights take part: an image on the CPU tells, without memory of the GPU
    small = TrainState(config, torch.device("cpu"), "fp32")
    absent, half = {}, torch.full((), 0.5)
    for player, part in example(small, level, 1).items():
        found = eager(small.setup, player, needed(small.setup, player, part), level, half, torch.ones(())).found
        absent[player] = [name for name, g in found.items() if g is None]
    if device.type == "cuda":
        torch.cuda.set_device(device)  # the compiler's key names the current one
    state = TrainState(config, device, asked["precision"])
    setup = dataclasses.replace(state.setup, forward=asked["forward"])
    alpha, scale = torch.full((), 0.5, device=device), torch.ones((), device=device)
    for player, part in example(state, level, asked["images"]).items():
        inputs = needed(setup, player, part), alpha, scale
        function = build_gradient_fn(
            COMPILING[0], setup, player, level, inputs, absent[player], _stopping(backend), _record
        )
        try:
            function(*inputs)
        except _Compiled:
            continue
        raise RuntimeError("the compiler ran the function")


def _stopping(backend: Callable[..., Any] | None) -> Callable[..., Any]:
    """A backend of torch.compile whose functions do not run."""

    def compile_only(graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        if backend is not None:
            backend(graph, inputs)
        else:
            from torch._dynamo import lookup_backend

            lookup_backend("inductor")(graph, inputs)

        def stop(*values: Any) -> Any:
            raise _Compiled

        return stop

    return compile_only


def _record(function: Callable[[], Any]) -> Any:
    raise AssertionError("nothing is recorded here")


def example(state: Any, level: int, images: int) -> dict[str, Any]:
    """A `Batch` of so many images for each player, as a run of this state has them, of black pictures."""
    import numpy as np
    import torch

    from pggan.data.loading.loader import BatchRequest, LoadedBatch
    from pggan.training.engine.step import BatchBuilder

    config, side = state.config, 2**level
    pictures = np.zeros((images, config.channels, side, side), np.uint8)
    held_out = pictures if config.held_out else None
    classes = np.zeros(images, np.int32) if config.label_size else None
    labels = np.zeros((images, 1 if config.label_size else 0), np.int32)
    feed = BatchBuilder(state, 0, classes)
    loaded = LoadedBatch(pictures, labels, BatchRequest(0, images, side), held_out)
    batch = feed.discriminator(loaded, 0, torch.full((), 0.5, device=state.device))
    return {"d": batch, "g": feed.generator(batch, 0)}
