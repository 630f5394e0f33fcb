"""Model files and training states: safetensors files with JSON metadata. Loading one executes no code.

A model file holds the tensors `generator.*` (the EMA) and optionally `discriminator.*` and `trained.*` (the generator
behind the EMA). Its metadata entry `pggan.model` is JSON: format, configurations of generator and discriminator, level,
alpha, labels, info. A training state has the metadata entry `pggan.state` and the tensors of training/engine/state.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pggan.config.train import DiscriminatorConfig, GeneratorConfig, from_json, to_json
from pggan.networks.discriminator import Discriminator
from pggan.networks.factory import make_discriminator, make_generator
from pggan.networks.generator import Generator
from pggan.networks.layers import at_least_float32
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.formatting import one_line

FORMAT = 1
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


@dataclass
class ModelFile:
    """The contents of a model file."""

    # the EMA, which makes the images
    generator: Generator
    discriminator: Discriminator | None
    # log2 of the resolution that the model has reached, and its fade in [0, 1]
    level: int
    alpha: float
    # if conditional: `name` and `classes` of the label column; or `columns`, a list of such
    labels: dict[str, Any] | None = None
    # what the run recorded about itself, e.g. images seen
    info: dict[str, Any] = field(default_factory=dict)
    # the generator behind the EMA, if the file has it
    trained: Generator | None = None

    def parts(self) -> dict[str, nn.Module]:
        """Returns the networks of the file by the prefix of their tensors."""
        networks = {"generator": self.generator, "discriminator": self.discriminator, "trained": self.trained}
        return {name: module for name, module in networks.items() if module is not None}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], key: str, about: Mapping[str, Any]) -> None:
    """Writes a safetensors file atomically, with JSON metadata and a checksum of all tensors and metadata.

    Args:
        path: The file; its folder is made.
        tensors: The tensors by name.
        key: The metadata entry, one of KINDS.
        about: The contents of that entry; `format` is added.
    """
    contents = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"format": FORMAT, **about})
    metadata = {key: text, DIGEST_KEY: _digest(contents, text)}
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(temporary: Path) -> None:
        try:
            safetensors.torch.save_file(contents, str(temporary), metadata)
        except safetensors.SafetensorError as error:
            # the library hides the system's errors in its own: callers recognise a full disk by its OSError
            if number := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from None
            raise

    replace_atomically(path, write)


def read_metadata(path: Path, key: str) -> dict[str, Any]:
    """Reads a file's JSON metadata. Raises `ModelError` if it is missing, damaged, foreign or of another format."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist; give a model file, a run directory or a shipped model's name")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except Exception as error:  # the library raises its own and several built-in kinds
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and error.errno:
            raise
        raise ModelError(f"{path} is not a whole pggan model ({one_line(error)}); copy or make it again") from None
    if key not in metadata:
        if kind := next((KINDS[other] for other in KINDS if other in metadata), None):
            runs = "; a run keeps its models in models/ and its states in checkpoints/"
            advice = runs if {MODEL_KEY, STATE_KEY} >= {key, *(metadata.keys() & KINDS.keys())} else ""
            raise ModelError(f"{path} is {kind}, not {KINDS[key]}{advice or '; give a file of that kind'}")
        raise ModelError(f"{path} is a safetensors file of another program, not one of pggan's")
    try:
        about: dict[str, Any] = json.loads(metadata[key])
        version = about["format"]
        if type(version) is not int or not isinstance(about.get("info") or {}, dict):
            raise TypeError("a value of another kind")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, MemoryError):
        raise ModelError(f"{path} has unreadable metadata; copy or make it again") from None
    if version != FORMAT:
        raise ModelError(f"{path} has format {version}, this pggan reads format {FORMAT}; update pggan to read it")
    return about


