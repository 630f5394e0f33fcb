"""The running average of the generator: how fast it follows, what it is by default, and G itself beside it."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

import pggan
from pggan.cli import run as command
from pggan.config.presets import PRESETS, configure
from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, TrainConfig, from_json, to_json
from pggan.networks import ema
from pggan.networks.model_file import load_model
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.run.model_card import recipe
from pggan.training.start import advice, begin
from pggan.utils.errors import UsageError
from tests.helpers.model_files import model_file, saved

SHORT = {"batch": PerResolution(16), "total_kimg": 16.0, "max_res": 16}
PHASES = {"max_res": 16, "stable_kimg": PerResolution(4), "fade_kimg": PerResolution(2)}  # 8x8 from 4, 16x16 from 10


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_a_half_life_is_in_images_whatever_the_batch(batch):
    schedule = Schedule(TrainConfig(ema_half_life=0.5, ema_ramp=0.0, **PHASES))
    for nimg in (0, 9_000):
        assert schedule.average_decay(nimg, batch, 2) ** (500 / batch) == pytest.approx(0.5)
    assert Schedule(TrainConfig(ema_decay=0.9)).average_decay(7, batch, 2) == 0.9


def test_the_ramp_begins_anew_with_the_layers_of_each_level():
    schedule = Schedule(TrainConfig(ema_half_life=0.5, ema_ramp=0.05, **PHASES))
    assert [schedule.level_start(level) for level in (2, 3, 4, 5)] == [0, 4_000, 10_000, 16_000]
    assert schedule.average_decay(0, 10, 2) == 0  # nothing of the initial weights
    assert schedule.average_decay(2_000, 10, 2) == pytest.approx(0.5 ** (10 / 100))
    assert schedule.average_decay(14_000, 10, 2) == pytest.approx(0.5 ** (10 / 500))
    assert schedule.average_decay(6_000, 10, 3) == pytest.approx(0.5 ** (10 / 100))
    assert schedule.average_decay(6_000, 10, 4) == 0  # not begun
    whole = Schedule(TrainConfig(ema_half_life=0.5, growth="none", **PHASES))
    assert whole.average_decay(6_000, 10, 4) == whole.average_decay(6_000, 10, 2)
    tuned = Schedule(TrainConfig(ema_half_life=0.5, start_from="model", start_res=8, **PHASES))
    assert tuned.average_decay(0, 10, 3) == tuned.average_decay(9_000, 10, 2) == pytest.approx(0.5 ** (10 / 500))
    assert tuned.average_decay(4_000, 10, 4) == 0
    for start_res, level in ((16, 4), (4, 3)):  # of a model of 8x8: a new level above it, and its own one
        schedule = Schedule(
            TrainConfig(ema_half_life=0.5, start_from="model", start_from_res=8, start_res=start_res, **PHASES)
        )
        assert (schedule.average_decay(0, 10, level) == 0) == (level > 3)
    late = Schedule(TrainConfig(start_res=16, **PHASES))
    assert [late.level_start(level) for level in (2, 3, 4)] == [0, 0, 0]


def test_each_level_is_averaged_with_its_own_decay():
    average, live = model_file().generator, model_file().generator
    with torch.no_grad():
        for own, theirs in zip(average.parameters(), live.parameters()):
            own.fill_(0.0)
            theirs.fill_(1.0)
    ema.update(average, live, {2: 0.75, 3: 0.5, 4: 0.0}.__getitem__)
    means = {"blocks.4x4": 0.25, "to_rgb.4x4": 0.25, "blocks.8x8": 0.5, "to_rgb.16x16": 1.0, "blocks.16x16": 1.0}
    for prefix, mean in means.items():
        values = [value for name, value in average.named_parameters() if name.startswith(prefix)]
        assert values
        assert all(torch.all(value == mean) for value in values)


@pytest.mark.parametrize("preset", [name for name in PRESETS.names() if name.startswith("celebahq")])
def test_published_presets_have_the_published_decay(preset):
    assert configure(preset, {}).ema_half_life is None
    assert configure(preset, {}).ema_decay == 0.999
    # smaller data end the same phases earlier
    assert configure(preset, {}, largest=64).ema_half_life is None
    for changed in (SHORT, {"batch": PerResolution(8)}, {"stable_kimg": PerResolution(5)}, {"start_from": "model"}):
        assert configure(preset, changed).ema_half_life == 10
        assert configure(preset, changed).ema_ramp == 0.05
        assert configure(preset, {**changed, "ema_decay": 0.99}).ema_half_life is None


def test_options_of_the_average():
    assert configure("faces", {}).ema_half_life is None  # the recipe of the model that ships
    assert configure("faces", {"batch": PerResolution(8)}).ema_half_life == 10
    assert configure("demo", {}).ema_half_life == 10
    assert configure(None, {"ema_ramp": 0.1}).ema_half_life == 10
    assert configure(None, {"ema_half_life": 3.0, "ema_ramp": 0.0}).ema_half_life == 3
    for both in ({"ema_half_life": 5.0}, {"ema_ramp": 0.1}):
        with pytest.raises(UsageError, match="give one of them"):
            configure(None, {"ema_decay": 0.9, **both})
    with pytest.raises(UsageError, match="--ema-half-life 0"):
        configure(None, {"ema_half_life": 0.0})


def test_runs_of_before_have_their_own_average_and_models():
    values = json.loads(json.dumps(to_json(TrainConfig(ema_half_life=5.0))))
    del values["ema_ramp"], values["raw_models"]
    old = from_json(TrainConfig, values)
    assert (old.ema_ramp, old.raw_models) == (0.0, "never")
    assert Schedule(old).average_decay(0, 16, 2) == float(0.5 ** (16 / 5000))


@pytest.mark.parametrize(
    "options,words",
    [
        ({}, []),
        (SHORT, ["--ema-half-life 10"]),
        ({"ema_half_life": 2.5, "ema_ramp": 0.0}, ["--ema-half-life 2.5", "--ema-ramp 0"]),
        ({"ema_decay": 0.99}, ["--ema-decay 0.99"]),
        ({"ema_decay": 0.999, **SHORT}, ["--ema-decay 0.999"]),
    ],
)
def test_the_recipe_names_the_average_where_it_is_not_the_usual_one(options, words):
    text = recipe(configure(None, options))
    assert text.count("--ema") == len(words)
    for word in words:
        assert word in text


def test_an_average_that_will_lag_is_announced():
    assert not advice(configure(None, {}), 30_000)
    assert not advice(configure(None, SHORT), 30_000)
    (line,) = advice(configure(None, {**SHORT, "ema_decay": 0.999}), 30_000)
    assert "holds 37% of the weights with which 4x4 began" in line  # 0.999 ** 1000
    assert "--ema-half-life 0.8 " in line
    (line,) = advice(configure(None, {"ema_half_life": 500.0, "ema_ramp": 0.0, "total_kimg": 700.0}), 30_000)
    assert "with which 8x8 began" in line  # 100 kimg of it


@pytest.fixture
def both(tmp_path):
    trained = model_file().generator
    with torch.no_grad():
        for weight in trained.to_rgb.parameters():
            weight.mul_(0.5)
    return saved(tmp_path / "both.safetensors", trained=trained)


def test_raw_pictures_are_those_of_the_generator_itself(both, tmp_path, capsys):
    average, raw = pggan.load(both), pggan.load(both, raw=True)
    latents = average.seed_latents([1])
    assert torch.equal(raw.synthesize(latents), average.synthesize(latents) / 2)
    assert command(["generate", str(both), "--n", "2", "--raw", "--out", str(tmp_path / "out"), "--no-grid"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "seed0000000000-raw.png", "seed0000000001-raw.png",
    ]  # fmt: skip
    alone = saved(tmp_path / "alone.safetensors")
    assert command(["generate", str(alone), "--raw", "--out", str(tmp_path / "no")]) == 1
    assert "keeps the average of the generator alone" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.long
@pytest.mark.parametrize("choice", ["auto", "always", "never"])
def test_models_of_runs_keep_both_where_that_is_cheap(config, tmp_path, choice, monkeypatch):
    monkeypatch.setattr("pggan.training.run.snapshots.RAW_BYTES", 1000)
    begin(dataclasses.replace(config, total_kimg=0.016, raw_models=choice), tmp_path / "run", QuietDisplay())
    model = load_model(RunDirectory(tmp_path / "run").models()[-1])
    assert (model.trained is not None) == (choice == "always")
