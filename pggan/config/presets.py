"""Presets: named recipes that replace defaults of `TrainConfig`; options replace theirs (torch-free).

The celebahq presets are the published ones (official release of Karras et al. 2018; paper, appendix A).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pggan.config.losses import optimizers, regularizers_of
from pggan.config.registry import Registry
from pggan.config.resolution import PerResolution, overlay
from pggan.config.train import HALF_LIFE, OPTIONS, TrainConfig
from pggan.utils.errors import UsageError


@dataclass(frozen=True)
class Preset:
    """A recipe by name."""

    name: str
    summary: str
    values: dict[str, Any]  # fields of `TrainConfig`
    target: str = ""  # a preset has no implementation


def _rates(rate: float | dict[int, float]) -> dict[str, PerResolution]:
    """Returns one learning rate for both networks."""
    return dict.fromkeys(("g_lr", "d_lr"), PerResolution.of(rate))


def _celebahq_v2(gpus: int, batch: dict[int, float], rates: dict[int, float]) -> Preset:
    # a learning rate also holds above the last named resolution (with eight GPUs, 1024 has that of 512)
    return Preset(
        f"celebahq-v2-{gpus}gpu",
        f"official CelebA-HQ schedule, batches and rates for {gpus} GPU{'s' if gpus > 1 else ''}; 12,000 kimg",
        {"batch": PerResolution.of(batch), **_rates({4: 0.001, **rates}), "total_kimg": 12_000, "ema_decay": 0.999},
    )


def _baseline(name: str, summary: str, arch_g: str, arch_d: str) -> Preset:
    # plain weights instead of equalized ones, as published: the learning rate suits them
    plain = (("equalized", False),)
    return Preset(
        name,
        f"{summary} on 28x28 pictures padded to 32x32 (Fashion-MNIST), 50 epochs of 60,000; 3,000 kimg",
        {
            "arch_g": arch_g, "arch_d": arch_d, "g_norm": "virtual-batch" if arch_g == "dcgan" else "none",
            "diversity": "none", "g_network": (*plain, ("output", "tanh")), "d_network": plain,
            "start_res": 32, "max_res": 32, "latent_size": 100, "fmap_base": 256, "fmap_max": 256,
            "loss": "gan", "adam_betas": (0.5, 0.999), **_rates(0.0002),
            "batch": PerResolution(128), "stable_kimg": PerResolution(3000), "mirror": False,
            "tick_kimg": PerResolution(60), "snapshot_ticks": 5, "checkpoint_ticks": 5,
        },
    )  # fmt: skip


PRESETS: Registry[Preset] = Registry(
    "preset",
    [
        _celebahq_v2(1, {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4}, {1024: 0.0015}),
        _celebahq_v2(2, {4: 256, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8}, {512: 0.0015, 1024: 0.002}),
        _celebahq_v2(4, {4: 512, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16}, {256: 0.0015, 512: 0.002, 1024: 0.003}),
        _celebahq_v2(8, {4: 512, 8: 256, 16: 128, 32: 64, 64: 32}, {128: 0.0015, 256: 0.002, 512: 0.003}),
        Preset(
            "celebahq-v1-1gpu",
            "official older CelebA-HQ schedule for one GPU, as in the paper; 19,000 kimg",
            {
                "batch": PerResolution(16, ((256, 14), (512, 6), (1024, 3))), "stddev_group": 16, **_rates(0.001),
                "stable_kimg": PerResolution(800), "fade_kimg": PerResolution(800), "total_kimg": 19_000,
                "ema_decay": 0.999,
            },
        ),
        Preset(
            "demo",
            "a small network up to 32x32 that shows faces after minutes on two CPU cores",
            {
                "max_res": 32, "latent_size": 64, "fmap_base": 512, "fmap_max": 64,
                # small minibatches: in minutes, what counts is the number of steps
                "batch": PerResolution(4), **_rates(0.002),
                "stable_kimg": PerResolution.of({4: 3, 8: 4, 16: 8, 32: 12}),
                "fade_kimg": PerResolution.of({8: 2, 16: 3, 32: 4}),
                "tick_kimg": PerResolution(1), "snapshot_ticks": 4, "checkpoint_ticks": 8,
                "eval_every": 2, "eval_samples": 256,
            },
        ),
        Preset(
            "portraits",
            "the portraits that ship: up to 128x128, for ten minutes of a large GPU; 2,430 kimg",
            {
                "max_res": 128, "latent_size": 192, "fmap_base": 2048, "fmap_max": 192,
                "batch": PerResolution(64), **_rates({4: 0.002, 64: 0.0015}), "ema_half_life": 20.0, "seed": 1,
                "stable_kimg": PerResolution.of({4: 60, 8: 80, 16: 140, 32: 250, 64: 400, 128: 1000}),
                "fade_kimg": PerResolution.of({8: 40, 16: 60, 32: 80, 64: 120, 128: 200}),
                "tick_kimg": PerResolution.of({4: 60, 64: 30, 128: 15}), "snapshot_ticks": 2, "checkpoint_ticks": 10,
            },
        ),
        Preset(
            "faces",
            "small faces: up to 64x64, a narrow network for a CPU or a small GPU; 110 kimg",
            {
                "max_res": 64, "latent_size": 128, "fmap_base": 768, "fmap_max": 96,
                "batch": PerResolution(16), **_rates(0.002), "ema_decay": 0.998, "seed": 1,
                "stable_kimg": PerResolution.of({4: 6, 8: 8, 16: 10, 32: 14, 64: 44}),
                "fade_kimg": PerResolution.of({8: 4, 16: 6, 32: 8, 64: 10}),
                "tick_kimg": PerResolution(1), "snapshot_ticks": 6, "checkpoint_ticks": 8,
            },
        ),
        _baseline("fashion-fc", "fully connected networks", "fc", "fc"),
        _baseline("fashion-mixed", "a convolutional generator against a fully connected discriminator", "dcgan", "fc"),
        _baseline("fashion-dcgan", "convolutional networks", "dcgan", "dcgan"),
    ],
)  # fmt: skip

DEFAULT_PRESET = "celebahq-v2-1gpu"


def configure(preset: str | None, options: Mapping[str, Any], largest: int | None = None) -> TrainConfig:
    """Returns the configuration of a preset with options over it.

    Args:
        preset: name of the preset; None: the default one.
        options: fields of `TrainConfig`; None where an option is not given. Numbers per resolution keep the preset's
            where they name no resolution.
        largest: the data's largest resolution, which limits `max_res` unless that is given.
    """
    options = {name: value for name, value in options.items() if value is not None}
    recipe = PRESETS[preset or DEFAULT_PRESET]
    base = {name: option.default for name, option in OPTIONS.items()} | recipe.values | {"preset": recipe.name}
    if _optimizers(base) != _optimizers({**base, **options}):
        base |= _rates_of_the_loss(base)
    if {"stable_kimg", "fade_kimg"} & options.keys():
        base["total_kimg"] = None  # the preset's total is that of the preset's phases
    if largest is not None:
        base["max_res"] = min(base["max_res"], largest)
    values = base | {name: overlay(value, base.get(name)) for name, value in options.items()}
    return TrainConfig(**{**values, "ema_half_life": _half_life(recipe.name, values, options)})


def _half_life(preset: str, values: Mapping[str, Any], options: Mapping[str, Any]) -> float | PerResolution | None:
    """Returns the half-life of the EMA in kimg, given or usual; None where a decay holds."""
    if "ema_decay" in options:
        for name in sorted({"ema_half_life", "ema_ramp"} & options.keys()):
            raise UsageError(f"{OPTIONS[name].flag} is about a half-life, which --ema-decay replaces; give one of them")
        return None
    given: float | PerResolution | None = values["ema_half_life"]
    if given is not None:
        return given if isinstance(given, PerResolution) else float(given)
    return HALF_LIFE if "ema_ramp" in options else usual_half_life(preset, values)


# Fields that decide how many steps a level trains: an EMA decay by steps suits those of its own recipe alone.
_STEPS = ("start_from", "start_res", "growth", "stable_kimg", "fade_kimg", "total_kimg", "batch")


def usual_half_life(preset: str | None, values: Mapping[str, Any]) -> float | None:
    """Returns the half-life of the EMA in kimg where no option is about it; None where the preset's decay holds.

    It holds with the batch and the phases of that preset.

    Args:
        preset: Name of the preset; None: the default one.
        values: The fields of the configuration.
    """
    recipe = PRESETS[preset or DEFAULT_PRESET].values
    own = all(values[name] == recipe.get(name, OPTIONS[name].default) for name in _STEPS)
    return None if own and "ema_decay" in recipe else HALF_LIFE


def _optimizers(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns the loss, and the optimizers with which it and the techniques were published."""
    codes = bool(values["categorical"] or values["continuous"])
    regularizers = regularizers_of(values["loss"], values["labels"] is not None, dict(values["loss_options"]), codes)
    return values["loss"], optimizers(values["loss"], regularizers)


def _rates_of_the_loss(values: Mapping[str, Any]) -> dict[str, None]:
    """Returns the fields that have the loss's own optimizer and learning rates replace the preset's.

    The losses' rates suit equalized weights. Without the equalized learning rate they would be far too high, and the
    preset's rates stay.
    """
    equalized = dict(values["g_network"]).get("equalized", True)
    return dict.fromkeys(("g_lr", "d_lr", "adam_betas") if equalized else ("adam_betas",))
