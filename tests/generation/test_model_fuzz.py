"""Fuzzers of model files: whatever is changed, a model is used as it is, or refused in one line by every command.

`pytest --fuzz 100 tests/generation/test_model_fuzz.py` runs a hundred times as many rounds.
"""

import json
import random

import numpy as np
import pytest
import safetensors
import safetensors.torch

from pggan import cli
from pggan.config.model_metadata import DIGEST_KEY, MODEL_KEY
from pggan.generation.model import load
from pggan.utils.errors import PgganError
from tests.helpers.fuzzing import mutate, mutate_json, refused
from tests.helpers.model_files import saved

ROUNDS = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("whole") / "model.safetensors", labels=2, resolution=8)


def use(path):
    """Loads a model and makes a picture. What does not load in the library is refused by `info`, or described by it."""

    def generate():
        images = load(path, "cpu").generate([0])
        assert images.dtype == np.uint8
        assert images.ndim == 4

    was_refused = refused(PgganError, generate)
    assert cli.run(["info", str(path)]) in (0, 1)
    return was_refused


def check_output(capsys):
    out, err = capsys.readouterr()
    assert "unexpected" not in err, err
    assert all(character.isprintable() or character == "\n" for character in out + err)


@pytest.mark.long
def test_changed_bytes(whole, tmp_path, fuzz_rounds, capsys):
    content, path, dice = whole.read_bytes(), tmp_path / "model.safetensors", random.Random(0)
    refusals = 0
    for _ in range(fuzz_rounds(ROUNDS)):
        path.write_bytes(mutate(content, dice))
        refusals += use(path)
        check_output(capsys)
    assert refusals > fuzz_rounds(ROUNDS) // 2


@pytest.mark.long
def test_changed_metadata(whole, tmp_path, fuzz_rounds, capsys):
    with safetensors.safe_open(str(whole), "pt") as file:
        metadata = json.loads(file.metadata()[MODEL_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path, dice = tmp_path / "model.safetensors", random.Random(1)
    for _ in range(fuzz_rounds(ROUNDS)):
        text = json.dumps(mutate_json(metadata, dice))
        safetensors.torch.save_file(tensors, str(path), {MODEL_KEY: text, DIGEST_KEY: ""})
        use(path)
        check_output(capsys)
