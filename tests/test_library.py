"""The library's face: `pggan.prepare`, `train`, `load`, `evaluate` and `report`, as a program calls them."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pggan
from pggan.cli import run
from pggan.config.train import OPTIONS, PerResolution
from pggan.training.train_run import collect_options

ROOT = Path(__file__).parents[1]
TINY = {
    "start_res": 4, "max_res": 16, "batch": 8, "fmap_base": 16, "fmap_max": 8, "latent_size": 8, "device": "cpu",
    "stable_kimg": 0.032, "fade_kimg": 0.032, "tick_kimg": 0.032, "mode": "eager",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store and a run, made by the library, and what it told."""
    folder = tmp_path_factory.mktemp("library")
    progress, ticks, notes, plans = [], [], [], []
    prepared = pggan.prepare(
        "drawn:24", folder / "data", max_res=16, on_progress=lambda *call: progress.append(call), on_plan=plans.append
    )
    result = pggan.train(
        folder / "data", folder / "run", on_progress=lambda *call: progress.append(call), on_tick=ticks.append,
        on_note=notes.append, **TINY,
    )  # fmt: skip
    return folder, prepared, result, progress, ticks, notes, plans


@pytest.mark.long
def test_a_run_from_pictures_to_a_report(finished, tmp_path):
    folder, prepared, result, progress, ticks, notes, plans = finished
    assert (prepared.count, prepared.resolutions[-1], len(plans)) == (24, 16, 1)
    assert progress[0] == ("preparing", 0, 24)
    assert ("preparing", 24, 24) in progress
    assert (result.signal, result.nimg) == (0, 160)
    assert progress[-1] == ("training", 160, 160)
    assert [line["kimg"] for line in ticks] == sorted(line["kimg"] for line in ticks)
    assert ticks[-1]["kimg"] == 0.16 == result.last["kimg"]
    assert any(note.startswith(f"run {folder / 'run'}: 4x4 to 16x16") for note in notes)
    model = pggan.load(result.run.path, device="cpu")
    calls, cached = [], sorted((folder / "data.metrics").iterdir())
    evaluation = pggan.evaluate(
        model, folder / "data", "swd,msssim", count=16, no_cache=True, on_progress=lambda *call: calls.append(call)
    )
    assert evaluation.generated == {"swd": 16, "msssim": 16}
    assert evaluation.real["swd"] == 16
    assert "swd" in evaluation.figures
    assert calls[-1] == ("generated pictures", 16, 16)
    assert sorted((folder / "data.metrics").iterdir()) == cached  # by the run itself
    page = pggan.report(result.run.path, tmp_path / "page.html")
    assert (page.path, page.status) == (tmp_path / "page.html", "finished")
    assert page.path.stat().st_size == page.bytes


