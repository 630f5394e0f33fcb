"""What a run computes with on a machine: device, precision, step modes, memory plan, hardware and versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pggan.config.strict_json import is_kind
from pggan.config.train import PRECISIONS, TrainConfig, level_of
from pggan.training.engine import step_modes
from pggan.training.engine.memory_estimate import MicroBatchPlan, plan_from_json, plan_to_json, resolve_memory
from pggan.training.engine.step_modes import StepMode, resolve_modes, single_thread_levels
from pggan.utils.errors import UsageError

# Kinds of the entries as JSON.
_RECORDED: dict[str, Any] = {
    "device": str, "precision": str, "modes": dict[str, str], "modes_why": str, "memory": dict[str, dict[str, Any]],
    "hardware": str, "threads": int, "single_thread": list[int], "torch": str, "python": str,
    "data": dict[str, int | str | None] | None, "processes": int, "start_attribution": str | None,
}  # fmt: skip


@dataclass(frozen=True)
class RunEnvironment:
    """What "auto" became, as options.json holds it under "resolved"."""

    device: str  # cpu, or a GPU such as cuda:0
    precision: str  # fp32, tf32, bf16 or fp16
    # step mode by level, eager where none is named; None: an older run measured which is fastest
    modes: Mapping[int, StepMode] | None = field(default_factory=dict)
    modes_why: str = ""
    memory: Mapping[int, MicroBatchPlan] = field(default_factory=dict)  # by level; empty: whole batches, as far as fit
    hardware: str = ""  # name of the GPU or processor
    threads: int = 0  # that torch computes with
    single_thread: tuple[int, ...] = ()  # levels whose steps take one of them; none in a run of an older version
    torch: str = ""  # version
    python: str = ""  # version
    data: Mapping[str, Any] | None = None  # identity of the data store
    processes: int = 1  # of the run
    start_attribution: str | None = None  # attribution of what the model of --from learnt from

    def to_json(self) -> dict[str, Any]:
        modes = {str(2**level): mode.value for level, mode in (self.modes or {}).items()}
        values = {name.name: getattr(self, name.name) for name in fields(self)}
        single_thread = [2**level for level in self.single_thread]
        return {**values, "modes": modes, "single_thread": single_thread, "memory": plan_to_json(self.memory)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunEnvironment:
        """Reads what this version or an older one recorded. Raises `ValueError` where an entry is of another kind."""
        for name in ("device", "precision"):
            if name not in values:
                raise ValueError(f"{name} is missing")
        for name, kind in _RECORDED.items():
            if name in values and not is_kind(values[name], kind):
                raise ValueError(f"{name} is of another kind")
        if values["precision"] not in PRECISIONS:
            raise ValueError(f"precision is none of {', '.join(PRECISIONS)}")
        known = {name.name: values[name.name] for name in fields(cls) if name.name in values}
        memory = plan_from_json(values.get("memory", {}))
        single_thread = tuple(level_of(side) for side in values.get("single_thread", ()))
        modes = _modes(values.get("modes", {}))
        return cls(**{**known, "modes": modes, "single_thread": single_thread, "memory": memory})

    def describe_steps(self) -> list[str]:
        """Returns the step modes in a line, and another one for a precision that the GPU only imitates."""
        from pggan.utils.devices import describe_precision, pick_device

        warning = describe_precision(self.precision, pick_device(self.device))
        single_thread = self.single_thread if self.threads > 1 else ()
        how = step_modes.describe(self.modes or {}, self.modes_why, single_thread)
        steps = [f"steps: {how}"] if self.modes else []
        return [*steps, *([warning] if warning else [])]


def _modes(values: Mapping[str, str]) -> dict[int, StepMode] | None:
    try:
        return {level_of(int(side)): StepMode(mode) for side, mode in values.items()}
    except ValueError:  # several, of which the fastest was to be measured: "eager|captured-eager"
        return None


def resolve(config: TrainConfig) -> RunEnvironment:
    """Decides what "auto" becomes on this machine.

    Raises:
        UsageError: The device, the precision or the memory is not there.
    """
    import torch

    from pggan.utils.devices import device_name, pick_device, pick_precision
    from pggan.utils.distributed import local_device, world_from_environment

    # each of several processes looks at its own GPU, not all at the first one
    device = pick_device(local_device(config.device))
    precision = pick_precision(config.precision, device)
    _check_supported(config, device.type)
    modes, why = resolve_modes(config, str(device))
    processes = world_from_environment().size
    return RunEnvironment(
        device=str(device),
        precision=precision,
        modes=modes,
        modes_why=why,
        memory=resolve_memory(config, device, precision),
        hardware=device_name(device),
        threads=torch.get_num_threads(),
        single_thread=single_thread_levels(config, str(device), processes),
        torch=torch.__version__,
        python=platform.python_version(),
    )


def _check_supported(config: TrainConfig, device: str) -> None:
    """Raises `UsageError` for an option that only CPUs and CUDA GPUs have. Step modes have a reason instead."""
    from pggan.utils.devices import PLAIN

    if device in PLAIN:
        for flag, is_given in (("--budget", config.budget is not None), ("--cache device", config.cache == "device")):
            if is_given:
                raise UsageError(f"{flag} is for CPUs and CUDA GPUs; leave it out on {device}")
