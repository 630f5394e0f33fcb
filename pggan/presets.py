"""Named recipes: deviations from config.TrainConfig's defaults. The command line's options go over them.

The celebahq presets are the published ones (official release of Karras et al. 2018; paper, appendix A).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from pggan.config import PerResolution, TrainConfig
from pggan.registry import Registry


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
            },
        ),
    ],
)

DEFAULT_PRESET = "celebahq-v2-1gpu"


def configure(preset: str | None, given: dict[str, Any], largest: int | None = None) -> TrainConfig:
    """A preset (None: the default one) with what a person gave over it. Values None are not given.

    A per-resolution value that names only some resolutions keeps the preset's for the others. `largest`: the last
    resolution that the data allows, where none is given.
    """
    chosen = PRESETS[preset or DEFAULT_PRESET]
    defaults = {entry.name: entry for entry in dataclasses.fields(TrainConfig)}
    values: dict[str, Any] = {**chosen.values, "preset": chosen.name}
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
