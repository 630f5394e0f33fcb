"""The `pggan` command: the table of its commands, and how a failure becomes one line and an exit status.

A command's module is imported when that command runs, and torch within it: `pggan --help` imports neither.
"""

from __future__ import annotations

import atexit
import errno
import importlib
import json
import os
import platform
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from types import FrameType
from typing import Any

import click

from pggan.utils.errors import PgganError
from pggan.utils.formatting import one_line
from pggan.utils.output import open_missing_descriptors, safe_streams, say, start_heartbeat
from pggan.utils.startup import ending_signals
from pggan.utils.version import __version__

# Heading in `pggan --help` -> name of the command -> its line there, which is the first sentence of the command's own
# help, as a test checks. Order is the order of the help. The command lies in the module of its name.
SECTIONS = {
    "Data": {
        "prepare-data": "Convert pictures to a data store of all resolutions.",
        "verify-data": "Check every record of a data store, and repair damage.",
        "merge-data": "Join several data stores into one.",
    },
    "Train": {
        "train": "Train a generator and a discriminator on a data store.",
        "ema": "Build a generator's average of any length after the training.",
    },
    "Make pictures": {
        "generate": "Make new pictures with a model.",
        "interpolate": "Make a video of faces that turn into each other.",
        "traverse": "Show what structured codes, labels or directions do.",
        "explore": "Play with a model in the browser.",
    },
    "Edit": {
        "project": "Find the latents of pictures.",
        "directions": "Find directions in which pictures change in a nameable way.",
        "blend": "Blend two related models, or two latents of one model.",
    },
    "Judge": {
        "evaluate": "Measure how good and how varied generated pictures are.",
        "report": "Write a run as one HTML page with curves and samples.",
        "info": "Describe a model, a run or a data store.",
    },
    "This machine": {
        "doctor": "Say what this machine has and lacks.",
        "completion": "Print the lines that make a shell complete pggan's commands.",
    },
    "Exchange": {
        "export-data": "Write a data store as files that other programs read.",
        "import": "Convert a model of another program to a pggan model.",
        "export": "Convert a model to ONNX or to a torch.export program.",
        "push": "Upload a model with its card to the Hugging Face Hub.",
        "prune": "Reduce a run to the files that are worth sharing.",
    },
}
COMMANDS = {name: summary for section in SECTIONS.values() for name, summary in section.items()}

_NO_MEMORY = "the memory is not enough (ulimit -v, or a container's limit, may be lower than it); allow more"
INTERRUPTED = 130  # exit status after Ctrl-C: 128 + SIGINT


class LazyGroup(click.Group):
    """A group that lists its commands from the table and imports the module of a command when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = "import_model" if cmd_name == "import" else cmd_name.replace("-", "_")  # `import` is a keyword
        return importlib.import_module(f"pggan.cli.{module}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the table, a section under each heading; names are padded so that all sections align."""
        width = max(map(len, COMMANDS))
        for heading, entries in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<{width}}", summary) for name, summary in entries.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True},
)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.option("--json", "as_json", is_flag=True, help="With --version: as JSON, with those of Python and torch.")
@click.pass_context
def cli(ctx: click.Context, version: bool, as_json: bool) -> None:
    """Progressive-growing GANs: from pictures to a face generator.

    \b
    pggan prepare-data PICTURES DATA
    pggan train DATA --out RUN
    pggan generate RUN --n 64 --out DIR
    """  # noqa: D301 (click's mark of lines to leave as they are)
    if version:
        say(json.dumps(_versions()) if as_json else f"pggan, version {__version__}")
        ctx.exit()
    if as_json:
        raise click.UsageError("--json before a command is about --version; give it after the command", ctx)
    if ctx.invoked_subcommand is None:
        raise click.UsageError("Missing command", ctx)


def _versions() -> dict[str, str | None]:
    """Returns what a program asks for; `pggan doctor` has more."""
    try:
        torch: str | None = metadata.version("torch")  # not imported: that takes seconds
    except metadata.PackageNotFoundError:
        torch = None
    return {"pggan": __version__, "python": platform.python_version(), "torch": torch, "system": platform.platform()}


