"""What a loss, a regularizer and a technique declare of themselves (torch-free)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pggan.config.option import Option, Value


@dataclass(frozen=True)
class OptimizerDefaults:
    """The optimizer with which a loss was published."""

    name: str = "adam"  # or "rmsprop"
    lr: float = 0.001  # learning rate
    betas: tuple[float, float] = (0.0, 0.99)  # RMSprop: the second one is the decay of its mean square
    eps: float = 1e-8
    # The rate is that of weights as layers use them: an equalized weight, stored 1 / scale as large, has lr / scale.
    as_used: bool = False


@dataclass(frozen=True)
class ObjectiveSpec:
    """A loss of the two networks."""

    name: str  # on the command line
    target: str  # `module:class`, imported on first use
    summary: str  # what it is, with its source
    options: tuple[Option, ...] = ()  # its own options
    regularizers: tuple[str, ...] = ()  # names of those that belong to it as published
    # Any of "penalty" (D is differentiated twice), "labels" (of the data), "unconditional" (G gets no labels),
    # "probability" (a loss whose score is the logit of D's probability of a real), "reconstruction" (D is an
    # auto-encoder), "whole" (terms that are no mean over the samples, so that the minibatch cannot be divided).
    needs: frozenset[str] = frozenset()
    probability: bool = False  # whether the sigmoid of the score is D's probability of a real
    g_optimizer: OptimizerDefaults = field(default_factory=OptimizerDefaults)
    d_optimizer: OptimizerDefaults = field(default_factory=OptimizerDefaults)
    n_critic: int = 1  # discriminator steps per generator step
    implies: tuple[tuple[str, Value], ...] = ()  # options of regularizers that it sets, unless they are given


@dataclass(frozen=True)
class RegularizerSpec:
    """A term added to the loss of either network, or a technique.

    A run uses it if its loss names it, if the run has what it `joins`, or if its `switch` is not at its default.
    """

    name: str
    target: str  # `module:class`, imported on first use
    summary: str  # what it is, with its source
    options: tuple[Option, ...] = ()
    needs: frozenset[str] = frozenset()  # as in `ObjectiveSpec`
    switch: str = ""  # name of the option that switches it on
    joins: str = ""  # "labels" or "codes": every run with them uses it
    replaces: tuple[str, ...] = ()  # regularizers that it stands in for
    implies: tuple[tuple[str, Value], ...] = ()  # options of others that it sets, unless they are given
    g_lr: float | None = None  # learning rates of a run that uses it, unless they are given
    d_lr: float | None = None

    def __post_init__(self) -> None:
        if self.switch and self.switch not in {option.name for option in self.options}:
            raise ValueError(f"{self.name}: its switch {self.switch} is none of its options")

    @property
    def switch_option(self) -> Option:
        """The option that switches it on."""
        return next(option for option in self.options if option.name == self.switch)

    def switched_on(self, options: Mapping[str, Value]) -> bool:
        """Returns whether the switch is given with another value than its default."""
        return bool(self.switch) and options.get(self.switch, self.switch_option.default) != self.switch_option.default
