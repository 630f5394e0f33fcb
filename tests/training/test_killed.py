"""A real process killed at random points, some while it writes a checkpoint, ends where an uninterrupted one does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log

KILLS = 20
OPTIONS = [
    "--fmap-base", "64", "--fmap-max", "8", "--latent-size", "8", "--batch", "8", "--tick-kimg", "0.04",
    "--stable-kimg", "0.6", "--fade-kimg", "0.6", "--checkpoint-ticks", "1", "--snapshot-ticks", "8",
    "--workers", "1", "--device", "cpu", "--keep-checkpoints", "2",
]  # fmt: skip
# Writing a checkpoint in three slow thirds, so that kills often fall into it.
SLOW_WRITER = """
import sys, time
import safetensors.torch
original = safetensors.torch.save_file
def save_file(tensors, path, metadata=None):
    original(tensors, path, metadata)
    data = open(path, "rb").read()
    with open(path, "wb") as file:
        for at in range(3):
            file.write(data[at * len(data) // 3 : (at + 1) * len(data) // 3])
            file.flush()
            time.sleep(0.02)
safetensors.torch.save_file = save_file
from pggan.cli import main
sys.argv[0] = "pggan"
main()
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, "train", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_killed_at_random_points(tmp_path):
    data = tmp_path / "data"
    prepare("drawn:40", data, PrepareOptions(max_res=8))
    whole = start(data, "--out", tmp_path / "whole", *OPTIONS)
    killed = tmp_path / "killed"
    chance, kills, torn = random.Random(1), 0, 0
    command = [data, "--out", killed, *OPTIONS]
    for _ in range(10 * KILLS):
        process = start(*command)
        # the start takes seconds; from the first sign of life on, a random moment
        began = RunDirectory(killed).states()
        deadline = time.monotonic() + 120
        while process.poll() is None and RunDirectory(killed).states()[-1:] == began[-1:]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if kills < KILLS:
            time.sleep(chance.random() * 0.25)
            process.send_signal(signal.SIGKILL)
        if process.wait(120) == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.read()
        kills += 1
        torn += any(path.name.endswith(".tmp") for path in (killed / "checkpoints").iterdir())
        command = ["--resume", killed] if RunDirectory(killed).states() else command
    assert kills == KILLS, "the run was too short"
    assert torn, "no kill fell into the writing of a checkpoint"
    assert whole.wait(120) == 0
    a, b = RunDirectory(tmp_path / "whole"), RunDirectory(killed)
    assert a.states()[-1].name == b.states()[-1].name
    for one, other in ((a.states()[-1], b.states()[-1]), (a.models()[-1], b.models()[-1])):
        expected, found = (safetensors.torch.load_file(str(path)) for path in (one, other))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    ticks = [line["nimg"] for line in read_log(b.log)]
    assert ticks == sorted(set(ticks))
    assert ticks == [line["nimg"] for line in read_log(a.log)]
    # what killed processes left half-written is gone
    assert not [path for path in killed.rglob("*") if path.name.endswith(".tmp")]
