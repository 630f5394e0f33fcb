"""Model files and training states: safetensors files with JSON metadata. Loading one executes no code.

A model file holds the tensors `generator.*` (the EMA) and optionally `discriminator.*` and `trained.*` (the generator
behind the EMA), and the metadata of model_metadata.py. A training state has the tensors of training/engine/state.py.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pggan.config.model_metadata import DIGEST_KEY, MODEL_KEY, STATE_KEY, ModelMetadata, label_layout, model_format
from pggan.config.train import to_json
from pggan.networks.discriminator import Discriminator
from pggan.networks.factory import make_discriminator, make_generator
from pggan.networks.generator import Generator
from pggan.networks.layers import at_least_float32
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.formatting import one_line


@dataclass
class ModelFile:
    """The contents of a model file."""

    # the EMA, which makes the images
    generator: Generator
    discriminator: Discriminator | None
    # log2 of the resolution that the model has reached, and its fade in [0, 1]
    level: int
    alpha: float
    # if conditional: `name` and `classes` of the label column, and `counts`, the training images of each class (absent
    # in older files); or `columns`, a list of such
    labels: dict[str, Any] | None = None
    # what the run recorded about itself, e.g. images seen
    info: dict[str, Any] = field(default_factory=dict)
    # the generator behind the EMA, if the file has it
    trained: Generator | None = None
    # whether `generator` is that one in place of the EMA
    raw: bool = False

    def without_average(self) -> ModelFile:
        """Returns the contents with the trained generator in place of its average. Raises `ModelError` without one."""
        if self.trained is None:
            raise ModelError(
                "this file keeps the average of the generator alone, --raw wants the generator itself: train with "
                "--raw-models always, or leave --raw out"
            )
        return replace(self, generator=self.trained, trained=None, raw=True)

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
        about: The contents of that entry; `format` is 1 where it names none.
    """
    contents = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"format": 1, **about})
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


class _ReadWhole:
    """A file's content in memory, used as what `safetensors.safe_open` returns."""

    def __init__(self, data: bytes) -> None:
        self._tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        self._metadata = json.loads(data[8 : 8 + length]).get("__metadata__")

    def metadata(self) -> dict[str, str] | None:
        return self._metadata  # type: ignore[no-any-return]

    def keys(self) -> list[str]:
        return list(self._tensors)

    def get_tensor(self, name: str) -> Tensor:
        return self._tensors[name]


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """Opens a safetensors file for PyTorch. Raises what `safetensors.safe_open` raises."""
    try:
        file = safetensors.safe_open(str(path), framework="pt")
    except Exception as error:
        if f"os error {errno.ENODEV}" not in str(error) and getattr(error, "errno", None) != errno.ENODEV:
            raise
        yield _ReadWhole(path.read_bytes())
        return
    with file:
        yield file


def read_tensors(path: Path, key: str) -> dict[str, Tensor]:
    """Reads all tensors of a file to the CPU. Raises `ModelError` where it is damaged, even in a single bit."""
    try:
        with open_tensors(path) as file:
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
    for part, module in model.parts().items():
        if isinstance(module, Generator) and module.mapping is not None:
            tensors[f"{part}.mapping.average"] = module.average_w(label_layout(model.labels, module.config.label_size))
    about = {
        "format": model_format(model.generator.config, model.labels),
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
    about = ModelMetadata.read(path)
    try:
        # on the meta device: a hostile configuration takes no memory before its tensors have been checked
        with torch.device("meta"):
            generator = make_generator(about.generator)
            discriminator = make_discriminator(about.discriminator) if about.discriminator is not None else None
        tensors = read_tensors(path, MODEL_KEY)
        with torch.device("meta"):
            trained = make_generator(about.generator) if any(name.startswith("trained.") for name in tensors) else None
        model = ModelFile(generator, discriminator, about.level, about.alpha, about.labels, about.info, trained)
        for part, module in model.parts().items():
            _fill(module, tensors, part + ".")
    except (ModelError, UsageError, KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, (ModelError, UsageError)) else f"unreadable metadata: {error!r}"
        raise ModelError(reason if str(path) in reason else f"{path} cannot be used: {reason}") from None
    for module in model.parts().values():
        module.to(device).eval().requires_grad_(False)
    return model


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
