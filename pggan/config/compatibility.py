"""Combinations of losses, techniques and networks that make no sense, each refused by name (torch-free)."""

from __future__ import annotations

from typing import Any, Protocol

from pggan.config.losses import OBJECTIVES, REGULARIZERS
from pggan.config.network import DiscriminatorConfig
from pggan.utils.errors import UsageError

DISCRIMINATION = ("discrimination_kernels", "discrimination_dim", "discrimination_group")


class Choices(Protocol):
    """What is looked at: fields of `config.TrainConfig`."""

    @property
    def loss(self) -> str: ...
    @property
    def loss_options(self) -> tuple[tuple[str, Any], ...]: ...
    @property
    def diversity(self) -> str: ...
    @property
    def labels(self) -> str | None: ...
    @property
    def label_size(self) -> int: ...
    @property
    def micro_batch(self) -> object: ...
    @property
    def d_norm(self) -> str: ...
    @property
    def arch_g(self) -> str: ...
    @property
    def arch_d(self) -> str: ...
    @property
    def growth(self) -> str: ...
    @property
    def start_res(self) -> int: ...
    @property
    def max_res(self) -> int: ...

    def needs(self) -> frozenset[str]: ...

    def regularizers(self) -> list[str]: ...


def check(config: Choices) -> None:
    """Raises `UsageError` for the first combination that makes no sense, with the reason and the mend."""
    _check_norm(config)
    names = config.regularizers()
    for spec in (REGULARIZERS[name] for name in names):
        flag = f"--{(spec.switch or spec.name).replace('_', '-')}"
        if "labels" in spec.needs and config.labels is None and not config.label_size:
            raise UsageError(f"{flag} learns from labels; give the data's column of them with --labels")
        if "probability" in spec.needs and not OBJECTIVES[config.loss].probability:
            fitting = ", ".join(loss.name for loss in OBJECTIVES if loss.probability)
            raise UsageError(
                f"{flag} makes D's score the odds of a real, which --loss {config.loss} does not take it for; "
                f"give one of: {fitting}"
            )
        if "whole" in spec.needs and config.micro_batch is not None:
            raise UsageError(
                f"--micro-batch with {flag}: its term is made of means over the minibatch, which parts of it do not "
                "add up to; leave one of them out"
            )
    _check_diversity(config)
    _check_augmentation(dict(config.loss_options))
    baselines = [f"--arch-{player} {arch}" for player, arch in (("g", config.arch_g), ("d", config.arch_d))
                 if arch != "pggan"]  # fmt: skip
    if baselines and config.growth == "progressive" and config.start_res != config.max_res:
        raise UsageError(f"{baselines[0]} has one resolution and does not grow; give --growth none (or data) with it")


def _check_diversity(config: Choices) -> None:
    """Options of a statistic that D does not have."""
    for name in DISCRIMINATION:
        if config.diversity != "discrimination" and getattr(config, name) != getattr(DiscriminatorConfig, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} goes with --diversity discrimination, not {config.diversity}; leave one out")


def _check_augmentation(given: dict[str, Any]) -> None:
    kind = given.get("augment", "none")
    for name in ("augment_p", "ada_target", "ada_kimg"):
        if name in given and kind == "diffaugment":
            raise UsageError(
                f"--{name.replace('_', '-')} goes with --augment ada; diffaugment has no strength, leave it out"
            )
    for name in ("ada_target", "ada_kimg"):
        if name in given and given.get("augment_p"):
            raise UsageError(
                f"--{name.replace('_', '-')} tunes ADA's p, which --augment-p fixes; leave one of them out"
            )


def _check_norm(config: Choices) -> None:
    if config.d_norm != "batch":
        return
    reason = "batch normalisation makes a sample's score depend on the others'"
    if "penalty" in config.needs():
        raise UsageError(
            f"--d-norm batch with the gradient penalty of --loss {config.loss}: {reason}, and the penalty asks for "
            "the gradient of each score by its own sample; give --d-norm layer"
        )
    raise UsageError(f"--d-norm batch: {reason}, which --diversity is for; give --d-norm layer, instance or weight")
