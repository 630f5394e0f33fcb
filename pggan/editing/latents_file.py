"""Latents that one can keep: a set of them in memory, and the latents file.

A latents file is a safetensors file of small fields: tensors `z` (N, latent_size), and where the model has them
`labels` (N, label_size) and `codes` (N, code_size), or else `w` (N, latent_size) alone, all float32; the metadata entry
`pggan.latents` is JSON: format, space, name and SHA-256 of the model, and for each latent its name and how it came
about. Reading one executes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pggan.config.model_metadata import LATENTS_KEY, read_metadata
from pggan.editing.latent_space import SPACES, Spread, space_of, straight_move, takes_w, to_w
from pggan.editing.model_identity import ModelIdentity
from pggan.editing.sphere import at_angle, move
from pggan.generation.grid import Images
from pggan.generation.model import Model
from pggan.generation.seeds import check_seeds
from pggan.networks.model_file import read_tensors, write_tensors
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.formatting import size
from pggan.utils.limits import MAX_LATENT_VALUE, MAX_LATENTS, MAX_LATENTS_BYTES, MAX_ORIGIN_CHARACTERS
from pggan.utils.untrusted import reading

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class LatentSet:
    """Latents with everything that makes their images again.

    Raises `ModelError` where rows, names and origins differ in number, or values are not finite.
    """

    z: Rows  # (N, latent_size); w where that is the space
    names: tuple[str, ...]
    # how each came about: {"seed": 7}, {"projection": "me.png", ...}, {"edit": ...}
    origins: tuple[dict[str, Any], ...]
    model: ModelIdentity
    labels: Rows | None = None  # (N, label_size)
    codes: Rows | None = None  # (N, code_size)
    space: str = "z"  # or "w", of a mapping network: labels and codes are in it already
    path: Path | None = field(default=None, compare=False)  # of the file, for messages

    def __post_init__(self) -> None:
        rows = len(self.z)
        if not (rows == len(self.names) == len(self.origins)):
            raise ModelError(f"{rows} latents have {len(self.names)} names and {len(self.origins)} origins")
        for name, values in self.tensors().items():
            if values.ndim != 2 or len(values) != rows or values.dtype != np.float32:
                raise ModelError(f"{name} are {values.dtype} {values.shape}, not float32 ({rows}, size)")
            if not (np.abs(values) <= MAX_LATENT_VALUE).all():
                raise ModelError(f"{name} hold values that are not finite, or beyond {MAX_LATENT_VALUE:g}")
        if not (np.linalg.norm(self.z, axis=1) > 1e-6).all():
            raise ModelError("a latent of zeros has no direction")
        if self.space not in SPACES:
            raise ModelError(f"latents of the space {self.space!r}; this pggan knows {', '.join(SPACES)}")
        if self.space == "w" and (self.labels is not None or self.codes is not None):
            raise ModelError("latents w have labels and codes beside them, which w contains already")

    def __len__(self) -> int:
        return len(self.z)

    def tensors(self) -> dict[str, Rows]:
        """Returns the arrays by their names in a file (`z` or `w`, labels, codes), without those that are missing."""
        return {self.space if name == "z" else name: values for name, values in self._arrays().items()}

    def _arrays(self) -> dict[str, Rows]:
        """Returns the arrays by their names here, without those that are missing."""
        arrays = {"z": self.z, "labels": self.labels, "codes": self.codes}
        return {name: values for name, values in arrays.items() if values is not None}

    @property
    def inputs(self) -> Rows:
        """Latents and codes (N, latent_size + code_size), as `Model.synthesize` of `taker(model)` takes them."""
        return self.z if self.codes is None else np.concatenate([self.z, self.codes], axis=1)

    @classmethod
    def of_seeds(
        cls,
        model: Model,
        seeds: Sequence[int],
        label: int | str | None = None,
        codes: Mapping[int, float] | None = None,
    ) -> LatentSet:
        """Returns the latents of seeds. Arguments and errors are those of `Model.generate`."""
        check_seeds(seeds)
        inputs, width = model.seed_latents(seeds, codes), model.latent_size
        return cls(
            inputs[:, :width],
            tuple(f"seed{seed:010d}" for seed in seeds),
            tuple({"seed": int(seed)} for seed in seeds),
            ModelIdentity.of(model),
            model.seed_labels(seeds, label),
            inputs[:, width:] if model.codes.size else None,
        )

    def with_latents(self, z: Rows, names: Sequence[str], origins: Sequence[Mapping[str, Any]]) -> LatentSet:
        """Returns a set with other latents, as many, and the same labels and codes."""
        return replace(self, z=np.asarray(z, np.float32), names=tuple(names), origins=tuple(map(dict, origins)))

    def select(self, rows: Iterable[int]) -> LatentSet:
        """Returns the latents of these rows, in this order; a row may repeat."""
        chosen = list(rows)
        arrays: dict[str, Any] = {name: values[chosen] for name, values in self._arrays().items()}
        names, origins = tuple(self.names[row] for row in chosen), tuple(self.origins[row] for row in chosen)
        return replace(self, **arrays, names=names, origins=origins)

    @staticmethod
    def join(sets: Sequence[LatentSet]) -> LatentSet:
        """Returns all latents of sets of one model as one set. Raises `UsageError` where they do not fit together."""
        first = sets[0]
        if len({s.space for s in sets}) > 1:
            raise UsageError("latents z and w do not go together; use `LatentSet.together`, which makes all of them w")
        if any({n: v.shape[1] for n, v in s.tensors().items()} != {n: v.shape[1] for n, v in first.tensors().items()}
               for s in sets):  # fmt: skip
            raise UsageError("latents of different sizes, labels or codes do not go together; give them one by one")
        arrays: dict[str, Any] = {name: np.concatenate([s._arrays()[name] for s in sets]) for name in first._arrays()}
        names = tuple(name for s in sets for name in s.names)
        return replace(first, **arrays, names=names, origins=tuple(origin for s in sets for origin in s.origins))

    @classmethod
    def together(cls, sets: Sequence[LatentSet], model: Model) -> LatentSet:
        """Returns all latents as one set: w where one of them is, since every z has its w but not the reverse."""
        has_w = any(s.space == "w" for s in sets)
        return cls.join([s.in_w(model) for s in sets] if has_w else sets)

    def in_w(self, model: Model) -> LatentSet:
        """Returns the set as latents w. Raises `UsageError` for a model without a mapping network."""
        if self.space == "w":
            return self
        return replace(self, z=to_w(model, self.inputs, self.labels), labels=None, codes=None, space="w")

    def in_space_of(self, model: Model) -> LatentSet:
        """Returns the set in the space that the model's directions lie in."""
        return self if space_of(model) == "z" else self.in_w(model)

    def taker(self, model: Model) -> Model:
        """Returns the model that takes `inputs` and `labels` of this set: for w, one without the mapping network."""
        return model if self.space == "z" else takes_w(model)

    def moved(self, model: Model, direction: NDArray[np.floating], amount: float) -> LatentSet:
        """Returns the latents moved along a direction (latent_size,) of the model's space, with names and origins kept.

        `amount`: degrees on the sphere of z; of a model with a mapping network, standard deviations of w.
        """
        latents = self.in_space_of(model)
        if latents.space == "z":
            return replace(latents, z=move(latents.z, direction, amount))
        return replace(latents, z=straight_move(model, latents.z, direction, amount))

    def check_model(self, model: Model, force: bool = False) -> LatentSet:
        """Returns the set, to be used with a model. `force` takes another model's where the sizes agree.

        Raises `UsageError` for latents of another model, or of sizes that the model does not take.
        """
        place = f"{self.path}: " if self.path else ""
        if self.space == "w" and space_of(model) != "w":
            raise UsageError(f"{place}latents w, but {model.name} has no mapping network; use the model {self.model}")
        own = {self.space: model.latent_size}
        if self.space == "z":
            own |= {"labels": model.label_size, "codes": model.codes.size}
        for name, width in own.items():
            values = self.tensors().get(name)
            has = 0 if values is None else values.shape[1]
            if has != width:
                takes = f"{model.name} takes {width}; use the model {self.model}"
                raise UsageError(f"{place}{name} of size {has}, but {takes}")
        if not force and not self.model.fits(ModelIdentity.of(model)):
            advice = "give that model, or --force"
            raise UsageError(f"{place}latents of the model {self.model}, not of {model.name}; {advice}")
        return self

    def images(self, model: Model) -> Images:
        """Returns the images of all latents, uint8 (N, H, W, C)."""
        return self.taker(model).images_in_batches(self.inputs, self.labels)

    def save(self, path: str | Path) -> None:
        """Writes a latents file atomically. Raises `OSError` where it cannot be written."""
        entries = [{"name": name, "origin": origin} for name, origin in zip(self.names, self.origins)]
        about = {"space": self.space, "model": self.model.to_json(), "latents": entries}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in self.tensors().items()}
        write_tensors(Path(path), tensors, LATENTS_KEY, about)


