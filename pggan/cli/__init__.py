"""The `pggan` command. Commands are imported when asked for; what is heavy, inside them."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any

import click

from pggan.utils.errors import PgganError
from pggan.utils.version import __version__

# command -> module of pggan.cli that holds it (as `command`); the order is the order of `pggan --help`
COMMANDS = {
    "prepare-data": "prepare_data",
    "verify-data": "verify_data",
    "merge-data": "merge_data",
    "train": "train",
    "generate": "generate",
    "interpolate": "interpolate",
    "traverse": "traverse",
    "evaluate": "evaluate",
    "report": "report",
    "export-data": "export_data",
    "import": "import_model",
    "export": "export",
    "prune": "prune",
    "info": "info",
}

INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group that imports a command's module when that command is run or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        return None if module is None else importlib.import_module(f"pggan.cli.{module}").command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="pggan")
def cli() -> None:
    """Progressive-growing GANs: from pictures to a face generator.

    \b
    pggan prepare-data PICTURES DATA     pictures to one multi-resolution store
    pggan verify-data DATA               whether every record of it is whole
    pggan train DATA --out RUN           grow a generator and a discriminator
    pggan generate RUN --n 64 --out DIR  new pictures, and a grid of them
    pggan interpolate RUN --out walk.mp4 a video from face to face
    pggan traverse RUN                   what each structured code does (InfoGAN)
    pggan evaluate RUN --data DATA       how good and how varied they are
    """


def _fail(message: str, status: int) -> int:
    click.echo(f"pggan: error: {' '.join(message.split())}", err=True)
    return status


def _click_message(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        message += f" (see '{error.ctx.command_path} --help')"
    return message


def run(args: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status; every foreseeable failure is one line on stderr."""
    try:
        result: Any = cli.main(args, prog_name="pggan", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _fail(_click_message(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED)
    except PgganError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; say no more
        return 0
    except OSError as error:
        return _fail(_os_message(error), 1)


def _os_message(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}; free some space or choose another place, then run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission{where} ({error.strerror}); choose a place that you may write to"
    return f"{error.strerror or error}{where}"


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    # SIGTERM unwinds as Ctrl-C does, so that nothing half-written stays; training has its own way
    signal.signal(signal.SIGTERM, _terminated)
    try:
        status = run()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what is ending has nothing to unwind
    sys.exit(status)
