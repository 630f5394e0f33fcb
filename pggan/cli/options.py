"""Option types that several commands share (torch-free)."""

from __future__ import annotations

import re
from typing import Any

import click

from pggan.errors import UsageError
from pggan.synthesis.seeds import Seeds


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


device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
quiet = click.option("--quiet", is_flag=True, help="No progress.")
