"""Configurations, presets and registries: every range names its flag, every preset holds, nothing is lost in JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pggan.config.losses import OBJECTIVES, REGULARIZERS, all_options, resolve_options
from pggan.config.presets import PRESETS, configure
from pggan.config.registry import Registry
from pggan.config.schedule import Schedule
from pggan.config.train import DiscriminatorConfig, GeneratorConfig, PerResolution, TrainConfig, from_json, to_json
from pggan.training.monitor.plan_table import plan, table
from pggan.utils.errors import UsageError

resolutions = st.sampled_from([4, 8, 16, 32, 64, 128, 256, 512, 1024])
numbers = st.integers(1, 1000).map(float)
per_resolution = st.builds(
    lambda plain, named: PerResolution(plain if plain or named else 1.0, tuple(sorted(named.items()))),
    st.none() | numbers,
    st.dictionaries(resolutions, numbers),
)


@pytest.mark.long
@given(per_resolution)
def test_per_resolution_is_read_back_from_its_text(value):
    assert PerResolution.parse(str(value)) == value


def test_no_digit_of_a_number_per_resolution_is_lost():
    for text in ("1234.5678", "0.1234567891..0.7654321987", "0.002,8:1e-07,16:3000000"):
        assert str(PerResolution.parse(text)) == text


def test_numbers_per_resolution_fill_gaps_from_below_and_from_a_base():
    value = PerResolution.parse("16:3,4:128")
    assert [value.at(r) for r in (4, 8, 16, 64)] == [128, 128, 3, 3]
    assert PerResolution.parse("16,256:8").at(256) == 8
    assert PerResolution.parse("16,256:8").at(512) == 16
    assert PerResolution.parse("8:1").with_base(PerResolution.of({4: 5, 8: 6, 16: 7})).at(16) == 7
    assert PerResolution.parse("3").with_base(PerResolution.of({4: 5})).at(4) == 3


@pytest.mark.parametrize("text", ["", "a", "4:", "5:3", "4:1,4:2", "1,2", "4:nan", "inf", "4:1,,8:2", "-4:1"])
def test_texts_that_are_no_numbers_per_resolution_are_refused(text):
    with pytest.raises(UsageError, match=r"number|plain values|power of two|twice"):
        PerResolution.parse(text)


@pytest.mark.parametrize("preset", PRESETS.names())
def test_every_preset_is_a_whole_plan(preset):
    config = configure(preset, {})
    full = plan(config)
    assert full["total_kimg"] == sum(p["images"] for p in full["phases"]) / 1000
    if (config.arch_g, config.arch_d) == ("pggan", "pggan") and config.latent_size == config.fmap_max:
        assert all(abs(p["g_parameters"] / p["d_parameters"] - 1) < 0.01 for p in full["phases"])
    assert len(table(config).splitlines()) == len(full["phases"]) + 2
    assert from_json(TrainConfig, json.loads(json.dumps(to_json(config)))) == config


def test_options_go_over_a_preset():
    config = configure("celebahq-v1-1gpu", {"batch": PerResolution.parse("1024:4"), "seed": 3, "ema_decay": None})
    assert config.batch.at(1024) == 4
    assert config.batch.at(512) == 6
    assert config.seed == 3
    assert config.ema_decay == 0.999
    # phases of one's own are not stretched to the preset's total
    assert Schedule(configure(None, {"stable_kimg": PerResolution(1), "fade_kimg": PerResolution(1)})).total == 17_000


@pytest.mark.parametrize(
    "values,flag",
    [
        ({"max_res": 100}, "100"),
        ({"max_res": 2}, "2"),
        ({"start_res": 64, "max_res": 32}, "--start-res"),
        ({"batch": PerResolution(0)}, "--batch"),
        ({"batch": PerResolution(6)}, "--batch 6"),
        ({"batch": PerResolution(2.5)}, "--batch"),
        ({"g_lr": PerResolution(-1)}, "--g-lr"),
        ({"total_kimg": 0}, "--total-kimg"),
        ({"ema_decay": 1.0}, "--ema-decay"),
        ({"precision": "fp8"}, "--precision"),
        ({"seed": -1}, "--seed"),
        ({"n_critic": 0}, "--n-critic"),
        ({"fmap_base": 100}, "fmap base"),
        ({"workers": -1}, "--workers"),
        ({"channels": 2}, "channels"),
        ({"latent_size": 0}, "--latent-size"),
        ({"snapshot_ticks": 0}, "--snapshot-ticks"),
    ],
)
def test_ranges_name_their_flag(values, flag):
    with pytest.raises(UsageError, match=flag):
        TrainConfig(**values)


def test_unknown_fields_are_a_newer_versions():
    with pytest.raises(UsageError, match="newer pggan"):
        from_json(GeneratorConfig, {**to_json(GeneratorConfig()), "attention": True})
    with pytest.raises(UsageError, match="holds an unusable value"):
        from_json(DiscriminatorConfig, {"resolution": "large"})


def test_registries_suggest_near_names_and_hold_what_they_name():
    assert "wgan-gp" in OBJECTIVES
    with pytest.raises(UsageError, match="did you mean 'wgan-gp'"):
        OBJECTIVES["wgan-pg"]
    with pytest.raises(ValueError, match="twice"):
        Registry("loss", [OBJECTIVES["wgan-gp"], OBJECTIVES["wgan-gp"]])
    for registry in (OBJECTIVES, REGULARIZERS):
        for name in registry.names():
            assert callable(registry.load(name))
    for loss in OBJECTIVES.names():
        for regularizer in OBJECTIVES[loss].regularizers:
            assert regularizer in REGULARIZERS


def test_options_of_a_loss_are_resolved_and_refused_where_nothing_takes_them():
    assert resolve_options("wgan-gp", False, {"gp_weight": 5})["gradient-penalty"] == {"gp_weight": 5, "gp_target": 1}
    with pytest.raises(UsageError, match=r"--class-weight goes with --semi-supervised or --labels"):
        resolve_options("wgan-gp", False, {"class_weight": 1})
    assert resolve_options("wgan-gp", True, {})["classification"] == {"class_weight": 1, "number_weight": 10.0}
    for option in all_options().values():
        with pytest.raises(UsageError, match=option.flag):
            option.check(option.high * 2)
