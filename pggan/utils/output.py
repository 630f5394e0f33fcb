"""The one way in which pggan prints: a file's contents cannot move the cursor, set a title or fake a line."""

from __future__ import annotations

import click

from pggan.utils.formatting import printable


def say(message: object, err: bool = False) -> None:
    """Prints a line on stdout, or on stderr; control characters in it, line breaks among them, are escaped."""
    click.echo(printable(str(message)), err=err)
