"""Pickles of the official release against what its own code computed, and against a plain second implementation."""

from __future__ import annotations

import os
import pickle
import pickletools
import random
import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pggan
from pggan.interop.import_model import import_model
from pggan.interop.pickles import read_pickle
from pggan.networks.model_file import save_model
from pggan.utils.errors import ModelError, UsageError
from tests.helpers import foreign_files
from tests.helpers.bounded_run import bounded_run
from tests.helpers.fuzzing import mutate, refused
from tests.helpers.official_networks import FOLDER, load, stage

FILES = {"A": "A", "C": "C", "C_proto5": "C", "D": "D", "E": "E"}


def imported(path, tmp_path, which="gs"):
    """As a person has it: imported, written, loaded."""
    save_model(tmp_path / "model.safetensors", import_model(path, which))
    return pggan.load(tmp_path / "model.safetensors", "cpu")


def full(images, resolution):
    return F.interpolate(images, size=(resolution, resolution))


@pytest.mark.long
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("which,prefix", [("gs", "Gs_images/lod"), ("g", "G_images/lod")])
def test_images_are_those_that_the_official_code_computed(file, which, prefix, tmp_path):
    fixture = load(FILES[file])
    model = imported(FOLDER / f"official_{file}.pkl", tmp_path, which)
    keys = [key for key in fixture.files if key.startswith(prefix)]
    assert keys
    assert model.discriminator is not None
    for key in keys:
        level, alpha = stage(float(key.removeprefix(prefix)), model.file.generator.config.max_level)
        labels = fixture["labels"] if model.label_size else None
        images = model.synthesize(fixture["latents"], labels, level, float(alpha))
        difference = full(images, model.file.generator.config.resolution) - torch.from_numpy(fixture[key])
        assert difference.abs().max() < 1e-4, key


@pytest.mark.long
@pytest.mark.parametrize("file", FILES)
def test_scores_and_labels_are_those_that_the_official_code_computed(file, tmp_path):
    fixture = load(FILES[file])
    model = imported(FOLDER / f"official_{file}.pkl", tmp_path)
    compared = 0
    for key in fixture.files:
        if key.startswith(("D_scores/", "D_labels/", "D_scores_n")):
            level, alpha = stage(float(key.partition("lod")[2]), model.file.generator.config.max_level)
            images = torch.from_numpy(fixture["images"])[: len(fixture[key])]
            out = model.discriminator(F.avg_pool2d(images, images.shape[-1] >> level), level, float(alpha))
            outputs = out.class_logits if key.startswith("D_labels") else out.score[:, None]
            if outputs is None:
                assert fixture[key].shape[1] == 0
                continue
            assert (outputs - torch.from_numpy(fixture[key])).abs().max() < 1e-4, key
            compared += 1
    assert compared >= 9


def test_all_imports_three_networks(tmp_path):
    both = imported(FOLDER / "official_A.pkl", tmp_path, "all").file
    g, gs = (import_model(FOLDER / "official_A.pkl", which).generator.state_dict() for which in ("g", "gs"))
    assert g
    assert g.keys() == gs.keys()
    assert all(torch.equal(both.trained.state_dict()[name], value) for name, value in g.items())
    assert all(torch.equal(both.generator.state_dict()[name], value) for name, value in gs.items())
    with pytest.raises(UsageError, match="which"):
        import_model(FOLDER / "official_A.pkl", "both")


G_CASES = [
    {"resolution": 64, "num_channels": 3, "fmap_base": 256, "fmap_max": 24, "latent_size": 20, "lod": 1.25},
    {"resolution": 8, "num_channels": 1, "fmap_base": 64, "fmap_max": 16, "use_wscale": False, "lod": 0.5},
    {"resolution": 4, "num_channels": 4, "fmap_base": 64, "fmap_max": 16},
    {"resolution": 16, "fmap_base": 90, "fmap_max": 30, "use_pixelnorm": False, "use_leakyrelu": False},
    {"resolution": 32, "fmap_base": 128, "fmap_max": 40, "fmap_decay": 0.5, "normalize_latents": False},
    {"resolution": 16, "fmap_base": 100.5, "fmap_max": 33, "pixelnorm_epsilon": 0.1, "fused_scale": False},
    {"resolution": 16, "num_channels": 3, "fmap_base": 64, "fmap_max": 16, "label_size": 7, "latent_size": None},
    {"resolution": 16, "fmap_base": 64, "fmap_max": 999, "structure": "linear", "dtype": "float16"},
]


