"""Configuration files: the options of `pggan train` as TOML, or a run's options.json (torch-free).

Names are those of the options, with "-" or "_". What belongs to one machine or one call stays on the command line: the
run directory, other files, the device of a run.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pggan.config.losses import all_options
from pggan.config.option import Group, Option
from pggan.config.presets import PRESETS
from pggan.config.resolution import PerResolution, exact
from pggan.config.serialization import from_json
from pggan.config.train import OPTIONS, TrainConfig
from pggan.utils.errors import UsageError
from pggan.utils.formatting import nearest_name, one_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 1 << 20
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?")
PRESET = "preset"
# They name files, or what this machine has.
_COMMAND_LINE_ONLY = ("start_from", "inception_weights", "embedding", "device")
# They start a command, or send values to a machine: no options of a configuration at all.
_CALL_ONLY = ("from", "on_snapshot", "track")


def options_in_files() -> dict[str, Option]:
    """Returns the options that a configuration file may have, by name."""
    shown = {name: option for name, option in OPTIONS.items() if option.on_command_line}
    return {name: o for name, o in {**shown, **all_options()}.items() if name not in _COMMAND_LINE_ONLY}


def read_options(path: Path) -> dict[str, Any]:
    """Reads a configuration file.

    Returns:
        Texts as the command line takes them, and booleans, by the names of options, PRESET among them.

    Raises:
        UsageError: The file cannot be read, has a name that is no option, or a value that is none.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} has {path.stat().st_size:,} bytes: no configuration")
        text = path.read_text(encoding="utf-8-sig")
        values = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of Unicode, JSON and TOML
        raise UsageError(f"{path} is no configuration file: {one_line(error)}") from None
    if path.suffix.lower() == ".json":
        if not isinstance(values, dict) or not isinstance(values.get("config"), dict):
            raise UsageError(f"{path} is no options.json of a run")
        return to_options(from_json(TrainConfig, values["config"]))
    return {_name(name, path): _text(value, f"{path}: {name}") for name, value in values.items()}


def _name(name: str, path: Path) -> str:
    known = [PRESET, *options_in_files()]
    plain = name.replace("-", "_")
    if plain in known:
        return plain
    if plain in (*_COMMAND_LINE_ONLY, *_CALL_ONLY):
        raise UsageError(f"{path}: {name} belongs on the command line, not into a file")
    hint = nearest_name(name, [option.replace("_", "-") for option in known]) or "; see pggan train --help"
    raise UsageError(f"{path}: no option is called {name}{hint}")


def _text(value: Any, where: str) -> str | bool:
    """Returns a TOML value as the command line takes it: lists with commas, tables as numbers by resolution."""
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)) and math.isfinite(value):
        return repr(value)
    if isinstance(value, list) and all(type(item) in (int, float, str) for item in value):
        return ",".join(map(str, value))
    if isinstance(value, dict) and all(type(item) in (int, float) for item in value.values()):
        return ",".join(f"{resolution}:{number!r}" for resolution, number in value.items())
    raise UsageError(f"{where} is neither a number, a text, true or false, a list nor numbers by resolution")


def to_options(config: TrainConfig) -> dict[str, Any]:
    """Returns a configuration as `read_options` does: given as options, it makes the same one again."""
    values = {name: getattr(config, name) for name in options_in_files() if name in OPTIONS}
    values = {PRESET: config.preset if config.preset in PRESETS else None, **values, **dict(config.loss_options)}
    if config.auto_batch:
        values["batch"] = "auto"
    if config.grid is not None:
        values["grid"] = "{}x{}".format(*config.grid)
    if config.budget is not None:
        values["budget"] = f"{config.budget!r}B"
    # a decay and a half-life exclude each other
    for name in ("ema_half_life", "ema_ramp") if config.ema_half_life is None else ("ema_decay",):
        del values[name]
    return {name: _option_text(value) for name, value in values.items() if value is not None and value != ()}


def _option_text(value: Any) -> str | bool:
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, PerResolution):
        return str(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else exact(value)


def to_toml(options: Mapping[str, Any]) -> str:
    """Writes what `to_options` returned as TOML, under the headings of the help."""
    declared = options_in_files()
    lines = ["# pggan train DATA --config FILE: options of the command line go over these", ""]
    lines += [f"{name} = {_toml(value)}" for name, value in options.items() if name not in declared]
    for group in Group:
        of_group = {
            name: value for name, value in options.items() if name in declared and declared[name].group is group
        }
        lines += ["", f"# {group.value}"] if of_group else []
        for name, value in of_group.items():
            plain = declared[name].kind in (int, float) and _NUMBER.fullmatch(value)
            lines.append(f"{name.replace('_', '-')} = {value if plain else _toml(value)}")
    return "\n".join(lines)


def _toml(value: str | bool) -> str:
    """Writes a text or a boolean: TOML's are JSON's, but for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
