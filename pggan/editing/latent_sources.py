"""Reads latents from whatever holds them: a latents file, or a PNG that pggan made."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pggan.data.image_header import read_header
from pggan.editing.latents_file import LatentSet, Rows, check_small_file, read_latents_file
from pggan.editing.model_identity import ModelIdentity
from pggan.generation.images import read_metadata
from pggan.generation.model import Model
from pggan.generation.seeds import Seeds
from pggan.utils.errors import DataError, ModelError, UsageError
from pggan.utils.limits import MAX_FILE_BYTES, MAX_LATENTS, MAX_PIXELS
from pggan.utils.untrusted import reading

_PNG = b"\x89PNG\r\n\x1a\n"


def read_latents(path: str | Path, model: Model, force: bool = False) -> LatentSet:
    """Reads the latents of a model from a latents file, or from the metadata of a PNG that pggan made.

    Args:
        path: The file.
        model: The model that is to use them.
        force: Take latents of another model where the sizes agree.

    Raises:
        ModelError: The file is missing, damaged or of another kind.
        DataError: A PNG has no readable entry of pggan.
        UsageError: The latents are of another model.
    """
    path = Path(path)
    check_small_file(path, MAX_FILE_BYTES)
    with path.open("rb") as file:
        head = file.read(64)
    if not head.startswith(_PNG):
        return read_latents_file(path).check_model(model, force)
    with reading(str(path), DataError, "give another picture"):
        header = read_header(head, "png")
        if header.width * header.height > MAX_PIXELS:
            raise DataError(f"{path} has {header.width}x{header.height} pixels, more than {MAX_PIXELS:,}")
    about = read_metadata(path)
    with reading(f"{path}: the entry of pggan", DataError, "give another picture, or a latents file"):
        identity = ModelIdentity.from_json({"name": about.get("model"), "sha256": about.get("sha256")})
        if not force and not identity.fits(ModelIdentity.of(model)):
            raise UsageError(f"{path} was made by the model {identity}, not by {model.name}; give that one, or --force")
        latents = latents_of_entry(about, path, model)
    return latents.check_model(model, force)


def read_all_latents(paths: Sequence[str | Path], model: Model, force: bool = False) -> LatentSet:
    """Returns the latents of several files as one set. Errors are those of `read_latents`."""
    return LatentSet.together([read_latents(path, model, force) for path in paths], model)


def latent_entry(latents: LatentSet, row: int) -> dict[str, Any]:
    """Returns what a PNG's metadata says of one latent: its seed where that makes it again, else its values."""
    origin = latents.origins[row]
    if "seed" in origin and latents.space == "z":
        return {}  # the entry's seed, class and codes say it all
    entry: dict[str, Any] = {"space": latents.space, "origin": origin}
    for name, values in latents.tensors().items():
        entry[name] = base64.b64encode(np.ascontiguousarray(values[row], "<f4").tobytes()).decode("ascii")
    return {"name": latents.names[row], "latent": entry}


def latents_of_entry(about: Mapping[str, Any], path: Path, model: Model) -> LatentSet:
    """Returns the latents that a PNG's entry of pggan names; `path` is for messages.

    Raises `DataError` or `ModelError` where it names none, and what reading hostile values raises.
    """
    if (entry := about.get("latent")) is not None:
        space = entry.get("space", "z")
        rows = {name: _decoded(entry[name]) for name in (space, "labels", "codes") if name in entry}
        name, origin = str(about.get("name") or path.stem)[:200], dict(entry.get("origin") or {})
        return LatentSet(
            rows[space], (name,), (origin,), ModelIdentity.of(model), rows.get("labels"), rows.get("codes"), space,
            path,
        )  # fmt: skip
    if "seed" in about:
        seeds = Seeds.of([about["seed"]])
    elif "seeds" in about:
        seeds = Seeds.parse(str(about["seeds"]))
    else:
        raise DataError(f"{path} names neither a seed nor a latent; give a single picture, or a latents file")
    if not 1 <= len(seeds) <= MAX_LATENTS:
        raise DataError(f"{path} names {len(seeds):,} seeds; the limit is {MAX_LATENTS:,}")
    label, codes = label_and_codes(about)
    return LatentSet.of_seeds(model, seeds, label, codes or None)


def label_and_codes(about: Mapping[str, Any]) -> tuple[str | None, dict[int, Any]]:
    """Returns what `--label` and `--code` have to be for a PNG's entry of pggan. Hostile entries raise anything."""
    codes = about.get("codes") or []
    values = dict(enumerate(codes)) if isinstance(codes, list) else {int(k): v for k, v in codes.items()}
    return _label(about.get("class")), values


def _label(entry: Mapping[str, Any] | None) -> str | None:
    """Returns the `--label` of an entry `class`: a class or a number, or several by column."""
    if not entry:
        return None
    if "value" in entry and not isinstance(entry["value"], Mapping):
        return str(float(entry["value"]))
    if "number" in entry and not isinstance(entry["number"], Mapping):
        return str(entry.get("name", entry["number"]))
    return ",".join(f"{column}={_of_column(part)}" for column, part in entry.items())


def _of_column(entry: Mapping[str, Any]) -> Any:
    """Returns a number, or a class's name, which may be another class's number; one with a comma goes by its own."""
    if "value" in entry:
        return entry["value"]
    return int(entry["number"]) if "," in entry.get("name", ",") else entry["name"]


def _decoded(text: Any) -> Rows:
    data = base64.b64decode(text, validate=True)
    if not data or len(data) % 4:
        raise ModelError("a latent in it is cut short; make the picture again")
    return np.frombuffer(data, "<f4").astype(np.float32)[None]
