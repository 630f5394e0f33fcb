"""The command line as a person meets it: what it prints, its exit status, and one line for every mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pggan.cli import run
from pggan.data.prepare.prepare import PrepareOptions, prepare
from tests.helpers.model_files import saved
from tests.helpers.waiting import PATIENCE, wait_for

SMALL = [
    "--fmap-base", "64", "--fmap-max", "8", "--latent-size", "8", "--batch", "8", "--tick-kimg", "0.04",
    "--stable-kimg", "0.04", "--fade-kimg", "0.04", "--workers", "1", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "store"
    prepare("drawn:30", path, PrepareOptions(max_res=8))
    return str(path)


@pytest.fixture
def model(tmp_path):
    return str(saved(tmp_path / "m.safetensors"))


def refused(capsys, arguments, status, *says):
    assert run(arguments) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("pggan: error: ")
    for word in says:
        assert word in lines[0]


@pytest.mark.long
def test_train_generate_interpolate_info(data, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert run(["train", data, "--out", out, "--json", *SMALL]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["nimg"] >= 120
    assert outcome["signal"] == 0
    pictures = tmp_path / "pictures"
    assert run(["generate", out, "--seeds", "0,5-7", "--out", str(pictures), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["pictures"] == 4
    assert sorted(p.name for p in pictures.glob("seed*")) == sorted(made["files"])
    assert run(["interpolate", out, "--seconds", "0.5", "--fps", "10", "--out", str(tmp_path / "v.gif"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 5
    for what, key in ((out, "run"), (data, "data"), (outcome["model"], "model")):
        assert run(["info", what, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[key] == what
        assert run(["info", what]) == 0
        assert key in capsys.readouterr().out
    assert run(["train", "--resume", out]) == 0  # complete already
    capsys.readouterr()
    refused(capsys, ["train", data, "--out", out, *SMALL], 2, "--resume")
    refused(capsys, ["train", "--resume", out, "--batch", "4"], 2, "--batch")
    refused(capsys, ["train", str(tmp_path), "--resume", out], 1, "say where")


def test_a_seed_is_the_same_file_whatever_else_is_asked(model, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    assert run(["generate", model, "--n", "6", "--batch", "4", "--out", str(a), "--quiet"]) == 0
    assert run(["generate", model, "--seeds", "4", "--out", str(b), "--quiet"]) == 0
    one, other = (np.asarray(Image.open(d / "seed0000000004.png")).astype(int) for d in (a, b))
    assert np.abs(one - other).max() <= 1
    assert (a / "grid.png").exists()
    assert not (b / "grid.png").exists()


def test_dry_run_as_json(capsys):
    assert run(["train", "--dry-run", "--json", "--preset", "celebahq-v2-8gpu", "--max-res", "1024"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["total_kimg"] == 12000
    last = plan["phases"][-1]
    assert last["resolution"] == 1024
    assert (round(last["g_parameters"] / 1e6, 3), round(last["d_parameters"] / 1e6, 3)) == (23.072, 23.077)


def test_refused_options(capsys, data, model, tmp_path):
    (tmp_path / "file").write_text("x")
    for arguments, status, *says in [
        (["train", data, "--max-res", "16"], 1, "--max-res 8"),
        (["train", data, "--labels", "nose"], 1, "hair"),
        (["train", "/nowhere/data"], 1, "prepare-data"),
        (["train", data, "--out", str(tmp_path / "file")], 2, "--out"),
        (["train", data, "--batch", "4:x"], 2, "--batch"),
        (["train", data, "--loss", "nothing"], 2, "wgan-gp"),
        (["train", data, "--start-res", "16"], 2, "--start-res"),
        (["train", data, "--class-weight", "2"], 2, "--class-weight"),
        (["train", data, "--device", "cuda:77", "--out", str(tmp_path / "r")], 2, "cuda"),
        (["train", "--resume", str(tmp_path)], 1, "not a run"),
        (["generate", model, "--n", "0"], 2, "--n"),
        (["generate", model, "--n", "2", "--seeds", "1"], 2, "--seeds"),
        (["generate", model, "--seeds", "5-1"], 2, "1-5"),
        (["generate", model, "--seeds", "1,1"], 2, "twice"),
        (["generate", model, "--label", "blond"], 2, "no labels"),
        (["generate", model, "--out", str(tmp_path / "file")], 2, "not a folder"),
        (["generate", "/nowhere"], 1, "neither a model file"),
        (["generate", str(tmp_path / "file")], 1, "not a whole pggan model"),
        (["interpolate", model, "--out", "walk.avi"], 2, ".mp4"),
        (["interpolate", model, "--out", str(tmp_path)], 2, "does not end in"),
        (["interpolate", model, "--seeds", "3"], 2, "2 to"),
        (["interpolate", model, "--no-loop"], 2, "--seeds"),
        (["interpolate", model, "--seeds", "1,2", "--seed", "3"], 2, "one of them"),
        (["interpolate", model, "--seconds", "0.1", "--fps", "10"], 2, "two frames"),
        (["interpolate", model, "--seconds", "nan"], 2, "--seconds"),
        (["interpolate", model, "--fps", "nan"], 2, "nan"),
        (["train", "--preset", "demo", "--total-kimg", "0.0004", "--out", str(tmp_path / "r")], 2, "no images"),
        (["interpolate", model, "--grid", "0x3"], 2, "0x3"),
        (["interpolate", model, "--fps", "0"], 2, "--fps"),
        (["info", "/nowhere"], 1, "neither a model file"),
        (["info", str(tmp_path)], 1, "no model yet"),
        (["--nothing"], 2, "--nothing"),
        (["nothing"], 2, "nothing"),
    ]:
        refused(capsys, arguments, status, *says)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "m.safetensors"]  # nothing half-made


@pytest.mark.parametrize(
    "arguments",
    [
        ["traverse", "/nowhere", "--out", "t.mp4", "--seconds"],
        ["generate", "/nowhere", "--reject"],
        ["generate", "/nowhere", "--similar", "3", "--degrees"],
        ["blend", "/nowhere", "--seeds", "1,2", "--at", "8x8", "--share"],
    ],
)
def test_nan_is_in_no_range(capsys, arguments):
    refused(capsys, [*arguments, "nan"], 2, arguments[-1], "nan is no number")


IN_A_FINALIZER = """
import os, sys, time
from pggan import cli
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0)  # here Python calls the handler
def work(*arguments, **options):
    Finalized()
    time.sleep(60)
