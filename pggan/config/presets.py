"""Named recipes: deviations from config.TrainConfig's defaults. The command line's options go over them.

The celebahq presets are the published ones (official release of Karras et al. 2018; paper, appendix A).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from pggan.config.losses import optimizers, regularizers_of
from pggan.config.registry import Registry
from pggan.config.train import PerResolution, TrainConfig
from pggan.utils.errors import UsageError


@dataclass(frozen=True)
class Preset:
    name: str
    summary: str
    values: dict[str, Any]
    target: str = ""


def _celebahq_v2(gpus: int, batch: dict[int, float], rates: dict[int, float]) -> Preset:
    # past the last named resolution a rate holds (1024 at eight GPUs is that of 512)
    rate = PerResolution.of({4: 0.001, **rates})
    return Preset(
        f"celebahq-v2-{gpus}gpu",
        f"official CelebA-HQ schedule, batches and rates for {gpus} GPU{'s' if gpus > 1 else ''}; 12,000 kimg",
        {"batch": PerResolution.of(batch), "g_lr": rate, "d_lr": rate, "total_kimg": 12_000},
    )


def _baseline(name: str, summary: str, arch_g: str, arch_d: str) -> Preset:
    # weights as they were drawn then, not equalized: the published rate is theirs
    drawn = (("equalized", False),)
    return Preset(
        name,
        f"{summary} on 28x28 pictures padded to 32x32 (Fashion-MNIST), 50 epochs of 60,000; 3,000 kimg",
        {
            "arch_g": arch_g,
            "arch_d": arch_d,
            "g_norm": "virtual-batch" if arch_g == "dcgan" else "none",
            "diversity": "none",
            "g_network": (*drawn, ("output", "tanh")),
            "d_network": drawn,
            "start_res": 32,
            "max_res": 32,
            "latent_size": 100,
            "fmap_base": 256,
            "fmap_max": 256,
            "batch": PerResolution(128),
            "g_lr": PerResolution(0.0002),
            "d_lr": PerResolution(0.0002),
            "adam_betas": (0.5, 0.999),
            "loss": "gan",
            "stable_kimg": PerResolution(3000),
            "mirror": False,
            "tick_kimg": PerResolution(60),
            "snapshot_ticks": 5,
            "checkpoint_ticks": 5,
        },
    )


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
                "batch": PerResolution(16, ((256, 14), (512, 6), (1024, 3))),
                "g_lr": PerResolution(0.001),
                "d_lr": PerResolution(0.001),
                "stable_kimg": PerResolution(800),
                "fade_kimg": PerResolution(800),
                "total_kimg": 19_000,
                "stddev_group": 16,
            },
        ),
        Preset(
            "demo",
            "a small network up to 32x32 that shows faces after minutes on two CPU cores",
            {
                "max_res": 32,
                "latent_size": 64,
                "fmap_base": 512,
                "fmap_max": 64,
                "batch": PerResolution(16),
                "g_lr": PerResolution(0.002),
                "d_lr": PerResolution(0.002),
                "stable_kimg": PerResolution.of({4: 4, 8: 5, 16: 6, 32: 9}),
                "fade_kimg": PerResolution.of({8: 3, 16: 4, 32: 4}),
                "ema_decay": 0.995,
                "tick_kimg": PerResolution(1),
                "snapshot_ticks": 4,
                "checkpoint_ticks": 8,
                "eval_every": 2,
                "eval_samples": 256,
            },
        ),
        Preset(
            "faces",
            "the faces that ship: up to 64x64, a narrow network for a CPU or a small GPU; 110 kimg",
            {
                "max_res": 64,
                "latent_size": 128,
                "fmap_base": 768,
                "fmap_max": 96,
                "batch": PerResolution(16),
                "g_lr": PerResolution(0.002),
                "d_lr": PerResolution(0.002),
                "stable_kimg": PerResolution.of({4: 6, 8: 8, 16: 10, 32: 14, 64: 44}),
                "fade_kimg": PerResolution.of({8: 4, 16: 6, 32: 8, 64: 10}),
                "ema_decay": 0.998,
                "seed": 1,
                "tick_kimg": PerResolution(1),
                "snapshot_ticks": 6,
                "checkpoint_ticks": 8,
            },
        ),
        _baseline("fashion-fc", "fully connected networks", "fc", "fc"),
        _baseline("fashion-mixed", "a convolutional generator against a fully connected discriminator", "dcgan", "fc"),
        _baseline("fashion-dcgan", "convolutional networks", "dcgan", "dcgan"),
    ],
)

DEFAULT_PRESET = "celebahq-v2-1gpu"


def configure(preset: str | None, given: dict[str, Any], largest: int | None = None) -> TrainConfig:
    """A preset (None: the default one) with what a person gave over it. Values None are not given.

    A per-resolution value that names only some resolutions keeps the preset's for the others. `largest`: the last
    resolution that the data allows, where none is given.
    """
    if given.get("ema_decay") is not None and given.get("ema_half_life") is not None:
        raise UsageError("--ema-decay and --ema-half-life say the same in two ways; give one of them")
    chosen = PRESETS[preset or DEFAULT_PRESET]
    defaults = {entry.name: entry for entry in dataclasses.fields(TrainConfig)}
    values: dict[str, Any] = {**chosen.values, "preset": chosen.name}
    _leave_rates(values, given)
    for name, value in given.items():
        if value is None:
            continue
        base = values.get(name)
        if base is None and isinstance(value, PerResolution):
            factory = defaults[name].default_factory
            base = factory() if factory is not dataclasses.MISSING else None
        values[name] = value.with_base(base) if isinstance(value, PerResolution) and base is not None else value
    # a person's phases end where they end: the preset's total is that of the preset's phases
    phases_given = any(given.get(name) is not None for name in ("stable_kimg", "fade_kimg"))
    if phases_given and given.get("total_kimg") is None:
        values["total_kimg"] = None
    if largest is not None and given.get("max_res") is None:
        values["max_res"] = min(values.get("max_res", defaults["max_res"].default), largest)
    return TrainConfig(**values)


def _leave_rates(values: dict[str, Any], given: dict[str, Any]) -> None:
    """Takes a preset's rates out where another loss or technique brings its own: they belong to the preset's loss."""

    def published(chosen: dict[str, Any]) -> Any:
        loss = chosen.get("loss") or TrainConfig.loss
        options = dict(chosen.get("loss_options") or ())
        codes = bool(chosen.get("categorical") or chosen.get("continuous"))
        conditional = chosen.get("labels") is not None
        return loss, optimizers(loss, regularizers_of(loss, conditional, options, codes))

    if published(values) != published({**values, **{k: v for k, v in given.items() if v is not None}}):
        # rates suit weights: without the equalized learning rate those of the loss would be far too high
        equalized = dict(values.get("g_network", ())).get("equalized", True)
        for name in ("g_lr", "d_lr", "adam_betas") if equalized else ("adam_betas",):
            values.pop(name, None)
