"""Option types that several commands share (torch-free)."""

from __future__ import annotations

import re
from typing import Any

import click

from pggan.config.metrics import chosen
from pggan.generation.seeds import Seeds
from pggan.utils.errors import UsageError


class SeedRange(click.ParamType):
    """`7`, `5-9` or a list of them, `0,5-9,12`, as `Seeds`."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Seeds:
        if isinstance(value, Seeds):
            return value
        try:
            return Seeds.parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class MetricNames(click.ParamType):
    """`swd,msssim` as known names."""

    name = "NAME,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        try:
            return tuple(chosen(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class GridSize(click.ParamType):
    """Columns x rows, `3x2`, as two numbers from 1 to 100."""

    name = "CxR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,3})[xX](\d{1,3})", value.strip())
        if match is None or not all(1 <= int(part) <= 100 for part in match.groups()):
            self.fail(f"{value!r} is not columns x rows from 1x1 to 100x100, as 3x2", param, ctx)
        return int(match[1]), int(match[2])


class Numbers(click.ParamType):
    """`10,4`: numbers of one kind, with commas between them; so many of them if `count` is given."""

    def __init__(self, kind: type, count: int | None = None) -> None:
        self.kind, self.count = kind, count
        self.name = ",".join(["number"] * count) if count else "number,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers, as {'10,4' if self.kind is int else '0.5,0.999'}", param, ctx)
        if self.count is not None and len(numbers) != self.count:
            self.fail(f"{value!r} has to be {self.count} numbers with commas between them", param, ctx)
        return numbers


class CodeValue(click.ParamType):
    """`0=3`: a structured code's number and the value it is to have."""

    name = "CODE=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, float]:
        if isinstance(value, tuple):
            return value
        number, equals, wanted = value.partition("=")
        try:
            if not equals or not number.strip().isdecimal():
                raise ValueError
            return int(number), float(wanted)
        except ValueError:
            self.fail(f"{value!r} is not a code's number and value, as 0=3 or 2=-0.5", param, ctx)


best = click.option("--best", is_flag=True, help="Of a run: the model its metric found best, not the newest.")
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
quiet = click.option("--quiet", is_flag=True, help="No progress.")
