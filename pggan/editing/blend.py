"""Blends two related models by resolution, and two latents of one model by their feature maps."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pggan.config.resolution import level_of
from pggan.editing.latent_space import differentiable_images
from pggan.editing.latents_file import LatentSet
from pggan.editing.model_identity import ModelIdentity
from pggan.generation.grid import Images
from pggan.generation.model import Model
from pggan.generation.to_uint8 import to_uint8
from pggan.networks.generator import ProgressiveGenerator
from pggan.networks.model_file import ModelFile
from pggan.utils.errors import UsageError
from pggan.utils.formatting import join_credits

# Weights of related models point in similar directions; those of models with different beginnings are orthogonal: their
# cosine is below 0.05 for all but the smallest networks.
LEAST_COSINE = 0.2


def blend_models(
    coarse: Model, fine: Model, at: int, mix: Mapping[int, float] | None = None, force: bool = False
) -> ModelFile:
    """Makes a model whose layers below a resolution are one model's, and from there on another's.

    Args:
        coarse: The model of the lower resolutions: pose, shape.
        fine: The model of the higher resolutions: colour, texture. Its labels and discriminator are not taken.
        at: The first resolution of `fine`.
        mix: Share of `fine`, 0 to 1, in the weights of single resolutions; the others are hard.
        force: Also of models that do not seem to be related.

    Returns:
        The model; its information says what it was made of.

    Raises:
        UsageError: The models do not fit, which says in what they differ; or a resolution or share is out of range.
    """
    _check_fit(coarse, fine)
    level = coarse.file.level
    sides = [2**n for n in range(2, level + 1)]
    if level_of(at) > level or at == sides[0]:
        raise UsageError(f"--at {at}x{at} has to be from 8x8 to the models' {sides[-1]}x{sides[-1]}")
    shares = {side: float(side >= at) for side in sides}
    for side, share in (mix or {}).items():
        if side not in shares or not 0 <= share <= 1:
            raise UsageError(f"--mix {side}={share:g} is not one of the resolutions {sides} with a share from 0 to 1")
        shares[side] = float(share)
    if not force and (cosine := relatedness(coarse, fine)) < LEAST_COSINE:
        raise UsageError(
            f"{coarse.name} and {fine.name} are not related (the cosine of their weights is {cosine:.2f}): blend "
            "models of one run, or one trained from the other, or give --force"
        )
    generator = copy.deepcopy(coarse.file.generator)
    theirs = dict(fine.file.generator.named_parameters())
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            side = _side_of(name)  # 0, as coarse as can be, of the mapping network: its average stays the coarse one's
            parameter.lerp_(theirs[name], shares.get(side, float(side >= at)))
    about = {
        "coarse": ModelIdentity.of(coarse).to_json(), "fine": ModelIdentity.of(fine).to_json(),
        "share_of_fine": {f"{side}x{side}": share for side, share in shares.items()},
    }  # fmt: skip
    credit = join_credits(model.info.get("attribution") for model in (coarse, fine))
    info = {**coarse.info, "blend": about, "attribution": credit}
    info.pop("best", None)  # was measured of the coarse one
    return ModelFile(generator, None, level, coarse.file.alpha, coarse.file.labels, info)


def relatedness(a: Model, b: Model) -> float:
    """Returns the cosine, -1 to 1, between all weights of two generators of one shape."""
    both = zip(a.file.generator.parameters(), b.file.generator.parameters())
    pairs = [(x, y) for x, y in both if x.ndim > 1]
    dot = sum(float((x.cpu().double() * y.cpu().double()).sum()) for x, y in pairs)
    lengths = [sum(float(p[i].cpu().double().square().sum()) for p in pairs) for i in (0, 1)]
    return dot / max(1e-12, float(np.sqrt(lengths[0] * lengths[1])))


def _check_fit(coarse: Model, fine: Model) -> None:
    for model in (coarse, fine):
        _check_progressive(model)
    ours, theirs = (dataclasses.asdict(model.file.generator.config) for model in (coarse, fine))
    differing = [name for name in ours if ours[name] != theirs[name]]
    if coarse.file.level != fine.file.level:
        differing.append("level")
        ours["level"], theirs["level"] = coarse.resolution, fine.resolution
    if differing:
        name = differing[0]
        raise UsageError(
            f"{coarse.name} and {fine.name} do not fit: {name.replace('_', ' ')} {ours[name]} and {theirs[name]}; "
            "blend models of one configuration at one resolution"
        )


def _check_progressive(model: Model) -> None:
    if not isinstance(model.file.generator, ProgressiveGenerator):
        arch = model.file.generator.config.arch
        raise UsageError(f"{model.name} is a baseline ({arch}), which has no resolutions to blend at")


def _side_of(name: str) -> int:
    """Returns the resolution of a parameter `blocks.32x32...` or `to_rgb.32x32...`; 0 for others."""
    part = name.split(".")[1] if name.startswith(("blocks.", "to_rgb.")) else ""
    return int(part.partition("x")[0]) if part else 0


@dataclass(frozen=True)
class CrossOver:
    """How feature maps of two latents are blended; the second one's count where shares are 1."""

    at: int  # the resolution whose maps are blended
    share: float = 1.0  # of the second latent's maps
    channels: tuple[int, int] | None = None  # first and last channel that is blended; None: all
    mask: NDArray[np.float32] | None = None  # (H, W), 0 to 1: where the second one's maps count; None: everywhere


