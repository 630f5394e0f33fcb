"""Training state: all that decides the next number of a run, and so what a checkpoint holds.

Noise and data order are pure functions of (seed, images seen) and need no entry. How gradients are computed, which
changes no number but for rounding, is `StepExecutor`'s.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pggan.config.losses import OptimizerDefaults
from pggan.config.model_metadata import STATE_KEY, read_metadata
from pggan.config.schedule import ScheduleState
from pggan.config.train import PerResolution, TrainConfig
from pggan.losses.base import Objective
from pggan.networks import ema
from pggan.networks.factory import build
from pggan.networks.layers import EqualizedWeight
from pggan.networks.model_file import read_tensors, write_tensors
from pggan.training.engine.loss_functions import JOINED, StepContext, lazy_objectives, make_objectives
from pggan.training.engine.loss_scaler import LossScaler
from pggan.training.engine.progress import Progress
from pggan.utils.devices import PLAIN, channels_last, compute_dtype
from pggan.utils.distributed import SINGLE_PROCESS, World
from pggan.utils.errors import ModelError

# What an optimizer remembers of a weight.
_MOMENTS: dict[type, frozenset[str]] = {
    torch.optim.Adam: frozenset({"step", "exp_avg", "exp_avg_sq"}),
    torch.optim.RMSprop: frozenset({"step", "square_avg"}),
}


class Player(NamedTuple):
    """D or G with what updates it."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: LossScaler


