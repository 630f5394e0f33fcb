"""Checkpoints of pytorch_GAN_zoo against what its own code computed, and against a plain second implementation."""

from __future__ import annotations

import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import pggan
from pggan.interop.import_model import import_model
from pggan.networks.model_file import save_model
from pggan.utils.errors import ModelError
from tests.helpers import foreign_files
from tests.helpers.fuzzing import mutate, refused

FOLDER = Path(__file__).parents[1] / "fixtures" / "zoo"


def imported(path, tmp_path, which="gs"):
    save_model(tmp_path / "model.safetensors", import_model(path, which))
    return pggan.load(tmp_path / "model.safetensors", "cpu")


def images_of(model, latents, alpha):
    """`latents` with the label vector behind, `alpha` as the zoo has it."""
    z, labels = latents[:, : model.latent_size], latents[:, model.latent_size :]
    return model.synthesize(z, labels if model.label_size else None, model.file.level, 1 - alpha)


def outputs(out):
    return out.score[:, None] if out.class_logits is None else torch.cat([out.score[:, None], out.class_logits], 1)


@pytest.mark.long
@pytest.mark.parametrize("case", ["A", "C"])
@pytest.mark.parametrize("which,prefix", [("gs", "avgG_images/alpha"), ("g", "G_images/alpha")])
def test_images_are_those_that_the_zoo_computed(case, which, prefix, tmp_path):
    fixture = np.load(FOLDER / f"zoo_{case}.npz")
    model = imported(FOLDER / f"zoo_{case}.pt", tmp_path, which)
    keys = [key for key in fixture.files if key.startswith(prefix)]
    assert len(keys) == 3
    for key in keys:
        images = images_of(model, fixture["latents"], float(key.removeprefix(prefix)))
        assert (images - torch.from_numpy(fixture[key])).abs().max() < 1e-4, key


@pytest.mark.long
@pytest.mark.parametrize("case", ["A", "C"])
def test_discriminator_outputs_are_those_that_the_zoo_computed(case, tmp_path):
    fixture = np.load(FOLDER / f"zoo_{case}.npz")
    model = imported(FOLDER / f"zoo_{case}.pt", tmp_path)
    keys = [key for key in fixture.files if key.startswith("D_out") and "f64" not in key]
    assert len(keys) == 7  # minibatches of 8, 6, 4, 3 and 1 among them
    for key in keys:
        images = torch.from_numpy(fixture["images"])[: len(fixture[key])]
        scores = outputs(model.discriminator(images, alpha=1 - float(key.partition("/alpha")[2])))
        assert (scores - torch.from_numpy(fixture[key])).abs().max() < 1e-4, key


@pytest.mark.long
def test_in_double_precision_outputs_agree_more_closely(tmp_path):
    fixture = np.load(FOLDER / "zoo_A.npz")
    model = imported(FOLDER / "zoo_A.pt", tmp_path)
    model.file.discriminator.double()
    model.file.generator.double()
    out = model.discriminator(fixture["images"].astype(np.float64), alpha=0.7)
    assert (outputs(out) - torch.from_numpy(fixture["D_out_f64/alpha0.3"])).abs().max() < 5e-6
    g = imported(FOLDER / "zoo_A.pt", tmp_path, "g")
    g.file.generator.double()
    images = images_of(g, fixture["latents"].astype(np.float64), 0.3)
    assert (images - torch.from_numpy(fixture["G_images_f64/alpha0.3"])).abs().max() < 5e-5


