"""The common result of all importers, and the error for files of projects that no importer reads."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.networks.factory import make_discriminator, make_generator
from pggan.networks.model_file import ModelFile
from pggan.utils.errors import ModelError, UsageError

WHICH = ("gs", "g", "all")

# How the names (globals) in a pickle begin -> what it is; the first match counts.
_PROJECTS = {
    "dnnlib.tflib": "a StyleGAN pickle (TensorFlow)",
    "dnnlib": "a StyleGAN pickle",
    "torch_utils.persistence": "a pickle of StyleGAN2-ADA or StyleGAN3 (PyTorch)",
    "training.networks": "a StyleGAN pickle",
    "tensorflow": "a TensorFlow pickle",
    "theano": "a Theano pickle of another program",
    "pro_gan_pytorch": "a model of pro_gan_pytorch",
    "mmcv": "a checkpoint of OpenMMLab",
    "mmengine": "a checkpoint of OpenMMLab",
}


def unknown_global_error(path: Any, name: str) -> ModelError:
    """The error for a pickle that asks for the global `name`, which no importer knows."""
    for start, project in _PROJECTS.items():
        if name.startswith(start):
            return ModelError(
                f"{path} is {project} (it asks for {name}); import reads progressive GANs: pickles of the "
                "official release and PGAN checkpoints of pytorch_GAN_zoo"
            )
    return ModelError(
        f"{path} asks for {name}, which no progressive GAN's file needs; nothing of it was run. If it is a "
        "model, take it from its publisher again"
    )


@dataclass
class ImportedModel:
    """The networks of another program's file, converted: configurations and state dictionaries of this one."""

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig | None
    level: int  # log2 of the resolution that the model has reached
    alpha: float  # share of the last level, 1: faded in
    average: dict[str, Tensor]  # the EMA generator
    trained: dict[str, Tensor] | None  # the generator itself
    critic: dict[str, Tensor] | None  # the discriminator
    labels: dict[str, Any] | None = None  # name and classes of the label column, or "columns", a list of such
    info: dict[str, Any] = field(default_factory=dict)  # goes into the model file

    def model(self, which: str = "gs") -> ModelFile:
        """Builds a model file's content: the EMA generator ("gs"), G in its place ("g"), or both ("all"); and D."""
        if which not in WHICH:
            raise UsageError(f"--which {which} is none of {', '.join(WHICH)}")
        if which != "gs" and self.trained is None:
            raise ModelError(f"the file holds the running average of G only, so --which {which} has nothing to take")
        main = self.average if which != "g" or self.trained is None else self.trained
        return ModelFile(
            generator=_build(make_generator, self.generator, main),
            discriminator=_build(make_discriminator, self.discriminator, self.critic) if self.critic else None,
            level=self.level,
            alpha=self.alpha,
            labels=self.labels,
            info={**self.info, "generator": "G" if which == "g" else "Gs, the running average of G"},
            trained=_build(make_generator, self.generator, self.trained) if which == "all" else None,
        )


def _build(factory: Any, config: Any, tensors: Any) -> Any:
    """Builds a network with these weights. Raises `ModelError` where names or shapes do not fit the configuration."""
    with torch.device("meta"):
        module = factory(config)
    expected = module.state_dict()
    missing, extra = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or extra:
        difference = f"lacks {missing[0]}" if missing else f"holds {extra[0]} besides"
        raise ModelError(f"the file's networks do not fit their own description: it {difference}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ModelError(
                f"the file's networks do not fit their own description: {name} is {tuple(tensor.shape)}, "
                f"{tuple(expected[name].shape)} is needed"
            )
    module.load_state_dict(tensors, assign=True)
    return module.eval().requires_grad_(False)


def tensor(values: NDArray[Any]) -> Tensor:
    """Copies an array to a float32 tensor. Raises `ModelError` where a value is not finite."""
    array = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(array).all():
        raise ModelError("the file holds weights that are not finite numbers; it is damaged")
    return torch.from_numpy(array.copy() if array is values else array)


def level_and_alpha(lod: float, resolution: int) -> tuple[int, float]:
    """Converts the official `lod` ("level of detail", 0 for full resolution) to level and alpha."""
    last = resolution.bit_length() - 1
    lod = min(max(float(np.float32(lod)), 0.0), float(last - 2))
    return last - math.floor(lod), 1.0 - (lod - math.floor(lod))
