"""Runs that begin with the weights of a model, this program's own or an imported one."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from pggan.cli import run
from pggan.config.model_metadata import ModelMetadata
from pggan.config.train import GeneratorConfig
from pggan.interop.import_model import import_model
from pggan.networks.model_file import save_model
from pggan.training.loop import Trainer
from pggan.training.run.directory import RunDirectory
from pggan.training.run.warm_start import WarmStart
from pggan.utils.errors import DataError, ModelError, TrainingError, UsageError
from tests.helpers import foreign_files
from tests.helpers.model_files import saved

FEW = ["--batch", "8", "--stable-kimg", "0.016", "--fade-kimg", "0.016", "--device", "cpu", "--quiet", "--json"]


def train(data, model, out, *more):
    return run(["train", str(data), "--from", str(model), "--out", str(out), *FEW, *more])


@pytest.mark.long
def test_a_run_begins_with_the_models_weights_and_resolution(data, tmp_path, capsys):
    model = saved(tmp_path / "m.safetensors", resolution=16, info={"attribution": "by Ana, CC BY 4.0"})
    assert train(data, model, tmp_path / "run", "--g-lr", "0", "--d-lr", "0") == 0
    assert json.loads(capsys.readouterr().out)["nimg"] == 16
    # what the model was learnt from is owed thanks still
    info = ModelMetadata.read(RunDirectory(tmp_path / "run").models()[-1]).info
    assert "by Ana, CC BY 4.0" in info["attribution"]
    config, _ = RunDirectory(tmp_path / "run").read_options()
    assert (config.start_res, config.max_res, config.latent_size, config.fmap_max) == (16, 16, 12, 8)
    assert (config.start_from, config.start_from_res) == (str(model), config.start_res)
    before = safetensors.torch.load_file(str(model))
    after = safetensors.torch.load_file(str(RunDirectory(tmp_path / "run").models()[-1]))
    assert before
    assert before.keys() == {name for name in after if not name.startswith("trained.")}
    # rates of 0 keep them; the running average is of equal weights, but for rounding
    assert all(torch.allclose(before[name], after[name], rtol=0, atol=1e-6) for name in before)


@pytest.mark.parametrize("diverged", [False, True])
def test_a_run_that_begins_again_begins_with_the_models_weights(data, tmp_path, capsys, monkeypatch, diverged):
    """One that was killed before its first checkpoint and resumes, and one that diverged before it."""
    model = saved(tmp_path / "m.safetensors", resolution=16)
    begun = []

    def look(trainer):
        if diverged:
            for parameter in trainer.state.generator.parameters():
                parameter.data.add_(1)
            trainer._start_again()
        begun.append({name: p.detach().clone() for name, p in trainer.state.generator.named_parameters()})
        raise TrainingError("it ends here")

    monkeypatch.setattr(Trainer, "train", look)
    assert train(data, model, tmp_path / "run", "--seed", "5") == 1
    assert run(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 1
    before = safetensors.torch.load_file(str(model))
    assert len(begun) == 2
    for weights in begun:
        assert weights
        assert all(torch.equal(before[f"generator.{name}"], weight) for name, weight in weights.items())


@pytest.mark.long
def test_a_run_grows_a_smaller_model_further(data, tmp_path, capsys):
    model = saved(tmp_path / "m.safetensors", resolution=8)
    assert train(data, model, tmp_path / "run", "--max-res", "16", "--g-lr", "0", "--d-lr", "0") == 0
    before = safetensors.torch.load_file(str(model))
    after = safetensors.torch.load_file(str(RunDirectory(tmp_path / "run").models()[-1]))
    assert before
    assert set(after) - set(before)  # the new level
    assert all(torch.allclose(before[name], after[name], rtol=0, atol=1e-6) for name in before)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["official", "zoo"])
def test_a_run_starts_from_an_imported_model(kind, data, tmp_path, capsys):
    """Networks with other conventions train, resume and keep their configuration."""
    if kind == "official":
        options = {"resolution": 8, "num_channels": 3, "fmap_base": 64, "fmap_max": 8, "use_leakyrelu": False}
        foreign_files.write_official(tmp_path / "net.pkl", options, {**options, "fmap_max": 6, "mbstd_group_size": 0})
    else:
        foreign_files.write_zoo(tmp_path / "net.pkl", foreign_files.zoo_state([8, 6]))
    model = import_model(tmp_path / "net.pkl", "all")
    save_model(tmp_path / "m.safetensors", model)
    assert train(data, tmp_path / "m.safetensors", tmp_path / "run", "--max-res", "16") == 0
    config, _ = RunDirectory(tmp_path / "run").read_options()
    for network, imported in zip(config.networks(), (model.generator.config, model.discriminator.config)):
        assert network.resolution == 16
        assert {**vars(network), "resolution": 8} == vars(imported)
    assert run(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0


@pytest.mark.long
def test_a_model_without_a_discriminator_gets_a_fresh_one(data, tmp_path, capsys):
    """As those that ship: G begins with its weights, D afresh, as wide as G, its own options free."""
    model = saved(tmp_path / "g.safetensors", resolution=16, discriminator=False)
    more = ["--max-res", "8", "--g-lr", "0", "--d-lr", "0", "--stddev-group", "2"]
    command = ["train", str(data), "--from", str(model), "--out", str(tmp_path / "run"), *FEW, *more]
    assert run([part for part in command if part != "--json"]) == 0
    assert "keeps no discriminator: that begins with fresh weights" in capsys.readouterr().err
    config, _ = RunDirectory(tmp_path / "run").read_options()
    assert (config.start_res, config.max_res) == (8, 8)
    g, d = config.networks()
    assert (d.fmap_base, d.fmap_max, d.stddev_group) == (g.fmap_base, g.fmap_max, 2)
    before = safetensors.torch.load_file(str(model))
    after = safetensors.torch.load_file(str(RunDirectory(tmp_path / "run").models()[-1]))
    names = [name for name in after if name.startswith("generator.")]
    assert len(names) > 8
    assert all(torch.allclose(before[name], after[name], rtol=0, atol=1e-6) for name in names)
    assert any(name.startswith("discriminator.") for name in after)


def test_what_contradicts_the_model_is_refused(data, tmp_path):
    warm_start = WarmStart.read(str(saved(tmp_path / "m.safetensors", resolution=16)))
    with pytest.raises(UsageError, match="--fmap-max 16 contradicts --from: that model has 8"):
        warm_start.options({"fmap_max": 16}, None)
    with pytest.raises(ModelError, match="neither"):
        WarmStart.read(str(tmp_path / "nothing"))


@pytest.mark.parametrize("options,message", [({"channels": 1}, "grey"), ({"labels": 3}, "3 classes")])
def test_data_of_another_kind_is_refused(options, message, data, tmp_path, capsys):
    model = saved(tmp_path / "m.safetensors", **options)
    assert train(data, model, tmp_path / "run") == DataError.exit_code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_import_command_writes_a_model_file(tmp_path, capsys):
    options = {"resolution": 8, "num_channels": 3, "fmap_base": 64, "fmap_max": 8, "lod": 0.5}
    foreign_files.write_official(tmp_path / "net.pkl", options, {k: v for k, v in options.items() if k != "lod"})
    out = str(tmp_path / "m.safetensors")
    assert run(["import", str(tmp_path / "net.pkl"), out, "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["resolution"] == "8x8"
    assert about["alpha"] == 0.5
    assert about["networks"] == ["generator", "discriminator"]
    assert run(["generate", out, "--n", "2", "--out", str(tmp_path / "made"), "--quiet"]) == 0
    capsys.readouterr()
    assert run(["import", str(tmp_path / "net.pkl"), out]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(["import", str(tmp_path / "net.pkl"), str(tmp_path / "m.pt")]) == 2
    assert run(["import", out, str(tmp_path / "n.safetensors")]) == 1
    assert "use it as it is" in capsys.readouterr().err


def test_feature_maps_follow_listed_widths_or_the_default_rule():
    assert GeneratorConfig(resolution=64, widths=(9, 9, 7)).fmaps(4) == 1
    assert GeneratorConfig(resolution=16).fmaps(3) == 512