ATTRIBUTES = {"hue": {"order": 1, "values": ["red", "blue"]}, "shape": {"order": 0, "values": ["disc", "star", "bar"]}}
CASES = [
    ([8], {}),
    ([8, 8], {"alpha": 0.4}),  # a single upper scale: D ignores alpha
    ([16, 8, 8, 4, 3], {"alpha": 0.25, "miniBatchStdDev": False}),
    ([8, 12, 5], {"equalizedlR": False, "dimOutput": 1}),
    ([8, 8, 4], {"leakyReluLeak": 0.05, "lossCriterion": "DCGAN", "alpha": 0.5}),
    ([8, 8, 4], {"attribKeysOrder": ATTRIBUTES, "categoryVectorDim": 5, "lossCriterion": "Logistic"}),
]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("depths,options", CASES)
def test_networks_of_every_option_compute_the_same(depths, options, legacy, tmp_path):
    state = foreign_files.zoo_state(depths, **options)
    model = imported(foreign_files.write_zoo(tmp_path / "zoo.pt", state, legacy), tmp_path)
    for module in model.file.parts().values():
        module.double()  # narrow networks of random weights magnify the rounding of float32
    config = state["config"]
    assert model.resolution == 4 * 2 ** (len(depths) - 1)
    assert model.file.alpha == pytest.approx(1 - config.alpha)
    latents = torch.randn(6, config.latentVectorDim)
    images = torch.randn(6, config.dimOutput, model.resolution, model.resolution)
    for alpha in (0.0, 0.3, 1.0) if len(depths) > 1 else (0.0,):
        expected = foreign_files.zoo_images(state, latents.double(), alpha)
        scale = max(1.0, float(expected.abs().max()))
        assert (images_of(model, latents, alpha) - expected).abs().max() < 1e-4 * scale
        for count in (6, 4, 1):
            scores = outputs(model.discriminator(images[:count], alpha=1 - alpha))
            expected = foreign_files.zoo_scores(state, images[:count].double(), alpha)
            assert (scores - expected).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))


def test_attributes_become_label_columns_that_are_chosen_by_name(tmp_path):
    state = foreign_files.zoo_state([8, 8], attribKeysOrder=ATTRIBUTES, categoryVectorDim=5)
    model = imported(foreign_files.write_zoo(tmp_path / "zoo.pt", state), tmp_path)
    assert model.classes == ["shape=disc", "shape=star", "shape=bar", "hue=red", "hue=blue"]
    assert model.seed_labels([3, 4], "shape=star,hue=blue").tolist() == [[0, 1, 0, 0, 1]] * 2
    own = model.seed_labels(range(200))
    assert (own[:, :3].sum(1) == 1).all()
    assert (own[:, 3:].sum(1) == 1).all()
    assert (own.sum(0) > 20).all()  # every class is drawn
    half = model.seed_labels(range(50), "hue=0")
    assert (half[:, 3] == 1).all()
    assert np.array_equal(half[:, :3], own[:50, :3])
    assert model.generate([1, 2], "shape=disc").shape == (2, 8, 8, 3)


def test_layers_are_recognised_without_wrappers_and_with_a_parallel_prefix(tmp_path):
    """As the oldest files and models trained on several GPUs name them; and what the training script adds."""
    state = foreign_files.zoo_state([8, 8])
    expected = foreign_files.zoo_images(state, torch.ones(2, 12).double(), 0.0)
    state["avgG"] = {name.replace("module.", ""): value for name, value in state["avgG"].items()}
    state["netD"] = {"module." + name: value for name, value in state["netD"].items()}
    state["tmp"] = foreign_files.BaseConfig()
    model = imported(foreign_files.write_zoo(tmp_path / "zoo.pt", state), tmp_path)
    assert (images_of(model, torch.ones(2, 12), 0.0) - expected).abs().max() < 1e-4