@pytest.mark.long
def test_the_command_reports_what_the_library_returns(finished, tmp_path, capfd):
    folder = finished[0]
    arguments = ["--data", str(folder / "data"), "--metrics", "swd", "--n", "16", "--no-cache", "--device", "cpu"]
    assert run(["evaluate", str(folder / "run"), *arguments, "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    same = pggan.evaluate(folder / "run", folder / "data", ["swd"], count=16, no_cache=True, device="cpu").to_json()
    assert {**shown, "seconds": 0} == json.loads(json.dumps({**same, "seconds": 0}))


@pytest.mark.long
def test_a_run_goes_on_where_it_was_stopped(finished, tmp_path):
    folder = finished[0]

    def stop(line):
        signal.raise_signal(signal.SIGINT)

    stopped = pggan.train(folder / "data", tmp_path / "run", on_tick=stop, **TINY)
    assert stopped.signal == 2
    assert stopped.nimg < 160
    with pytest.raises(pggan.UsageError, match="--override"):
        pggan.train(resume=tmp_path / "run", batch=4)
    done = pggan.train(resume=tmp_path / "run", tick_kimg=0.016)
    assert (done.signal, done.nimg) == (0, 160)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pggan.prepare("drawn:4", "x", max_rez=8), "no option 'max_rez'; is 'max_res' meant"),
        (lambda: pggan.prepare("drawn:4", "x", max_res=9), "--max-res"),
        (lambda: pggan.train("x", "y", max_rez=8), "no option 'max_rez'; is 'max_res' meant"),
        (lambda: pggan.train("x", "y", channels=1), "no option 'channels'"),
        (lambda: pggan.train("x", "y", max_res="8"), "--max-res: '8' is of the wrong kind"),
        (lambda: pggan.train("x", "y", mirror=1), "--mirror: 1 is of the wrong kind"),
        (lambda: pggan.train("x", "y", gp_weight="a lot"), "--gp-weight: 'a lot' is of the wrong kind"),
        (lambda: pggan.train("x", "y", r1_gamma=[1, 2]), "--r1-gamma: (1, 2) is of the wrong kind"),
        (lambda: pggan.train("x", "y", override=True), "override is about a resumed run"),
        (lambda: pggan.train("x", "y", resume="z"), "leave out `out`"),
        (lambda: pggan.evaluate(None, "x", "swd", number=3), "number"),
        (lambda: pggan.evaluate(None, "x", "swdd"), "swd"),
        (lambda: pggan.to_pil(np.zeros((2, 8, 8, 3), np.float32)), "uint8"),
        (lambda: pggan.image_grid(np.zeros((2, 8, 4, 3), np.uint8)), "square"),
        (lambda: pggan.image_grid(np.zeros((2, 8, 8, 3), np.uint8), 0), "at least one column"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pggan.UsageError, match=re.escape(message)):
        call()
    assert not list(tmp_path.iterdir())


def test_options_of_python_are_those_of_the_command_line():
    options = collect_options(
        {"batch": "auto", "g_lr": {4: 0.001, 8: 0.002}, "augment": "ada", "eval_metrics": "swd,msssim", "labels": None,
         "budget": "1GB", "stable_kimg": "4:1,8:2", "r1_gamma": PerResolution.of({4: 1, 8: 2.5})}
    )  # fmt: skip
    assert options["auto_batch"] is True
    assert (options["g_lr"].at(8), options["stable_kimg"].at(4)) == (0.002, 1)
    assert options["loss_options"] == (("r1_gamma", "4:1,8:2.5"), ("augment", "ada"))
    assert options["eval_metrics"] == ("swd", "msssim")
    assert options["budget"] >= 10**9
    assert options.keys() <= {*OPTIONS, "loss_options", "auto_batch"}


def test_public_names_are_listed_once_and_lead_to_documented_things():
    tree = ast.parse((ROOT / "pggan/__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name: node.module for node in block.body for alias in node.names}
    assert imported == pggan._MODULE_OF
    assert {"prepare", "train", "load", "evaluate", "report"} < set(pggan.__all__) == set(dir(pggan))
    for name, module in imported.items():
        thing = getattr(importlib.import_module(module), name)
        assert inspect.getdoc(thing), name
        assert thing.__module__ == module, name
    readme = (ROOT / "pggan/README.md").read_text(encoding="utf-8")
    assert not [name for name in pggan.__all__ if f"`{name}`" not in readme and f"pggan.{name}" not in readme]


def test_importing_the_library_is_instant():
    code = "import sys, pggan; print(*sorted({'torch', 'numpy', 'click', 'PIL', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("first", ["import pggan.report", "pass"])
def test_report_is_a_function_whatever_was_imported_before(first, tmp_path):
    code = f"""
import pggan
{first}
for _ in range(2):
    try:
        pggan.report("nowhere")
    except pggan.TrainingError as error:
        print(error)
    import pggan.report.page
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.count("nowhere") == 2


EXAMPLES = [path for path in sorted((ROOT / "pggan").rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.long
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_in_docstrings_run(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    results = doctest.testmod(importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts)))
    assert results.attempted
    assert not results.failed


def test_the_package_has_examples():
    assert {path.stem for path in EXAMPLES} >= {"__init__", "grid"}


@pytest.mark.slow
def test_the_reference_is_written_from_the_docstrings_without_a_warning(tmp_path):
    pytest.importorskip("pdoc")
    command = [sys.executable, str(ROOT / "tools/api_reference.py"), "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "pggan.html").read_text(encoding="utf-8")
    assert not [name for name in pggan.__all__ if f'id="{name}"' not in page]


def test_grids_show_themselves():
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    grid = pggan.image_grid(images, columns=3)
    shown = np.asarray(Image.open(io.BytesIO(grid._repr_png_())))
    assert np.array_equal(shown[:64, 64:128], images[1])
    assert np.array_equal(shown[64:, :64], images[3])
    assert np.array_equal(np.asarray(grid.to_pil()), shown)
    clear = np.concatenate([images, images[..., :1]], axis=3)
    assert np.array_equal(np.asarray(pggan.to_pil(clear)[2]), clear[2])
    assert np.asarray(Image.open(io.BytesIO(pggan.image_grid(clear)._repr_png_()))).shape == (128, 192, 4)
    grey = pggan.to_pil(images[..., :1])
    assert (len(grey), grey[0].mode) == (5, "L")
    assert np.array_equal(np.asarray(grey[4]), images[4, :, :, 0])


def test_a_model_shows_its_first_seeds():
    model = pggan.load("portraits", device="cpu")
    shown = np.asarray(Image.open(io.BytesIO(model._repr_png_())))
    assert shown.shape == (256, 512, 3)
    assert np.abs(shown[:128, :128].astype(int) - model.generate(0)[0]).max() <= 1
