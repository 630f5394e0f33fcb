"""The model card, in Markdown: what a model is, how it was trained, and how to use it. It names no local paths."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pggan.config.content.channels import kind_of_channels
from pggan.config.metrics import METRICS
from pggan.config.option import flag_of
from pggan.config.presets import PRESETS, configure, usual_half_life
from pggan.config.train import IN_RECIPE, OPTIONS, TrainConfig
from pggan.generation.labels import LabelSpace
from pggan.networks.model_file import ModelFile
from pggan.utils.formatting import duration, paste, size


def recipe(config: TrainConfig) -> str:
    """Returns the command that trains with this configuration: the preset, and the options that differ from it."""
    data = Path(config.data).name if config.data else "DATA"
    words = ["pggan", "train", data]
    preset = config.preset if config.preset in PRESETS else None
    defaults = configure(preset, {})
    average = _average(config, preset)
    if preset is not None:
        words += ["--preset", preset]
    for name, option in OPTIONS.items():
        value = getattr(config, name)
        differs = name in average if name.startswith("ema_") else value != getattr(defaults, name)
        if name in IN_RECIPE and differs and value is not None:
            words += _option(name, option.flag, value)
    for name, value in config.loss_options:
        words += _option(name, flag_of(name), value)
    return shlex.join(words)


def _average(config: TrainConfig, preset: str | None) -> set[str]:
    """Returns the options of the EMA that the recipe has to name: what is usual depends on the other options."""
    if config.ema_half_life is None:
        usual = configure(preset, {}).ema_decay
        return {"ema_decay"} if usual_half_life(preset, vars(config)) or config.ema_decay != usual else set()
    return {"ema_half_life"} | ({"ema_ramp"} if config.ema_ramp != OPTIONS["ema_ramp"].default else set())


def _option(name: str, flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else "--no-" + flag[2:]]
    if name == "start_from":
        value = Path(str(value)).name
    elif isinstance(value, tuple):
        value = ",".join(map(str, value))
    return [flag, f"{value:.10g}" if isinstance(value, float) else str(value)]


def card(
    name: str,
    models: Mapping[Path, ModelFile],
    config: TrainConfig | None,
    resolved: Mapping[str, Any],
    log: list[dict[str, Any]],
    sheet: str,
    trained_at: float,
    address: str = "",
) -> str:
    """Writes the card's text.

    Args:
        name: of the run; the title.
        models: content of the model files, by path; the sheet shows images of the first.
        config: of the run; None: it is not known, nor are the next two.
        resolved: what "auto" resolved to in that run.
        log: the run's ticks.
        sheet: file name of the image grid.
        trained_at: when training ended, in seconds since 1970.
        address: where the first model can be had, for the commands; empty: the file itself.
    """
    first_path, first = next(iter(models.items()))
    info = first.info
    rows = [
        ("pictures", _pictures(first)),
        ("data", _data(info, resolved)),
        ("attribution and licence of the data", info.get("attribution") or "none recorded"),
        ("trained", _trained(log[-1] if log else {}, first)),
        ("made on", _made_on(info, resolved, trained_at)),
    ]
    lines = [f"# {name}", "", f"![Pictures of this model, seeds 0, 1, 2, ...]({sheet})", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {' '.join(str(value).split()).replace('|', '/')} |" for key, value in rows]
    lines += ["", "## Files", "", "| file | kimg | size | figures |", "|---|---|---|---|"]
    for path, model in models.items():
        lines.append(f"| {path.parent.name}/{path.name} | {_kimg(model)} | {size(path.stat().st_size)} | "
                     f"{_figures(model, log)} |")  # fmt: skip
    model_path = address or paste(f"{first_path.parent.name}/{first_path.name}")
    lines += ["", "## Use", "", f"    pggan generate {model_path} --n 64 --out pictures"]
    lines += [f"    pggan interpolate {model_path} --out walk.mp4", ""]
    lines += ["## Recipe", "", f"    {recipe(config)}", ""] if config is not None else []
    return "\n".join(lines)


def _pictures(model: ModelFile) -> str:
    config, side = model.generator.config, 2**model.level
    kind = kind_of_channels(config.channels)
    fading = f", fading in (alpha {model.alpha:.2f})" if model.alpha < 1 else ""
    columns = LabelSpace.of(model.labels, config.label_size).columns
    numbers = [f"{column.name} from {column.summary}" for column in columns if column.is_number]
    count = config.label_size - len(numbers)
    classes = "".join([f", {count} classes" if count else "", *(f", {text}" for text in numbers)])
    return f"{side}x{side}{fading}, {kind}{classes}"


def _data(info: Mapping[str, Any], resolved: Mapping[str, Any]) -> str:
    source = str(info.get("data") or "unknown")
    name = source if source.startswith("drawn:") else Path(source).name or source
    count = (resolved.get("data") or {}).get("count")
    return f"{name} ({count:,} pictures)" if count else name


def _trained(last: Mapping[str, Any], model: ModelFile) -> str:
    if not last:
        kimg = _kimg(model)
        return "unknown (no log)" if kimg == "?" else f"{kimg} kimg (thousand images shown to D)"
    return f"{last['nimg'] / 1000:g} kimg (thousand images shown to D) in {duration(last.get('seconds') or 0)}"


def _made_on(info: Mapping[str, Any], resolved: Mapping[str, Any], trained_at: float) -> str:
    date = time.strftime("%Y-%m-%d", time.localtime(trained_at))
    versions = f"pggan {info.get('pggan', '?')} and torch {info.get('torch', '?')}"
    if not resolved:  # a file alone, which may be a copy
        return f"unknown hardware, with {versions}"
    hardware = f"{resolved.get('hardware', 'unknown hardware')}, {resolved.get('precision', '?')}"
    return f"{date} with {versions} on {hardware}"


def _kimg(model: ModelFile) -> str:
    kimg = model.info.get("kimg")
    return "?" if kimg is None else f"{kimg:g}"


def _figures(model: ModelFile, log: list[dict[str, Any]]) -> str:
    """The metrics that the log has for this model, and the score that made it the best."""
    kimg = model.info.get("kimg")
    line: dict[str, Any] = next((line for line in reversed(log) if line.get("kimg") == kimg), {})
    scores = {spec.figure: line[spec.figure] for spec in METRICS if line.get(spec.figure) is not None}
    best = model.info.get("best")
    if isinstance(best, dict) and best.get("metric") and best.get("score") is not None:
        scores.setdefault(str(best["metric"]), best["score"])
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items()) or "none"
