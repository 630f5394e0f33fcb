"""Everything that decides the next number of a run, in one list: what a checkpoint holds and a resumed run gets back.

Noise and data order are pure functions of (seed, images seen) and need no entry.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pggan.checkpoints import STATE_KEY, read_metadata, read_tensors, write_tensors
from pggan.config import PerResolution, TrainConfig
from pggan.devices import compute_dtype
from pggan.errors import ModelError
from pggan.networks.build import build
from pggan.objectives import OBJECTIVES, OptimizerDefaults
from pggan.training.scaling import LossScaler
from pggan.training.schedule import Moment
from pggan.training.step import Setup, make_objectives


class TrainState:
    """The networks, the running average, the optimisers, the objectives and the counters of a run."""

    def __init__(self, config: TrainConfig, device: torch.device, precision: str) -> None:
        self.config, self.device = config, device
        generator, discriminator = build(*config.networks(), seed=config.seed)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        objectives = make_objectives(config.loss, config.label_size > 0, dict(config.loss_options))
        self.objectives = nn.ModuleList(objectives).to(device)
        dtype = compute_dtype(precision)
        self.setup = Setup(self.generator, self.discriminator, objectives, dtype)
        spec = OBJECTIVES[config.loss]
        self.g_optimizer = make_optimizer(self.generator, spec.g_optimizer, config.g_lr)
        self.d_optimizer = make_optimizer(self.discriminator, spec.d_optimizer, config.d_lr)
        self.g_scaler = LossScaler(precision == "fp16", device)
        self.d_scaler = LossScaler(precision == "fp16", device)
        # counters: images seen, iterations, log ticks, the phase of the last iteration, seconds trained, skipped steps
        self.counters: dict[str, float] = {
            "nimg": 0, "iteration": 0, "tick": 0, "next_tick": 0, "phase": 0, "seconds": 0.0, "skipped": 0,
        }  # fmt: skip

    @property
    def nimg(self) -> int:
        return int(self.counters["nimg"])

    def enter(self, moment: Moment) -> None:
        """Sets what the schedule says of this moment; a new phase starts with fresh moments of the optimisers."""
        if moment.phase != self.counters["phase"]:
            self.counters["phase"] = moment.phase
            self.g_optimizer.state.clear()
            self.d_optimizer.state.clear()
        for optimizer, rate in ((self.g_optimizer, moment.g_lr), (self.d_optimizer, moment.d_lr)):
            for group in optimizer.param_groups:
                group["lr"] = rate

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
        if not isinstance(counters, dict) or set(counters) != set(self.counters):
            raise ModelError(f"{path} holds another version's training state; use the pggan that wrote it")
        try:
            for part, module in self._modules():
                module.load_state_dict(_part(tensors, part))
            for part, optimizer, module in self._optimizers():
                _load_optimizer(optimizer, module, _part(tensors, part))
            self.g_scaler.log2.copy_(tensors["scaler.g"])
            self.d_scaler.log2.copy_(tensors["scaler.d"])
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ModelError(f"{path} does not fit this run's networks ({reason})") from None
        self.counters = counters


def make_optimizer(module: nn.Module, defaults: OptimizerDefaults, rate: PerResolution | None) -> torch.optim.Optimizer:
    """The loss's own optimiser over a player's parameters; its rate is set by the schedule at every step."""
    parameters = list(module.parameters())
    fused = parameters[0].device.type == "cuda"
    lr = defaults.lr if rate is None else rate.values()[0]
    if defaults.name == "adam":
        return torch.optim.Adam(parameters, lr=lr, betas=defaults.betas, eps=defaults.eps, fused=fused or None)
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
