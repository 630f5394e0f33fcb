"""`pggan info`: describes a model, a run or a data store."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloup

from pggan.cli.options import FilePath, Output, json_option
from pggan.config.content.channels import kind_of_channels
from pggan.utils.errors import UsageError
from pggan.utils.formatting import duration, size

if TYPE_CHECKING:
    from pggan.config.train import DiscriminatorConfig, GeneratorConfig

# an object with a longer text than this gets a row for each of its values
INLINE_LENGTH = 60
# What JSON has as numbers, and the text in the first sentence.
FIGURES = ("bytes", "trained_kimg", "total_kimg", "seconds")
# Headings of the description of a run or of data: a model's own information must not pass for them.
_NAMES_OF_RUNS = ("run", "progress", "trained_for", "stage", "go_on_with", "resolutions", "pictures", "size")


@cloup.command("info")
@cloup.argument("what", required=False, type=FilePath())
@cloup.option_group(
    "Contact sheet of a data store",
    cloup.option(
        "--sheet", type=FilePath(path_type=Path), metavar="FILE", show_default="none",
        help="Write a PNG of the store's pictures, spread evenly over it, with their labels.",
    ),
    cloup.option("--res", type=int, metavar="R", show_default="the largest up to 256", help="Which level to show."),
    cloup.option("--count", type=int, metavar="N", show_default="48", help="Pictures on the sheet."),
    cloup.option(
        "--landmarks", type=FilePath(path_type=Path), metavar="CSV", show_default="none",
        help="Draw the landmarks, by the report of prepare-data --align auto that the store was made with.",
    ),
)  # fmt: skip
@cloup.option_group("Output", json_option)
def command(
    what: str | None, as_json: bool, sheet: Path | None, res: int | None, count: int | None, landmarks: Path | None
) -> None:
    """Describe a model, a run or a data store.

    WHAT is a model file, a run directory, a data store or a shipped model's name (none: portraits).
    """
    if sheet is None and any(option is not None for option in (res, count, landmarks)):
        raise UsageError("--res, --count and --landmarks are about a contact sheet; give --sheet FILE, too")
    from pggan.data.store.store import is_store

    values = describe(what)
    lines = list(_sentences(values))
    if sheet is not None:
        if what is None or not is_store(what):
            raise UsageError("--sheet shows the pictures of a data store; name one")
        from pggan.report.contact_sheet import DEFAULT_COUNT, write_contact_sheet

        written = write_contact_sheet(what, sheet, res, DEFAULT_COUNT if count is None else count, landmarks)
        values |= written
        side = written["resolution"]
        lines.append(f"{written['sheet']}: {written['shown']} pictures of {side}x{side}")
    Output(as_json).result(values, *lines)


def describe(name: str | None) -> dict[str, Any]:
    """Describes a path or a shipped name as JSON values. Raises `DataError` or `ModelError` for anything else."""
    from pggan.data.store.store import is_store
    from pggan.training.run.directory import is_run
    from pggan.utils.paths import find_model

    if name is not None and is_store(name):
        return _data(name)
    if name is not None and is_run(Path(name)):
        return _run(Path(name))
    return _model(find_model(name))


def _sentences(values: Mapping[str, Any]) -> Iterator[str]:
    """The description as text: what it is in a sentence, then an aligned row for each other value."""
    rest = dict(values)
    colours = kind_of_channels(rest.get("channels", 0))
    resume = rest.pop("go_on_with", None)
    if "run" in rest:
        yield f"run {rest.pop('run')}: trained {rest.pop('progress')} in {rest.pop('trained_for')}, {rest.pop('stage')}"
    elif "model" in rest:
        yield f"model {rest.pop('model')}: {colours} pictures of {rest.pop('resolution')}, {rest.pop('file_size')}"
    else:
        sides = rest.pop("resolutions")
        span = f"{sides[0]} to {sides[-1]}, {rest.pop('size')}"
        yield f"data {rest.pop('data')}: {rest.pop('pictures'):,} {colours} pictures, {span}"
        labels = rest["labels"].items()
        rest["labels"] = {
            f'"{name}"' if name.isdecimal() else name: about if isinstance(about, str) else f"{about} classes"
            for name, about in labels
        }
    for figure in ("channels", *FIGURES):
        rest.pop(figure, None)
    yield from _rows(rest)
    if resume:
        yield f"resume it with: {resume}"


def _rows(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Aligned rows of names and values, but for empty ones; a long object becomes a heading with indented rows."""
    texts = {key: text for key, value in values.items() if (text := _inline(value))}
    width = max((len(_label(key)) for key in texts), default=0)
    for key, text in texts.items():
        value = values[key]
        if isinstance(value, dict) and (len(text) > INLINE_LENGTH or any(", " in _inline(v) for v in value.values())):
            yield f"{indent}{_label(key)}"
            yield from _rows(value, indent + "  ")
        else:
            yield f"{indent}{_label(key):<{width}}  {text}"


def _heading(key: str) -> str:
    """A name as people see it, whatever its case and spaces."""
    return " ".join(_label(key).split()).lower()


