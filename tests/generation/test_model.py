"""Model files and the Model class: saved and loaded, damaged files, seeds, labels, scores."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest
import safetensors.torch
import torch

import pggan
from pggan.config.model_metadata import MODEL_KEY, STATE_KEY
from pggan.editing.latents_file import LatentSet
from pggan.generation.to_uint8 import to_uint8
from pggan.networks.model_file import load_model, save_model, write_tensors
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.paths import find_model
from tests.helpers.model_files import model_file


@pytest.fixture
def path(tmp_path):
    save_model(tmp_path / "a.safetensors", model_file(info={"kimg": 1.5}))
    return tmp_path / "a.safetensors"


def test_a_loaded_model_is_the_saved_one(path):
    original, loaded = model_file(), load_model(path)
    assert loaded.generator.config == original.generator.config
    assert loaded.discriminator.config == original.discriminator.config
    assert (loaded.level, loaded.alpha, loaded.info) == (4, 1.0, {"kimg": 1.5})
    for name, value in original.generator.state_dict().items():
        assert torch.equal(loaded.generator.state_dict()[name], value)
    assert not any(p.requires_grad for p in loaded.generator.parameters())


def test_files_are_as_readable_as_any_other(path):
    other = path.with_name("other")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_images_of_seeds_are_the_clipped_rounded_output_of_their_latents(path):
    model = pggan.load(path, device="cpu")
    assert (model.resolution, model.latent_size, model.label_size, model.channels) == (16, 12, 0, 3)
    images = model.generate([3, 4])
    assert images.shape == (2, 16, 16, 3)
    assert images.dtype == np.uint8
    latent = np.random.RandomState(3).randn(12)  # the convention that a seed stands for
    raw = model.synthesize(latent[None])
    assert raw.shape == (1, 3, 16, 16)
    expected = np.clip(np.rint(raw.numpy() * 127.5 + 127.5), 0, 255)[0].transpose(1, 2, 0)
    assert np.abs(expected - images[0]).max() <= 1
    assert model.synthesize(latent[None], level=3).shape == (1, 3, 8, 8)
    assert model.discriminator(raw).score.shape == (1,)
    assert model.discriminator(raw).class_logits is None
    assert model.generate(5).shape == (1, 16, 16, 3)
    assert model.generate([]).shape == (0, 16, 16, 3)


def test_a_seed_is_the_same_image_whatever_the_batch(path):
    model = pggan.load(path, device="cpu")
    together = model.generate(range(10))
    for batch in (1, 3, 7):
        parts = np.concatenate(list(model.stream(range(10), batch=batch)))
        assert np.abs(parts.astype(int) - together).max() <= 1
        assert np.array_equal(parts, np.concatenate(list(model.stream(range(10), batch=batch))))
    assert np.abs(model.generate([9]).astype(int) - together[9:]).max() <= 1
    # at the same batch bit by bit, in company or alone
    for seed in (3, 9):
        assert np.array_equal(model.generate([seed], batch=4)[0], model.generate(range(10), batch=4)[seed])


def test_a_model_stored_while_fading_in_is_blended_by_its_alpha(tmp_path):
    save_model(tmp_path / "fading.safetensors", model_file(alpha=0.25))
    model = pggan.load(tmp_path / "fading.safetensors", device="cpu")
    z = torch.randn(2, 12)
    stored, whole = model.synthesize(z), model.synthesize(z, alpha=1.0)
    coarse = model.synthesize(z, level=3).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(stored, 0.25 * whole + 0.75 * coarse, atol=1e-5)


def test_classes_are_chosen_by_name_or_number_and_each_seed_has_its_own(tmp_path):
    save_model(tmp_path / "c.safetensors", model_file(labels=3))
    model = pggan.load(tmp_path / "c.safetensors", device="cpu")
    assert model.classes == ["kind0", "kind1", "kind2"]
    by_name, by_number = model.generate([1], label="kind2"), model.generate([1], label=2)
    assert np.array_equal(by_name, by_number)
    assert not np.array_equal(by_name, model.generate([1], label=0))
    free = model.generate(range(20))
    kinds = np.stack([model.generate(range(20), label=k) for k in range(3)])
    matches = [[np.array_equal(free[i], kinds[k, i]) for k in range(3)].count(True) for i in range(20)]
    assert min(matches) >= 1  # without a label each seed has its own
    with pytest.raises(UsageError, match="kind0, kind1, kind2"):
        model.generate([1], label="kind9")
    with pytest.raises(UsageError, match="labels of shape"):
        model.synthesize(np.zeros((1, 12)))
    with pytest.raises(UsageError, match="2 latents but 1 labels"):
        model.synthesize(np.zeros((2, 12)), np.zeros((1, 3)))


def test_requests_out_of_range_are_refused(path):
    model = pggan.load(path, device="cpu")
    for call, match in [
        (lambda: model.synthesize(np.zeros((1, 13))), r"\(1, 13\)"),
        (lambda: model.synthesize(np.zeros(12)), r"\(12,\)"),
        (lambda: model.synthesize(np.zeros((1, 12)), level=5), "level 5"),
        (lambda: model.synthesize(np.zeros((1, 12)), alpha=2), "alpha 2"),
        (lambda: model.generate([-1]), "seed -1"),
        (lambda: model.generate([2**32]), "seed 4294967296"),
        (lambda: model.generate([1.5]), "seed 1.5 is no whole number"),
        (lambda: model.generate(["a"]), "seed 'a' is no whole number"),
        (lambda: LatentSet.of_seeds(model, [-1]), "seed -1"),
        (lambda: model.generate([1], label=0), "no labels"),
        (lambda: model.discriminator(np.zeros((1, 3, 8, 8))), "level 4 takes images"),
    ]:
        with pytest.raises(UsageError, match=match):
            call()


def test_a_file_without_a_discriminator_scores_nothing(tmp_path):
    save_model(tmp_path / "g.safetensors", model_file(discriminator=False))
    model = pggan.load(tmp_path / "g.safetensors", device="cpu")
    with pytest.raises(ModelError, match="keeps no discriminator"):
        model.discriminator(np.zeros((1, 3, 16, 16)))


def test_half_weights_are_read_as_float32(tmp_path):
    file = model_file()
    file.generator.half()
    save_model(tmp_path / "h.safetensors", file)
    model = pggan.load(tmp_path / "h.safetensors", device="cpu")
    assert model.synthesize(np.zeros((1, 12))).dtype == torch.float32


def test_to_uint8_rounds_half_to_even_and_clips():
    values = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0])
    assert to_uint8(values.reshape(1, 1, 1, -1))[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def rewritten(path, change, key=MODEL_KEY):
    with safetensors.safe_open(str(path), framework="pt") as file:
        about = json.loads(file.metadata()[MODEL_KEY])
    change(about)
    safetensors.torch.save_file(safetensors.torch.load_file(str(path)), str(path), {key: json.dumps(about)})


@pytest.mark.parametrize(
    "damage,match",
    [
        (lambda p: p.write_bytes(b""), "an empty file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-10]), "not a whole pggan model"),
        (lambda p: p.write_bytes(p.read_bytes()[:100]), "not a whole pggan model"),
        (lambda p: p.write_bytes(pickle.dumps({"weights": 1})), "pggan import"),
        (lambda p: safetensors.torch.save_file({"a": torch.zeros(1)}, str(p)), "of another program"),
        (lambda p: write_tensors(p, {}, STATE_KEY, {}), "a training state, not a model"),
        (lambda p: safetensors.torch.save_file({"a": torch.zeros(1)}, str(p), {MODEL_KEY: "{"}), "unreadable metadata"),
        (lambda p: rewritten(p, lambda a: a.update(format=9)), "format 9"),
        (lambda p: rewritten(p, lambda a: a["generator"].update(styles=3)), "newer pggan"),
        (lambda p: rewritten(p, lambda a: a["generator"].update(latent_size=13)), "another shape"),
        (lambda p: rewritten(p, lambda a: a["generator"].update(resolution=1024)), "cannot be used"),
        (lambda p: rewritten(p, lambda a: a["generator"].update(resolution="big")), "cannot be used"),
        (lambda p: rewritten(p, lambda a: a.update(level=12)), "out of range"),
        (lambda p: rewritten(p, lambda a: a.pop("generator")), "unreadable metadata"),
    ],
)
def test_damaged_and_foreign_files(path, damage, match):
    damage(path)
    with pytest.raises(ModelError, match=match) as caught:
        pggan.load(path, device="cpu")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_gives_its_newest_model_and_a_path_its_file(tmp_path, path):
    models = tmp_path / "run" / "models"
    models.mkdir(parents=True)
    with pytest.raises(ModelError, match="holds no model yet"):
        find_model(tmp_path / "run")
    for number in (5, 10, 9):
        save_model(models / f"model-{number:09d}.safetensors", model_file())
    (models / ".model-000000011.safetensors.pggan.tmp").write_bytes(b"half")
    assert find_model(tmp_path / "run").name == "model-000000010.safetensors"
    assert find_model(path) == path
    with pytest.raises(ModelError, match="neither a model file"):
        find_model(tmp_path / "nowhere")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:1", "cuda:99"])
def test_unknown_devices_are_refused(path, device):
    with pytest.raises(UsageError, match=device.partition(":")[0]):
        pggan.load(path, device=device)


@pytest.mark.parametrize("kind", [OSError, safetensors.SafetensorError])
def test_a_failed_save_leaves_the_old_file(path, monkeypatch, kind):
    before = path.read_bytes()

    def fail(*_):
        # the library's own wording for what the system said
        message = "Error while serializing: I/O error: No space left on device (os error 28)"
        raise OSError(28, "No space left on device") if kind is OSError else kind(message)

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="No space") as caught:
        save_model(path, model_file())
    assert caught.value.errno == 28
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_single_changed_bit_is_noticed(path):
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    for at in (header // 2, header + 8, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(ModelError, match=re.escape(str(path))):
            pggan.load(path, device="cpu")


@pytest.mark.long
def test_mutated_files_are_a_whole_model_or_one_error(path):
    """A thousand damaged files: each is refused in one line, or loads with the weights of before."""
    whole = path.read_bytes()
    expected = pggan.load(path, device="cpu").file.generator.state_dict()
    random = np.random.default_rng(0)
    header = int.from_bytes(whole[:8], "little") + 8
    messages = []
    for number in range(1000):
        data = bytearray(whole[: random.integers(1, len(whole))] if number % 10 == 0 else whole)
        end = header if number % 2 else len(data)
        for at in random.integers(0, min(end, len(data)), random.integers(1, 4)):
            data[at] = random.integers(0, 256)
        path.write_bytes(data)
        try:
            weights = pggan.load(path, device="cpu").file.generator.state_dict()
        except ModelError as error:
            messages.append(str(error))
        else:
            assert weights.keys() == expected.keys()
            assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert len(messages) >= 900
    assert all(str(path) in message and "\n" not in message for message in messages)


def test_error_messages_are_one_printable_line():
    assert str(ModelError("no 'a\nb\x1b[31m' in Größe x.png")) == "no 'a\\nb\\x1b[31m' in Größe x.png"
