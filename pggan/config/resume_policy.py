"""Options changed when a run goes on: which are harmless, which have to be insisted on, which cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pggan.config.losses import REGULARIZERS
from pggan.config.train import PerResolution, TrainConfig, to_json
from pggan.utils.errors import UsageError

# They decide no number of the result, or its rounding only: what is kept and shown, how pictures are read, how much
# is computed at once.
SAFE_ON_RESUME = frozenset(
    {
        "workers", "cache", "cache_mb", "tick_kimg", "snapshot_ticks", "checkpoint_ticks", "keep_checkpoints",
        "keep_models", "max_rollbacks", "rollback_lr", "grid", "mode", "auto_batch", "budget", "eval_every",
        "eval_metrics", "eval_samples", "best_metric", "inception_weights", "embedding",
    }
)  # fmt: skip
# They decide the shape of what a checkpoint holds.
IMMUTABLE = frozenset(
    {
        "max_res", "channels", "labels", "label_size", "latent_size", "fmap_base", "fmap_max", "fused_scale",
        "stddev_group", "loss", "start_from", "preset", "arch_g", "arch_d", "g_norm", "d_norm", "diversity",
        "discrimination_kernels", "discrimination_dim", "discrimination_group", "categorical", "continuous", "growth",
        "adam_betas",
    }
)  # fmt: skip


def changed(config: TrainConfig, given: Mapping[str, Any], override: bool) -> tuple[TrainConfig, dict[str, Any]]:
    """A run's configuration with what a person gave, and those of the changes that change its result.

    `given`: fields, None where not given. What equals the run's own is no change. Raises `UsageError` for changes of
    the result without `override`, and for those that a run which has begun cannot take.
    """
    values = {name: _over(value, getattr(config, name)) for name, value in given.items() if value is not None}
    values = {name: value for name, value in values.items() if value != getattr(config, name)}
    fixed = sorted(_flag(name) for name in values if name in IMMUTABLE)
    if fixed:
        raise UsageError(
            f"{', '.join(fixed)}: a run that has begun keeps its networks and loss; start another one with --from RUN"
        )
    if "ema_decay" in values and (config.ema_half_life is not None or "ema_half_life" in values):
        raise UsageError("--ema-decay: the run has --ema-half-life, which stands in for it; give that instead")
    _check_techniques(config, dict(values.get("loss_options", ())))
    telling = {name: value for name, value in values.items() if name not in SAFE_ON_RESUME}
    if telling and not override:
        raise UsageError(
            f"--resume goes on with the run's own options; {', '.join(sorted(map(_flag, telling)))} would change its "
            "result: leave that out, or insist with --override"
        )
    return dataclasses.replace(config, **values), {name: as_json(config, name, values[name]) for name in telling}


def _check_techniques(config: TrainConfig, options: Mapping[str, Any]) -> None:
    """Raises `UsageError` where options would switch a technique on or off: its state belongs to the run."""
    if not options:
        return
    for spec in REGULARIZERS:
        was, now = dict(config.loss_options), dict(options)
        kinds = {option.name: option.choices for option in spec.options}
        other = spec.switch and kinds[spec.switch] and was.get(spec.switch) != now.get(spec.switch)
        if spec.switch and (other or spec.switched_on(now) != spec.switched_on(was)):
            raise UsageError(
                f"{_flag(spec.switch)}: a run that has begun keeps its techniques; start another one with --from RUN"
            )


def as_json(config: TrainConfig, name: str, value: Any) -> Any:
    return to_json(dataclasses.replace(config, **{name: value}))[name]


def _over(value: Any, own: Any) -> Any:
    """A value by resolution over the run's own: what it does not name stays."""
    if isinstance(value, PerResolution) and isinstance(own, PerResolution):
        return value.with_base(own)
    return value


def _flag(name: str) -> str:
    return "--from" if name == "start_from" else f"--{name.replace('_', '-')}"