class TrainState:
    """Networks, running average (EMA) of G, optimizers, loss scalers, objectives and progress of a run."""

    def __init__(
        self,
        config: TrainConfig,
        device: torch.device,
        precision: str,
        world: World = SINGLE_PROCESS,
        fused: bool = True,
    ) -> None:
        """Builds the state of a run at its beginning.

        Args:
            config: The run's configuration; its seed decides the weights.
            device: Where all tensors lie.
            precision: fp32, tf32, bf16 or fp16.
            world: This process's place among those of the run.
            fused: Use fused optimizers, which skip a step that is not finite on the device.
        """
        self.config, self.device, self.precision, self.world = config, device, precision, world
        self.schedule = config.schedule
        generator, discriminator = build(*config.networks(), seed=config.seed)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        if channels_last(device, precision):
            self.generator.to(memory_format=torch.channels_last)
            self.discriminator.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        lengths = ema.POWER_LENGTHS if config.power_averages else ()
        self.power_averages = {length: copy.deepcopy(self.average) for length in lengths}
        options = config.objective_options()
        objectives = make_objectives(config.loss, config.label_size > 0, options, config.has_codes)
        for objective in objectives:
            objective.label_layout = config.label_layout
        self.objectives = nn.ModuleList(objectives)
        self.attach()
        if device.type in PLAIN:
            self.objectives.float()  # counters are in float64
        self.objectives.to(device)
        self.context = StepContext(
            self.generator, self.discriminator, objectives, compute_dtype(precision),
            joined=JOINED.get(device.type, JOINED["cpu"]), penalty_every=config.penalty_every,
        )  # fmt: skip
        self._optimizer_defaults = g_defaults, d_defaults = config.optimizers()
        fused = fused and device.type not in PLAIN
        self.g_optimizer = make_optimizer(self.generator, g_defaults, config.g_lr, fused)
        self.d_optimizer = make_optimizer(self.discriminator, d_defaults, config.d_lr, fused)
        self.g_scaler = LossScaler(precision == "fp16", device)
        self.d_scaler = LossScaler(precision == "fp16", device)
        self.progress = Progress()
        # sums of the step's terms since the last line of the log
        self.tick_sums: dict[str, Tensor] = {}

    def attach(self) -> None:
        """Gives the objectives the networks, whose weights are new."""
        for objective in self.objectives:
            assert isinstance(objective, Objective)
            objective.attach(self.generator, self.discriminator, self.schedule.total)

    @property
    def nimg(self) -> int:
        return self.progress.nimg

    def player(self, name: str) -> Player:
        """D ("d") or G ("g")."""
        if name == "d":
            return Player(self.discriminator, self.d_optimizer, self.d_scaler)
        return Player(self.generator, self.g_optimizer, self.g_scaler)

    def apply_schedule(self, scheduled: ScheduleState) -> None:
        """Sets learning rates and Adam's betas; a new phase clears the moments, as the reference release does."""
        if scheduled.phase != self.progress.phase:
            self.progress.phase = scheduled.phase
            self.g_optimizer.state.clear()
            self.d_optimizer.state.clear()
        rates, powers = self.learning_rates(scheduled), (1.0, self._lazy_ratio(scheduled.level))
        optimizers = (self.g_optimizer, self.d_optimizer)
        for optimizer, rate, power, defaults in zip(optimizers, rates, powers, self._optimizer_defaults):
            beta1, beta2 = defaults.betas
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("of_scale", 1.0)
                if "betas" in group:
                    group["betas"] = (beta1**power, (beta2 if scheduled.beta2 is None else scheduled.beta2) ** power)

    def learning_rates(self, scheduled: ScheduleState) -> tuple[float, float]:
        """Returns the learning rates of G and D, which rollbacks and lazy penalties have changed."""
        factor = self.progress.lr_factor
        return scheduled.g_lr * factor, scheduled.d_lr * factor * self._lazy_ratio(scheduled.level)

    def _lazy_ratio(self, level: int) -> float:
        return self.config.lazy_ratio if lazy_objectives(self.context, level) else 1.0

    def update_averages(self, level: int, images: int) -> None:
        """Updates the power-function averages after an iteration of `images`; with each new level they start anew."""
        progress = self.progress
        if not self.power_averages:
            return
        if progress.averaged_level != level:
            progress.averaged_level, progress.averaged = level, 0
        progress.averaged += images
        for length, average in self.power_averages.items():
            ema.update_power(average, self.generator, length, progress.averaged, images)

    def take(self, other: TrainState) -> None:
        """Copies another state of the same run into this one's own tensors."""
        for (_, own), (_, theirs) in zip(self._modules(), other._modules()):
            own.load_state_dict(theirs.state_dict())
        for (_, optimizer, _), (_, source, _) in zip(self._optimizers(), other._optimizers()):
            optimizer.load_state_dict(source.state_dict())
        for scaler, fresh in ((self.g_scaler, other.g_scaler), (self.d_scaler, other.d_scaler)):
            scaler.log2.copy_(fresh.log2)
        self.progress, self.tick_sums = copy.copy(other.progress), dict(other.tick_sums)

    def _modules(self) -> Iterator[tuple[str, nn.Module]]:
        yield "generator", self.generator
        yield "discriminator", self.discriminator
        yield "average", self.average
        yield from ((f"power_average_{index}", each) for index, each in enumerate(self.power_averages.values()))
        yield "objectives", self.objectives

    def _optimizers(self) -> Iterator[tuple[str, torch.optim.Optimizer, nn.Module]]:
        yield "g_optimizer", self.g_optimizer, self.generator
        yield "d_optimizer", self.d_optimizer, self.discriminator

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name."""
        tensors = {f"{part}.{k}": v for part, module in self._modules() for k, v in module.state_dict().items()}
        for part, optimizer, module in self._optimizers():
            for name, parameter in module.named_parameters():
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"{part}.{key}.{name}"] = value
        tensors |= {f"tick.{name}": total for name, total in self.tick_sums.items()}
        return {**tensors, "scaler.g": self.g_scaler.log2, "scaler.d": self.d_scaler.log2}

    def save(self, path: Path) -> None:
        """Writes a checkpoint, atomically."""
        write_tensors(path, self.tensors(), STATE_KEY, {"counters": self.progress.to_json()})

    def load(self, path: Path) -> None:
        """Copies a checkpoint into this state. Raises `ModelError` for a file that is damaged or of another run."""
        about = read_metadata(path, STATE_KEY)
        tensors = read_tensors(path, STATE_KEY)
        try:
            progress = Progress.from_json(about.get("counters"))
        except ValueError as error:
            raise ModelError(f"{path} holds no training state that can be used: {error}") from None
        try:
            for part, module in self._modules():
                _load_module(module, _part(tensors, part))
            for part, optimizer, module in self._optimizers():
                _load_optimizer(optimizer, module, _part(tensors, part))
            for name, scaler in (("scaler.g", self.g_scaler), ("scaler.d", self.d_scaler)):
                _check_like(name, tensors[name], scaler.log2)
                scaler.load(tensors[name])
        except (RuntimeError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ModelError(f"{path} does not fit this run's networks ({reason})") from None
        self.progress = progress
        self.tick_sums = {name: total.to(self.device) for name, total in _part(tensors, "tick").items()}


def make_optimizer(
    module: nn.Module, defaults: OptimizerDefaults, rate: PerResolution | None, fused: bool = False
) -> torch.optim.Optimizer:
    """Builds the loss's own optimizer over a player's parameters; the schedule sets its rate at every step."""
    lr = defaults.lr if rate is None else rate.values()[0]
    parameters: list[Any] = list(module.parameters())
    if defaults.as_used:
        layers = [layer for layer in module.modules() if isinstance(layer, EqualizedWeight)]
        scales = {id(layer.weight): layer.scale / layer.rate for layer in layers}
        groups: dict[float, list[Any]] = {}  # one a scale: its parameters are updated together
        for parameter in parameters:
            groups.setdefault(1 / scales.get(id(parameter), 1.0), []).append(parameter)
        parameters = [{"params": own, "lr": lr * by, "of_scale": by} for by, own in groups.items()]
    if defaults.name == "adam":
        return torch.optim.Adam(parameters, lr=lr, betas=defaults.betas, eps=defaults.eps, fused=fused or None)
    if defaults.name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=lr, alpha=defaults.betas[1], eps=defaults.eps)
    raise ValueError(f"unknown optimizer {defaults.name!r}")


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(part + "."): t for name, t in tensors.items() if name.startswith(part + ".")}


def _check_like(name: str, tensor: Tensor, like: Tensor) -> None:
    """Raises `ValueError` where a tensor has another shape or kind of numbers than the run's own."""
    if tensor.shape != like.shape or tensor.dtype != like.dtype:
        raise ValueError(f"{name} is {tuple(tensor.shape)} of {tensor.dtype}, not {tuple(like.shape)} of {like.dtype}")