@pytest.mark.long
@pytest.mark.parametrize("options", G_CASES)
def test_generators_of_every_keyword_compute_the_same(options, tmp_path):
    common = {k: v for k, v in options.items() if k in ("resolution", "num_channels", "label_size")}
    d = {**common, "fmap_base": 64, "fmap_max": 8}
    states = foreign_files.write_official(tmp_path / "net.pkl", options, d)
    model = imported(tmp_path / "net.pkl", tmp_path)
    labels = np.eye(max(3, options.get("label_size", 0)), dtype=np.float32)[:3]
    latents = np.random.default_rng(5).standard_normal((3, model.latent_size)).astype(np.float32)
    inputs = np.concatenate([latents, labels], 1) if options.get("label_size") else latents
    resolution = options["resolution"]
    for lod in (0.0, 0.4, 1.0, options.get("lod", 0.0), float(np.log2(resolution)) - 2):
        lod = min(lod, np.log2(resolution) - 2)
        expected = foreign_files.official_images(
            states[2]["variables"], options, torch.from_numpy(inputs).double(), lod
        )
        level, alpha = stage(lod, int(np.log2(resolution)))
        images = model.synthesize(latents, labels if options.get("label_size") else None, level, float(alpha))
        scale = max(1.0, float(expected.abs().max()))  # without pixel norm the images are large
        assert (full(images, resolution) - expected).abs().max() < 1e-4 * scale, lod
    expected_stage = stage(options.get("lod", 0.0), int(np.log2(resolution)))
    assert (model.file.level, model.file.alpha) == pytest.approx((expected_stage[0], float(expected_stage[1])))


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        {"resolution": 64, "num_channels": 3, "fmap_base": 256, "fmap_max": 24},
        {"resolution": 8, "num_channels": 1, "fmap_base": 64, "fmap_max": 16, "use_wscale": False},
        {"resolution": 4, "num_channels": 4, "fmap_base": 64, "fmap_max": 16, "mbstd_group_size": 0},
        {"resolution": 16, "num_channels": 3, "fmap_base": 90, "fmap_max": 30, "mbstd_group_size": 16, "label_size": 3},
        {"resolution": 32, "fmap_base": 128, "fmap_max": 40, "fmap_decay": 0.5, "fused_scale": False},
    ],
)
def test_discriminators_of_every_keyword_compute_the_same(options, tmp_path):
    common = {k: v for k, v in options.items() if k in ("resolution", "num_channels", "label_size")}
    states = foreign_files.write_official(tmp_path / "net.pkl", {**common, "fmap_base": 64, "fmap_max": 8}, options)
    model = imported(tmp_path / "net.pkl", tmp_path)
    resolution, channels = options["resolution"], options.get("num_channels", 1)
    images = torch.randn(8, channels, resolution, resolution, generator=torch.Generator().manual_seed(3))
    for lod in (0.0, 0.4, float(np.log2(resolution)) - 2):
        lod = min(lod, np.log2(resolution) - 2)
        expected = foreign_files.official_scores(states[1]["variables"], options, images.double(), lod)
        level, alpha = stage(lod, int(np.log2(resolution)))
        out = model.discriminator(F.avg_pool2d(images, resolution >> level), level, float(alpha))
        outputs = (
            out.score[:, None] if out.class_logits is None else torch.cat([out.score[:, None], out.class_logits], 1)
        )
        assert (outputs - expected).abs().max() < 1e-4, lod


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("core", ["_core", "core"])
def test_every_pickle_protocol_and_name_of_numpy_is_read(protocol, core, tmp_path):
    options = {"resolution": 8, "num_channels": 1, "fmap_base": 64, "fmap_max": 16}
    states = foreign_files.write_official(tmp_path / "net.pkl", options, options, protocol)
    data = (tmp_path / "net.pkl").read_bytes()
    for module in ("multiarray", "numeric"):
        for target, other in ((b"numpy." + core.encode(), b"numpy._core"), (b"numpy." + core.encode(), b"numpy.core")):
            old, new = other + b"." + module.encode(), target + b"." + module.encode()
            if protocol < 4:
                data = data.replace(b"c" + old + b"\n", b"c" + new + b"\n")
            else:  # strings carry their length
                data = data.replace(b"\x8c" + bytes([len(old)]) + old, b"\x8c" + bytes([len(new)]) + new)
    data = unframed(data) if protocol >= 4 else data
    (tmp_path / "net.pkl").write_bytes(data)
    assert f"numpy.{core}.multiarray".encode() in data
    model = imported(tmp_path / "net.pkl", tmp_path)
    latents = np.ones((2, model.latent_size), np.float32)
    expected = foreign_files.official_images(states[2]["variables"], options, torch.from_numpy(latents).double(), 0.0)
    assert (model.synthesize(latents) - expected).abs().max() < 1e-4


