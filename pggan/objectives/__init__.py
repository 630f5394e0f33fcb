"""The losses, as a torch-free table; one short file each.

A new loss is one file with an `Objective` and one `ObjectiveSpec` here: the step, the command line and the tests read
the table and know no loss by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pggan.errors import UsageError
from pggan.registry import Registry


@dataclass(frozen=True)
class Option:
    """A number that a person may choose for a loss or a regulariser, with its range."""

    name: str
    default: float
    low: float
    high: float
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def check(self, value: float) -> float:
        if not self.low <= value <= self.high:
            raise UsageError(f"{self.flag} {value:g} is not from {self.low:g} to {self.high:g}")
        return value


@dataclass(frozen=True)
class OptimizerDefaults:
    """The optimiser that a loss is published with."""

    name: str = "adam"
    lr: float = 0.001
    betas: tuple[float, float] = (0.0, 0.99)
    eps: float = 1e-8


@dataclass(frozen=True)
class ObjectiveSpec:
    """What a loss is and needs.

    `needs`: any of "penalty" (D is differentiated twice), "features", "labels", "codes", "reconstruction".
    `regularizers`: those that belong to the loss as published.
    """

    name: str
    target: str
    summary: str
    options: tuple[Option, ...] = ()
    regularizers: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    g_optimizer: OptimizerDefaults = field(default_factory=OptimizerDefaults)
    d_optimizer: OptimizerDefaults = field(default_factory=OptimizerDefaults)
    n_critic: int = 1


@dataclass(frozen=True)
class RegularizerSpec:
    """A term that adds to either player's loss; `needs` as in `ObjectiveSpec`."""

    name: str
    target: str
    summary: str
    options: tuple[Option, ...] = ()
    needs: frozenset[str] = frozenset()


OBJECTIVES: Registry[ObjectiveSpec] = Registry(
    "loss",
    [
        ObjectiveSpec(
            "wgan-gp",
            "pggan.objectives.wasserstein:Wasserstein",
            "Wasserstein critic with gradient penalty and drift term, one critic step (Karras et al. 2018)",
            regularizers=("gradient-penalty", "drift"),
            needs=frozenset({"penalty"}),
        ),
    ],
)

REGULARIZERS: Registry[RegularizerSpec] = Registry(
    "regularizer",
    [
        RegularizerSpec(
            "gradient-penalty",
            "pggan.regularizers.gradient_penalty:GradientPenalty",
            "two-sided penalty on the gradient norm between reals and fakes (Gulrajani et al. 2017)",
            options=(
                Option("gp_weight", 10.0, 0.0, 1e6, "weight lambda of the gradient penalty"),
                Option("gp_target", 1.0, 1e-3, 1e6, "gradient norm that the penalty asks for"),
            ),
            needs=frozenset({"penalty"}),
        ),
        RegularizerSpec(
            "drift",
            "pggan.regularizers.drift:Drift",
            "keeps real scores near zero: weight * E D(x)^2 (Karras et al. 2018)",
            options=(Option("drift_weight", 0.001, 0.0, 1e3, "weight of the drift term on real scores"),),
        ),
        RegularizerSpec(
            "classification",
            "pggan.regularizers.classification:Classification",
            "auxiliary classifier of a conditional run: cross-entropy of D's class logits (AC-GAN)",
            options=(Option("class_weight", 1.0, 0.0, 1e3, "weight of the auxiliary classifier's cross-entropy"),),
            needs=frozenset({"labels"}),
        ),
    ],
)


def all_options() -> dict[str, Option]:
    """Every loss's and regulariser's options by name; one name means one thing everywhere."""
    found: dict[str, Option] = {}
    for spec in [*OBJECTIVES, *REGULARIZERS]:
        for option in spec.options:
            if found.setdefault(option.name, option) is not option:
                raise ValueError(f"option {option.name} is declared twice")
    return found


def regularizers_of(loss: str, conditional: bool) -> list[str]:
    """The regularisers of a run: the loss's own, and the classifier where the run is conditional."""
    return [*OBJECTIVES[loss].regularizers, *(["classification"] if conditional else [])]


def resolve_options(loss: str, conditional: bool, given: dict[str, float]) -> dict[str, dict[str, float]]:
    """Options for the loss and each of its regularisers, by entry name; what is not given takes its default.

    Raises `UsageError` for an option that nothing in this run takes, or a value out of range.
    """
    entries = [(loss, OBJECTIVES[loss].options)]
    entries += [(name, REGULARIZERS[name].options) for name in regularizers_of(loss, conditional)]
    known = {option.name for _, options in entries for option in options}
    for name in given:
        if name not in known:
            flags = ", ".join(sorted("--" + k.replace("_", "-") for k in known)) or "none"
            raise UsageError(f"--{name.replace('_', '-')} means nothing to --loss {loss} here; it takes: {flags}")
    return {entry: {o.name: o.check(given.get(o.name, o.default)) for o in options} for entry, options in entries}
