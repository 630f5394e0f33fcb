"""What importers give, whatever the format, and what is said of files that they do not read."""

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

# What a file of another project names; the first part of the name that is met tells which it is.
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


def refusal(path: Any, asked_for: str) -> ModelError:
    """What is said of a pickle that asks for a global this program does not know."""
    for start, project in _PROJECTS.items():
        if asked_for.startswith(start):
            return ModelError(
                f"{path} is {project} (it asks for {asked_for}); import reads progressive GANs: pickles of the "
                "official release and PGAN checkpoints of pytorch_GAN_zoo"
            )
    return ModelError(
        f"{path} asks for {asked_for}, which no progressive GAN's file needs; nothing of it was run. If it is a "
        "model, take it from its publisher again"
    )


@dataclass
class ForeignModel:
    """Networks of a file of another program as this one's: configurations and state dictionaries.

    `average` is G's running average, `trained` G itself; `alpha` and `level` as this program has them.
    """

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig | None
    level: int
    alpha: float
    average: dict[str, Tensor]
    trained: dict[str, Tensor] | None
    critic: dict[str, Tensor] | None
    labels: dict[str, Any] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def model(self, which: str = "gs") -> ModelFile:
        """A model file's content: the average ("gs"), G in its place ("g"), or both ("all"); D is kept."""
        if which not in WHICH:
            raise UsageError(f"--which {which} is none of {', '.join(WHICH)}")
        if which != "gs" and self.trained is None:
            raise ModelError(f"the file holds the running average of G only, so --which {which} has nothing to take")
        main = self.average if which != "g" or self.trained is None else self.trained
        return ModelFile(
            generator=_filled(make_generator, self.generator, main),
            discriminator=_filled(make_discriminator, self.discriminator, self.critic) if self.critic else None,
            level=self.level,
            alpha=self.alpha,
            labels=self.labels,
            info={**self.info, "generator": "G" if which == "g" else "Gs, the running average of G"},
            trained=_filled(make_generator, self.generator, self.trained) if which == "all" else None,
        )


def _filled(kind: Any, config: Any, tensors: Any) -> Any:
    with torch.device("meta"):
        module = kind(config)
    expected = module.state_dict()
    missing, extra = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or extra:
        what = f"lacks {missing[0]}" if missing else f"holds {extra[0]} besides"
        raise ModelError(f"the file's networks do not fit their own description: it {what}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ModelError(
                f"the file's networks do not fit their own description: {name} is {tuple(tensor.shape)}, "
                f"{tuple(expected[name].shape)} is needed"
            )
    module.load_state_dict(tensors, assign=True)
    return module.eval().requires_grad_(False)


def tensor(values: NDArray[Any]) -> Tensor:
    """A float32 tensor of its own memory. Raises `ModelError` for what is not finite."""
    array = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(array).all():
        raise ModelError("the file holds weights that are not finite numbers; it is damaged")
    return torch.from_numpy(array.copy() if array is values else array)


def stage(lod: float, resolution: int) -> tuple[int, float]:
    """The official `lod` (0: full resolution) as level and alpha."""
    last = resolution.bit_length() - 1
    lod = min(max(float(np.float32(lod)), 0.0), float(last - 2))
    return last - math.floor(lod), 1.0 - (lod - math.floor(lod))