def unframed(data):
    """Without frames, whose lengths an edit has made wrong; they are optional."""
    out, at = bytearray(data[:2]), 2
    while at < len(data):
        if data[at] == 0x95:
            at += 9
            continue
        # one opcode at a time, found by its own length
        rest = data[at:]
        operation = pickletools.code2op[chr(rest[0])]
        length = 1
        if operation.arg is not None:
            count = operation.arg.n
            if count >= 0:
                length += count
            elif count == pickletools.UP_TO_NEWLINE:
                ends = 2 if operation.name in ("GLOBAL", "INST") else 1
                for _ in range(ends):
                    length = rest.index(b"\n", length) + 1
            else:
                width = {-2: 1, -3: 4, -4: 4, -5: 8}[count]
                length += width + int.from_bytes(rest[1 : 1 + width], "little")
        out += rest[:length]
        at += length
    return bytes(out)


def test_theano_networks_become_the_same_as_their_successors(tmp_path):
    """E is what the official code makes of a Theano-era network: taken apart again, and imported."""
    networks = [network.state for network in read_pickle(FOLDER / "official_E.pkl")]
    states = [theano_state(state, at) for at, state in enumerate(networks)]
    (tmp_path / "old.pkl").write_bytes(foreign_files.network_pickle(states, 2, "network"))
    new, old = import_model(FOLDER / "official_E.pkl"), import_model(tmp_path / "old.pkl")
    assert (new.generator.config, new.discriminator.config) == (old.generator.config, old.discriminator.config)
    for part, module in new.parts().items():
        for name, value in module.state_dict().items():
            assert torch.allclose(old.parts()[part].state_dict()[name], value, atol=1e-5), name
    assert old.level == 3
    assert old.alpha == pytest.approx(0.75)
    states[0]["build_func_spec"]["tanh_at_end"] = 1.0
    (tmp_path / "old.pkl").write_bytes(foreign_files.network_pickle(states, 2, "network"))
    with pytest.raises(ModelError, match="tanh_at_end"):
        import_model(tmp_path / "old.pkl")


def theano_state(state, at):
    """Variables as the older release kept them: a flat list, each weight of unit size beside its scale."""
    values, discriminator = dict(state["variables"]), at == 1
    if discriminator:
        names = ["FromRGB_lod0", "16x16/Conv0", "16x16/Conv1", "FromRGB_lod1", "8x8/Conv0", "8x8/Conv1", "FromRGB_lod2"]
        names += ["4x4/Conv", "4x4/Dense0", "4x4/Dense1"]
    else:
        names = ["4x4/Dense", "4x4/Conv", "8x8/Conv0", "8x8/Conv1", "16x16/Conv0", "16x16/Conv1"]
        names += ["ToRGB_lod0", "ToRGB_lod1", "ToRGB_lod2"]
    params = []
    for name in names:
        weight, bias = np.asarray(values[f"{name}/weight"], np.float64), values[f"{name}/bias"]
        gain = np.sqrt(2) / 4 if name == "4x4/Dense" else 1.0 if "ToRGB" in name or "Dense1" in name else np.sqrt(2)
        scale = 0.37  # any number: the effective weight is what counts
        weight = weight * (gain / np.sqrt(np.prod(weight.shape[:-1]))) / scale
        if name == "4x4/Dense":
            weight = weight.reshape(weight.shape[0], -1, 4, 4).transpose(1, 0, 2, 3)
        elif name == "4x4/Dense0":
            weight = weight.T.reshape(weight.shape[1], -1, 4, 4)[:, :, ::-1, ::-1]
        elif "RGB" in name:
            weight = weight[0, 0]
        elif "Conv" in name:
            weight = weight[::-1, ::-1].transpose(3, 2, 0, 1)
        params += [weight.astype(np.float32), np.float32(scale), bias]
    kwargs = {k: v for k, v in state["static_kwargs"].items() if k not in ("fused_scale", "mbstd_group_size")}
    return {
        "build_func_spec": {"func": "D_paper" if discriminator else "G_paper", **kwargs},
        "build_module_src": "raise SystemExit('executed')",
        "param_values": params,
        "toplevel_params": {"cur_lod": np.float32(1.25)},
    }