def read_tensors(path: Path, key: str) -> dict[str, Tensor]:
    """Reads all tensors of a file to the CPU. Raises `ModelError` where it is damaged, even in a single bit."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    except (safetensors.SafetensorError, ValueError, EOFError, RuntimeError) as error:
        raise ModelError(f"{path} is damaged ({one_line(error)}); copy or make it again") from None
    # models and states of other programs have no digest
    if not metadata.get(DIGEST_KEY) and key in (MODEL_KEY, STATE_KEY):
        return tensors
    if metadata.get(DIGEST_KEY) != _digest(tensors, metadata.get(key, "")):
        raise ModelError(f"{path} is damaged (its digest differs); copy or make it again")
    return tensors


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Returns the SHA-256 of the metadata and of every tensor: name, dtype, shape and bytes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_model(path: Path, model: ModelFile) -> None:
    """Writes a model file atomically."""
    tensors = {f"{part}.{k}": v for part, module in model.parts().items() for k, v in module.state_dict().items()}
    about = {
        "generator": to_json(model.generator.config),
        "discriminator": to_json(model.discriminator.config) if model.discriminator is not None else None,
        "level": model.level,
        "alpha": model.alpha,
        "labels": model.labels,
        "info": model.info,
    }
    write_tensors(path, tensors, MODEL_KEY, about)


def load_model(path: Path, device: torch.device | str = "cpu") -> ModelFile:
    """Reads a model file. Raises `ModelError` if it is missing, damaged, foreign or of another version."""
    about = read_metadata(path, MODEL_KEY)
    try:
        generator, discriminator = _empty_networks(about)
        tensors = read_tensors(path, MODEL_KEY)
        with torch.device("meta"):
            trained = make_generator(generator.config) if any(name.startswith("trained.") for name in tensors) else None
        level, alpha = checked_level(about, generator.config)
        info = about.get("info") or {}
        model = ModelFile(generator, discriminator, level, alpha, checked_labels(about), info, trained)
        for part, module in model.parts().items():
            _fill(module, tensors, part + ".")
    except (ModelError, UsageError, KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, (ModelError, UsageError)) else f"unreadable metadata: {error!r}"
        raise ModelError(reason if str(path) in reason else f"{path} cannot be used: {reason}") from None
    for module in model.parts().values():
        module.to(device).eval().requires_grad_(False)
    return model


def _empty_networks(about: Mapping[str, Any]) -> tuple[Generator, Discriminator | None]:
    """Makes the networks of a model file without weights.

    They are on the meta device: a hostile configuration takes no memory before its tensors have been checked.
    """
    with torch.device("meta"):
        generator = make_generator(from_json(GeneratorConfig, about["generator"]))
        config = about.get("discriminator")
        return generator, make_discriminator(from_json(DiscriminatorConfig, config)) if config else None


def checked_level(about: Mapping[str, Any], config: GeneratorConfig) -> tuple[int, float]:
    """Returns level and alpha of a model file's metadata. Raises `ModelError` where the generator has no such level."""
    level, alpha = about["level"], about["alpha"]
    numbers = type(level) is int and type(alpha) in (int, float)
    if not (numbers and config.min_level <= level <= config.max_level and 0 <= alpha <= 1):
        raise ModelError(f"level {one_line(repr(level))}, alpha {one_line(repr(alpha))} are out of range")
    return level, float(alpha)


def checked_labels(about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the labels of a model file's metadata. Raises `ModelError` where they are no columns of classes."""
    labels = about.get("labels")
    if labels is None:
        return None
    columns = labels.get("columns", [labels]) if isinstance(labels, dict) else [None]
    for column in columns if isinstance(columns, list) else [None]:
        if not (isinstance(column, dict) and isinstance(column.get("name", ""), str)):
            raise ModelError("its labels are no columns with a name and classes")
        classes = column.get("classes") or []
        if not (isinstance(classes, list) and all(isinstance(name, (str, int)) for name in classes)):
            raise ModelError("its labels are no columns with a name and classes")
    return dict(labels)


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Loads a module's tensors; half-precision ones, as in shipped models, become float32."""
    state = {}
    for name, like in module.state_dict().items():
        if (tensor := tensors.get(prefix + name)) is None:
            raise ModelError(f"the tensor {prefix}{name} is missing")
        if tensor.shape != like.shape:
            raise ModelError(f"the tensor {prefix}{name} has another shape than its configuration says")
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise ModelError(f"the tensor {prefix}{name} is of {tensor.dtype}, not of floating-point numbers")
        if not bool(tensor.isfinite().all()):
            raise ModelError(f"the tensor {prefix}{name} holds values that are not finite; use an earlier model")
        state[name] = at_least_float32(tensor)
    module.load_state_dict(state, assign=True)
