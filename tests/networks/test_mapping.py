"""The mapping network: its layers against plain formulas, its learning rate, the average, truncation, files, a run."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import pggan
from pggan.cli import run as run_command
from pggan.config.losses import OBJECTIVES
from pggan.config.train import DiscriminatorConfig, GeneratorConfig, from_json, to_json
from pggan.generation.images import read_metadata
from pggan.networks import flops
from pggan.networks.factory import build, make_generator
from pggan.networks.mapping import RATE
from pggan.networks.model_file import ModelFile, load_model, save_model
from pggan.training.engine.state import make_optimizer
from pggan.utils.errors import UsageError

SMALL = {"resolution": 16, "fmap_base": 64, "fmap_max": 16}


def generator(**fields):
    torch.manual_seed(0)
    return make_generator(GeneratorConfig(**{**SMALL, "latent_size": 12, "mapping_layers": 3, **fields}))


@pytest.fixture
def path(tmp_path):
    config = GeneratorConfig(**SMALL, latent_size=12, mapping_layers=3)
    g, d = build(config, DiscriminatorConfig(**SMALL), 0)
    save_model(tmp_path / "mapped.safetensors", ModelFile(g, d, 4, 1.0))
    return tmp_path / "mapped.safetensors"


def test_w_is_the_published_formula_and_begins_at_the_scale_of_z():
    g = generator().double()
    for layer in g.mapping.layers:
        torch.nn.init.normal_(layer.bias)
    z = torch.randn(5, 12, dtype=torch.float64)
    x = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for layer in g.mapping.layers:
        weight = layer.weight * RATE * math.sqrt(2) / math.sqrt(12)
        x = F.leaky_relu(x @ weight.T + layer.bias * RATE, 0.2)
    assert torch.allclose(g.mapping(g.normalized_inputs(z, None)), x, atol=1e-12)
    assert float(g.mapping.layers[0].weight.detach().std()) == pytest.approx(1 / RATE, rel=0.2)
    assert torch.allclose(g(z, 2, None), g.to_rgb["4x4"](g.blocks["4x4"](x)), atol=1e-12)


def test_its_weights_move_a_hundredth_as_fast():
    g = generator()
    before = {name: p.detach().clone() for name, p in g.named_parameters()}
    optimizer = torch.optim.Adam(g.parameters(), 0.001, (0.0, 0.99))
    g(torch.randn(8, 12), 4, None).square().mean().backward()
    optimizer.step()
    layer, dense = "mapping.layers.0.weight", "blocks.4x4.dense.weight"
    steps = {name: float((p.detach() - before[name]).abs().max()) for name, p in g.named_parameters()}
    # both stored weights move by the rate; the mapping's are used a hundredth as large
    assert steps[layer] == pytest.approx(0.001, rel=1e-2)
    assert steps[dense] == pytest.approx(0.001, rel=1e-2)
    assert g.mapping.layers[0].scale == pytest.approx(RATE * math.sqrt(2) / math.sqrt(12))


def test_with_rates_of_weights_as_they_are_used_too():
    """Of --loss wgan, by RMSprop, whose first step is lr / sqrt(1 - decay) whatever the gradient."""
    g, defaults = generator(), OBJECTIVES["wgan"].g_optimizer
    layer, dense = g.mapping.layers[0], g.blocks["4x4"].dense
    before = [each.effective_weight().detach().clone() for each in (layer, dense)]
    optimizer = make_optimizer(g, defaults, None)
    g(torch.randn(8, 12), 4, None).square().mean().mul(1e6).backward()
    optimizer.step()
    steps = [float((each.effective_weight().detach() - was).abs().max()) for each, was in zip((layer, dense), before)]
    assert steps[1] == pytest.approx(defaults.lr / math.sqrt(1 - defaults.betas[1]), rel=1e-2)
    assert steps[0] == pytest.approx(RATE * steps[1], rel=0.05)  # rounded at the scale of 1 / RATE


@pytest.mark.parametrize("fields", [{}, {"label_size": 3}, {"categorical": (4,), "continuous": 1}])
def test_sizes_are_counted(fields):
    g = generator(**fields)
    for level in (2, 4):
        counted = sum(layer.parameters for layer in flops.generator_layers(g.config, level))
        names = [f"{2**at}x{2**at}" for at in range(2, level + 1)]
        used = {
            name: p.numel()
            for name, p in g.named_parameters()
            if name.startswith("mapping") or name.split(".")[1] in (names if "blocks" in name else names[-1:])
        }
        assert counted == sum(used.values())


@pytest.mark.parametrize("fields", [{}, {"label_size": 3}, {"categorical": (4,), "continuous": 1}])
def test_the_file_holds_the_average_w(tmp_path, fields):
    g = generator(**fields)
    path = tmp_path / "a.safetensors"
    state = torch.random.get_rng_state()
    save_model(path, ModelFile(g, None, 4, 1.0, trained=copy.deepcopy(g)))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not g.mapping.average.any()  # what trains stays as it is
    read = load_model(path)
    inputs = torch.randn(20_000, 12)
    rest = torch.zeros(20_000, g.config.inputs - 12)
    if fields.get("label_size"):
        rest = torch.eye(3)[torch.randint(3, (20_000,))]
    elif fields:
        rest = torch.cat([torch.eye(4)[torch.randint(4, (20_000,))], torch.rand(20_000, 1) * 2 - 1], dim=1)
    labels = rest if fields.get("label_size") else None
    latents = inputs if labels is not None or not fields else torch.cat([inputs, rest], dim=1)
    with torch.no_grad():
        w = g.mapping(g.normalized_inputs(latents, labels))
    for network in (read.generator, read.trained):
        assert torch.allclose(network.mapping.average, w.mean(dim=0), atol=6 * float(w.std()) / math.sqrt(4096))
    assert from_json(GeneratorConfig, to_json(g.config)) == g.config


def test_the_average_w_is_over_labels_of_the_models_own_columns(tmp_path):
    """A number, two classes and three: of six places two hold a one, and the first a number."""
    g = generator(label_size=6)
    for layer in g.mapping.layers:
        torch.nn.init.normal_(layer.weight, std=3 / RATE)  # far from linear
    columns = [
        {"name": "age", "bounds": [0, 9]},
        {"name": "a", "classes": ["0", "1"]},
        {"name": "b", "classes": [*"012"]},
    ]
    save_model(tmp_path / "a.safetensors", ModelFile(g, None, 4, 1.0, labels={"columns": columns}))
    count = 20_000
    parts = [torch.rand(count, 1) * 2 - 1, *(torch.eye(size)[torch.randint(size, (count,))] for size in (2, 3))]
    with torch.no_grad():
        w = g.mapping(g.normalized_inputs(torch.randn(count, 12), torch.cat(parts, dim=1)))
        other = g.average_w()  # of one class among six
    read, error = load_model(tmp_path / "a.safetensors").generator.mapping.average, w.std(dim=0) / math.sqrt(4096)
    assert ((read - w.mean(dim=0)).abs() < 6 * error).all()
    assert ((other - w.mean(dim=0)).abs() > 6 * error).any()


def test_truncation_goes_from_the_average_picture_to_the_seeds_own(path):
    model = pggan.load(path, "cpu")
    own = model.generate([1, 2])
    model.truncation = 0.5
    half = model.generate([1, 2])
    model.truncation = 0
    average = model.generate([1, 2])
    assert np.array_equal(average[0], average[1])
    assert not np.array_equal(own[0], own[1])
    assert not np.array_equal(half[0], half[1])
    distance = [np.abs(images.astype(float) - average).mean() for images in (half, own)]
    assert 0 < distance[0] < distance[1]
    assert np.array_equal(pggan.load(path, "cpu", truncation=0.5).generate([1, 2]), half)
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="is not from 0 to 1"):
            model.truncation = value


def test_models_without_a_mapping_network_say_why_they_cannot(capsys, tmp_path):
    assert pggan.load(None, "cpu").truncation == 1
    assert run_command(["generate", "--n", "1", "--truncation", "0.5", "--out", str(tmp_path / "a")]) == 2
    assert "has no mapping network" in capsys.readouterr().err
    with pytest.raises(UsageError, match="belongs to the growing architecture"):
        GeneratorConfig(resolution=16, arch="fc", mapping_layers=2)


def test_the_commands_take_it_and_the_picture_says_so(path, tmp_path):
    out = tmp_path / "pictures"
    assert run_command(["generate", str(path), "--n", "2", "--truncation", "0.5", "--out", str(out)]) == 0
    about = read_metadata(out / "seed0000000001.png")
    assert about["truncation"] == 0.5
    again = pggan.load(path, "cpu", truncation=0.5).generate([1])
    from PIL import Image

    assert np.array_equal(np.asarray(Image.open(out / "seed0000000001.png")), again[0])
    video = str(tmp_path / "walk.gif")
    assert (
        run_command(["interpolate", str(path), "--seconds", "1", "--fps", "4", "--truncation", "0", "--out", video])
        == 0
    )


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_exports_compute_the_same(path, tmp_path, kind):
    pytest.importorskip("onnxscript")
    out = tmp_path / ("a.onnx" if kind == "onnx" else "a.pt2")
    assert run_command(["export", str(path), str(out)]) == 0
