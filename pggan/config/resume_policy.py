"""Resume policy: which options may change when a run resumes - freely, with --override, or never."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pggan.config.losses import REGULARIZERS, with_implied
from pggan.config.option import OnResume, flag_of, names_where
from pggan.config.resolution import overlay
from pggan.config.serialization import value_to_json
from pggan.config.train import OPTIONS, TrainConfig
from pggan.utils.errors import UsageError

# They change no result, or only its rounding: what is stored and shown, how images are read, micro-batches.
SAFE_ON_RESUME = names_where(OPTIONS, lambda option: option.on_resume is OnResume.SAFE)
# They decide the shape of what a checkpoint holds.
IMMUTABLE = names_where(OPTIONS, lambda option: option.on_resume is OnResume.IMMUTABLE)


def changed(config: TrainConfig, options: Mapping[str, Any], override: bool) -> tuple[TrainConfig, dict[str, Any]]:
    """Applies changed options to the configuration of a run that resumes.

    Args:
        config: the run's configuration.
        options: fields of it; None where an option is not given. A value that equals the run's own is no change.
        override: whether options that change the result are accepted.

    Returns:
        The new configuration, and the changes of the result by field, as JSON values.

    Raises:
        UsageError: an option is immutable, or changes the result without `override`.
    """
    values = {name: overlay(value, getattr(config, name)) for name, value in options.items() if value is not None}
    values = {name: value for name, value in values.items() if value != getattr(config, name)}
    immutable = sorted(OPTIONS[name].flag for name in values if name in IMMUTABLE)
    if immutable:
        raise UsageError(
            f"{', '.join(immutable)}: a run that has begun keeps its networks and loss; start another one with "
            "--from RUN"
        )
    if "ema_decay" in values and (config.ema_half_life is not None or "ema_half_life" in values):
        raise UsageError("--ema-decay: the run has --ema-half-life, which stands in for it; give that instead")
    if "ema_ramp" in values and config.ema_half_life is None and "ema_half_life" not in values:
        raise UsageError("--ema-ramp is about a half-life, and the run has --ema-decay; give --ema-half-life, too")
    _check_techniques(config, dict(values.get("loss_options", config.loss_options)))
    new = dataclasses.replace(config, **values)
    _check_optimizers(config, new)
    changes = {name: value_to_json(value) for name, value in values.items() if name not in SAFE_ON_RESUME}
    if changes and not override:
        flags = ", ".join(sorted(OPTIONS[name].flag for name in changes))
        raise UsageError(
            f"--resume goes on with the run's own options; {flags} would change its result: leave that out, or insist "
            "with --override"
        )
    return new, changes


def _check_techniques(config: TrainConfig, options: Mapping[str, Any]) -> None:
    """Raises `UsageError` where loss options would switch a technique on or off: its state belongs to the run."""
    before, after = with_implied(config.loss, dict(config.loss_options)), with_implied(config.loss, options)
    # an option that was given is named, before those that it implies
    for spec in sorted(REGULARIZERS, key=lambda spec: spec.switch not in options):
        if not spec.switch:
            continue
        on_or_off = spec.switched_on(after) != spec.switched_on(before)
        other_kind = bool(spec.switch_option.choices) and before.get(spec.switch) != after.get(spec.switch)
        if on_or_off or other_kind:
            raise UsageError(
                f"{flag_of(spec.switch)}: a run that has begun keeps its techniques; start another one with --from RUN"
            )


def _check_optimizers(config: TrainConfig, new: TrainConfig) -> None:
    """Raises `UsageError` where an option would bring another optimizer, which cannot use the moments of the run's."""
    names = [[optimizer.name for optimizer in each.optimizers()] for each in (config, new)]
    if names[0] != names[1]:
        raise UsageError(
            "--adam-beta2: a run that has begun keeps its optimizer, and this one has RMSprop; leave it out, or start "
            "another one with --from RUN"
        )
