"""Fuzzers of a run's records: options.json, log.jsonl and checkpoints are used as they are, or refused in one line."""

import json
import random
import shutil
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from pggan import cli
from pggan.config.model_metadata import DIGEST_KEY, STATE_KEY
from pggan.training.engine.state import TrainState
from pggan.training.run.directory import OPTIONS, RunDirectory
from pggan.utils.errors import ModelError
from tests.helpers.fuzzing import VALUES, mutate, mutate_json, refused

OLD = Path(__file__).parents[1] / "fixtures" / "run_0_1_0" / "run"


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(OLD, tmp_path / "run"))


def check(run, capsys):
    """Every command that reads the records ends with 0, or with 1 or 2 and one line. Returns how many refused."""
    refusals = 0
    for arguments in (
        ["info", run],
        ["report", run],
        ["prune", run, "--dry-run"],
        ["train", "nowhere", "--resume", run],
    ):
        status = cli.run([str(word) for word in arguments])
        out, err = capsys.readouterr()
        assert status in (0, 1, 2), err
        assert "unexpected" not in err, err
        assert not status or len(err.splitlines()) == 1, err
        assert all(character.isprintable() or character == "\n" for character in out + err)
        refusals += status != 0
    return refusals


@pytest.mark.long
def test_changed_options(run, fuzz_rounds, capsys):
    path, dice = run / OPTIONS, random.Random(0)
    content = path.read_bytes()
    whole = check(run, capsys)
    refusals = 0
    for number in range(fuzz_rounds(60)):
        # what is inside json.dumps stays JSON; the others are bytes of any kind
        changed = json.dumps(mutate_json(json.loads(content), dice)).encode() if number % 3 else mutate(content, dice)
        path.write_bytes(changed)
        refusals += check(run, capsys) > whole
    assert refusals > fuzz_rounds(60) // 4


@pytest.mark.parametrize("field", ["config", "resolved", "pggan", "changes", "pruned"])
def test_every_value_of_an_entry_of_the_options(field, run, capsys):
    values = json.loads((run / OPTIONS).read_text())
    for value in VALUES:
        (run / OPTIONS).write_text(json.dumps({**values, field: value}))
        check(run, capsys)


@pytest.mark.parametrize("text", [b"\xff\xfe{}", b"[" * 100_000, b"{}", b"null", b"1" * 5000, b" " * (17 << 20)])
def test_options_that_are_no_options_are_refused_by_all(text, run, capsys):
    (run / OPTIONS).write_bytes(text)
    assert check(run, capsys) == 4


@pytest.mark.long
def test_changed_logs(run, fuzz_rounds, capsys):
    path, dice = run / "log.jsonl", random.Random(0)
    content = path.read_bytes()
    lines = [json.loads(line) for line in content.splitlines()]
    whole = check(run, capsys)
    for number in range(fuzz_rounds(40)):
        changed = "".join(json.dumps(mutate_json(line, dice)) + "\n" for line in lines).encode()
        path.write_bytes(changed if number % 3 else mutate(content, dice))
        assert check(run, capsys) == whole  # a log is read as far as it can be


def test_a_log_of_one_very_long_line(run, capsys):
    (run / "log.jsonl").write_bytes(b"[" * (4 << 20) + b"\n\xff\xfe\n" + b'{"nimg": ' + b"9" * 5000 + b"}\n")
    check(run, capsys)


@pytest.fixture
def state(run):
    return TrainState(RunDirectory(run).read_options()[0], torch.device("cpu"), "fp32")


@pytest.mark.long
def test_changed_checkpoints(run, state, tmp_path, fuzz_rounds):
    whole, path, dice = RunDirectory(run).states()[-1], tmp_path / "state.safetensors", random.Random(0)
    with safetensors.safe_open(str(whole), "pt") as file:
        about = json.loads(file.metadata()[STATE_KEY])
    contents = safetensors.torch.load_file(str(whole))
    refusals = 0
    for number in range(fuzz_rounds(120)):
        tensors, changed = dict(contents), about
        if number % 3 == 0:
            path.write_bytes(mutate(whole.read_bytes(), dice))
        else:
            if number % 3 == 1:
                changed = mutate_json(about, dice)
            else:
                name = dice.choice(list(tensors))
                change_tensor(tensors, name, dice)
            safetensors.torch.save_file(tensors, str(path), {STATE_KEY: json.dumps(changed), DIGEST_KEY: ""})
        if not refused(ModelError, lambda: state.load(path)):
            state.tensors()
            continue
        refusals += 1
    assert refusals > fuzz_rounds(120) // 2


def change_tensor(tensors, name, dice):
    kind = dice.randrange(6)
    tensor = tensors.pop(name)
    if kind == 1:
        tensors[name + ".x"] = tensor
    elif kind == 2:
        tensors[name] = tensor[None].contiguous()
    elif kind == 3:
        tensors[name] = tensor.double()
    elif kind == 4:
        tensors[name] = tensor.bool()
    elif kind == 5:
        tensors[name] = tensor.flatten()[:0].contiguous()
