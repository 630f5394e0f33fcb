"""How fast the parts run on this machine: `python tools/benchmark.py COMMAND`.

Each command is a module of tools/benchmarks, imported when it is asked for, with a click command named `command`.
"""

from __future__ import annotations

import importlib
import sys

import click

from pggan.utils.errors import PgganError

COMMANDS = ("busy", "codecs", "data", "explore", "generate", "loader", "memory", "swd", "train")


class Lazy(click.Group):
    """Imports a command's module when that command is run or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return importlib.import_module(f"benchmarks.{cmd_name}").command if cmd_name in COMMANDS else None


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Measures; prints tables, or JSON with --json. Rates are medians of rounds: let the machine be quiet."""


if __name__ == "__main__":
    try:
        cli()
    except PgganError as error:
        sys.exit(f"error: {error}")
