"""Options: each setting declared once with its default, range, help text and resume policy (torch-free).

The command line, the range checks, the resume policy and a model card's recipe are derived from these declarations.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar, cast

from pggan.config.resolution import PerResolution
from pggan.utils.errors import UsageError

Value = Any  # float, int, bool or str
T = TypeVar("T")
# Of an option by resolution: the configuration decides the numbers.
AUTO = "auto"


class Group(Enum):
    """The headings of `pggan train --help`, in their order."""

    RUN = "Run"
    DATA = "Data"
    SCHEDULE = "Schedule"
    NETWORKS = "Networks"
    LOSS = "Loss"
    TECHNIQUES = "Techniques"
    COMPUTING = "Computing"
    EVALUATION = "Evaluation"


class OnResume(Enum):
    """What a changed option does to a run that is resumed."""

    SAFE = "changes no result, or only its rounding: always accepted"
    CHANGES_RESULT = "changes the result: accepted with --override"
    IMMUTABLE = "decides the shape of what a checkpoint holds: refused"


def flag_of(name: str) -> str:
    """Returns the command-line flag of an option's name."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Option:
    """One setting of a configuration, a loss or a technique."""

    name: str  # of the configuration's field
    default: Value  # None: something else decides it
    low: float = -math.inf  # smallest value; for several numbers, of each
    high: float = math.inf  # largest value
    help: str = ""  # a sentence or two, for people
    choices: tuple[str, ...] = ()  # the values that a text may have; empty: any
    above_low: bool = False  # `low` itself is out of range
    below_high: bool = False  # `high` itself is out of range
    by_resolution: bool = False  # a number, numbers by resolution as text (`4:1,64:10`), or "auto"
    scheduled: bool = False  # also START..END: linear in the images seen over the run
    whole: bool = False  # whole numbers only (of a `PerResolution`; an int always is)
    annotation: Any = None  # type of the field; None: that of `default`
    group: Group = Group.LOSS  # heading in the help
    on_resume: OnResume = OnResume.CHANGES_RESULT
    metavar: str = ""  # how the help shows the value, e.g. KIMG
    default_text: str = ""  # how the help shows the default, where that says too little
    on_command_line: bool = True
    alias: str = ""  # the flag, where it is not the name
    in_recipe: bool = True  # part of the command that a model card gives to train the same model
    networks: str = ""  # which network configurations have it: "g", "d" or "gd"
    network_field: str = ""  # its name there, where it differs
    label: str = ""  # what error messages call it; else the flag, or the name where there is none
    before: Value = None  # the value in configurations recorded before the option existed; None: the default

    @property
    def flag(self) -> str:
        """The flag on the command line, e.g. `--max-res`."""
        return self.alias or flag_of(self.name)

    @property
    def kind(self) -> Any:
        """The type of a value, None aside, e.g. `int`, `PerResolution` or `tuple[float, float]`."""
        if self.choices:
            return str
        if self.annotation is None:
            return type(self.default)
        if isinstance(self.annotation, types.UnionType):
            return next(part for part in typing.get_args(self.annotation) if part is not type(None))
        return self.annotation

    @property
    def range(self) -> str:
        """The accepted range in words, e.g. `from 0 to below 1`; empty where every number is accepted."""
        low, high = _number(self.low), _number(self.high)
        if math.isinf(self.low):
            return ""
        if math.isinf(self.high):
            return f"above {low}" if self.above_low else f"{low} or more"
        if self.above_low:
            return f"above {low}, up to {high}"
        return f"from {low} to below {high}" if self.below_high else f"from {low} to {high}"

    def check(self, value: Value) -> Value:
        """Returns the value as the option's kind. Raises `UsageError` where it is out of range or no choice."""
        label = self.label or (self.flag if self.on_command_line else self.name.replace("_", " "))
        if self.by_resolution:
            return self._check_by_resolution(label, value)
        if self.choices and value not in self.choices:
            raise UsageError(f"{label} {value} is none of {', '.join(self.choices)}")
        if self.kind is bool and not isinstance(value, bool):
            raise UsageError(f"{label} is given or not, it takes no value {value!r}")
        if self.kind in (str, bool):
            return value
        if isinstance(value, PerResolution) and not value.values():
            raise UsageError(f"{label} has no value")
        if self.scheduled and isinstance(value, str):
            value = PerResolution.parse(value)
        if isinstance(value, PerResolution):
            self._check_form(label, value)
        numbers = tuple(value.values()) if isinstance(value, PerResolution) else value
        for number in numbers if isinstance(numbers, tuple) else (numbers,):
            self._check_number(label, number)
        return int(value) if self.kind is int else value

    def _check_by_resolution(self, label: str, value: Value) -> PerResolution | str:
        if value == AUTO:
            return AUTO
        numbers = PerResolution.parse(value) if isinstance(value, str) else value
        if not isinstance(numbers, PerResolution):
            numbers = PerResolution.of(numbers)
        self._check_form(label, numbers)
        for number in numbers.values():
            self._check_number(label, number)
        return numbers

    def _check_form(self, label: str, value: PerResolution) -> None:
        if value.end is not None and (value.named or value.plain is None or not self.scheduled):
            raise UsageError(f"{label} {value}: it does not change over the run; give a number without ..")
        if value.named and self.kind is float and not self.by_resolution:
            raise UsageError(f"{label} {value}: it is one number for all resolutions, or START..END")

    def _check_number(self, label: str, value: Value) -> None:
        if not self.range:
            return
        shown = repr(value) if isinstance(value, (bool, str)) else _number(value)
        if isinstance(value, (bool, str)) or not math.isfinite(value) or not self._in_range(value):
            raise UsageError(f"{label} {shown} is not {self.range}")
        if (self.whole or self.kind is int) and value != int(value):
            raise UsageError(f"{label} {shown} is not a whole number")

    def _in_range(self, value: float) -> bool:
        above = value > self.low if self.above_low else value >= self.low
        return above and (value < self.high if self.below_high else value <= self.high)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.10g}"


def option(group: Group, default: T, help: str, low: float = -math.inf, high: float = math.inf, **details: Any) -> T:
    """Declares a dataclass field that is an option.

    Args:
        group: heading in the help.
        default: value where none is given.
        help: a sentence or two, for people.
        low: smallest value.
        high: largest value.
        **details: further fields of `Option`.

    Returns:
        The field, typed as its default so that type checkers accept the assignment.
    """
    entry = Option("", default, low, high, help, group=group, **details)
    return cast(T, dataclasses.field(default=default, metadata={"option": entry}))


@functools.cache
def options_of(configuration: type) -> Mapping[str, Option]:
    """Returns the options that a dataclass declares, by field, in their order."""
    annotations = typing.get_type_hints(configuration)
    return {
        entry.name: dataclasses.replace(entry.metadata["option"], name=entry.name, annotation=annotations[entry.name])
        for entry in dataclasses.fields(configuration)
    }


def check_ranges(configuration: object) -> None:
    """Raises `UsageError` for the first field of a configuration that is out of its range or no choice."""
    for name, entry in options_of(type(configuration)).items():  # type: ignore[arg-type]  # classes are hashable
        value = getattr(configuration, name)
        if entry.kind is not bool and not (value is None and entry.default is None):
            entry.check(value)


def names_where(options: Mapping[str, Option], condition: Callable[[Option], bool]) -> frozenset[str]:
    """Returns the names of the options that fulfil a condition."""
    return frozenset(name for name, entry in options.items() if condition(entry))
