"""Types of option values, and the options that several commands share. Torch-free.

An option that means the same in several commands is declared here, once, so that its help is the same everywhere.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import cloup
from click.shell_completion import CompletionItem

from pggan.cli.progress_bar import Advance, progress
from pggan.config.content.channels import parse_colour
from pggan.config.metrics import chosen
from pggan.generation.seeds import Seeds
from pggan.utils.errors import UsageError
from pggan.utils.output import mute_heartbeat, say

if TYPE_CHECKING:
    from pggan.generation.model import Model

Command = Callable[..., Any]


class ParsedType(click.ParamType):
    """A type whose `parse` turns the text of an option into a value, or raises `ValueError` or `UsageError`."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self.parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except (UsageError, ValueError) as error:
            self.fail(str(error), param, ctx)


class FilePath(click.Path):
    """A path; an empty one, as a script's unset variable gives, is refused instead of being the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty name; say which file or folder", param, ctx)
        return super().convert(value, param, ctx)


class NumberRange(click.FloatRange):
    """Numbers within a range. NaN is none, which `click.FloatRange` lets pass: it is neither above nor below."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        return number if number == number else self.fail(f"{value} is no number", param, ctx)


def numbers_type(kind: type, count: int | None = None) -> ParsedType:
    """`10,4`: numbers of type `kind` with commas between them; exactly `count` of them where it is given."""

    def parse(text: str) -> tuple[Any, ...]:
        try:
            numbers = tuple(kind(part) for part in text.split(","))
        except ValueError:
            example = "10,4" if kind is int else "0.5,0.999"
            raise ValueError(f"{text!r} is no list of numbers, as {example}") from None
        if count is not None and len(numbers) != count:
            raise ValueError(f"{text!r} has to be {count} numbers with commas between them")
        return numbers

    return ParsedType(",".join(["number"] * count) if count else "number,...", parse)


def _grid_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,3})[xX](\d{1,3})", text.strip())
    if match is None or not all(1 <= int(part) <= 100 for part in match.groups()):
        raise ValueError(f"{text!r} is not columns x rows from 1x1 to 100x100, as 3x2")
    return int(match[1]), int(match[2])


def _code_value(text: str) -> tuple[int, float]:
    number, _, value = text.partition("=")
    try:
        if not number.strip().isdecimal():
            raise ValueError
        return int(number), float(value)
    except ValueError:
        raise ValueError(f"{text!r} is not a code's number and value, as 0=3 or 2=-0.5") from None


# `7`, `5-9` or a list of them, `0,5-9,12`, as `Seeds`
SEEDS = ParsedType("seeds", Seeds.parse)
# `swd,msssim` as names of metrics
METRIC_NAMES = ParsedType("NAME,...", lambda text: tuple(chosen(text)))
# columns x rows, `3x2`, as two numbers from 1 to 100
GRID_SIZE = ParsedType("CxR", _grid_size)
# `0=3`: the number of a structured code and the value to set it to
CODE_VALUE = ParsedType("CODE=VALUE", _code_value)


@dataclass(frozen=True)
class ModelChoice:
    """The argument MODEL with the options of the group "Model"."""

    name: str | None  # a file, a run directory or the name of a shipped model; None: the first that ships
    best: bool  # of a run, its best model instead of its newest one
    device: str

    def load(self, **options: Any) -> Model:
        """Loads the model with `pggan.generation.model.load`, whose `mode`, `note` and `raw` may be given.

        A wrong name is an error at once, before the seconds that the import of torch takes. Of several processes that
        share GPUs, each takes its own.
        """
        from pggan.utils.paths import find_model

        path = find_model(self.name, self.best)
        from pggan.generation.model import load
        from pggan.utils.distributed import local_device

        return load(path, local_device(self.device), **options)


@dataclass(frozen=True)
class Output:
    """What a command prints: its result on stdout, as text or JSON; progress and notes on stderr."""

    as_json: bool
    quiet: bool = False

    def __post_init__(self) -> None:
        mute_heartbeat(self.silent)

    @property
    def silent(self) -> bool:
        """Whether progress and notes are left out: with --quiet or --json."""
        return self.quiet or self.as_json

    def progress(self, description: str, total: int, unit: str = "pictures") -> AbstractContextManager[Advance]:
        return progress(description, total, unit, self.silent)

    def note(self, message: object) -> None:
        if not self.silent:
            say(message, err=True)

    def result(self, values: Any, *lines: str) -> None:
        """Prints `values` with --json, else `lines`."""
        for line in [json.dumps(values)] if self.as_json else lines:
            say(line)


