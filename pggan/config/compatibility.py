"""Combinations of options that make no sense: each is refused by its flags, with the reason (torch-free)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pggan.config.losses import LAZY, OBJECTIVES, REGULARIZERS
from pggan.config.metrics import METRICS, READY, StopRule
from pggan.config.metrics import chosen as chosen_metrics
from pggan.config.network import DiscriminatorConfig
from pggan.config.option import flag_of, options_of
from pggan.config.resolution import PerResolution
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.config.train import TrainConfig


def check(config: TrainConfig) -> None:
    """Raises `UsageError` for the first combination that makes no sense, with the reason and the mend."""
    _check_evaluation(config)
    _check_d_norm(config)
    for name in config.regularizers():
        _check_needs(config, name)
    _check_lazy_penalty(config)
    _check_discrimination(config)
    _check_augmentation(dict(config.loss_options))
    _check_baselines(config)
    _check_minibatch_group(config, config.discriminator)


def _check_evaluation(config: TrainConfig) -> None:
    names = chosen_metrics(config.eval_metrics)
    if config.best_metric is not None and config.best_metric not in names:
        raise UsageError(f"--best-metric {config.best_metric} is none of --eval-metrics {','.join(names)}")
    _check_side(config, f"--best-metric {config.best_metric}", config.best_metric)
    rule = StopRule.parse(config.stop_when)
    if rule is not None and (rule.metric not in names or not config.eval_every):
        advice = "give --eval-every 1" if not config.eval_every else f"add {rule.metric} there"
        raise UsageError(f"--stop-when {config.stop_when}: no evaluation measures it (--eval-metrics); {advice}")
    _check_side(config, f"--stop-when {config.stop_when}", None if rule is None else rule.metric)
    embedded = [name for name in names if METRICS[name].needs == "embedding"]
    if config.eval_every and embedded and config.embedding is None:
        raise UsageError(f"--eval-metrics {','.join(embedded)}: give the network with --embedding FILE, or {READY}")


def _check_side(config: TrainConfig, flag: str, metric: str | None) -> None:
    """Raises `UsageError` where the run's pictures are too small for a metric."""
    if metric is not None and METRICS[metric].side > config.max_res:
        least = METRICS[metric].side
        raise UsageError(
            f"{flag}: {metric} takes pictures of {least}x{least} and larger, and the run ends at "
            f"{config.max_res}x{config.max_res}; name another metric"
        )


def _check_d_norm(config: TrainConfig) -> None:
    if config.d_norm != "batch":
        return
    reason = "batch normalisation makes a sample's score depend on the others'"
    if "penalty" in config.needs():
        raise UsageError(
            f"--d-norm batch with the gradient penalty of --loss {config.loss}: {reason}, and the penalty asks for "
            "the gradient of each score by its own sample; give --d-norm layer"
        )
    raise UsageError(f"--d-norm batch: {reason}, which --diversity is for; give --d-norm layer, instance or weight")


def _check_needs(config: TrainConfig, regularizer: str) -> None:
    """Raises `UsageError` where a run lacks what a regularizer needs (`RegularizerSpec.needs`)."""
    spec = REGULARIZERS[regularizer]
    flag = flag_of(spec.switch or spec.name)
    if "labels" in spec.needs and config.labels is None and not config.label_size:
        raise UsageError(f"{flag} learns from labels; give the data's column of them with --labels")
    if regularizer == "semi-supervised" and (len(config.label_layout) > 1 or 0 in config.label_layout):
        raise UsageError(f"{flag} tells the classes of one label column; give --labels one column of classes")
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


def _check_lazy_penalty(config: TrainConfig) -> None:
    """Raises `UsageError` for --penalty-every where no penalty can be taken seldom."""
    if config.penalty_every == 1:
        return
    names, flag = config.regularizers(), f"--penalty-every {config.penalty_every}"
    if "gradient-penalty" in names:
        raise UsageError(
            f"{flag} with --loss {config.loss}: its penalty bounds the critic's slope, without which the loss means "
            "nothing, at every step; leave --penalty-every out, or give --loss r1 or rpgan"
        )
    if config.loss == "wgan":
        raise UsageError(
            f"{flag} with --loss wgan: its weights are clipped after a step of its loss, and would leave the bounds in "
            "those of the penalties alone; leave --penalty-every out"
        )
    if not any(name in names and _acts(config, name) for name in LAZY):
        raise UsageError(f"{flag} is about R1 and R2, of which this run has none; give --loss r1 or --r2-gamma with it")


def _acts(config: TrainConfig, penalty: str) -> bool:
    """Returns whether R1 or R2 has a weight that is not 0 anywhere."""
    gamma = REGULARIZERS[penalty].options[0]
    value = gamma.check(config.objective_options().get(gamma.name, gamma.default))
    return any(PerResolution.of(value).values())


def _check_discrimination(config: TrainConfig) -> None:
    """Raises `UsageError` for options of minibatch discrimination without it."""
    if config.diversity == "discrimination":
        return
    for name, option in options_of(DiscriminatorConfig).items():
        if name.startswith("discrimination") and getattr(config, name) != option.default:
            raise UsageError(
                f"{flag_of(name)} goes with --diversity discrimination, not {config.diversity}; leave one out"
            )


def _check_augmentation(options: Mapping[str, Any]) -> None:
    for name in ("augment_p", "ada_target", "ada_kimg"):
        if name in options and options.get("augment") == "diffaugment":
            raise UsageError(f"{flag_of(name)} goes with --augment ada; diffaugment has no strength, leave it out")
    for name in ("ada_target", "ada_kimg"):
        if name in options and options.get("augment_p"):
            raise UsageError(f"{flag_of(name)} tunes ADA's p, which --augment-p fixes; leave one of them out")


def _check_baselines(config: TrainConfig) -> None:
    for flag, arch in (("--arch-g", config.arch_g), ("--arch-d", config.arch_d)):
        if arch != "pggan" and config.growth == "progressive" and config.start_res != config.max_res:
            raise UsageError(
                f"{flag} {arch} has one resolution and does not grow; give --growth none (or data) with it"
            )


def _check_minibatch_group(config: TrainConfig, d: DiscriminatorConfig) -> None:
    """Raises `UsageError` where a batch cannot be divided into groups of the minibatch statistic."""
    if d.stddev_form == "zoo":
        return  # takes a minibatch of any size
    statistic, flag = "minibatch-stddev", "--stddev-group"
    if d.diversity == "discrimination":
        statistic, flag = "minibatch-discrimination", "--discrimination-group"
    for resolution in config.resolutions():
        batch = int(config.batch.at(resolution))
        group = min(d.minibatch_group, batch)
        if batch % group:
            below = batch // group * group
            raise UsageError(
                f"--batch {batch} at {resolution}x{resolution} is no multiple of the {statistic} group "
                f"{d.minibatch_group}; give {below} or {below + group}, or another {flag}"
            )
