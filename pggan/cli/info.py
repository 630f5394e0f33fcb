"""`pggan info`: what a model, a data store or a run is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pggan.utils.formatting import duration, size

if TYPE_CHECKING:
    from pggan.config.train import DiscriminatorConfig, GeneratorConfig


@click.command("info")
@click.argument("what", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(what: str | None, as_json: bool) -> None:
    """Say what WHAT is: a model file, a data store, a run or a shipped model's name (none: the shipped one)."""
    about = describe(what)
    if as_json:
        click.echo(json.dumps(about))
        return
    for key, value in about.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k}: {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        if value is not None and value != "":
            click.echo(f"{key.replace('_', ' ')}: {value}")


def describe(what: str | None) -> dict[str, Any]:
    """What a path or name is, as JSON values. Raises `DataError` or `ModelError` for what is none of these."""
    from pggan.data.store.store import is_store
    from pggan.training.run.directory import is_run
    from pggan.utils.paths import find_model

    if what is not None and is_store(what):
        return _data(what)
    if what is not None and is_run(Path(what)):
        return _run(Path(what))
    return _model(find_model(what))


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
            "size": size((store.path / "data.mdb").stat().st_size),
            "labels": {column.name: len(column.classes) for column in manifest.labels},
            "source": manifest.source,
            "options": dict(manifest.options),
            "left_out": dict(manifest.left_out),
            "attribution": manifest.attribution,
            "created": f"{manifest.created} by pggan {manifest.pggan}",
        }


def _run(path: Path) -> dict[str, Any]:
    from pggan.config.schedule import Schedule
    from pggan.training.run.directory import RunDirectory
    from pggan.training.run.log import read_log

    run = RunDirectory(path)
    config, resolved = run.read_options()
    lines = read_log(run.log) if run.log.exists() else []
    last = lines[-1] if lines else {}
    total, sides = Schedule(config).total, config.resolutions()
    models, states = run.models(), run.states()
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
        "models": len(models),
        "newest_model": str(models[-1]) if models else None,
        "best_model": str(run.best) if run.best.exists() else None,
        "checkpoints": len(states),
        "made_with": resolved,
        "go_on_with": f"pggan train --resume {path}" if last.get("nimg", 0) < total and not run.pruned else None,
    }


def _networks(g: GeneratorConfig, d: DiscriminatorConfig | None) -> dict[str, Any]:
    """What a model's networks have that others have not."""
    about: dict[str, Any] = {}
    for name, config in (("generator", g), ("discriminator", d)):
        if config is not None:
            about[f"{name}_architecture"] = config.arch
            about[f"{name}_normalisation"] = config.norm
    if d is not None:
        alone = "none" if d.minibatch_group == 1 else d.diversity
        about["diversity"] = f"{alone}, groups of {d.minibatch_group}" if alone != "none" else alone
        about["discriminator_decodes"] = d.decodes or None
    return about


def _model(path: Path) -> dict[str, Any]:
    from pggan.config.train import DiscriminatorConfig, GeneratorConfig, from_json
    from pggan.generation.labels import LabelSpace
    from pggan.networks.flops import parameters
    from pggan.networks.model_file import MODEL_KEY, read_metadata
    from pggan.utils.errors import ModelError

    about = read_metadata(path, MODEL_KEY)
    try:
        g = from_json(GeneratorConfig, about["generator"])
        d = from_json(DiscriminatorConfig, about["discriminator"]) if about.get("discriminator") else None
        level, side = int(about["level"]), 2 ** int(about["level"])
        labels = LabelSpace.of(about.get("labels"), g.label_size)
        return {
            "model": str(path),
            "resolution": f"{side}x{side}",
            "alpha": float(about["alpha"]),
            "grows_to": f"{g.resolution}x{g.resolution}",
            "channels": g.channels,
            "latent_size": g.latent_size,
            "codes": {"categorical": list(g.categorical), "continuous": g.continuous} if g.code_size else None,
            "labels": {column.name: ", ".join(column.classes) for column in labels.columns} or None,
            "generator_parameters": parameters(g, level),
            "discriminator_parameters": parameters(d, level) if d else None,
            "feature_maps": {"base": g.fmap_base, "max": g.fmap_max},
            "fused_scale": g.fused_scale if g.arch == "pggan" else None,
            **_networks(g, d),
            "file_size": size(path.stat().st_size),
            **(about.get("info") or {}),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} has unreadable metadata ({error!r}); copy or make it again") from None