def model_options(function: Command) -> Command:
    """Adds the argument MODEL and the group "Model"; the command receives them as `model`, a `ModelChoice`."""

    @functools.wraps(function)
    def command(*, model: str | None, best: bool, device: str, **others: Any) -> Any:
        return function(model=ModelChoice(model, best, device), **others)

    grouped = cloup.option_group("Model", best_option, device_option)(command)
    return cloup.argument("model", required=False, type=FilePath(), shell_complete=complete_model)(grouped)


def complete_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the argument MODEL: names of shipped models, files and folders."""
    from pggan.utils.paths import shipped

    names = [CompletionItem(name) for name in shipped() if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


def output_options(function: Command) -> Command:
    """Adds the group "Output", --json and --quiet; the command receives them as `output`, an `Output`."""

    @functools.wraps(function)
    def command(*, as_json: bool, quiet: bool, **others: Any) -> Any:
        return function(output=Output(as_json, quiet), **others)

    return cloup.option_group("Output", json_option, quiet_option)(command)


def is_given(name: str) -> bool:
    """Returns whether a parameter of the running command was given, not left at its default."""
    return click.get_current_context().get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _or_all_cores(ctx: click.Context, param: click.Parameter, value: int | None) -> int:
    from pggan.utils.process_pool import available_cores

    return value or available_cores()


def _leave_out_mark(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    from pggan.generation.marking.xmp import unmarked

    if value:
        ctx.with_resource(unmarked())


best_option = cloup.option("--best", is_flag=True, help="Of a run: use its best model by its metric, not its newest.")
raw_option = cloup.option(
    "--raw", is_flag=True, help="Use the generator itself instead of its running average, of files that keep both."
)
device_option = cloup.option(
    "--device", default="auto", help="Where to compute: auto (a CUDA GPU, else the CPU), cpu, cuda, cuda:N, mps or xpu."
)
json_option = cloup.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
quiet_option = cloup.option("--quiet", is_flag=True, help="Show no progress.")
discriminator_option = cloup.option(
    "--with-discriminator", is_flag=True, help="Keep the models' discriminators, for train --from."
)
dry_run_option = cloup.option("--dry-run", is_flag=True, help="Print what would be done, and change nothing.")
overwrite_option = cloup.option(
    "--overwrite", is_flag=True, help="Replace existing output, once the new one is complete."
)
force_option = cloup.option("--force", is_flag=True, help="Start even if the disk seems too small.")
limit_option = cloup.option(
    "--limit", type=click.IntRange(min=1), metavar="N", show_default="all", help="Use only the first N pictures."
)
workers_option = cloup.option(
    "--workers", type=click.IntRange(1, 256), metavar="N", callback=_or_all_cores, show_default="one per core",
    help="Worker processes.",
)  # fmt: skip
no_mark_option = cloup.option(
    "--no-mark", is_flag=True, expose_value=False, callback=_leave_out_mark,
    help="Leave out the mark that tells other programs that pictures and videos are synthetic (IPTC's "
    "trainedAlgorithmicMedia).",
)  # fmt: skip
label_option = cloup.option(
    "--label", show_default="each seed's own",
    help="Labels of a conditional model: a class by name or number, a number, or several, as age=30,hair=red.",
)  # fmt: skip
truncation_option = cloup.option(
    "--truncation", type=NumberRange(0, 1), default=1.0, metavar="T",
    help="Move every picture towards the average one, for more likely and less varied ones: 1 not at all, 0 entirely. "
    "Only for models with a mapping network.",
)  # fmt: skip
# partial: each command adds its own default or range
fps_option = functools.partial(
    cloup.option, "--fps", type=NumberRange(1, 120), metavar="N", help="Frames per second of the video."
)
seconds_option = functools.partial(cloup.option, "--seconds", metavar="N", help="Length of the video in seconds.")
background_option = cloup.option(
    "--background", type=ParsedType("COLOUR", parse_colour), default="white",
    help="Colour behind pictures with transparency: a name, or #rrggbb.",
)  # fmt: skip
scale_option = cloup.option(
    "--scale", type=click.IntRange(1, 64), metavar="N", show_default="to at least 256 pixels a side",
    help="Enlarge the video by this factor.",
)  # fmt: skip
