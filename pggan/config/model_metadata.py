"""The metadata of model files and training states: one strict reader for every command (torch-free).

A model file's entry `pggan.model` is JSON: format, configurations of generator and discriminator, level, alpha, labels,
info. A training state has the entry `pggan.state`.
"""

from __future__ import annotations

import errno
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import safetensors

from pggan.config.content.channels import RGBA
from pggan.config.network import DiscriminatorConfig, GeneratorConfig
from pggan.config.serialization import from_json
from pggan.config.strict_json import is_kind, parse_json
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.file_kind import head_of, is_pickle, kind_of
from pggan.utils.formatting import one_line, paste
from pggan.utils.limits import MAX_METADATA_BYTES

# The newest format, of models that older versions would misread: RGBA, numbers as labels. Other files have format 1.
FORMAT = 2
MODEL_KEY, STATE_KEY, DIGEST_KEY = "pggan.model", "pggan.state", "pggan.digest"
LATENTS_KEY, DIRECTIONS_KEY, TUNED_KEY = "pggan.latents", "pggan.directions", "pggan.tuned"
# What a file is, by its metadata entry.
KINDS = {
    MODEL_KEY: "a model",
    STATE_KEY: "a training state",
    LATENTS_KEY: "a file of latents",
    DIRECTIONS_KEY: "a file of directions",
    TUNED_KEY: "a file of tuned weights",
}
_AGAIN = "; copy or make it again"
_FIELDS = {"format", "generator", "discriminator", "level", "alpha", "labels", "info"}
# Kinds of what pggan itself writes into `info`; further entries, such as an importer's, are any JSON.
_INFO: dict[str, Any] = {
    "data": str | None, "attribution": str | None, "kimg": float | None, "pggan": str | None, "torch": str | None,
    "imported_from": str | None, "networks": str | None, "generator": str | None, "best": dict[str, Any] | None,
}  # fmt: skip
_BEST: dict[str, Any] = {"metric": str | None, "score": float | None, "pictures": int | None}


def model_format(generator: GeneratorConfig, labels: Mapping[str, Any] | None) -> int:
    """Returns the oldest format that describes a model."""
    columns = (labels or {}).get("columns") or [labels or {}]
    return 2 if generator.channels == RGBA or any(column.get("bounds") for column in columns) else 1


def label_layout(labels: Mapping[str, Any] | None, size: int) -> tuple[int, ...]:
    """Returns the classes of each label column of a model, 0 of a number.

    They are those of one column of `size` classes where the named ones do not add up to that; none where `size` is 0.
    """
    columns = (labels or {}).get("columns") or [labels or {}]
    layout = tuple(0 if column.get("bounds") else max(1, len(column.get("classes") or ())) for column in columns)
    if not size:
        return ()
    return layout if sum(classes or 1 for classes in layout) == size else (size,)


@dataclass(frozen=True)
class ModelMetadata:
    """What a model file says of its networks."""

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig | None
    # log2 of the resolution that the model has reached, and its fade in [0, 1]
    level: int
    alpha: float
    # if conditional: `name` and `classes` of the label column; or `columns`, a list of such
    labels: dict[str, Any] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> ModelMetadata:
        """Reads a model file's metadata. Raises `ModelError` where a field is missing, unknown or of another kind."""
        about = read_metadata(path, MODEL_KEY)
        try:
            return cls._from_json(about)
        except (ModelError, UsageError, ValueError, OverflowError) as error:
            raise ModelError(f"{path} cannot be used: {error}") from None

    @classmethod
    def _from_json(cls, about: Mapping[str, Any]) -> ModelMetadata:
        if unknown := sorted(set(about) - _FIELDS):
            raise ModelError(f"it was written by a newer pggan (unknown: {', '.join(unknown)}); update pggan")
        if missing := [name for name in ("generator", "level", "alpha") if name not in about]:
            raise ModelError(f"unreadable metadata, no {missing[0]}{_AGAIN}")
        generator = from_json(GeneratorConfig, about["generator"])
        recorded = about.get("discriminator")
        discriminator = from_json(DiscriminatorConfig, recorded) if recorded is not None else None
        level, alpha = about["level"], about["alpha"]
        if not (
            type(level) is int
            and type(alpha) in (int, float)
            and generator.min_level <= level <= generator.max_level
            and 0 <= alpha <= 1
        ):
            raise ModelError(f"level {one_line(repr(level))}, alpha {one_line(repr(alpha))} are out of range{_AGAIN}")
        info = _checked_info(about.get("info"))
        return cls(generator, discriminator, level, float(alpha), _checked_labels(about.get("labels")), info)


