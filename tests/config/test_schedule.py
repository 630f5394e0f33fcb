"""The schedule against the reference release's tables, and what must hold of any schedule."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.config.presets import PRESETS
from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, TrainConfig
from pggan.utils.errors import UsageError

TABLE = np.load(Path(__file__).parents[1] / "fixtures" / "training.npz")


@pytest.mark.parametrize(
    "key,preset",
    [("default", None), ("v2_1gpu_fp32", "celebahq-v2-1gpu"), ("v1_1gpu", "celebahq-v1-1gpu")],
)
def test_reference_tables(key, preset):
    values = PRESETS[preset].values if preset else {}
    schedule = Schedule(TrainConfig(**values))
    for i, nimg in enumerate(TABLE["schedule/nimg"]):
        scheduled = schedule.at(int(nimg))
        row = {name: TABLE[f"schedule/{key}/{name}"][i] for name in ("lod", "resolution", "minibatch", "tick_kimg")}
        # the reference's measure of progress: 0 at full resolution, +1 for each halving
        lod = 10 - scheduled.level + (1 - scheduled.alpha)
        assert lod == pytest.approx(row["lod"], abs=1e-9), nimg
        assert scheduled.resolution == row["resolution"]
        assert scheduled.batch == row["minibatch"]
        assert schedule.tick(int(nimg)) == row["tick_kimg"] * 1000
        assert scheduled.g_lr == TABLE[f"schedule/{key}/G_lrate"][i]
        assert scheduled.d_lr == TABLE[f"schedule/{key}/D_lrate"][i]


def test_whole_of_the_official_run():
    schedule = Schedule(TrainConfig(**PRESETS["celebahq-v2-8gpu"].values))
    assert schedule.total == 12_000_000
    fade = next(p for p in schedule.phases if p.resolution == 1024 and p.fading)
    assert fade.end == 9_600_000  # the 1024 fade ends at 9,600 kimg
    assert [p.batch for p in schedule.phases if not p.fading] == [512, 256, 128, 64, 32, 32, 32, 32, 32]
    assert [p.d_lr for p in schedule.phases if not p.fading] == [0.001] * 5 + [0.0015, 0.002, 0.003, 0.003]


@pytest.mark.parametrize("preset,last", [("celebahq-v2-1gpu", 4), ("celebahq-v2-2gpu", 8), ("celebahq-v2-4gpu", 16)])
def test_batches_of_the_siblings(preset, last):
    config = TrainConfig(**PRESETS[preset].values)
    assert config.batch.at(1024) == last


kimg = st.integers(0, 50).map(float)


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(
    stable=st.dictionaries(st.sampled_from([4, 8, 16, 32]), kimg, min_size=1),
    fade=st.dictionaries(st.sampled_from([8, 16, 32]), kimg, min_size=1),
    total=st.none() | st.integers(1, 500),
    start=st.sampled_from([4, 8, 32]),
)
def test_phases_and_moments_agree(stable, fade, total, start):
    config = TrainConfig(
        start_res=start,
        max_res=32,
        stable_kimg=PerResolution.of(stable),
        fade_kimg=PerResolution.of(fade),
        total_kimg=total,
    )
    if total is None and not any(config.stable_kimg.at(r) for r in config.resolutions()):
        with pytest.raises(UsageError, match="no images"):
            Schedule(replace(config, fade_kimg=PerResolution(0)))
        return
    schedule = Schedule(config)
    phases = schedule.phases
    assert phases[0].start == 0
    assert phases[-1].end == schedule.total
    assert all(a.end == b.start for a, b in pairwise(phases))
    before = None
    for nimg in range(0, schedule.total + 1, max(1, schedule.total // 97)):
        scheduled = schedule.at(nimg)
        phase = next(p for p in phases if nimg <= p.end)
        assert (scheduled.level, scheduled.batch) == (phase.level, phase.batch)
        assert 0 <= scheduled.alpha <= 1
        assert phase.fading or scheduled.alpha == 1
        position = scheduled.level + scheduled.alpha
        assert before is None or position >= before  # growth never goes back
        before = position
