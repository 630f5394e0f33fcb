"""Configurations as JSON values: what options.json and model files record (torch-free)."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pggan.config.resolution import MAX_RESOLUTION, MIN_RESOLUTION, PerResolution, level_of
from pggan.config.strict_json import is_kind
from pggan.utils.errors import UsageError

T = TypeVar("T")
# Entries of a `PerResolution`.
_PER_RESOLUTION = {"plain", "end"} | {
    str(2**level) for level in range(level_of(MIN_RESOLUTION), level_of(MAX_RESOLUTION) + 1)
}


def to_json(config: Any) -> dict[str, Any]:
    """Returns a configuration as JSON values; `from_json` reads them back unchanged."""
    return {entry.name: value_to_json(getattr(config, entry.name)) for entry in dataclasses.fields(config)}


def value_to_json(value: Any) -> Any:
    """Returns one field's value as a JSON value."""
    if isinstance(value, PerResolution):
        ramp = {} if value.end is None else {"end": value.end}
        return {"plain": value.plain, **{str(resolution): number for resolution, number in value.named}, **ramp}
    if isinstance(value, tuple):
        return [list(part) if isinstance(part, tuple) else part for part in value]
    return value


def from_json(configuration: type[T], values: Mapping[str, Any]) -> T:
    """Reads what `to_json` wrote. Raises `UsageError` for unknown fields (a newer version's) or unusable values."""
    if not isinstance(values, Mapping):
        raise UsageError("a recorded configuration is no table of options")
    unknown = sorted(set(values) - {entry.name for entry in dataclasses.fields(configuration)})  # type: ignore[arg-type]
    if unknown:
        raise UsageError(f"it was written by a newer pggan (unknown: {', '.join(unknown)}); update pggan to read it")
    annotations = typing.get_type_hints(configuration)
    for name, value in values.items():
        if not _is_kind(value, annotations[name]):
            kind = getattr(annotations[name], "__name__", annotations[name])
            raise UsageError(f"a recorded configuration holds an unusable value: {name} is no {kind}")
    try:
        recorded = {name: _value_from_json(value) for name, value in values.items()}
        return configuration(**{**_before(configuration), **recorded})
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError) as error:
        raise UsageError(f"a recorded configuration holds an unusable value: {error}") from None


def _before(configuration: type) -> dict[str, Any]:
    """Returns the values of younger options in configurations that were recorded before these existed."""
    options = {entry.name: entry.metadata.get("option") for entry in dataclasses.fields(configuration)}
    return {name: o.before for name, o in options.items() if o is not None and o.before is not None}


def _is_kind(value: Any, annotation: Any) -> bool:
    """Whether a JSON value is of a field's kind. A `PerResolution` is a table of numbers."""
    if annotation is PerResolution:
        return is_kind(value, dict[str, float | None]) and value.keys() <= _PER_RESOLUTION
    if PerResolution in (kinds := typing.get_args(annotation)):
        others = [kind for kind in kinds if kind is not PerResolution]
        return _is_kind(value, PerResolution) or any(is_kind(value, kind) for kind in others)
    return is_kind(value, annotation)


def _value_from_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        named = {int(name): number for name, number in value.items() if name not in ("plain", "end")}
        return PerResolution(value.get("plain"), tuple(sorted(named.items())), value.get("end"))
    if isinstance(value, list):
        return tuple(tuple(part) if isinstance(part, list) else part for part in value)
    return value
