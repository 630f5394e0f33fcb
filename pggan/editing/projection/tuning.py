"""Tunes a generator around found latents, so that it makes their pictures closely (Roich et al. 2021, pivotal tuning).

The result is a delta file, safetensors: tensors `delta.NAME`, float16, to add to the generator's parameters; the
metadata entry `pggan.tuned` is JSON: format, name and SHA-256 of the model, the pictures, steps.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pggan.config.model_metadata import TUNED_KEY, read_metadata
from pggan.editing.latent_space import differentiable_images
from pggan.editing.latents_file import LatentSet, check_small_file
from pggan.editing.model_identity import ModelIdentity
from pggan.editing.projection.image_loss import ImageLoss, feature_network
from pggan.editing.projection.picture_input import InputPicture, image_tensor
from pggan.editing.task import UNWATCHED, Task
from pggan.generation.model import Model
from pggan.networks.model_file import read_tensors, write_tensors
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.untrusted import reading

STEPS, RATE = 200, 3e-3
# Weight of the mean squared change of the parameters, which are of unit variance.
PENALTY = 1.0
# Pictures in a step of tuning.
BATCH = 4
_PREFIX = "delta."
# Bytes of a delta file beside its tensors.
_HEADER_BYTES = 4 << 20


@dataclass(frozen=True)
class TunedWeights:
    """Changes of a generator's parameters by name, float16, and the pictures that they are for."""

    deltas: dict[str, Tensor]
    model: ModelIdentity
    about: dict[str, Any]  # pictures, steps

    def apply(self, model: Model, force: bool = False) -> Model:
        """Returns a model with the tuned generator; `model` stays as it is.

        Its images' metadata says that it is tuned. `force` takes another model's deltas where the shapes agree.

        Raises `UsageError` where the deltas are of another model.
        """
        if not force and not self.model.fits(ModelIdentity.of(model)):
            raise UsageError(f"weights tuned from the model {self.model}, not from {model.name}; give that, or --force")
        generator = copy.deepcopy(model.file.generator)
        parameters = dict(generator.named_parameters())
        for name, delta in self.deltas.items():
            if name not in parameters or parameters[name].shape != delta.shape:
                raise UsageError(f"the tuned weight {name} does not fit {model.name}; give the model {self.model}")
        with torch.no_grad():
            for name, delta in self.deltas.items():
                parameters[name].add_(delta.to(parameters[name]))
        info = {name: value for name, value in model.info.items() if name != "best"} | {"tuned": self.about}
        file = replace(model.file, generator=generator, info=info)
        return Model(file, model.device, model.path, model.runner.mode, model.runner.note)

    def save(self, path: str | Path) -> None:
        """Writes a delta file atomically. Raises `OSError` where it cannot be written."""
        tensors = {_PREFIX + name: delta for name, delta in self.deltas.items()}
        write_tensors(Path(path), tensors, TUNED_KEY, {"model": self.model.to_json(), "tuned": self.about})


def read_tuned(path: str | Path, model: Model) -> TunedWeights:
    """Reads a delta file for a model. Raises `ModelError` where it is missing, damaged or larger than the model."""
    path = Path(path)
    count = sum(parameter.numel() for parameter in model.file.generator.parameters())
    check_small_file(path, 2 * count + _HEADER_BYTES)
    about = read_metadata(path, TUNED_KEY)
    with reading(str(path), ModelError, "copy or make it again"):
        note = about["tuned"]
        if not isinstance(note, dict):
            raise ModelError(f"{path} does not say what it was tuned for; make it again")
        deltas = {}
        for name, tensor in read_tensors(path, TUNED_KEY).items():
            if not name.startswith(_PREFIX) or tensor.dtype != torch.float16 or not bool(tensor.isfinite().all()):
                raise ModelError(f"{path} holds {name!r}, which is no change of a weight; copy or make it again")
            deltas[name.removeprefix(_PREFIX)] = tensor
        # tells pictures of one tuning from those of another
        note = {**note, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        return TunedWeights(deltas, ModelIdentity.from_json(about["model"]), note)


def tune(
    model: Model,
    latents: LatentSet,
    pictures: Sequence[InputPicture],
    steps: int = STEPS,
    loss: str = "auto",
    task: Task = UNWATCHED,
) -> TunedWeights:
    """Tunes a copy of the generator, so that each latent makes its picture.

    Args:
        model: The model, which stays as it is.
        latents: A latent for each picture.
        pictures: The pictures.
        steps: Steps of Adam.
        loss: See `image_loss.feature_network`.
        task: Counts steps.

    Raises:
        UsageError: Numbers of latents and pictures differ, or there are no steps.
        ModelError: The loss needs a discriminator that the file does not keep.
    """
    if len(latents) != len(pictures) or steps < 1:
        raise UsageError(f"{len(latents)} latents for {len(pictures)} pictures and {steps} steps; give one for each")
    features = feature_network(model, loss)
    losses = [ImageLoss(image_tensor(picture.image, model), features) for picture in pictures]
    generator = copy.deepcopy(model.file.generator).requires_grad_(True)
    tuned = latents.taker(Model(replace(model.file, generator=generator), model.device))
    original = {name: parameter.detach().clone() for name, parameter in generator.named_parameters()}
    optimizer = torch.optim.Adam(generator.parameters(), lr=RATE, betas=(0.9, 0.999))
    inputs = torch.from_numpy(latents.inputs).to(model.device)
    labels = None if latents.labels is None else torch.from_numpy(latents.labels).to(model.device)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (steps - step) / (0.3 * steps))
        rows = [(step * BATCH + n) % len(losses) for n in range(min(BATCH, len(losses)))]
        images = differentiable_images(tuned, inputs[rows], None if labels is None else labels[rows])
        distance = torch.stack([losses[row](image[None])[0] for row, image in zip(rows, images)]).mean()
        optimizer.zero_grad()
        (distance + PENALTY * _change(generator, original)).backward()
        optimizer.step()
        task.advance(1)
    parameters = dict(generator.named_parameters())
    deltas = {name: (parameters[name].detach() - before).cpu().half() for name, before in original.items()}
    about = {"pictures": [picture.name for picture in pictures], "steps": steps, "loss": loss}
    return TunedWeights({name: d for name, d in deltas.items() if bool(d.any())}, ModelIdentity.of(model), about)


def _change(generator: torch.nn.Module, original: dict[str, Tensor]) -> Tensor:
    """Returns the mean squared change of the parameters."""
    squares = [(parameter - original[name]).square().sum() for name, parameter in generator.named_parameters()]
    return torch.stack(squares).sum() / sum(before.numel() for before in original.values())
