"""`pggan completion`: what a shell needs to complete commands, options, presets, models and files."""

from __future__ import annotations

import click
import cloup
from click.shell_completion import get_completion_class

from pggan.utils.errors import UsageError

SHELLS = {
    "bash": 'eval "$(pggan completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(pggan completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "pggan completion fish | source   # in ~/.config/fish/config.fish",
}


@cloup.command("completion", epilog="\b\n" + "\n".join(SHELLS.values()))
@cloup.argument("shell", type=click.Choice(tuple(SHELLS)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the lines that make a shell complete pggan's commands.

    SHELL is bash (4.4 or newer), zsh or fish.
    """
    completer = get_completion_class(shell)
    if completer is None:
        raise UsageError(f"this version of click has no completion for {shell}")
    click.echo(completer(context.find_root().command, {}, "pggan", "_PGGAN_COMPLETE").source())
