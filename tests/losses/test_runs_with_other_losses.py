"""Whole runs with other objectives, as a person makes them: what they leave, and what can be asked of their models."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import pggan
from pggan.cli import run
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.generation.images import read_metadata
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log
from tests.helpers.waiting import PATIENCE

OPTIONS = [
    "--fmap-base", "32", "--fmap-max", "8", "--latent-size", "4", "--batch", "8", "--tick-kimg", "0.03",
    "--stable-kimg", "0.04", "--fade-kimg", "0.04", "--workers", "0", "--device", "cpu", "--grid", "5x2",
    "--eval-every", "0", "--snapshot-ticks", "100", "--cache", "none", "--quiet",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "store"
    prepare("drawn:40", path, PrepareOptions(max_res=8))
    return str(path)


def train(data, out, *more):
    assert run(["train", data, "--out", str(out), *OPTIONS, *more]) == 0
    return read_log(RunDirectory(out).log)


@pytest.fixture(scope="module")
def coded(data, tmp_path_factory):
    """A run with one code of three values and two continuous ones."""
    out = tmp_path_factory.mktemp("runs") / "coded"
    train(data, out, "--loss", "gan", "--categorical", "3", "--continuous", "2")
    return out


@pytest.mark.long
def test_began_shows_its_reconstructions(data, tmp_path):
    lines = train(data, tmp_path / "run", "--loss", "began", "--began-lambda-k", "0.9")
    assert {"k", "convergence", "error_real", "error_fake"} <= lines[-1].keys()
    samples = sorted(p for p in RunDirectory(tmp_path / "run").samples.iterdir() if p.name[0] == "0")
    with Image.open(samples[-1]) as picture:
        assert picture.size == (5 * 64, (2 + 3) * 64)  # the grid, and three rows more
        rows = np.asarray(picture).reshape(5, 64, 5, 64, 3)
    with Image.open(RunDirectory(tmp_path / "run").samples / "reals-8x8.png") as reals:
        shown = np.asarray(reals)[:64].reshape(64, 5, 64, 3)
    assert np.abs(rows[3].astype(int) - shown).max() <= 1  # reals, of 8 bits through [-1, 1]
    assert rows[2].std() > 0
    assert rows[4].std() > 0
    out = pggan.load(tmp_path / "run", device="cpu").discriminator(np.zeros((4, 3, 8, 8), np.float32))
    assert out.reconstruction.shape == (4, 3, 8, 8)


@pytest.mark.long
def test_a_semi_supervised_run_logs_its_accuracies_and_makes_unconditional_images(data, tmp_path):
    options = ("--loss", "gan", "--labels", "hair", "--semi-supervised", "--labelled", "0.3", "--feature-matching", "1")
    lines = train(data, tmp_path / "run", *options)
    assert all(0 <= line["heldout_accuracy"] <= 1 for line in lines)
    assert {"supervised", "labelled_accuracy", "feature_matching"} <= lines[-1].keys()
    assert "class_real" not in lines[-1]
    model = pggan.load(tmp_path / "run", device="cpu")
    assert model.label_size == 0
    assert model.generate([1, 2]).shape == (2, 8, 8, 3)
    assert model.discriminator(np.zeros((4, 3, 8, 8), np.float32)).class_logits.shape[1] > 1


@pytest.mark.long
def test_codes_are_recorded_in_images_and_can_be_set(coded, tmp_path, capsys):
    line = read_log(RunDirectory(coded).log)[-1]
    assert line["mutual_information"] < np.log(3) + 2 * np.log(2)
    assert (line["g_lr"], line["d_lr"]) == (1e-3, 2e-4)
    assert run(["generate", str(coded), "--seeds", "3", "--out", str(tmp_path), "--device", "cpu"]) == 0
    own = read_metadata(tmp_path / "seed0000000003.png")["codes"]
    command = ["generate", str(coded), "--seeds", "3,9", "--out", str(tmp_path), "--device", "cpu"]
    for value in range(3):
        assert run([*command, "--code", f"0={value}", "--code", f"1={own[1]}", "--json"]) == 0
    capsys.readouterr()
    name = f"seed0000000003-code0_{own[0]}-code1_{own[1]:g}.png"
    assert read_metadata(tmp_path / name)["codes"] == pytest.approx(own)
    model = pggan.load(coded, device="cpu")
    with Image.open(tmp_path / "seed0000000003.png") as plain, Image.open(tmp_path / name) as same:
        assert np.abs(np.asarray(plain).astype(int) - np.asarray(same)).max() <= 1
        assert np.array_equal(np.asarray(plain), model.generate(3)[0])
    three = [model.generate([3], codes={0: value}) for value in range(3)]
    assert not np.array_equal(three[0], three[1])


@pytest.mark.long
def test_traverse_shows_every_value_of_every_code(coded, tmp_path, capsys):
    out = tmp_path / "made" / "all.png"
    assert run(["traverse", str(coded), "--out", str(out), "--steps", "4", "--json", "--device", "cpu"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["codes"], told["rows"], told["columns"]) == ([0, 1, 2], 3, 4)
    model = pggan.load(coded, device="cpu")
    with Image.open(out) as picture:
        side = picture.size[0] // 4
        assert picture.size == (4 * side, 3 * side)
        tiles = (
            np.asarray(picture).reshape(3, side, 4, side, 3).transpose(0, 2, 1, 3, 4)[:, :, :: side // 8, :: side // 8]
        )
    for value in range(3):
        assert np.abs(tiles[0, value].astype(int) - model.generate([0], codes={0: value})[0]).max() <= 1
    assert not tiles[0, 3].any()  # three values have no fourth
    for column, value in enumerate(np.linspace(-1, 1, 4)):
        assert np.abs(tiles[2, column].astype(int) - model.generate([0], codes={2: value})[0]).max() <= 1
    assert read_metadata(out)["traversed"]["0"] == [0, 1, 2]
    video = tmp_path / "codes.gif"
    assert run([
        "traverse", str(coded), "--out", str(video), "--codes", "2,0", "--seeds", "1-3", "--seconds", "0.5", "--fps",
        "10", "--device", "cpu", "--quiet",
    ]) == 0  # fmt: skip
    with Image.open(video) as frames:
        assert frames.size == (3 * 256, 2 * 256)
        assert frames.n_frames == 5


@pytest.mark.parametrize(
    "arguments,says",
    [
        (["generate", "--code", "3=0"], "codes 0 to 2, not a code 3"),
        (["generate", "--code", "0=3"], "values 0 to 2"),
        (["generate", "--code", "1=9"], "-3 to 3"),
        (["generate", "--code", "1"], "0=3"),
        (["generate", "--code", "0=1", "--code", "0=2"], "twice"),
        (["traverse", "--codes", "7"], "not a code 7"),
        (["traverse", "--codes", "1,1"], "a code is there twice"),
        (["traverse", "--out", "x.txt"], ".mp4"),
        (["traverse", "--fps", "5"], "about videos"),
        (["traverse", "--out", "x.gif", "--steps", "5"], "without steps"),
        (["traverse", "--out", "x.png", "--background", "red"], "are about videos"),
        (["traverse", "--label", "age", "--range", "2"], "about continuous codes"),
        (["traverse", "--codes", "0", "--steps", "5"], "--steps is about continuous codes and numbers"),
        (["traverse", "--codes", "0", "--range", "2"], "--range is about continuous codes and numbers"),
        (["traverse", "--codes", "a"], "list of numbers"),
    ],
)
def test_codes_that_a_model_lacks_are_refused(coded, tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert run([arguments[0], str(coded), "--device", "cpu", *arguments[1:]]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_model_without_codes_refuses_them(tmp_path, capsys):
    from tests.helpers.model_files import saved

    model = str(saved(tmp_path / "m.safetensors"))
    for arguments in (["traverse", model], ["generate", model, "--code", "0=1"]):
        assert run([*arguments, "--device", "cpu", "--out", str(tmp_path / "out.png")]) == 2
        assert "codes" in capsys.readouterr().err


@pytest.mark.long
def test_a_run_starts_from_such_a_model_if_its_discriminator_fits(coded, data, tmp_path, capsys):
    """Its networks come along; a loss that needs another kind of discriminator is refused."""
    lines = train(data, tmp_path / "run", "--from", str(coded), "--loss", "gan", "--total-kimg", "0.03")
    assert "mutual_information" in lines[-1]
    refused = ["train", data, "--from", str(coded), "--out", str(tmp_path / "other"), *OPTIONS, "--loss", "began"]
    assert run(refused) == 2
    assert "auto-encoder" in capsys.readouterr().err
    assert run([*refused[:-2], "--categorical", "4"]) == 2
    assert "--categorical" in capsys.readouterr().err


@pytest.mark.long
def test_two_processes_keep_the_same_state(data, tmp_path):
    """BEGAN's k, past weights, codes and instance noise: two processes log what one does."""
    more = (
        "--loss", "began", "--began-lambda-k", "0.5", "--began-gamma", "1", "--instance-noise", "0.1", "--categorical",
        "3", "--historical-averaging", "0.01", "--max-res", "4", "--total-kimg", "0.08",
    )  # fmt: skip
    alone = train(data, tmp_path / "one", *more)
    command = [sys.executable, "-m", "pggan", "train", data, "--out", str(tmp_path / "two"), *OPTIONS, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--gpus", "2"], env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    together = read_log(RunDirectory(tmp_path / "two").log)
    assert [line["nimg"] for line in alone] == [line["nimg"] for line in together]
    assert alone[-1]["history"] > 0
    for a, b in zip(alone, together):
        for name in ("k", "d_loss", "g_loss", "convergence", "history", "mutual_information", "instance_noise"):
            assert a[name] == pytest.approx(b[name], abs=2e-4), name
