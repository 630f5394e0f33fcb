"""pggan prune: what stays, what goes and in which order, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
from PIL import Image

import pggan
from pggan.cli import run as command
from pggan.config.presets import configure
from pggan.config.train import PerResolution, TrainConfig
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.networks.model_file import load_model
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run import prune as pruning
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log
from pggan.training.run.model_card import recipe
from pggan.training.start import begin


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A finished run of a second, to be copied."""
    place = tmp_path_factory.mktemp("prune")
    prepare("drawn:24", place / "faces", PrepareOptions(max_res=8))
    config = TrainConfig(
        data=str(place / "faces"), max_res=8, latent_size=8, fmap_base=64, fmap_max=8, batch=PerResolution(8),
        stable_kimg=PerResolution(0.03), fade_kimg=PerResolution(0.03), tick_kimg=PerResolution(0.02),
        snapshot_ticks=1, checkpoint_ticks=1, device="cpu", workers=0, grid=(3, 2),
        loss_options=(("gp_weight", 5.0), ("augment", "diffaugment")),
    )  # fmt: skip
    begin(config, place / "run", QuietDisplay())
    return place / "run"


@pytest.fixture
def run(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "my run")
    return RunDirectory(tmp_path / "my run")


def tree(run):
    """Every file's content; of models the tensors, since their headers have no fixed order."""
    files = {str(p.relative_to(run.path)): p for p in run.path.rglob("*") if p.is_file()}
    return {name: tensors(p) if name.startswith("models") else p.read_bytes() for name, p in files.items()}


def tensors(path):
    return {name: value.numpy().tobytes() for name, value in safetensors.torch.load_file(str(path)).items()}


def size(run):
    return sum(p.stat().st_size for p in run.path.rglob("*") if p.is_file())


def best_of(run, number):
    """Some model as the run's best one, with a figure in the log, as an evaluation leaves them."""
    shutil.copy(run.models()[number], run.best)
    lines = read_log(run.log)
    nimg = int(run.models()[number].stem.split("-")[1])
    lines = [{**line, "swd": 12.345} if line["nimg"] == nimg else line for line in lines]
    run.log.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.long