cli.cli.main = work
cli.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number,status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_within_a_finalizer_is_not_lost(number, status):
    program = [sys.executable, "-c", IN_A_FINALIZER, str(int(number))]
    done = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == status
    assert "Traceback" not in done.stderr


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number,status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_save_and_say_how_to_go_on(data, tmp_path, number, status):
    out = tmp_path / "run"
    arguments = ["train", data, "--out", str(out), *SMALL, "--total-kimg", "1000", "--mode", "eager"]
    process = subprocess.Popen([sys.executable, "-m", "pggan", *arguments], stderr=subprocess.PIPE, text=True)
    wait_for((out / "models").exists, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, err
    assert f"pggan train --resume {out}" in err.splitlines()[-1]
    assert list((out / "checkpoints").glob("*.safetensors"))
    assert not list(out.rglob("*.tmp"))


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_sigterm_leaves_nothing_half_written(model, tmp_path):
    out = tmp_path / "videos"
    out.mkdir()
    arguments = ["interpolate", model, "--out", str(out / "v.mp4"), "--seconds", "3600", "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "pggan", *arguments], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any(out.iterdir()), process)
    process.terminate()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert not any(out.iterdir())


def test_help_and_version(capsys):
    assert run(["--version"]) == 0
    assert "pggan" in capsys.readouterr().out
    assert run(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"pggan", "python", "torch", "system"}
    assert run(["--json"]) == 2
    assert "about --version" in capsys.readouterr().err
    assert run([]) == 2
    assert "prepare-data" in capsys.readouterr().err
