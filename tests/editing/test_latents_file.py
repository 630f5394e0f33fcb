"""Latents files and PNGs as latents: round trips, other models, hostile and truncated files."""

import base64
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from pggan.config.model_metadata import LATENTS_KEY
from pggan.editing.latent_images import file_names, write_latent_images
from pggan.editing.latent_sources import read_all_latents, read_latents
from pggan.editing.latents_file import LatentSet, read_latents_file
from pggan.editing.sphere import at_angle
from pggan.generation.images import encode_png, read_metadata, write_images
from pggan.generation.model import load
from pggan.networks.model_file import write_tensors
from pggan.utils.errors import DataError, ModelError, PgganError, UsageError
from tests.helpers.editing_models import KINDS, loaded_kind, saved_kind


def edited(model, count=3):
    """Latents that are no seeds."""
    latents = LatentSet.of_seeds(model, range(count))
    names = [f"edit {n}" for n in range(count)]
    return latents.with_latents(at_angle(latents.z[0], 20, count), names, [{"edit": n} for n in range(count)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_back_its_latents_and_their_images(tmp_path, kind):
    model = loaded_kind(kind, tmp_path)
    latents = edited(model)
    latents.save(tmp_path / "l.safetensors")
    again = read_latents(tmp_path / "l.safetensors", model)
    assert again.names == latents.names
    assert again.origins == latents.origins
    assert {name: values.tobytes() for name, values in again.tensors().items()} == {
        name: values.tobytes() for name, values in latents.tensors().items()
    }
    assert (again.images(model) == latents.images(model)).all()
    joined = read_all_latents([tmp_path / "l.safetensors"] * 2, model)
    assert len(joined) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_pggan_made_holds_its_latent(tmp_path, kind):
    model = loaded_kind(kind, tmp_path)
    latents = LatentSet.join([LatentSet.of_seeds(model, [5]), edited(model, 2)])
    written = write_latent_images(model, latents, tmp_path / "out", grid=(2, 2))
    for name, image in zip(written.names, latents.images(model)):
        again = read_latents(tmp_path / "out" / name, model)
        assert len(again) == 1
        assert np.abs(again.images(model)[0].astype(int) - image).max() <= 1
    assert read_latents(tmp_path / "out" / written.names[0], model).origins == ({"seed": 5},)
    assert read_metadata(tmp_path / "out" / "grid.png")["grid"] == "2x2"


def test_a_picture_of_a_seed_with_a_class_and_codes_is_found_again(tmp_path):
    model = loaded_kind("codes", tmp_path)
    write_images(model, [3], tmp_path, codes={0: 2, 1: 0.5})
    (picture,) = tmp_path.glob("seed*.png")
    codes = read_latents(picture, model).codes
    assert (codes[0, :4] == [0, 0, 1, 0.5]).all()
    model = loaded_kind("labels", tmp_path)
    write_images(model, range(4), tmp_path / "y", label="kind1", grid=(2, 2))
    assert (read_latents(tmp_path / "y" / "grid-kind1.png", model).labels == [0, 1, 0]).all()


def test_a_class_whose_name_is_another_ones_number_is_found_again(tmp_path):
    path = saved_kind("labels", tmp_path, classes=["1", "2", "3"])
    model = load(path, "cpu")
    for name, row in (("1", [1, 0, 0]), ("2", [0, 1, 0])):
        write_images(model, [3], tmp_path / name, label=name)
        (picture,) = (tmp_path / name).glob("seed*.png")
        assert (read_latents(picture, model).labels == [row]).all()


def test_a_picture_that_pggan_did_not_make_is_not_replaced(tmp_path):
    model = loaded_kind("plain", tmp_path)
    latents = edited(model, 1).with_latents(edited(model, 1).z, ["me"], [{"projection": "me.png"}])
    Image.new("RGB", (8, 8)).save(tmp_path / "me.png")
    before = (tmp_path / "me.png").read_bytes()
    with pytest.raises(UsageError, match=r"me.png is no picture of pggan's, and would be replaced; give another --out"):
        write_latent_images(model, latents, tmp_path)
    assert (tmp_path / "me.png").read_bytes() == before
    for _ in range(2):  # its own ones are
        assert write_latent_images(model, latents, tmp_path / "out").names == ["me.png"]


def test_latents_of_another_model_are_refused_unless_forced(tmp_path):
    one, other = loaded_kind("plain", tmp_path), loaded_kind("plain", tmp_path / "other", seed=1)
    edited(one).save(tmp_path / "l.safetensors")
    with pytest.raises(UsageError, match=r"of the model plain .*, not of plain; give that model, or --force"):
        read_latents(tmp_path / "l.safetensors", other)
    assert len(read_latents(tmp_path / "l.safetensors", other, force=True)) == 3
    labelled = loaded_kind("labels", tmp_path)
    with pytest.raises(UsageError, match="labels of size 0, but labels takes 3"):
        read_latents(tmp_path / "l.safetensors", labelled, force=True)


def test_a_truncated_or_changed_file_is_refused_in_one_line(tmp_path, fuzz_rounds):
    model = loaded_kind("plain", tmp_path)
    path = tmp_path / "l.safetensors"
    edited(model).save(path)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(fuzz_rounds(60)):
        broken = bytearray(data[: int(random.integers(len(data)))]) if random.random() < 0.5 else bytearray(data)
        if len(broken) == len(data):
            broken[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
        path.write_bytes(broken)
        with pytest.raises(PgganError) as caught:
            read_latents(path, model)
        assert len(str(caught.value).splitlines()) == 1


def hostile(tensors, **about):
    entries = [{"name": "a", "origin": {}}]
    return tensors, {"space": "z", "model": {"name": "m", "sha256": None}, "latents": entries, **about}


ROW = {"z": torch.ones(1, 12)}


@pytest.mark.parametrize(
    "contents,message",
    [
        (hostile({"z": torch.full((1, 12), torch.nan)}), "not finite"),
        (hostile({"z": torch.full((1, 12), 1e30)}), "not finite, or beyond"),
        (hostile({"z": torch.zeros(1, 12)}), "no direction"),
        (hostile({"z": torch.ones(1, 12, dtype=torch.float64)}), "not float32"),
        (hostile({"z": torch.ones(12)}), "12 latents have 1 names"),
        (hostile({"z": torch.ones(2, 12)}), "2 latents have 1 names"),
        (hostile({**ROW, "more": torch.ones(1)}), "'more', which no latents file has"),
        (hostile({**ROW, "labels": torch.ones(2, 3)}), "labels are"),
        (hostile({"labels": torch.ones(1, 3)}), "z"),
        (hostile(ROW, space="w+"), r"space 'w\+'"),
        (hostile(ROW, space="w"), "'z', which no latents file has"),
        (hostile({"w": torch.ones(1, 12), "labels": torch.ones(1, 3)}, space="w"), "which w contains already"),
        (hostile(ROW, latents=[]), "no list of 1 to"),
        (hostile(ROW, latents={"a": 1}), "no list of 1 to"),
        (hostile(ROW, latents=[{"name": 7}]), "name or origin"),
        (hostile(ROW, latents=[{"name": "a" * 5000}]), "name or origin"),
        (hostile(ROW, latents=[{"name": "a", "origin": {"x": "y" * 5000}}]), "more than 4000 characters"),
        (hostile(ROW, model={"name": "m", "sha256": "xyz"}), "name and digest"),
        (hostile(ROW, model=None), "name and digest"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(tmp_path, contents, message):
    tensors, about = contents
    write_tensors(tmp_path / "l.safetensors", tensors, LATENTS_KEY, about)
    with pytest.raises(ModelError, match=message) as caught:
        read_latents_file(tmp_path / "l.safetensors")
    assert len(str(caught.value).splitlines()) == 1


def test_other_files_are_named_for_what_they_are(tmp_path, monkeypatch):
    model = loaded_kind("plain", tmp_path)
    with pytest.raises(ModelError, match="is a model, not a file of latents"):
        read_latents(model.path, model)
    with pytest.raises(ModelError, match="does not exist"):
        read_latents(tmp_path / "none", model)
    safetensors.torch.save_file({"z": torch.ones(1, 12)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelError, match="another program"):
        read_latents(tmp_path / "foreign.safetensors", model)
    edited(model).save(tmp_path / "l.safetensors")
    monkeypatch.setattr("pggan.editing.latents_file.MAX_LATENTS_BYTES", 100)
    with pytest.raises(ModelError, match="the limit of such files is 100 B"):
        read_latents(tmp_path / "l.safetensors", model)


@pytest.mark.parametrize(
    "about",
    [
        {"latent": {"z": "no base64!"}},
        {"latent": {"z": base64.b64encode(b"abc").decode()}},
        {"latent": {"z": base64.b64encode(np.zeros(12, "<f4").tobytes()).decode()}},
        {"latent": {"labels": "AAAA"}},
        {"latent": [1, 2]},
        {"latent": 7},
        {"seed": -1},
        {"seed": "many"},
        {"seeds": "0-4000000000"},
        {"seeds": {"a": 1}},
        {"nothing": 1},
        {"seed": 1, "codes": [3]},
        {"seed": 1, "codes": {"a": "b"}},
    ],
)
def test_a_hostile_picture_is_refused_in_one_line(tmp_path, about):
    model = loaded_kind("plain", tmp_path)
    identity = {"model": "plain", "sha256": LatentSet.of_seeds(model, [0]).model.sha256}
    path = tmp_path / "p.png"
    path.write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8), {**identity, **about}))
    with pytest.raises(PgganError) as caught:
        read_latents(path, model)
    assert len(str(caught.value).splitlines()) == 1
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="no readable entry"):
        read_latents(path, model)


def test_names_of_files_cannot_leave_the_folder(tmp_path):
    model = loaded_kind("plain", tmp_path)
    latents = replace(edited(model, 4), names=("../../etc/passwd", "a\0b", "grid", "GRID"))
    names = file_names(latents)
    assert names == ["etc_passwd.png", "a_b.png", "grid-00002.png", "GRID-00003.png"]
    assert len(set(names)) == 4
    assert len(set(file_names(replace(edited(model, 3), names=("a-00002", "a", "a"))))) == 3
