"""Models that ship: both networks in half precision, the discriminator where there is room."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import pggan
from pggan.editing.latent_images import discriminator_scores
from pggan.editing.latents_file import LatentSet
from tests.helpers.editing_models import saved_kind

SCRIPT = Path(__file__).parents[1] / "tools" / "ship_model.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("ship_model", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_model_ships_with_its_discriminator_where_there_is_room(tmp_path, monkeypatch, capsys, script):
    whole = saved_kind("plain", tmp_path)
    out = tmp_path / "shipped" / "plain.safetensors"
    monkeypatch.setattr("sys.argv", ["ship_model.py", str(whole), str(out)])
    assert script.main() == 0
    before, after = pggan.load(whole, "cpu"), pggan.load(out, "cpu")
    scores = [discriminator_scores(model, LatentSet.of_seeds(model, range(4))) for model in (before, after)]
    assert np.abs(scores[0] - scores[1]).max() < 0.02 * np.abs(scores[0]).max() + 0.02
    assert out.stat().st_size < 0.7 * whole.stat().st_size
    monkeypatch.setattr(script, "MOST_BYTES", 100)
    assert script.main() == 0
    assert "without its discriminator" in capsys.readouterr().out
    assert pggan.load(out, "cpu").file.discriminator is None
