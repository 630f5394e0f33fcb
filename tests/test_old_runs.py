"""A run, a store and models that pggan 0.1.0 made: they load, resume and generate in this version.

fixtures/run_0_1_0: `train drawn:48 --preset demo --max-res 8 --labels hair` with small networks, on the CPU; its
checkpoint in the middle of a fade, its model before that, and what it ended with: the last model (end.safetensors) and
that model's pictures of seeds 0 to 3.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pggan

FIXTURE = Path(__file__).parent / "fixtures" / "run_0_1_0"
ROOT = Path(__file__).parents[1]
GPU_MODES = {"4": "eager|captured-eager", "8": "eager|captured-eager|compiled|captured"}
MEMORY = {
    "4": {"micro_batch": 4, "recompute": False, "bytes": 7e8, "probed": True, "measured": {"4": 7e8, "8": 8e8}},
    "8": {"micro_batch": 8, "recompute": True, "bytes": 7e8, "probed": False},
}


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pggan", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def copied(folder: Path) -> tuple[Path, Path]:
    """The run and its data, to be changed."""
    for name in ("run", "data"):
        shutil.copytree(FIXTURE / name, folder / name)
    (folder / "run" / "samples").mkdir()  # pictures of it are not kept
    return folder / "run", folder / "data"


@pytest.mark.long
@pytest.mark.parametrize(
    "resolved",
    [{}, {"modes": GPU_MODES}, {"modes": {}}, {"memory": MEMORY}],
    ids=["as it was", "modes of a GPU", "no modes", "a memory plan"],
)
def test_a_run_resumes_and_ends_where_it_would_have_ended(tmp_path, resolved):
    run, data = copied(tmp_path)
    options = json.loads((run / "options.json").read_text())
    options["resolved"] |= resolved
    (run / "options.json").write_text(json.dumps(options))
    done = command("train", data, "--resume", run)
    assert "0.248 kimg" in done.stderr
    ended, expected = load_file(run / "models/model-000000480.safetensors"), load_file(FIXTURE / "end.safetensors")
    moved = load_file(FIXTURE / "run/models/model-000000168.safetensors")
    assert ended.keys() == expected.keys()
    # Adam turns a gradient near zero into a step of its sign, so another processor's rounding ends elsewhere: weights
    # that begin 1e-7 apart end 0.03 of the way apart, another seed's 0.26
    way, apart = (
        {name: (start[name] - tensor).double().norm() for name, tensor in expected.items()} for start in (moved, ended)
    )
    assert torch.stack([*apart.values()]).norm() < 0.08 * torch.stack([*way.values()]).norm()
    for name in expected:  # of one tensor 0.05 by rounding
        assert apart[name] <= 0.2 * way[name], name
    learnt = [name for name in expected if not torch.equal(moved[name], expected[name])]
    assert len(learnt) > 10


def test_a_model_makes_the_same_pictures():
    kept = np.load(FIXTURE / "pictures.npz")
    pictures = pggan.load(FIXTURE / "end.safetensors").generate(list(kept["seeds"]))
    assert pictures.shape == kept["pictures"].shape
    assert np.abs(pictures.astype(int) - kept["pictures"]).max() <= 1


@pytest.mark.long
def test_a_run_is_shown_reported_and_begun_from(tmp_path):
    run, data = copied(tmp_path)
    assert "hair" in command("info", run).stdout
    assert "8x8" in command("info", data).stdout
    command("report", run)
    assert (run / "report.html").stat().st_size > 10_000
    new = tmp_path / "new"
    command("train", data, "--from", run / "models/model-000000168.safetensors", "--labels", "hair", "--out", new,
            "--preset", "demo", "--batch", "8", "--total-kimg", "0.05", "--eval-every", "0")  # fmt: skip
    assert list((new / "models").glob("*.safetensors"))