def _checked_labels(labels: Any) -> dict[str, Any] | None:
    """Returns the labels. Raises `ModelError` where they are no columns with a name and classes."""
    if labels is None:
        return None
    columns = labels["columns"] if isinstance(labels, dict) and set(labels) == {"columns"} else [labels]
    one: dict[str, Any] = {"name": str, "classes": list[str | int] | None, "counts": list[int] | None}
    one |= {"bounds": list[float] | None, "quantiles": list[float] | None}
    if not isinstance(columns, list) or not all(_is_table(column, one) for column in columns):
        raise ModelError(f"its labels are no columns with a name and classes{_AGAIN}")
    for column in columns:
        bounds, points = column.get("bounds"), column.get("quantiles") or []
        if bounds is not None and not (len(bounds) == 2 and _is_ascending(bounds) and bounds[0] < bounds[1]):
            raise ModelError(f"the bounds of its labels are no two numbers, the lower one first{_AGAIN}")
        if points and not (bounds and 2 <= len(points) <= 1000 and _is_ascending(points)):
            raise ModelError(f"the quantiles of its labels are no ascending numbers{_AGAIN}")
        counts = column.get("counts")
        if counts is not None and not _are_counts(counts, len(column.get("classes") or [])):
            raise ModelError(f"the counts of its labels are no numbers of pictures, one for each class{_AGAIN}")
    return dict(labels)


def _is_ascending(numbers: list[float]) -> bool:
    """Whether `numbers` are of a sensible size, each at least as large as the one before."""
    return all(abs(number) <= 1e30 for number in numbers) and all(a <= b for a, b in pairwise(numbers))


def _are_counts(counts: list[int], classes: int) -> bool:
    """Whether `counts` are numbers of images, one for each class, with at least one image in all."""
    return len(counts) == classes and all(0 <= count < 1 << 40 for count in counts) and sum(counts) > 0


def _checked_info(info: Any) -> dict[str, Any]:
    """Returns what the file says of its origin. Raises `ModelError` where an entry of pggan's has another kind."""
    if info is None:
        return {}
    if not isinstance(info, dict):
        raise ModelError(f"its info is no table{_AGAIN}")
    if wrong := [name for name, kind in _INFO.items() if not is_kind(info.get(name), kind | None)]:
        raise ModelError(f"its info {wrong[0]} is of another kind{_AGAIN}")
    if not _is_table(info.get("best") or {}, _BEST):
        raise ModelError(f"its info best is no metric with a score{_AGAIN}")
    return dict(info)


def _is_table(value: Any, kinds: Mapping[str, Any]) -> bool:
    """Whether a JSON value is an object of these entries alone, any of which may be absent."""
    return isinstance(value, dict) and all(name in kinds and is_kind(v, kinds[name]) for name, v in value.items())


def read_metadata(path: Path, key: str) -> dict[str, Any]:
    """Reads a file's JSON metadata. Raises `ModelError` if it is missing, damaged, foreign or of another format."""
    metadata = _read_header(path)
    if key not in metadata:
        if kind := next((KINDS[other] for other in KINDS if other in metadata), None):
            runs = "; a run keeps its models in models/ and its states in checkpoints/"
            advice = runs if {MODEL_KEY, STATE_KEY} >= {key, *(metadata.keys() & KINDS.keys())} else ""
            raise ModelError(f"{path} is {kind}, not {KINDS[key]}{advice or '; give a file of that kind'}")
        raise ModelError(f"{path} is a safetensors file of another program, not one of pggan's")
    try:
        about = parse_json(metadata[key], MAX_METADATA_BYTES)
        version = about["format"]
        if not isinstance(about, dict) or type(version) is not int:
            raise ValueError("it has no format")
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path} has unreadable metadata ({one_line(error)}); copy or make it again") from None
    if not 1 <= version <= FORMAT:
        raise ModelError(
            f"{path} has format {version}, this pggan reads formats up to {FORMAT}; update pggan to read it"
        )
    return about


def _metadata_of(path: Path, header: bytes) -> dict[str, str]:
    """Returns the metadata of a safetensors file whose header was read; the library checks all of the file's sizes."""
    try:
        with safetensors.safe_open(str(path), framework="np") as opened:
            return opened.metadata() or {}
    except Exception as error:
        if f"os error {errno.ENODEV}" not in str(error) and getattr(error, "errno", None) != errno.ENODEV:
            raise
    return dict(json.loads(header).get("__metadata__") or {})  # of a file system without memory maps


def _read_header(path: Path) -> dict[str, str]:
    """Reads the metadata of a safetensors file, after the length of its header."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist; give a model file, a run directory or a shipped model's name")
    try:
        with open(path, "rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            if length > MAX_METADATA_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = file.read(length)
        return _metadata_of(path, header)
    except Exception as error:  # the library raises its own and several built-in kinds
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and error.errno:
            raise
        raise _not_a_model(path, error) from None


def _not_a_model(path: Path, error: Exception) -> ModelError:
    """Returns the error for a file that safetensors cannot read: what it is instead, and what helps."""
    head = head_of(path)
    if is_pickle(head) or (head.startswith(b"PK") and path.suffix.lower() in (".pt", ".pth", ".ckpt", ".bin")):
        command = paste("pggan", "import", path, path.with_suffix(".safetensors").name)
        return ModelError(f"{path} is a checkpoint of another program; import it first: {command}")
    if (kind := kind_of(head)) is not None:
        return ModelError(f"{path} is no model but {kind}")
    return ModelError(f"{path} is not a whole pggan model ({one_line(error)}); copy or make it again")