def test_pruning_keeps_generators_card_and_sheet_and_removes_the_rest(run, capsys):
    best_of(run, -2)
    kimg = ",".join(f"{int(path.stem.split('-')[1]) / 1000}" for path in run.models()[-2:])
    assert command(["ema", str(run.path), "--snapshots", kimg]) == 0
    capsys.readouterr()
    newest, samples = run.models()[-1], {p.name for p in run.samples.iterdir()}
    pictures = pggan.load(newest, device="cpu").generate([1, 2])
    before = size(run)
    assert command(["prune", str(run.path), "--yes"]) == 0
    output = capsys.readouterr().out
    assert "removed checkpoints/state-" in output
    after = tree(run)
    assert size(run) < before / 2
    assert run.models() == [newest]
    assert not run.states()
    assert not (run.path / "checkpoints").exists()
    assert {p.name for p in run.samples.iterdir()} == {n for n in samples if not n.startswith("reals")}
    assert any(name.startswith("reals") for name in samples)
    for path in (newest, run.best, *run.made_models()):
        assert load_model(path).discriminator is None
    # the same pictures from the same seeds
    assert (pggan.load(run.path, device="cpu").generate([1, 2]) == pictures).all()
    with Image.open(run.path / "sheet.png") as sheet:
        assert sheet.size == (3 * 64, 2 * 64)
    text = (run.path / "card.md").read_text()
    assert [path.name in text for path in run.made_models()] == [True]
    for part in ("# my run", "8x8, RGB", "drawn:24 (24 pictures)", "CC BY 4.0", "models/best.safetensors", "swd 12.3",
                 newest.name, pggan.__version__, "--gp-weight 5", "--augment diffaugment", "sheet.png"):  # fmt: skip
        assert part in text, part
    assert str(run.path.parent) not in text
    # again: nothing is left to do, and what it wrote is the same
    assert command(["prune", str(run.path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["removes"] == []
    assert report["strips"] == []
    assert not report["resumable"]
    assert tree(run) == after


def test_a_pruned_run_does_not_resume(run, capsys):
    command(["prune", str(run.path), "--yes", "--with-discriminator"])
    assert load_model(run.models()[-1]).discriminator is not None
    capsys.readouterr()
    assert command(["train", "--resume", str(run.path)]) == 1
    assert "was pruned" in capsys.readouterr().err
    assert command(["info", str(run.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["go_on_with"] is None


def test_a_dry_run_changes_nothing(run, capsys):
    before = tree(run)
    assert command(["prune", str(run.path), "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "would remove checkpoints/state-" in output
    assert "would go" in output
    assert command(["prune", str(run.path), "--dry-run", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["resumable"]
    assert len(report["keeps"]) == 1
    assert tree(run) == before


def test_without_yes_nothing_is_removed(run, capsys):
    before = tree(run)
    assert command(["prune", str(run.path)]) == 2
    assert "insist with --yes" in capsys.readouterr().err
    assert tree(run) == before


def test_a_run_that_trains_is_refused(run, capsys):
    hold = (
        "import sys; from pathlib import Path; from pggan.training.run.directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        before = tree(run)
        assert command(["prune", str(run.path), "--yes"]) == 1
        assert "another process trains" in capsys.readouterr().err
        assert tree(run) == before
        holder.stdin.close()


def test_a_directory_without_a_run_or_a_model_is_refused(run, tmp_path, capsys):
    assert command(["prune", str(tmp_path), "--yes"]) == 1
    assert "is not a run" in capsys.readouterr().err
    assert not (tmp_path / "run.lock").exists()
    for path in run.models():
        path.unlink()
    assert command(["prune", str(run.path), "--yes"]) == 1
    assert "holds no model yet" in capsys.readouterr().err


@pytest.mark.long
def test_interrupted_anywhere_the_same_call_completes_it(finished_run, tmp_path, monkeypatch):
    """Every step that writes or removes fails in turn: a model that works is always there, and the end is the same."""
    shutil.copytree(finished_run, tmp_path / "whole" / "run")
    pruning.prune(RunDirectory(tmp_path / "whole" / "run"))
    expected = tree(RunDirectory(tmp_path / "whole" / "run"))
    steps = [(pruning, "save_model"), (pruning, "write_png"), (pruning, "replace_atomically"),
             (RunDirectory, "mark_pruned"), (pruning.shutil, "rmtree"), (pruning.Path, "unlink")]  # fmt: skip
    for number, (owner, name) in enumerate(steps):
        run = RunDirectory(tmp_path / f"{number}" / "run")
        shutil.copytree(finished_run, run.path)
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, failing)
            with pytest.raises(OSError, match="cut off"):
                pruning.prune(run)
        assert pggan.load(run.path, device="cpu").generate([0]).std() > 0
        assert run.states() or run.pruned
        if not run.pruned:
            assert len(run.states()) == len(RunDirectory(finished_run).states())
        pruning.prune(run)
        assert tree(run) == expected


def failing(*arguments, **named):
    raise OSError("cut off")


def test_the_recipe_is_a_command_that_makes_the_same_configuration():
    options = {
        "stable_kimg": PerResolution.parse("4:6,8:8"), "batch": PerResolution.parse("16,64:8"), "mirror": False,
        "max_res": 64, "ema_half_life": 2.5, "held_out": 0.1, "seed": 7, "grid": (4, 2),
        "loss_options": (("augment", "ada"), ("ada_kimg", 50.0)),
    }  # fmt: skip
    config = configure("demo", {**options, "data": "/somewhere/my faces"})
    words = shlex.split(recipe(config))
    assert words[:5] == ["pggan", "train", "my faces", "--preset", "demo"]
    assert "/somewhere" not in recipe(config)
    words = re.findall(r"(--[a-z-]+)(?: (?!--)(\S+))?", recipe(config).split("demo", 1)[1])
    assert dict(words) == {
        "--max-res": "64", "--stable-kimg": "4:6,8:8,16:8,32:12", "--batch": "16,64:8", "--no-mirror": "",
        "--ema-half-life": "2.5", "--held-out": "0.1", "--seed": "7", "--augment": "ada",
        "--ada-kimg": "50",
    }  # fmt: skip


def test_of_a_link_only_the_link_is_removed(run, tmp_path, capsys):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    shutil.rmtree(run.events, ignore_errors=True)
    run.events.symlink_to(outside)
    assert command(["prune", str(run.path), "--yes"]) == 0
    assert not run.events.is_symlink()
    assert (outside / "kept").read_text() == "mine"
    assert not run.states()