def cross_over(model: Model, latents: LatentSet, options: CrossOver) -> Images:
    """Makes an image of two latents: the first's maps up to a resolution, blended there with the second's.

    Args:
        model: A progressive model.
        latents: Two latents.
        options: Where and how.

    Returns:
        uint8 (3, H, W, C): the first image, the blended one, the second.

    Raises:
        UsageError: There are not two latents, or resolution, share, channels or mask do not fit.
    """
    _check_progressive(model)
    if len(latents) != 2:
        raise UsageError(f"a cross-over takes two latents, not {len(latents)}")
    weight, taker = _weights(model, options), latents.taker(model)
    inputs = torch.from_numpy(latents.select([0, 0, 1]).inputs).to(model.device)
    labels = latents.select([0, 0, 1]).labels
    generator = model.file.generator

    def blend(module: nn.Module, arguments: object, maps: Tensor) -> Tensor:
        first, _, second = maps[-3:]  # a reference batch comes before
        middle = first + weight * (second - first)
        return torch.cat([maps[:-2], middle[None], second[None]])

    handle = generator.get_submodule(f"blocks.{options.at}x{options.at}").register_forward_hook(blend)
    try:
        with torch.no_grad():
            y = None if labels is None else torch.from_numpy(labels).to(model.device)
            return to_uint8(differentiable_images(taker, inputs, y))
    finally:
        handle.remove()


def _weights(model: Model, options: CrossOver) -> Tensor:
    """Returns the second latent's share of each map's pixels, (F or 1, R or 1, R or 1)."""
    level, config = level_of(options.at), model.file.generator.config
    if level > model.file.level:
        raise UsageError(f"--at {options.at}x{options.at} is beyond the model's {model.resolution}x{model.resolution}")
    if not 0 <= options.share <= 1:
        raise UsageError(f"a share of {options.share:g} is not from 0 to 1")
    weight = torch.full((1, 1, 1), options.share, device=model.device)
    if options.channels is not None:
        first, last = options.channels
        if not 0 <= first <= last < config.fmaps(level - 1):
            raise UsageError(
                f"channels {first}-{last} are not of the {config.fmaps(level - 1)} maps at {options.at}x{options.at}"
            )
        chosen = torch.zeros(config.fmaps(level - 1), 1, 1, device=model.device)
        chosen[first : last + 1] = 1
        weight = weight * chosen
    if options.mask is not None:
        mask = torch.from_numpy(np.ascontiguousarray(options.mask)).to(model.device)
        weight = weight * nn.functional.adaptive_avg_pool2d(mask[None], options.at)
    return weight


SIDES = ("left", "right", "top", "bottom", "middle")


def side_mask(name: str, side: int) -> NDArray[np.float32]:
    """Returns a mask (side, side) of a half of the picture, or of its middle. Raises `UsageError` for another name."""
    at = (np.arange(side) + 0.5) / side
    across, down = np.meshgrid(at, at)
    masks = {
        "left": across < 0.5, "right": across > 0.5, "top": down < 0.5, "bottom": down > 0.5,
        "middle": (abs(across - 0.5) < 0.25) & (abs(down - 0.5) < 0.25),
    }  # fmt: skip
    if name not in masks:
        raise UsageError(f"there is no mask {name!r}; give {', '.join(SIDES)}, or a picture")
    return masks[name].astype(np.float32)
