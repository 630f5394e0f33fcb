"""Compile worker: a process beside the run fills the compiler's cache, so that no growth step waits for the compiler.

The process builds the same networks, lets torch compile the same functions and ends before it would run them: it never
holds a step's activations. Meanwhile a run on a GPU goes on in another step mode, and then only has to load the code. A
run on a CPU waits: so it resumes to the same bits. When it has the code, the next resolution's turn comes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import torch

from pggan.config.train import TrainConfig, from_json, to_json
from pggan.training.engine.batch_builder import example_inputs
from pggan.training.engine.gradients import build_gradient_fn, eager, without_unused_reals
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import StepMode
from pggan.utils.devices import pick_device, set_precision
from pggan.utils.formatting import one_line
from pggan.utils.parent_watch import exit_with_parent
from pggan.utils.process_pool import available_cores

# Niceness of the process while the run goes on: below the run's priority.
NICENESS = 10
_PROGRAM = "from pggan.training.engine.compile_worker import main; main()"


class CompileTask(NamedTuple):
    """What to compile: the step at a level, for micro-batches of `images` images."""

    level: int
    images: int


class CompileWorker:
    """At most one process, which compiles what the run needs now, or needs next."""

    def __init__(
        self,
        config: TrainConfig,
        device: str,
        precision: str,
        upcoming: Callable[[int], CompileTask | None],
        note: Callable[[str], None] = lambda message: None,
        waits: bool = False,
        num_threads: Callable[[int], int] = lambda level: torch.get_num_threads(),
    ) -> None:
        """Starts nothing yet.

        Args:
            config: The run's configuration.
            device: What the run computes on.
            precision: fp32, tf32, bf16 or fp16.
            upcoming: Returns the task of the level after a level, None where there is none.
            note: Called with what is being compiled.
            waits: Whether the run does not go on before the process has ended.
            num_threads: Returns with how many threads a level's step computes: a CPU's code depends on it.
        """
        self._about: dict[str, Any] = {"config": to_json(config), "device": device, "precision": precision}
        self._upcoming, self._note, self.waits, self._num_threads = upcoming, note, waits, num_threads
        self._process: subprocess.Popen[bytes] | None = None
        self._task: CompileTask | None = None  # the process's
        self._done: set[CompileTask] = set()

    def ready(self, level: int, images: int, seconds: float | None = None) -> bool:
        """Returns whether that step's code is in the compiler's cache; begins making it if not.

        Where the run waits for it, this waits until the code is there, or for `seconds`. Raises `RuntimeError` where it
        could not be made.
        """
        task = CompileTask(level, images)
        if task in self._done:
            return True
        if task != self._task:
            self._begin(task, 0 if self.waits else NICENESS)
            how = ": the run waits for it" if self.waits else " beside the run, which goes on without until then"
            self._note(f"compiling the step at {2**level}x{2**level}{how}")
        assert self._process is not None, "begun above"
        if self.waits:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        return self._finished(task, self._process)

    def entered(self, level: int) -> None:
        """The run has this level's code: begins the next level's."""
        task = self._upcoming(level)
        if task is not None and task not in self._done and task != self._task:
            self._begin(task, NICENESS)

    def close(self) -> None:
        """Ends the process, if one is at work."""
        process, self._process, self._task = self._process, None, None
        if process is not None and process.poll() is None:
            if hasattr(os, "killpg"):
                # the compiler's own processes, too; asked so, they remove what they have written in part
                os.killpg(process.pid, signal.SIGTERM)
            process.kill()
        if process is not None:
            process.communicate()

    def _begin(self, task: CompileTask, niceness: int) -> None:
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
        about = {**self._about, **task._asdict(), "threads": self._num_threads(task.level), "niceness": niceness}
        self._process.stdin.write(json.dumps(about).encode() + b"\n")
        self._process.stdin.flush()

    def _finished(self, task: CompileTask, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is None:
            return False
        output = process.communicate()[0].decode(errors="replace").strip()
        self._process, self._task = None, None
        if process.returncode:
            raise RuntimeError(output.splitlines()[-1] if output else f"its process ended with {process.returncode}")
        self._done.add(task)
        return True


def start_compile_worker(executor: StepExecutor) -> CompileWorker | None:
    """Gives an executor a compile worker and returns it; None where nothing is compiled.

    None, too, within a GPU's --budget, of which the process would take a part. On a CPU whose cores are all the run's,
    it compiles no level before the run needs it: the threads of both would wait for each other.
    """
    state, modes = executor.state, executor.modes
    config, device = state.config, state.device
    if not any(mode.compiles for mode in modes.values()) or (config.budget is not None and device.type == "cuda"):
        return None
    waits = device.type == "cpu"
    has_room = not waits or torch.get_num_threads() < available_cores()

    def upcoming(level: int) -> CompileTask | None:
        following = level + 1
        # eager, too, with activation checkpointing
        if not has_room or not modes.get(following, StepMode.EAGER).compiles:
            return None
        own = int(config.batch.at(2**following)) // state.world.size
        return CompileTask(following, own // executor.num_micro_batches(following, own))

    about = config, str(device), state.precision
    executor.worker = worker = CompileWorker(*about, upcoming, executor.note, waits, executor.num_threads)
    return worker


class _Compiled(Exception):  # noqa: N818 (no error)
    """The functions are compiled; running them is the run's part."""


def main() -> None:
    """Runs the process: reads its task from standard input, writes on standard output what went wrong."""
    task = json.loads(sys.stdin.buffer.readline())
    exit_with_parent()
    if hasattr(os, "nice"):
        os.nice(task["niceness"])
    try:
        fill_cache(task)
    except Exception as error:  # noqa: BLE001 (whatever it is, the run goes on without)
        print(one_line(error))
        sys.exit(1)


def fill_cache(task: Mapping[str, Any], backend: Callable[..., Any] | None = None) -> None:
    """Compiles both players' gradients and stops before they run.

    Args:
        task: What `CompileWorker` writes.
        backend: Stands in for the compiler.
    """
    torch.set_num_threads(task["threads"])
    config, device = from_json(TrainConfig, task["config"]), pick_device(task["device"])
    set_precision(task["precision"])
    level = task["level"]
    # which weights take part: an image on the CPU tells, without memory of the GPU
    small = TrainState(config, torch.device("cpu"), "fp32")
    absent = {}
    for player, inputs in example_inputs(small, level, 1).items():
        by_name = eager(small.context, without_unused_reals(small.context, inputs)).by_name
        absent[player] = [name for name, g in by_name.items() if g is None]
    if device.type == "cuda":
        torch.cuda.set_device(device)  # the compiler's key names the current one
    state = TrainState(config, device, task["precision"])
    for player, inputs in example_inputs(state, level, task["images"]).items():
        inputs = without_unused_reals(state.context, inputs)
        function = build_gradient_fn(
            StepMode.COMPILED, state.context, inputs, absent[player], _stopping(backend), _no_capture
        )
        try:
            function(inputs)
        except _Compiled:
            continue
        raise RuntimeError("the compiler ran the function")


def _stopping(backend: Callable[..., Any] | None) -> Callable[..., Any]:
    """Returns a backend of torch.compile whose functions do not run."""

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


def _no_capture(function: Callable[[], Any]) -> Any:
    raise AssertionError("nothing is captured here")