def test_nothing_is_executed(tmp_path):
    marker, target = tmp_path / "executed", tmp_path / "net.pkl"
    for call, name in (
        ((os.system, (f"touch {marker}",)), "system"),
        ((eval, (f"open({str(marker)!r}, 'w')",)), "eval"),
        ((open, (str(marker), "w")), "open"),
    ):
        for protocol in (2, 4, 5):
            target.write_bytes(
                foreign_files.dumped((foreign_files.Malicious(*call), foreign_files.Malicious(*call)), protocol)
            )
            with pytest.raises(ModelError, match=rf"asks for \w+\.{name}, which no"):
                import_model(target)
    foreign_files.write_official(target, {"resolution": 8, "fmap_max": 8}, {"resolution": 8, "fmap_max": 8})
    import_model(target)  # its build_module_src would end the process
    assert not marker.exists()


def test_unknown_networks_and_other_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "net.pkl"
    small = {"resolution": 8, "fmap_base": 64, "fmap_max": 16}

    def refused(text, g=None, d=None, **changes):
        states = foreign_files.write_official(path, {**small, **(g or {})}, {**small, **(d or {})})
        if changes:
            states[0].update(changes)
            states[2].update(changes)
            path.write_bytes(foreign_files.network_pickle(states))
        with pytest.raises(ModelError, match=text) as caught:
            import_model(path)
        assert "\n" not in str(caught.value)

    refused("blur_filter", g={"blur_filter": 1})
    refused("structure 'fixed'", g={"structure": "fixed"})
    refused("dtype 'bfloat16'", d={"dtype": "bfloat16"})
    refused("built by 'G_style'", build_func_name="G_style")
    refused("version 3", version=3)
    refused("other pictures than D takes", g={"num_channels": 3})
    refused("lacks blocks.4x4.conv.weight", variables=official_without("4x4/Conv/weight", small))
    for value, text in ((b"", "no model"), (b"\x80\x04", "whole"), (b"PK\x03\x04junk", "no model")):
        path.write_bytes(value)
        with pytest.raises(ModelError, match=text):
            import_model(path)
    with pytest.raises(ModelError, match="does not exist"):
        import_model(tmp_path / "nothing.pkl")
    with pytest.raises(ModelError, match="directory"):
        import_model(tmp_path)


def official_without(name, options):
    return [(n, v) for n, v in foreign_files.official_variables("G_paper", options, 1) if n != name]


def test_the_error_names_other_projects(tmp_path):
    path = tmp_path / "net.pkl"
    for module, name, project in (
        ("dnnlib.tflib.network", "Network", "StyleGAN"),
        ("torch_utils.persistence", "_reconstruct_persistent_obj", "StyleGAN2-ADA"),
    ):
        path.write_bytes(b"\x80\x03c" + module.encode() + b"\n" + name.encode() + b"\n)\x81.")
        with pytest.raises(ModelError, match=project):
            import_model(path)