def test_a_checkpoint_without_average_or_discriminator_is_imported(tmp_path):
    state = foreign_files.zoo_state([8, 8])
    del state["avgG"], state["netD"]
    path = foreign_files.write_zoo(tmp_path / "zoo.pt", state)
    model = imported(path, tmp_path)
    assert model.file.discriminator is None
    expected = foreign_files.zoo_images(state, torch.ones(2, 12).double(), 0.0, "netG")
    assert (images_of(model, torch.ones(2, 12), 0.0) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("legacy", [False, True])
def test_other_files_and_unknown_options_are_refused_in_one_line(legacy, tmp_path):
    path = tmp_path / "file.pt"

    def refused(value, text):
        torch.save(value, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(ModelError, match=text) as caught:
            import_model(path)
        assert "\n" not in str(caught.value)

    marker = tmp_path / "executed"
    refused({"config": foreign_files.Malicious(open, (str(marker), "w"))}, "asks for .*open")
    assert not marker.exists()
    refused({"g_ema": {}, "latent_avg": 0}, "StyleGAN2 port")
    refused({"meta": {}, "state_dict": {}}, "OpenMMLab")
    refused({"a.weight": torch.ones(2)}, "bare state dictionary")
    refused([1, 2], "holds a list")
    state = foreign_files.zoo_state([8, 8])
    for key, value, text in (
        ("depthOtherScales", [8, 8], "lacks blocks.16x16"),
        ("depthOtherScales", [9], "is \\("),
        ("perChannelNormalization", False, "perChannelNormalization"),
        ("lossCriterion", "odd", "'odd'"),
        ("depthScale0", None, "not a progressive GAN"),
    ):
        before = getattr(state["config"], key)
        setattr(state["config"], key, value)
        foreign_files.write_zoo(path, state, legacy)
        with pytest.raises(ModelError, match=text):
            import_model(path)
        setattr(state["config"], key, before)
    data = foreign_files.write_zoo(path, state, legacy).read_bytes()
    for length in (50, len(data) // 2, len(data) - 40):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError, match=r"copy it again|no model that can be imported"):
            import_model(path)


def test_a_plain_pickle_is_not_taken_for_a_checkpoint(tmp_path):
    (tmp_path / "x.pt").write_bytes(pickle.dumps({"netG": {}}))
    with pytest.raises(ModelError, match="three networks"):
        import_model(tmp_path / "x.pt")


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    path = tmp_path / "stride.pt"
    huge = torch.zeros(1).as_strided((40_000, 80_000), (0, 0))
    torch.save({"config": {}, "netG": {"a": huge}, "again": [huge] * 3}, path)
    with pytest.raises(ModelError, match="fewer than it claims"):
        import_model(path)


def test_a_compressed_torch_file_is_refused_before_it_expands(tmp_path):
    plain, path = tmp_path / "plain.pt", tmp_path / "bomb.pt"
    torch.save({"netG": {"a": torch.zeros(1 << 20)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in source.infolist():
            bomb.writestr(member.filename, source.read(member))
    with pytest.raises(ModelError, match="expand to more than the file holds"):
        import_model(path)


def zoo_pickle(path, change):
    """Rewrites the pickle in a torch file."""
    with zipfile.ZipFile(FOLDER / "zoo_A.pt") as source, zipfile.ZipFile(path, "w") as target:
        for member in source.infolist():
            content = source.read(member)
            target.writestr(member.filename, change(content) if member.filename.endswith("data.pkl") else content)


def laughs():
    below = "laugh"
    for _ in range(24):
        below = (below,) * 4
    return pickle.dumps(below, 2)[2:-1]


@pytest.mark.parametrize("legacy", [False, True])
def test_tuples_as_keys_end_at_once(legacy, tmp_path):
    content, path = b"\x80\x02}(" + laughs() + b"Nu.", tmp_path / "laughs.pt"
    if legacy:
        torch.save({}, path, _use_new_zipfile_serialization=False)
        start = path.read_bytes()
        path.write_bytes(start[:17] + content + start[17:])
    else:
        zoo_pickle(path, lambda _: content)
    with pytest.raises(ModelError, match="key that is no plain value"):
        import_model(path)


def test_one_tensor_under_many_names_does_not_multiply(tmp_path):
    weight = torch.zeros(1 << 20)
    names = {f"scaleLayers.{n}.{k}.module.weight": weight[:] for n in range(10) for k in range(2)}
    torch.save({"config": {}, "netG": names}, tmp_path / "many.pt")
    with pytest.raises(ModelError, match="far more often"):
        import_model(tmp_path / "many.pt")


@pytest.mark.long
@pytest.mark.parametrize("legacy", [False, True])
def test_changed_torch_files(legacy, tmp_path, fuzz_rounds):
    path, dice = tmp_path / "changed.pt", random.Random(0)
    torch.save({"config": {}, "netG": {"formatLayer.module.weight": torch.ones(4, 4)}}, path,
               _use_new_zipfile_serialization=not legacy)  # fmt: skip
    whole = path.read_bytes()
    for number in range(fuzz_rounds(60)):
        if number % 2 and not legacy:
            zoo_pickle(path, lambda content: mutate(content, dice))
        else:
            path.write_bytes(mutate(whole, dice))
        refused(ModelError, lambda: import_model(path))