def _load_module(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, own in module.state_dict().items():
        if name in tensors:
            # counters are in float64, and in float32 on devices without it
            if own.ndim == 0 and {own.dtype, tensors[name].dtype} == {torch.float32, torch.float64}:
                tensors[name] = tensors[name].to(own.dtype)
            _check_like(name, tensors[name], own)
    module.load_state_dict(tensors)


def _check_moments(module: nn.Module, tensors: dict[str, Tensor], kinds: frozenset[str]) -> None:
    """Raises `ValueError` unless a weight has all of the optimizer's moments, of its own shape, or none."""
    for name, weight in module.named_parameters():
        moments = {key.partition(".")[0] for key in tensors if key.partition(".")[2] == name}
        if moments and moments != kinds:
            raise ValueError(f"{name} has the moments {', '.join(sorted(moments))}")
        for kind in moments:
            like = weight.new_zeros((), dtype=torch.float32) if kind == "step" else weight
            _check_like(f"{kind}.{name}", tensors[f"{kind}.{name}"], like)


def _load_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    _check_moments(module, tensors, _MOMENTS[type(optimizer)])
    state: dict[int, dict[str, Tensor]] = {}
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    ordered = (parameter for group in optimizer.param_groups for parameter in group["params"])
    numbers = {names[id(parameter)]: i for i, parameter in enumerate(ordered)}
    for name, tensor in tensors.items():
        key, _, parameter = name.partition(".")
        state.setdefault(numbers[parameter], {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    # files hold rows of values; moments lie as their weights do, or fused updates refuse them, or mix them up
    for weight in module.parameters():
        moments = optimizer.state.get(weight, {})
        for key, value in moments.items():
            if value.shape == weight.shape and value.stride() != weight.stride():
                moments[key] = torch.empty_like(weight.detach(), dtype=value.dtype).copy_(value)