def run(args: list[str] | None = None) -> int:
    """Runs the command line and returns its exit status; a foreseeable failure prints one line on stderr."""
    with safe_streams(), _quiet_threads():
        return _run(args)


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Keeps threads of libraries that fail from printing tracebacks: who waits for their work tells what failed."""
    before = threading.excepthook
    if not os.environ.get("PGGAN_DEBUG"):
        threading.excepthook = lambda failure: None
    try:
        yield
    finally:
        threading.excepthook = before


def _run(args: list[str] | None) -> int:
    try:
        arguments = _expanded(sys.argv[1:] if args is None else args)
        result: Any = cli.main(arguments, prog_name="pggan", standalone_mode=False)
        sys.stdout.flush()
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
    except OSError as error:
        return _fail(_os_message(error), 1)
    except MemoryError:
        return _fail(_NO_MEMORY, 1)
    except Exception as error:  # noqa: BLE001 (the last net: what nobody foresaw is one line, too)
        if os.environ.get("PGGAN_DEBUG"):
            traceback.print_exc()
        reason = f"unexpected {type(error).__name__}: {one_line(error)}"
        return _fail(f"{reason}; please report it with `pggan --version` and what PGGAN_DEBUG=1 prints", 1)


def _expanded(arguments: Sequence[str]) -> list[str]:
    """Expands `~` at the beginning of arguments, and behind the `=` of options, where the shell has left it."""
    return [_expand(argument) for argument in arguments]


def _expand(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    if not (value == "~" or value.startswith("~/")) or os.path.lexists(value):
        return argument
    return option + equals + os.path.expanduser(value)


def _fail(message: str, status: int) -> int:
    """Prints `message` as one line on stderr and returns `status`."""
    say(f"pggan: error: {' '.join(message.split())}", err=True)
    return status


def _click_message(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        message += f" (see '{error.ctx.command_path} --help')"
    return message


def _os_message(error: OSError) -> str:
    """What the operating system refused and what helps: the last resort for errors that no command foresaw."""
    place = f": {error.filename}" if error.filename else ""
    if error.errno == errno.ENOMEM:
        return _NO_MEMORY
    if error.errno == errno.EFBIG:
        return f"a file is larger than its disk or ulimit -f allows{place}; choose another place, or raise the limit"
    if error.errno in (errno.EBUSY, errno.ETXTBSY):
        return f"another program has it open{place} ({error.strerror}); close that, then run the same command again"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{place}; free some space or choose another place, then run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission{place} ({error.strerror}); choose a place that you may write to"
    return f"{error.strerror or error}{place}"


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    """Handles SIGTERM and SIGHUP (exit status 143, 129): `finally` blocks run, which remove half-written files."""
    raise SystemExit(128 + number)


def _signal_again(unraisable: Any) -> None:
    """Repeats a signal that came within a finalizer, where Python prints and forgets what a handler raises."""
    ending = unraisable.exc_value
    if isinstance(ending, KeyboardInterrupt):
        number = int(signal.SIGINT)
    elif isinstance(ending, SystemExit) and isinstance(ending.code, int) and ending.code > 128:
        number = ending.code - 128
    else:
        sys.__unraisablehook__(unraisable)
        return
    later = threading.Timer(0.01, os.kill, (os.getpid(), number))  # not in this handler, which is in the finalizer, too
    later.daemon = True
    later.start()


def main() -> None:
    """Runs the command line and exits. `pggan train` replaces the handlers by its own, which save first."""
    open_missing_descriptors()
    for number in ending_signals():
        signal.signal(number, _exit_on_signal)
    sys.unraisablehook = _signal_again
    start_heartbeat()
    try:
        status = run()
    except SystemExit as ending:  # of the handler above
        if not isinstance(ending.code, int):
            raise
        status = ending.code
    finally:
        # from here on nothing needs cleaning up: a second SIGTERM ends the process at once
        for number in ending_signals():
            signal.signal(number, signal.SIG_DFL)
    _leave(status)


def _leave(status: int) -> None:
    """Ends the process.

    With torch, Python would take itself apart for seconds; a thread that memory lacked for would be waited for without
    end. What registered for the end runs, and the system takes the rest.
    """
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    if "torch" not in sys.modules and not others:
        sys.exit(status)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # None: no console
            stream.flush()
    os._exit(status)
