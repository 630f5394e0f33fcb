"""A real process killed at random points, some while it writes a checkpoint, ends where an uninterrupted one does.

In compiled steps, too: killed while it compiles, and with its compiled code gone.
"""

from __future__ import annotations

import os
import random
import shutil
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
from tests.helpers.waiting import PATIENCE, wait_for

KILLS = 12
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
            time.sleep(0.05)
safetensors.torch.save_file = save_file
from pggan.cli import main
sys.argv[0] = "pggan"
main()
"""


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, "train", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_checkpoint(run, process):
    """Waits for another checkpoint, or for the end."""
    newest = RunDirectory(run).states()[-1:]
    wait_for(lambda: process.poll() is not None or RunDirectory(run).states()[-1:] != newest)


def end_the_same(one, other):
    a, b = RunDirectory(one), RunDirectory(other)
    assert a.states()[-1].name == b.states()[-1].name
    for expected_path, path in ((a.states()[-1], b.states()[-1]), (a.models()[-1], b.models()[-1])):
        expected, found = (safetensors.torch.load_file(str(each)) for each in (expected_path, path))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


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
        wait_for_checkpoint(killed, process)
        if kills < KILLS:
            time.sleep(chance.random() * 0.25)
            process.send_signal(signal.SIGKILL)
        if process.wait(PATIENCE) == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.read()
        kills += 1
        torn += any(path.name.endswith(".tmp") for path in (killed / "checkpoints").iterdir())
        command = ["--resume", killed] if RunDirectory(killed).states() else command
    assert kills == KILLS, "the run was too short"
    assert torn, "no kill fell into the writing of a checkpoint"
    assert whole.wait(PATIENCE) == 0
    end_the_same(tmp_path / "whole", killed)
    a, b = RunDirectory(tmp_path / "whole"), RunDirectory(killed)
    ticks = [line["nimg"] for line in read_log(b.log)]
    assert ticks == sorted(set(ticks))
    assert ticks == [line["nimg"] for line in read_log(a.log)]
    # what killed processes left half-written is gone
    assert not [path for path in killed.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not shutil.which("g++"), reason="compiles with g++")
def test_a_compiled_run_killed_while_it_compiles_and_without_its_code(tmp_path):
    """Compiled steps resume to the same bits, from code that is compiled a second time.

    The killed run begins with the first code and ends with the second, with which another run is computed as a whole.
    """
    data, whole, killed, code = (tmp_path / name for name in ("data", "whole", "killed", "code"))
    prepare("drawn:40", data, PrepareOptions(max_res=4))
    options = [*OPTIONS, "--stable-kimg", "0.4", "--mode", "compiled"]
    process = start(data, "--out", killed, *options, TORCHINDUCTOR_CACHE_DIR=str(code))
    wait_for(lambda: any(code.rglob("*.cpp")), process)
    process.terminate()  # the compiler is at work
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert RunDirectory(killed).states() == [RunDirectory(killed).interim_state(0)]

    libraries = len([*code.rglob("*.so")])
    process = start("--resume", killed, TORCHINDUCTOR_CACHE_DIR=str(code))
    wait_for(lambda: len([*code.rglob("*.so")]) > libraries, process)
    process.kill()  # and again
    assert process.wait(PATIENCE) == -signal.SIGKILL

    process = start("--resume", killed, TORCHINDUCTOR_CACHE_DIR=str(code))
    wait_for(lambda: RunDirectory(killed).states(interim=False), process)
    process.kill()
    assert process.wait(PATIENCE) == -signal.SIGKILL
    cut = RunDirectory(killed).states()[-1].name
    shutil.rmtree(code)

    for arguments in (["--resume", killed], [data, "--out", whole, *options]):
        process = start(*arguments, TORCHINDUCTOR_CACHE_DIR=str(code))
        notes = process.communicate(timeout=1800)[1]
        assert process.returncode == 0, notes
        assert "compiling the step at 4x4: the run waits for it" in notes
        assert "the step at 4x4: compiled, " in notes
    assert any(code.rglob("*.so"))
    assert RunDirectory(whole).states()[-1].name != cut
    end_the_same(whole, killed)
