"""Fuzzer of the options of all commands: whatever is given, a command does it, or says in one line why not.

`pytest --fuzz 100 tests/cli/test_option_fuzz.py` runs a hundred times as many rounds.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import click
import numpy as np
import pytest

from pggan.cli import COMMANDS, cli, run
from pggan.config.train import GeneratorConfig
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.generation.images import write_png
from pggan.networks.ema import POWER_LENGTHS
from pggan.networks.factory import make_generator
from pggan.networks.model_file import ModelFile, save_model
from pggan.training.run.directory import RunDirectory
from pggan.training.run.snapshots import POWER
from tests.helpers.model_files import saved
from tests.helpers.run_directories import make_run

ODD = [
    "", " ", "0", "1", "3", "-1", "-0", "0.5", "1e400", "nan", "inf", "1e30", "9" * 30, "x", "a,b", "1,2", "4:8", "0-3",
    "3-0", ":", "=", "a=b", "0=1", "../x", "\x1b[2J", "ü", "%s", "{}", "[", "None", "true", "16", "64MB", "1/2", "2x2",
]  # fmt: skip
# Not to be tried at random: they remove caches, compile, compute for long, start processes that train, or end with a
# page of help.
AVOIDED = {
    "--clear-caches",
    "--help",
    "--version",
    "--mode",
    "--gpus",
    "--nproc",
    "--count",
    "--metrics",
    "--eval-metrics",
    "--watch",
}
REPOSITORY = "user/name"
# Arguments that are no models.
FITTING = {
    "prepare-data": {"source": "store", "dest": "new"}, "verify-data": {"data": "store"},
    "merge-data": {"dest": "new", "parts": "store"}, "train": {"data": "store"}, "report": {"run": "run"},
    "export-data": {"data": "store", "out": "new"}, "import": {"file": "zoo.pt", "out": "new.safetensors"},
    "traverse": {"model": "coded.safetensors"}, "export": {"out": "new.onnx"},
    "prune": {"run": "run"}, "ema": {"run": "run"}, "push": {"repository": REPOSITORY},
    "project": {"pictures": "picture.png"}, "blend": {"other": "labelled.safetensors"},
}  # fmt: skip
# What a command needs in any case, or is quick with; STORE is the data store.
ENDINGS = {"interpolate": ".gif", "traverse": ".png", "project": ".safetensors", "blend": ".safetensors"}
ENDINGS |= {"directions": ".safetensors", "ema": ".safetensors", "report": ".html"}
BASE = {
    "interpolate": ["--seconds", "0.2"],
    "evaluate": ["--data", "STORE", "--n", "16", "--metrics", "neighbours"],
    "export-data": ["--as", "folder"],
    "project": ["--steps", "3", "--starts", "2", "--restarts", "1"],
    "blend": ["--at", "8x8"],
    "directions": ["--n", "2"],
    "ema": ["--length", "0.07"],
}
# They only say what they would do.
DRY = {"train": ["--dry-run"], "prepare-data": ["--dry-run"], "prune": ["--dry-run"], "push": ["--dry-run"]}
# They serve until they are stopped, or have no options.
ENDLESS = {"explore", "completion"}
# Rounds of what takes seconds.
SLOW = {"export": 3, "project": 20}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    prepare("drawn:20", folder / "store", PrepareOptions(max_res=8))
    write_png(folder / "picture.png", np.zeros((8, 8, 3), np.uint8))
    (folder / "text").write_text("a,b\n1,2\n")
    saved(folder / "model.safetensors", resolution=8)
    saved(folder / "labelled.safetensors", resolution=8, labels=3)
    (make_run(folder / "run") / "models").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "run" / "models" / "model-000000100.safetensors")
    shutil.copy(Path(__file__).parents[1] / "fixtures" / "zoo" / "zoo_A.pt", folder / "zoo.pt")
    coded = GeneratorConfig(resolution=8, fmap_base=64, fmap_max=8, latent_size=12, categorical=(3,), continuous=1)
    save_model(folder / "coded.safetensors", ModelFile(make_generator(coded), None, 3, 1.0))
    for length in POWER_LENGTHS:
        info = {"kimg": 0.1, POWER: {"length": length, "images": 100}}
        plain = GeneratorConfig(resolution=8, fmap_base=64, fmap_max=8, latent_size=8)
        average = ModelFile(make_generator(plain), None, 3, 1.0, info=info)
        save_model(RunDirectory(folder / "run").average(length, 100), average)
    return folder


def words(command, inputs, out, dice):
    """Random arguments and options of a command."""
    names = ("store", "model.safetensors", "labelled.safetensors", "run", "text", "missing")
    places = [inputs / name for name in names]
    odd = dice.choice([0.5, 1, 1, 2, 4])
    chosen = [str(inputs / "store") if word == "STORE" else word for word in BASE.get(command.name, [])]
    for parameter in command.params:
        flag = max(parameter.opts, key=len)
        if isinstance(parameter, click.Argument):
            fitting = FITTING.get(command.name, {}).get(parameter.name, "labelled.safetensors")
            fitting = fitting if fitting == REPOSITORY else inputs / fitting
            count = dice.choice([0, 1, 2, 3]) if parameter.nargs < 0 else dice.choice([1] * 12 + [0, 2])
            chosen += [str(dice.choice([fitting] * 30 + [*places, out, "x"])) for _ in range(count)]
        elif flag in AVOIDED or dice.random() > odd / len(command.params):
            continue
        elif parameter.is_flag:
            chosen.append(dice.choice([*parameter.opts, *parameter.secondary_opts]))
        else:
            choices = list(parameter.type.choices) if isinstance(parameter.type, click.Choice) else []
            usual = choices * 3 or ["1", "3", "8", "hair", "0"] * 4
            chosen += [flag, str(dice.choice([*usual, *choices, "x"] if choices else [*usual, *ODD, *places]))]
    if dice.random() < 0.9 and any("--out" in parameter.opts for parameter in command.params):
        chosen += ["--out", f"{out}{ENDINGS.get(command.name, '')}"]
    return chosen


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ENDLESS])
def test_options_at_random(name, inputs, tmp_path, fuzz_rounds, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what is written by default lies here
    command, dice = cli.get_command(click.Context(cli), name), random.Random(name)
    done = []
    for number in range(fuzz_rounds(SLOW.get(name, 15))):
        copy = shutil.copytree(inputs, tmp_path / f"{number}")
        arguments = [name, *words(command, copy, tmp_path / f"out{number}", dice), *DRY.get(name, [])]
        status = run(arguments)
        done.append(status)
        out, err = capsys.readouterr()
        assert status in (0, 1, 2), (arguments, err)
        assert "please report it" not in err, (arguments, err)
        assert "Traceback" not in out + err, (arguments, err)
        if status:
            last = err.rstrip("\n").splitlines()[-1]
            assert last.startswith("pggan: error: "), (arguments, err)
            assert err.count("pggan: error: ") == 1, (arguments, err)
        shutil.rmtree(copy)
    assert 0 in done, (name, arguments, err)  # not every round is refused