def read_latents_file(path: str | Path) -> LatentSet:
    """Reads a latents file. Raises `ModelError` where it is missing, damaged, too large or of another kind."""
    path = Path(path)
    check_small_file(path, MAX_LATENTS_BYTES)
    about = read_metadata(path, LATENTS_KEY)
    with reading(str(path), ModelError, "copy or make it again"):
        entries = about["latents"]
        if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_LATENTS:
            raise ModelError(f"{path} has no list of 1 to {MAX_LATENTS:,} latents; copy or make it again")
        tensors = read_tensors(path, LATENTS_KEY)
        space = about.get("space", "z")
        if space not in SPACES:
            raise ModelError(f"{path} holds latents of the space {space!r}; this pggan knows {', '.join(SPACES)}")
        if unknown := {*tensors} - {space, "labels", "codes"}:
            raise ModelError(f"{path} holds {sorted(unknown)[0]!r}, which no latents file has; update pggan to read it")
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        names, origins = zip(*(_checked_entry(entry) for entry in entries))
        model = ModelIdentity.from_json(about["model"])
        try:
            return LatentSet(arrays[space], names, origins, model, arrays.get("labels"), arrays.get("codes"),
                             space, path)  # fmt: skip
        except ModelError as error:
            raise ModelError(f"{path}: {error}; copy or make it again") from None


