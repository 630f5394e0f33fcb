"""Runs of seconds: the same numbers from every cache, and one line where the data goes away underneath."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.start import begin
from tests.helpers.waiting import PATIENCE, wait_for

ROOT = Path(__file__).parents[2]
# to 1,000 kimg at each resolution, from the store itself
ENDLESS = [
    "--max-res", "16", "--fmap-base", "64", "--fmap-max", "8", "--latent-size", "8", "--batch", "8",
    "--stable-kimg", "1000", "--cache", "none", "--device", "cpu", "--mode", "eager",
]  # fmt: skip


def last_state(run):
    return safetensors.torch.load_file(str(RunDirectory(run).states()[-1]))


@pytest.mark.long
def test_every_cache_trains_the_same(config, tmp_path, monkeypatch):
    memory = tmp_path / "shm"
    memory.mkdir()
    monkeypatch.setattr("pggan.data.loading.shared_memory.DIRECTORY", memory)
    states = []
    for number, (cache, workers) in enumerate([("none", 2), ("ram", 1), ("device", 0), ("device", 2), ("auto", 0)]):
        run = tmp_path / f"run{number}"
        begin(dataclasses.replace(config, cache=cache, workers=workers), run, QuietDisplay())
        assert not list(memory.iterdir())
        states.append(last_state(run))
        assert len(list((run / "samples").glob("reals-*.png"))) == 3
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(state[name], value) for name, value in states[0].items() if "seconds" not in name)


@pytest.mark.long
def test_a_store_replaced_underneath_ends_the_run_with_a_line(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    command = [sys.executable, "-m", "pggan", "train", "data", "--out", "run", *ENDLESS]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    with process:
        wait_for(lambda: list(tmp_path.glob("run/samples/*")), process)
        shutil.copytree(data, tmp_path / "other")
        os.replace(tmp_path / "other" / "data.mdb", tmp_path / "data" / "data.mdb")
        errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
    assert "replaced by another store" in errors.splitlines()[-1]
    assert "Traceback" not in errors
