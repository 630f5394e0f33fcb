"""Everything that decides the next number of a run, in one list: what a checkpoint holds and a resumed run gets back.

Noise and data order are pure functions of (seed, images seen) and need no entry.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pggan.config.losses import OptimizerDefaults
from pggan.config.schedule import Schedule, ScheduleState
from pggan.config.train import DiscriminatorConfig, PerResolution, TrainConfig, level_of
from pggan.losses.base import Objective
from pggan.networks.activation_checkpointing import CheckpointSwitch, checkpointable_blocks, enable_checkpointing
from pggan.networks.factory import build
from pggan.networks.layers import EqualizedWeight
from pggan.networks.model_file import STATE_KEY, read_metadata, read_tensors, write_tensors
from pggan.training.engine.loss_functions import StepContext, make_objectives
from pggan.training.engine.loss_scaler import LossScaler
from pggan.training.engine.step_executor import StepExecutor
from pggan.utils.devices import channels_last, compute_dtype
from pggan.utils.distributed import SINGLE_PROCESS, World
from pggan.utils.errors import ModelError
from pggan.utils.formatting import one_line


class TrainState:
    """The networks, the running average, the optimisers, the objectives and the counters of a run."""

    def __init__(
        self,
        config: TrainConfig,
        device: torch.device,
        precision: str,
        world: World = SINGLE_PROCESS,
        fused: bool = True,
    ) -> None:
        """`fused`: the optimisers in their fused form, which leaves a faulty step out on the device."""
        self.config, self.device, self.world = config, device, world
        self.precision = precision
        self.fused = fused
        # micro-batches of an iteration in this process, by level, where memory has asked for several, and the levels
        # whose activations it lacks the room to keep
        self.parts: dict[int, int] = {}
        self.recomputed: set[int] = set()
        self._recompute = CheckpointSwitch()
        generator, discriminator = build(*config.networks(), seed=config.seed)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        if channels_last(device, precision):
            self.generator.to(memory_format=torch.channels_last)
            self.discriminator.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        for network in (self.generator, self.discriminator):
            enable_checkpointing(checkpointable_blocks(network), self._recompute)
        options = dict(config.loss_options)
        objectives = make_objectives(config.loss, config.label_size > 0, options, config.has_codes)
        self.objectives = nn.ModuleList(objectives)
        self.attach()
        self.objectives.to(device)
        dtype = compute_dtype(precision)
        self.setup = StepContext(self.generator, self.discriminator, objectives, dtype)
        self.computing = StepExecutor()  # eager, unless the run says otherwise
        g_defaults, d_defaults = config.optimizers()
        self.g_optimizer = make_optimizer(self.generator, g_defaults, config.g_lr, self.fused)
        self.d_optimizer = make_optimizer(self.discriminator, d_defaults, config.d_lr, self.fused)
        self.g_scaler = LossScaler(precision == "fp16", device)
        self.d_scaler = LossScaler(precision == "fp16", device)
        self.counters = fresh_counters()

    def attach(self) -> None:
        """Tells the objectives of the networks, whose weights are new."""
        total = Schedule(self.config).total
        for objective in self.objectives:
            assert isinstance(objective, Objective)
            objective.attach(self.generator, self.discriminator, total)

    @property
    def nimg(self) -> int:
        return int(self.counters["nimg"])

    def num_micro_batches(self, level: int, count: int) -> int:
        """Micro-batches of `count` images of this process at a level: as planned, or as memory has asked for."""
        wanted = self.parts.get(level, 1)
        if self.config.micro_batch is not None:
            most = int(self.config.micro_batch.at(2**level))
            wanted = max(wanted, -(-count // most))
        return next(parts for parts in self._divisors(count) if parts >= wanted or parts == self._divisors(count)[-1])

    def halve(self, level: int, count: int) -> bool:
        """Plans twice as many micro-batches; False where they are as small as the minibatch statistic lets them be."""
        now = self.num_micro_batches(level, count)
        more = [parts for parts in self._divisors(count) if parts >= 2 * now] or [
            parts for parts in self._divisors(count) if parts > now
        ]
        if more:
            self.parts[level] = more[0]
        return bool(more)

    def reduce_memory(self, level: int, count: int) -> bool:
        """Plans with less memory: smaller micro-batches, then activations computed again; False where there is no
        less.
        """
        if self.halve(level, count):
            return True
        if level in self.recomputed or not checkpointable_blocks(self.discriminator):
            return False
        self.recompute(level)
        return True

    def recompute(self, level: int) -> None:
        """From here on a level's activations are computed again; its steps are eager then."""
        self.recomputed.add(level)
        self._recompute.on = True
        self.computing.modes.pop(level, None)

    def apply_memory_plan(self, shares: Mapping[str, Mapping[str, Any]]) -> None:
        """Plans micro-batches, and activations computed again, as recorded by resolution (training/memory.py)."""
        for side, share in shares.items():
            level = level_of(int(side))
            own = int(self.config.batch.at(int(side))) // self.world.size
            self.parts[level] = -(-own // int(share["micro_batch"]))
            if share["recompute"]:
                self.recompute(level)

    @contextmanager
    def keeping(self, activations: bool) -> Iterator[None]:
        """Within the block activations are kept, or computed again, whatever the run does."""
        before, self._recompute.on = self._recompute.on, not activations
        try:
            yield
        finally:
            self._recompute.on = before

    def _divisors(self, count: int) -> list[int]:
        return divisors(self.config, count, self.world.size)

    def enter(self, moment: ScheduleState) -> None:
        """Sets what the schedule says of this moment; a new phase starts with fresh moments of the optimisers."""
        self._recompute.on = moment.level in self.recomputed
        if moment.phase != self.counters["phase"]:
            self.counters["phase"] = moment.phase
            self.g_optimizer.state.clear()
            self.d_optimizer.state.clear()
        for optimizer, rate in ((self.g_optimizer, moment.g_lr), (self.d_optimizer, moment.d_lr)):
            for group in optimizer.param_groups:
                group["lr"] = rate * self.counters["lr_factor"] * group.get("of_scale", 1.0)

    def take(self, other: TrainState) -> None:
        """Copies another state of the same run into this one's own tensors."""
        for (_, own), (_, theirs) in zip(self._modules(), other._modules()):
            own.load_state_dict(theirs.state_dict())
        for (_, optimizer, _), (_, source, _) in zip(self._optimizers(), other._optimizers()):
            optimizer.load_state_dict(source.state_dict())
        for scaler, fresh in ((self.g_scaler, other.g_scaler), (self.d_scaler, other.d_scaler)):
            scaler.log2.copy_(fresh.log2)
        self.counters = dict(other.counters)

    def _modules(self) -> Iterator[tuple[str, nn.Module]]:
        yield "generator", self.generator
        yield "discriminator", self.discriminator
        yield "average", self.average
        yield "objectives", self.objectives

    def _optimizers(self) -> Iterator[tuple[str, torch.optim.Optimizer, nn.Module]]:
        yield "g_optimizer", self.g_optimizer, self.generator
        yield "d_optimizer", self.d_optimizer, self.discriminator

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name."""
        found = {f"{part}.{k}": v for part, module in self._modules() for k, v in module.state_dict().items()}
        for part, optimizer, module in self._optimizers():
            for name, parameter in module.named_parameters():
                for key, value in optimizer.state.get(parameter, {}).items():
                    found[f"{part}.{key}.{name}"] = value
        return {**found, "scaler.g": self.g_scaler.log2, "scaler.d": self.d_scaler.log2}

    def save(self, path: Path) -> None:
        write_tensors(path, self.tensors(), STATE_KEY, {"counters": self.counters})

    def load(self, path: Path) -> None:
        """Copies a saved state into this one. Raises `ModelError` for a file that is damaged or of another run."""
        about = read_metadata(path, STATE_KEY)
        tensors = read_tensors(path, STATE_KEY)
        counters: Any = about.get("counters")
        fresh = fresh_counters()
        if not isinstance(counters, dict) or not FIRST_COUNTERS <= set(counters) <= set(fresh):
            raise ModelError(f"{path} holds another version's training state; use the pggan that wrote it")
        try:
            for part, module in self._modules():
                module.load_state_dict(_part(tensors, part))
            for part, optimizer, module in self._optimizers():
                _load_optimizer(optimizer, module, _part(tensors, part))
            self.g_scaler.log2.copy_(tensors["scaler.g"])
            self.d_scaler.log2.copy_(tensors["scaler.d"])
        except (RuntimeError, KeyError) as error:
            raise ModelError(f"{path} does not fit this run's networks ({one_line(error)})") from None
        self.counters = {**fresh, **counters}


def fresh_counters() -> dict[str, float]:
    """Those of a run that begins: images seen, iterations, log ticks, the phase of the last iteration, seconds trained,
    skipped steps and faulty ones among them, times rolled back and what that made of the learning rates, best variety
    of G; the level whose evaluation is owed, and of the best model what its score is of, level, score, images seen.
    """
    return {
        "nimg": 0, "iteration": 0, "tick": 0, "next_tick": 0, "phase": 0, "seconds": 0.0, "skipped": 0, "faults": 0,
        "rollbacks": 0, "lr_factor": 1.0, "best_diversity": 0.0,
        "evaluate": 0, "best_kind": 0, "best_level": 0, "best_score": 0.0, "best_nimg": 0,
    }  # fmt: skip


# What every training state has; those that came later start afresh where a state is older.
FIRST_COUNTERS = frozenset(fresh_counters()) - {"evaluate", "best_kind", "best_level", "best_score", "best_nimg"}


def divisors(config: TrainConfig, count: int, processes: int = 1) -> list[int]:
    """The numbers of equal micro-batches of a process's `count` images that keep the groups of the minibatch statistic
    whole, ascending.
    """
    if "whole" in config.needs():
        return [1]
    most = groups(config.networks()[1], count * processes) // processes
    return [parts for parts in range(1, most + 1) if most % parts == 0] or [1]


def groups(config: DiscriminatorConfig, batch: int) -> int:
    """How many equal parts a minibatch can be computed in, apart: its groups of the minibatch statistic.

    The statistic in pytorch_GAN_zoo's form groups neighbours, which parts would tear: there it is one.
    """
    if config.minibatch_group == 1:
        return batch
    torn = config.diversity == "stddev" and config.stddev_form != "official"
    return 1 if torn else batch // min(config.minibatch_group, batch)


def make_optimizer(
    module: nn.Module, defaults: OptimizerDefaults, rate: PerResolution | None, fused: bool = False
) -> torch.optim.Optimizer:
    """The loss's own optimiser over a player's parameters; its rate is set by the schedule at every step."""
    lr = defaults.lr if rate is None else rate.values()[0]
    parameters: list[Any] = list(module.parameters())
    if defaults.as_used:
        scales = {id(layer.weight): layer.scale for layer in module.modules() if isinstance(layer, EqualizedWeight)}
        # a group each, in the order of the parameters, by which states are numbered
        factors = [1 / scales.get(id(each), 1.0) for each in parameters]
        parameters = [{"params": [p], "lr": lr * by, "of_scale": by} for p, by in zip(parameters, factors)]
    if defaults.name == "adam":
        return torch.optim.Adam(parameters, lr=lr, betas=defaults.betas, eps=defaults.eps, fused=fused or None)
    if defaults.name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=lr, alpha=defaults.betas[1], eps=defaults.eps)
    raise ValueError(f"unknown optimizer {defaults.name!r}")


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(part + "."): t for name, t in tensors.items() if name.startswith(part + ".")}


def _load_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    numbers = {name: i for i, (name, _) in enumerate(module.named_parameters())}
    for name, tensor in tensors.items():
        key, _, parameter = name.partition(".")
        state.setdefault(numbers[parameter], {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    # files hold rows of values; moments lie as their weights do, or fused updates refuse them, or mix them up
    for weight in module.parameters():
        kept = optimizer.state.get(weight, {})
        for key, value in kept.items():
            if value.shape == weight.shape and value.stride() != weight.stride():
                kept[key] = torch.empty_like(weight.detach(), dtype=value.dtype).copy_(value)
