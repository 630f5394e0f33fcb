"""The options of `pggan train`, derived from their declarations in config/train.py and config/losses.py."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import cloup

from pggan.cli.options import GRID_SIZE, METRIC_NAMES, FilePath, ParsedType, numbers_type
from pggan.config.config_file import options_in_files, read_options, to_options
from pggan.config.losses import all_options
from pggan.config.option import AUTO, Group, Option
from pggan.config.presets import DEFAULT_PRESET, PRESETS
from pggan.config.resolution import PerResolution
from pggan.config.train import OPTIONS
from pggan.utils.errors import UsageError
from pggan.utils.formatting import bytes_of

# The help does not show a range that goes up to this number or further.
UNLIMITED = 1e6
# Explanations under the headings of the help.
HEADINGS = {
    Group.SCHEDULE: "N|R:N,... is one number for all resolutions (128), numbers by resolution (4:128,8:64; the preset "
    "keeps the others), or both (16,256:8).",
    Group.LOSS: "Options of a --loss are refused with the others.",
}


PER_RESOLUTION = ParsedType("N|R:N,...", PerResolution.parse)


def _by_resolution(text: str) -> float | str:
    """Returns a plain number as such; numbers by resolution and `auto` as they were given."""
    numbers = None if text == AUTO else PerResolution.parse(text)
    plain = None if numbers is None or numbers.named or numbers.end is not None else numbers.plain
    return text if plain is None else plain


def _scheduled(text: str) -> float | PerResolution:
    """Returns a plain number as such."""
    numbers = PerResolution.parse(text)
    return numbers if numbers.plain is None or numbers.named or numbers.end is not None else numbers.plain


SCHEDULED = ParsedType("N|A..B", _scheduled)
BY_RESOLUTION = ParsedType("auto|N|R:N,...", _by_resolution)
# The click types of options whose annotation does not say enough.
NAMED_TYPES: Mapping[str, click.ParamType] = {
    "batch": ParsedType("auto|N|R:N,...", lambda text: text if text == "auto" else PerResolution.parse(text)),
    "budget": ParsedType("24GB", bytes_of),
    "grid": GRID_SIZE,
    "eval_metrics": METRIC_NAMES,
}


def shown_options() -> list[Option]:
    """Returns the options of configuration, losses and techniques that the command line has."""
    return [*(option for option in OPTIONS.values() if option.on_command_line), *all_options().values()]


def train_options(
    own: Mapping[Group, Iterable[Callable[[Any], Any]]],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns a decorator that adds all options under their headings; each is None where it is not given.

    Args:
        own: options of the command itself by heading, which come first there.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for group in reversed(Group):
            options = [*own.get(group, ()), *(_click_option(o) for o in shown_options() if o.group is group)]
            function = cloup.option_group(group.value, *options, help=HEADINGS.get(group))(function)
        return function

    return decorate


def config_option() -> Callable[[Any], Any]:
    """Returns `--config FILE`, whose values stand where the command line gives none."""

    def read(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
        if path is not None:
            _use_as_defaults(ctx, read_options(path), str(path), over=True)

    return cloup.option(
        "--config", metavar="FILE", type=FilePath(path_type=Path), is_eager=True, expose_value=False, callback=read,
        help="Take options from a TOML file, or from a run's options.json; the command line goes over it. "
        "--write-config writes one.  [default: none]",
    )  # fmt: skip


def like_option() -> Callable[[Any], Any]:
    """Returns `--like RUN`: as `--config` with that run's options, but for what names files."""

    def read(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
        if path is not None:
            from pggan.training.run.directory import RunDirectory

            config, _ = RunDirectory(path).read_options()
            _use_as_defaults(ctx, to_options(config), str(path), over=False)

    return cloup.option(
        "--like", metavar="RUN", type=FilePath(path_type=Path), is_eager=True, expose_value=False, callback=read,
        help="Take the options of another run, but for files that it names; --config and the command line go over "
        "them.  [default: none]",
    )  # fmt: skip


def _use_as_defaults(ctx: click.Context, values: Mapping[str, Any], source: str, over: bool) -> None:
    """Makes values the command's defaults, `over` or under those from before. Raises `UsageError` for unusable ones."""
    parameters = {parameter.name: parameter for parameter in ctx.command.params}
    declared = options_in_files()
    for name, value in values.items():
        flag = isinstance(value, bool)
        if name in declared and flag != (declared[name].kind is bool):
            raise UsageError(f"{source}: {name} is {'no' if flag else 'a'} matter of true or false")
        try:
            parameters[name].type_cast_value(ctx, value)
        except click.BadParameter as error:
            raise UsageError(f"{source}: {name}: {error.message.rstrip('.')}") from None
    before = ctx.default_map or {}
    ctx.default_map = {**before, **values} if over else {**values, **before}


def _click_option(option: Option) -> Callable[[Any], Any]:
    flags = [option.flag]
    arguments: dict[str, Any] = {"type": _click_type(option), "metavar": option.metavar or None}
    if option.kind is bool:
        flags, arguments = [f"{option.flag}/--no-{option.flag[2:]}"], {"default": None}
    return cloup.option(*flags, option.name, **arguments, help=help_of(option))


def help_of(option: Option) -> str:
    """Returns the help text of an option, with its default, and its range where that is not practically unlimited."""
    limits = f"; {option.range}" if option.range and option.high < UNLIMITED else ""
    return f"{option.help}  [default: {default_of(option)}{limits}]"


def default_of(option: Option) -> str:
    """Returns what the help shows as an option's default: that of a run without --preset."""
    if option.default_text:
        return option.default_text
    if option.name in PRESETS[DEFAULT_PRESET].values:
        return "the preset's"
    if isinstance(option.default, bool):
        return option.flag if option.default else f"--no-{option.flag[2:]}"
    if isinstance(option.default, tuple):
        return ",".join(map(str, option.default)) or "none"
    if isinstance(option.default, float):
        return f"{option.default:g}"
    return "none" if option.default is None else str(option.default)


def _click_type(option: Option) -> Any:
    if option.name in NAMED_TYPES:
        return NAMED_TYPES[option.name]
    if option.scheduled and option.kind is float:
        # options of losses stay text, as they are recorded
        return ParsedType("N|A..B", _by_resolution) if option.annotation is None else SCHEDULED
    if option.by_resolution:
        return BY_RESOLUTION
    if option.choices:
        return click.Choice(option.choices)
    if option.kind is PerResolution:
        return PER_RESOLUTION
    if typing.get_origin(option.kind) is tuple:
        number, *others = typing.get_args(option.kind)
        return numbers_type(number) if others == [...] else numbers_type(number, 1 + len(others))
    return option.kind