def test_truncated_files_are_refused(tmp_path):
    data = (FOLDER / "official_C.pkl").read_bytes()
    for length in (1, 3, 100, 5000, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.pkl").write_bytes(data[:length])
        with pytest.raises(ModelError, match=r"copy it again|no model that can be imported"):
            import_model(tmp_path / "cut.pkl")


@pytest.mark.long
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_mutated_file_is_a_model_or_one_error(tmp_path, data):
    whole = bytearray(mutable(tmp_path))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "mutated.pkl"
    path.write_bytes(whole)
    message = ""
    try:
        import_model(path)
    except ModelError as error:
        message = str(error)
    assert "\n" not in message


def mutable(tmp_path):
    """A small file, so that most mutations hit its structure."""
    path = tmp_path / "small.pkl"
    if not path.exists():
        options = {"resolution": 4, "fmap_base": 4, "fmap_max": 2, "latent_size": 2}
        foreign_files.write_official(path, options, options)
    return path.read_bytes()


def test_a_hostile_memo_costs_no_memory(tmp_path):
    # "remember this as number 4,000,000,000": the unpickler in C would make room for as many
    (tmp_path / "memo.pkl").write_bytes(b"\x80\x02Nr" + struct.pack("<I", 4_000_000_000) + b".")
    with pytest.raises(ModelError, match="does not hold the three networks"):
        import_model(tmp_path / "memo.pkl")
    huge = pickle.dumps(b"")[:-1] + b"\x8e" + struct.pack("<Q", 1 << 40)
    (tmp_path / "huge.pkl").write_bytes(huge)
    with pytest.raises(ModelError, match=r"needs more memory than there is|copy it again"):
        import_model(tmp_path / "huge.pkl")


def test_a_pickle_that_refers_to_the_same_objects_many_times_is_refused(tmp_path):
    """24 levels of lists, each with four references to the one below: 318 bytes, 4^24 paths."""
    below = ["laugh"]
    for _ in range(24):
        below = [below] * 4
    path = tmp_path / "laughs.pkl"
    path.write_bytes(pickle.dumps(below, protocol=2))
    assert path.stat().st_size < 1000
    with pytest.raises(ModelError, match="far more often"):
        import_model(path)


def laughs(kind, levels=24):
    below = "laugh"
    for _ in range(levels):
        below = kind([below] * 4)
    return below


NETWORK = b"\x80\x02cnetwork\nNetwork\n)\x81"
HOSTILE = {
    "lists": pickle.dumps(laughs(list), 2),
    "tuples": pickle.dumps(laughs(tuple), 2),
    "tuples in three networks": b"\x80\x02(" + (NETWORK[2:] + pickle.dumps(laughs(tuple), 2)[2:-1] + b"b") * 3 + b"t.",
    # nothing hashes them: the key is refused before it is used
    "tuples as a key": b"\x80\x02}" + pickle.dumps(laughs(tuple), 2)[2:-1] + b"Ns.",
    "tuples as keys": b"\x80\x02}(" + pickle.dumps(laughs(tuple), 2)[2:-1] + b"Nu.",
    "tuples as keys of a dictionary": b"\x80\x02(" + pickle.dumps(laughs(tuple), 2)[2:-1] + b"Nd.",
    "tuples in a set": b"\x80\x04\x8f(" + pickle.dumps(laughs(tuple), 2)[2:-1] + b"\x90.",
    "tuples in a frozen set": b"\x80\x04(" + pickle.dumps(laughs(tuple), 2)[2:-1] + b"\x91.",
    "tuples as a type of numbers": b"\x80\x02cnumpy\ndtype\n(" + pickle.dumps(laughs(tuple), 2)[2:-1] + b"tR.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "millions of lists": b"\x80\x02" + b"]" * (4 << 20) + b".",
    "the state of a function": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aNsb.",
    "the state of a class": b"\x80\x02cnetwork\nNetwork\n}X\x01\x00\x00\x00aNsb.",
    # a text of 1 MiB, encoded 1,000 times
    "texts encoded again and again": b"\x80\x02c_codecs\nencode\nq\x00X\x00\x00\x10\x00" + b"a" * (1 << 20)
    + b"X\x06\x00\x00\x00latin1\x86q\x01" + b"h\x00h\x01R" * 1000 + b".",
}  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_end_at_once_in_one_line(content, tmp_path):
    (tmp_path / "hostile.pkl").write_bytes(content)
    assert refused(ModelError, lambda: import_model(tmp_path / "hostile.pkl"))


@pytest.mark.long
@pytest.mark.parametrize("name", ["tuples in three networks", "millions of lists", "texts encoded again and again"])
def test_the_memory_of_hostile_pickles_is_bounded(name, tmp_path):
    path = tmp_path / "hostile.pkl"
    path.write_bytes(HOSTILE[name])
    done = bounded_run(["import", str(path), str(tmp_path / "out.safetensors")], memory=4096, seconds=30)
    assert done.status == 1
    assert len(done.err.splitlines()) == 1, done.err
    assert "unexpected" not in done.err
    assert done.peak < 1000


@pytest.mark.long
def test_changed_pickles(tmp_path, fuzz_rounds):
    whole, path, dice = mutable(tmp_path), tmp_path / "changed.pkl", random.Random(0)
    refusals = 0
    for _ in range(fuzz_rounds(150)):
        path.write_bytes(mutate(whole, dice))
        refusals += refused(ModelError, lambda: import_model(path))
    assert refusals > fuzz_rounds(150) // 3
