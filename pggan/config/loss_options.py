"""What a loss and a regulariser declare of themselves (torch-free)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pggan.utils.errors import UsageError

Value = Any  # float, int, bool or str


@dataclass(frozen=True)
class Option:
    """What a person may choose for a loss or a regulariser.

    Its kind is that of `default`: a flag (bool), one of `choices` (str), a whole number (int) from `low` to `high`, or
    any number (float) of that range.
    """

    name: str
    default: Value
    low: float
    high: float
    help: str
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def kind(self) -> type:
        return str if self.choices else type(self.default)

    def check(self, value: Value) -> Value:
        """The value, of the option's kind. Raises `UsageError` for one out of range."""
        if self.choices:
            if value not in self.choices:
                raise UsageError(f"{self.flag} {value} is none of {', '.join(self.choices)}")
            return value
        if self.kind is bool:
            if not isinstance(value, bool):
                raise UsageError(f"{self.flag} is given or not, it takes no value {value!r}")
            return value
        if isinstance(value, (bool, str)) or not math.isfinite(value) or not self.low <= value <= self.high:
            shown = f"{value:g}" if isinstance(value, (int, float)) else repr(value)
            raise UsageError(f"{self.flag} {shown} is not from {self.low:g} to {self.high:g}")
        if self.kind is int and value != int(value):
            raise UsageError(f"{self.flag} {value:g} is not a whole number")
        return int(value) if self.kind is int else value


def flag(name: str, help: str, default: bool = False) -> Option:
    return Option(name, default, 0, 1, help)


def choice(name: str, choices: tuple[str, ...], help: str) -> Option:
    """The first of `choices` is the default."""
    return Option(name, choices[0], 0, 0, help, choices)


@dataclass(frozen=True)
class OptimizerDefaults:
    """The optimiser that a loss is published with. RMSprop: `betas[1]` is the decay of its mean square.

    `as_used`: the rate is that of weights as layers use them; an equalized one is stored 1 / scale as large and has
    lr / scale.
    """

    name: str = "adam"
    lr: float = 0.001
    betas: tuple[float, float] = (0.0, 0.99)
    eps: float = 1e-8
    as_used: bool = False


@dataclass(frozen=True)
class ObjectiveSpec:
    """What a loss is and needs.

    `needs`: any of "penalty" (D is differentiated twice), "labels" (of the data), "unconditional" (G is told none of
    them), "probability" (a loss for which the score's sigmoid is D's probability of a real), "reconstruction" (D is an
    auto-encoder), "whole" (terms are no mean over the minibatch's samples).
    `regularizers`: those that belong to the loss as published. `probability`: whether the loss is such a one.
    """

    name: str
    target: str
    summary: str
    options: tuple[Option, ...] = ()
    regularizers: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    probability: bool = False
    g_optimizer: OptimizerDefaults = field(default_factory=OptimizerDefaults)
    d_optimizer: OptimizerDefaults = field(default_factory=OptimizerDefaults)
    n_critic: int = 1


@dataclass(frozen=True)
class RegularizerSpec:
    """A term that adds to either player's loss, or a technique; `needs` as in `ObjectiveSpec`.

    It takes part in a run whose loss names it, in every run that has `joins` ("labels" or "codes"), or where its
    option `switch` is given another value than its default. `replaces`: regularisers that it stands in for; `brings`:
    options of others that it gives unless a person does.
    `g_lr`, `d_lr`: learning rates that a run with it has unless others are given.
    """

    name: str
    target: str
    summary: str
    options: tuple[Option, ...] = ()
    needs: frozenset[str] = frozenset()
    switch: str = ""
    joins: str = ""
    replaces: tuple[str, ...] = ()
    brings: tuple[tuple[str, Value], ...] = ()
    g_lr: float | None = None
    d_lr: float | None = None

    def __post_init__(self) -> None:
        if self.switch and self.switch not in {option.name for option in self.options}:
            raise ValueError(f"{self.name}: its switch {self.switch} is none of its options")

    def switched_on(self, given: dict[str, Value]) -> bool:
        """Whether the switch is given another value than its default."""
        options = {option.name: option for option in self.options}
        return (
            bool(self.switch) and given.get(self.switch, options[self.switch].default) != options[self.switch].default
        )