def _checked_entry(entry: Any) -> tuple[str, dict[str, Any]]:
    name, origin = entry["name"], entry.get("origin", {})
    if not isinstance(name, str) or len(name) > MAX_ORIGIN_CHARACTERS or not isinstance(origin, dict):
        raise ModelError("a latent's name or origin is not what it should be; copy or make the file again")
    if len(json.dumps(origin)) > MAX_ORIGIN_CHARACTERS:
        raise ModelError(f"an origin of more than {MAX_ORIGIN_CHARACTERS} characters; copy or make the file again")
    return name, origin


def check_small_file(path: Path, most: int, what: str = "one that pggan wrote") -> None:
    """Raises `ModelError` for a file that is missing, no file, or larger than `most` bytes; `what`: to give instead."""
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "is a link to nothing" if path.is_symlink() else "does not exist"
        raise ModelError(f"{path} {state}; give {what}")
    if path.stat().st_size > most:
        raise ModelError(f"{path} has {size(path.stat().st_size)}; the limit of such files is {size(most)}")


def relatives(model: Model, centres: LatentSet, degrees: float, count: int, seed: int = 0) -> LatentSet:
    """Returns `count` latents for each of some others, turned by an angle in random directions of a seed.

    Latents w go towards those of other seeds, see `Spread.relatives`.
    """
    families = []
    for row in range(len(centres)):
        one = centres.select([row] * count)
        names = [f"{one.names[0]}-{degrees:g}deg-{n:03d}" for n in range(count)]
        origins = [
            {"near": one.origins[0], "degrees": degrees, "seed_of_turn": seed, "number": n} for n in range(count)
        ]
        turn = at_angle if one.space == "z" else Spread.of(model).relatives
        families.append(one.with_latents(turn(centres.z[row], degrees, count, seed), names, origins))
    return LatentSet.join(families)