def _label(key: str) -> str:
    """`latent_size` -> `latent size`; `64`, a resolution, -> `64x64`."""
    return f"{key}x{key}" if key.isdecimal() else key.replace("_", " ")


def _inline(value: Any) -> str:
    """A JSON value in one line of words, without braces; empty for null and for empty lists and objects."""
    if isinstance(value, dict):
        return ", ".join(f"{_label(key)} {text}" for key, inner in value.items() if (text := _inline(inner)))
    if isinstance(value, list):
        return ", ".join(filter(None, map(_inline, value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return "" if value is None else str(value)


def _data(path: str) -> dict[str, Any]:
    from pggan.data.store.store import Store

    with Store(path) as store:
        manifest = store.manifest
        return {
            "data": path,
            "pictures": manifest.count,
            "channels": manifest.channels,
            "resolutions": [f"{side}x{side}" for side in manifest.resolutions],
            "codecs": {str(side): codec for side, codec in manifest.codecs.items()},
            "size": size(taken := (store.path / "data.mdb").stat().st_size),
            "bytes": taken,
            "labels": {c.name: c.summary if c.is_number else len(c.classes) for c in manifest.labels},
            "source": manifest.source,
            "options": dict(manifest.options),
            "left_out": dict(manifest.left_out),
            "attribution": manifest.attribution,
            "created": f"{manifest.created} by pggan {manifest.pggan}",
        }


def _run(path: Path) -> dict[str, Any]:
    from pggan.training.run.directory import RunDirectory
    from pggan.training.run.log_reader import read_ticks, resume_command

    run = RunDirectory(path)
    config, resolved = run.read_options()
    last: dict[str, Any] = next(iter(deque(read_ticks(run.log), maxlen=1)), {})
    total, sides = config.schedule.total, config.resolutions()
    models, states = run.models(), run.states()
    go_on = resume_command(path, run.log)
    return {
        "run": str(path),
        "data": config.data,
        "resolutions": " to ".join(f"{side}x{side}" for side in dict.fromkeys((sides[0], sides[-1]))),
        "growth": config.growth,
        "preset": config.preset,
        "loss": config.loss,
        "labels": config.labels,
        "progress": f"{last.get('kimg', 0):g} of {total / 1000:g} kimg",
        "stage": f"{last['resolution']}x{last['resolution']}, alpha {last['alpha']:.2f}" if last else "not started",
        "trained_for": duration(last.get("seconds", 0)),
        "trained_kimg": last.get("kimg", 0),
        "total_kimg": total / 1000,
        "seconds": last.get("seconds", 0),
        "models": len(models),
        "newest_model": str(models[-1]) if models else None,
        "best_model": str(run.best) if run.best.exists() else None,
        "checkpoints": len(states),
        "made_with": resolved,
        "go_on_with": go_on if last.get("nimg", 0) < total and not run.pruned else None,
    }


def _networks(g: GeneratorConfig, d: DiscriminatorConfig | None) -> dict[str, Any]:
    """Architectures and normalisations, and what the discriminator has beside them."""
    about: dict[str, Any] = {}
    for name, config in (("generator", g), ("discriminator", d)):
        if config is not None:
            about[f"{name}_architecture"] = config.arch
            about[f"{name}_normalisation"] = config.norm
    if d is not None:
        diversity = "none" if d.minibatch_group == 1 else d.diversity
        about["diversity"] = f"{diversity}, groups of {d.minibatch_group}" if diversity != "none" else diversity
        about["discriminator_decodes"] = d.decodes or None
    return about


def _model(path: Path) -> dict[str, Any]:
    from pggan.config.model_metadata import ModelMetadata
    from pggan.generation.labels import LabelSpace
    from pggan.networks.flops import parameters

    about = ModelMetadata.read(path)
    g, d, side = about.generator, about.discriminator, 2**about.level
    labels = LabelSpace.of(about.labels, g.label_size)
    values = {
        "model": str(path),
        "resolution": f"{side}x{side}",
        "alpha": about.alpha,
        "grows_to": f"{g.resolution}x{g.resolution}",
        "channels": g.channels,
        "latent_size": g.latent_size,
        "codes": {"categorical": list(g.categorical), "continuous": g.continuous} if g.code_size else None,
        "labels": {column.name: column.summary for column in labels.columns} or None,
        "generator_parameters": parameters(g, about.level),
        "discriminator_parameters": parameters(d, about.level) if d else None,
        "feature_maps": {"base": g.fmap_base, "max": g.fmap_max},
        "resampling": g.resample if g.resample != "nearest" else None,
        "gains": g.gains if g.gains != "published" else None,
        "mapping_layers": g.mapping_layers or None,
        "fused_scale": g.fused_scale if g.arch == "pggan" else None,
        **_networks(g, d),
        "file_size": size(taken := path.stat().st_size),
        "bytes": taken,
    }
    info = dict(about.info)
    own = {_heading(name) for name in (*values, *_NAMES_OF_RUNS)}
    clash = {name: info.pop(name) for name in list(info) if _heading(name) in own}
    return {**values, **info, "says_of_itself": clash or None}
