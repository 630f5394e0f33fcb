"""The command `pggan evaluate`, alone and as two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from pggan.cli.evaluate import command
from pggan.data.prepare.prepare import prepare
from pggan.data.sources.folder import FolderSource
from pggan.metrics.image_sets import open_images
from pggan.utils.errors import PgganError
from tests.helpers.lmdb_contents import write
from tests.helpers.model_files import saved
from tests.helpers.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def places(tmp_path):
    data = write(tmp_path / "data", list(range(12)), dict.fromkeys((4, 8, 16), "raw"))
    return str(saved(tmp_path / "model.safetensors")), str(data)


def run(*arguments):
    done = CliRunner().invoke(command, list(arguments), catch_exceptions=True)
    if isinstance(done.exception, PgganError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_figures_are_printed_as_json_or_text_and_real_statistics_reused(places, tmp_path):
    model, data = places
    arguments = (model, "--data", data, "--n", "12", "--metrics", "swd,msssim,neighbours", "--device", "cpu")
    grid = tmp_path / "grids" / "near.png"
    about = json.loads(run(*arguments, "--json", "--neighbours", str(grid), "--k", "3"))
    assert {"swd", "swd_16", "swd_std", "msssim", "nearest_ratio", "copied", "duplicates"} <= about["metrics"].keys()
    assert about["generated"] == {"swd": 12, "msssim": 12, "neighbours": 12}
    assert (about["resolution"], about["cached"]) == (16, [])
    assert Image.open(grid).size == (4 * 64 + 4, 12 * 64)
    again = json.loads(run(*arguments, "--json"))
    assert again["cached"] == ["swd", "neighbours"]
    assert again["metrics"] == pytest.approx(about["metrics"])
    assert Path(f"{data}.metrics").is_dir()
    text = run(*arguments, "--no-cache", "--quiet")
    assert "swd: " in text
    assert "12 pictures against 12 real ones; lower is better" in text


def test_requests_that_cannot_be_evaluated_are_errors(places, tmp_path):
    model, data = places
    for arguments, message in (
        ((model, "--data", data, "--metrics", "fd"), "--embedding"),
        ((model, "--data", str(tmp_path / "none")), "does not exist"),
        ((model, "--data", data, "--res", "8"), "16x16"),
        ((model, "--data", data, "--cache", "x", "--no-cache"), "exclude"),
        ((str(tmp_path / "none"), "--data", data), "neither a model"),
    ):
        with pytest.raises(PgganError, match=message):
            run(*arguments, "--n", "4", "--device", "cpu")
    assert CliRunner().invoke(command, ["--data", data, "--metrics", "swd,nothing"]).exit_code == 2


@pytest.mark.long
def test_two_processes_give_the_figures_of_one(places):
    model, data = places
    arguments = [
        "evaluate",
        model,
        "--data",
        data,
        "--n",
        "11",
        "--metrics",
        "swd,msssim,neighbours",
        "--device",
        "cpu",
    ]
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getpid() % 20000)}
    environment = {**os.environ, **together, "OMP_NUM_THREADS": "1"}
    command_line = [sys.executable, "-m", "pggan", *arguments, "--json", "--no-cache"]
    processes = [
        subprocess.Popen(
            command_line, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[1][0] == ""
    shared = json.loads(outputs[0][0])
    alone = json.loads(run(*arguments[1:], "--json", "--no-cache"))
    assert shared["processes"] == 2
    assert shared["metrics"] == pytest.approx(alone["metrics"], rel=1e-4)


def test_wrong_options_are_refused_before_the_work(places, tmp_path):
    model, data = places
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for arguments, message in (
        ((data, "--data", data, "--res", "12"), "not a power of two"),
        ((model, "--data", data, "--k", "2"), "--k is about --neighbours"),
        ((data, "--data", data, "--first-seed", "5"), "--first-seed is about pictures of a model"),
        ((model, "--data", data, "--embedding-input", "unit"), "--embedding-input is about --embedding"),
        ((model, "--data", data, "--neighbours", str(tmp_path / "folder")), "name of a PNG"),
        ((model, "--data", data, "--neighbours", str(tmp_path / "near.jpg")), "near.png"),
        ((model, "--data", data, "--neighbours", str(tmp_path / "file" / "near.png")), "that is a file"),
        ((model, "--data", data, "--cache", str(tmp_path / "file")), "another folder"),
    ):
        with pytest.raises(PgganError, match=message):
            run(*arguments, "--n", "4", "--device", "cpu")


def test_a_colour_image_late_among_grey_ones_is_refused(tmp_path):
    """Colour among the first samples makes all images colour ones."""
    for name, every in (("few", 3), ("many", 34)):
        folder = tmp_path / name
        folder.mkdir()
        for at in range(70):
            colour = at % every == every - 1
            Image.new("RGB" if colour else "L", (16, 16), (9 * at % 256, 20, 90) if colour else at).save(
                folder / f"{at:03d}.png"
            )
    with pytest.raises(PgganError, match="in colour, others are grey"):
        run(str(tmp_path / "many"), "--data", str(tmp_path / "many"), "--metrics", "msssim", "--n", "70", "--no-cache")
    run(str(tmp_path / "few"), "--data", str(tmp_path / "few"), "--metrics", "msssim", "--n", "8", "--no-cache")


def test_a_grey_folder_is_compared_with_the_store_that_was_made_of_it(tmp_path):
    folder = tmp_path / "grey"
    folder.mkdir()
    for at in range(8):
        Image.new("L", (16, 16), 20 * at).save(folder / f"{at}.png")
    prepare(str(folder), tmp_path / "data")
    told = json.loads(run(str(folder), "--data", str(tmp_path / "data"), "--metrics", "swd", "--n", "8", "--json"))
    assert told["metrics"]["swd"] == pytest.approx(0, abs=1e-6)


def test_a_video_that_does_not_fit_is_refused_before_it_is_read_whole(tmp_path, monkeypatch):
    class Wide(FolderSource):
        def refs(self):
            for number, ref in enumerate(super().refs()):
                assert not number, "one picture tells"
                yield ref

    for at in range(3):
        Image.new("RGB", (32, 16)).save(tmp_path / f"{at}.png")
    monkeypatch.setattr("pggan.metrics.image_sets.open_source", Wide)
    with pytest.raises(PgganError, match="is 32x16, not a square"):
        open_images(str(tmp_path))
