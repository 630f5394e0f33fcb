"""Exported programs against PyTorch: every level, labels, fades, any batch, and what cannot be exported."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import pggan
from pggan.cli import run
from pggan.config.train import GeneratorConfig
from pggan.generation.model import Model
from pggan.interop import export
from pggan.interop.export import export_model
from pggan.networks.factory import make_generator
from pggan.networks.model_file import ModelFile
from pggan.utils.devices import set_precision
from pggan.utils.errors import ModelError, UsageError
from tests.helpers import foreign_files
from tests.helpers.model_files import saved

onnxruntime = pytest.importorskip("onnxruntime")


def programs(path, kind):
    """The file as a function of arrays."""
    if kind == "onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_inputs()]
        return lambda *inputs: session.run(["images"], dict(zip(names, inputs)))[0]
    module = torch.export.load(str(path)).module()
    return lambda *inputs: module(*map(torch.from_numpy, inputs)).detach().numpy()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["onnx", "torch"])
@pytest.mark.parametrize(
    "options",
    [
        {"resolution": 32},
        {"labels": 3, "channels": 1, "resolution": 8},
        {"resolution": 16, "g_fields": [("resample", "bilinear")]},
    ],
)
def test_every_level_computes_what_pytorch_computes(kind, options, tmp_path):
    model = pggan.load(saved(tmp_path / "m.safetensors", **options), "cpu")
    for level in range(2, model.file.level + 1):
        path = tmp_path / f"{level}{export.FORMATS[kind]}"
        report = export_model(model, path, kind, level)
        assert report["max_difference"] <= 1e-4
        latents = np.random.default_rng(1).standard_normal((5, model.latent_size)).astype(np.float32)
        labels = model.seed_labels(range(5))
        inputs = (latents,) if labels is None else (latents, labels)
        expected = model.synthesize(latents, labels, level).numpy()
        images = programs(path, kind)(*inputs)
        assert images.shape == expected.shape
        assert np.abs(images - expected).max() <= 1e-4


@pytest.mark.long
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_a_fading_model_keeps_its_stage(kind, tmp_path):
    model = pggan.load(saved(tmp_path / "m.safetensors", level=4, alpha=0.3), "cpu")
    path = tmp_path / f"m{export.FORMATS[kind]}"
    assert export_model(model, path, kind)["alpha"] == 0.3
    latents = np.ones((2, model.latent_size), np.float32)
    latents[1, 3] = -2
    assert np.abs(programs(path, kind)(latents) - model.synthesize(latents).numpy()).max() <= 1e-4
    assert np.abs(programs(path, kind)(latents) - model.synthesize(latents, alpha=1.0).numpy()).max() > 1e-3


@pytest.mark.long
def test_imported_networks_are_exported_with_their_conventions(tmp_path):
    from pggan.interop.import_model import import_model
    from pggan.networks.model_file import save_model

    state = foreign_files.zoo_state([8, 8, 6], lossCriterion="DCGAN", leakyReluLeak=0.1)
    save_model(tmp_path / "m.safetensors", import_model(foreign_files.write_zoo(tmp_path / "z.pt", state)))
    model = pggan.load(tmp_path / "m.safetensors", "cpu")
    for kind, ending in export.FORMATS.items():
        assert export_model(model, tmp_path / f"m{ending}", kind)["max_difference"] <= 1e-4


@pytest.mark.long
def test_an_onnx_file_has_metadata_and_only_the_weights_it_needs(tmp_path):
    import onnx

    model = pggan.load(saved(tmp_path / "m.safetensors", resolution=32), "cpu")
    model.file.info["attribution"] = "drawn by nobody"
    report = export_model(model, tmp_path / "m.onnx", "onnx")
    assert report["batches"] == [1, 3, 8]
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(proto)
    assert proto.opset_import[0].version == report["opset"] == 18
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert (metadata["range"], metadata["resolution"], metadata["attribution"]) == ("[-1, 1]", "32", "drawn by nobody")
    # no coarse branch at alpha 1: its ToRGB is not there
    weights = sum(int(np.prod(weight.dims)) for weight in proto.graph.initializer)
    assert weights < 1.3 * sum(p.numel() for n, p in model.file.generator.named_parameters() if "to_rgb.16" not in n)
    assert [entry.name for entry in proto.graph.input] == ["latents"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.safetensors"]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_large_weights_are_constants_too(kind, tmp_path):
    # above what the exporters fold by themselves
    config = GeneratorConfig(resolution=8, fmap_base=512, fmap_max=256, latent_size=8)
    generator = make_generator(config).eval().requires_grad_(False)
    model = Model(ModelFile(generator, None, 3, 1.0), torch.device("cpu"))
    path = tmp_path / f"m{export.FORMATS[kind]}"
    export_model(model, path, kind)
    if kind == "onnx":
        import onnx

        operations = [node.op_type for node in onnx.load(path).graph.node]
        assert not {"Pad", "Slice"} & set(operations)
        assert operations.count("ConvTranspose") == 1
    else:
        operations = [str(node.target) for node in torch.export.load(path).graph.nodes]
        assert operations
        assert not any(name.startswith(("aten.pad", "aten.slice", "aten.flip")) for name in operations)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_the_file_names_no_path_of_this_machine(kind, tmp_path):
    model = pggan.load(saved(tmp_path / "m.safetensors", resolution=8), "cpu")
    path = tmp_path / f"m{export.FORMATS[kind]}"
    export_model(model, path, kind)
    parts = [path.read_bytes()]
    if kind == "torch":
        with zipfile.ZipFile(path) as archive:
            parts = [archive.read(name) for name in archive.namelist()]
    for folder in (Path(pggan.__file__).parent, Path(torch.__file__).parent, tmp_path):
        assert not any(str(folder).encode() in part for part in parts)


@pytest.mark.long
@pytest.mark.parametrize("opset, ir", [(None, 8), (20, 9)])
def test_an_onnx_file_is_stamped_with_the_oldest_version_that_has_its_opset(opset, ir, tmp_path):
    import onnx

    model = pggan.load(saved(tmp_path / "m.safetensors", resolution=8), "cpu")
    report = export_model(model, tmp_path / "m.onnx", "onnx", opset=opset)
    proto = onnx.load(tmp_path / "m.onnx")
    assert (report["opset"], report["ir"]) == (opset or 18, ir)
    assert (proto.opset_import[0].version, proto.ir_version) == (opset or 18, ir)
    onnx.checker.check_model(proto)


def test_an_opset_that_nothing_here_writes_or_runs_is_refused(tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    model = pggan.load(saved(tmp_path / "m.safetensors", resolution=4), "cpu")
    for opset in (17, 99):
        with pytest.raises(UsageError, match=rf"--opset {opset}: the installed packages write 18 to 2\d"):
            export_model(model, tmp_path / "m.onnx", "onnx", opset=opset)
    with pytest.raises(UsageError, match="--opset belongs to --format onnx"):
        export_model(model, tmp_path / "m.pt2", "torch", opset=18)

    def unknown(path, providers):
        raise RuntimeError(f"Unsupported model IR version: {onnx.load(path).ir_version}, max supported 8")

    monkeypatch.setattr(onnxruntime, "InferenceSession", unknown)
    with pytest.raises(UsageError, match=r"does not run opset 20 \(.*IR version: 9.*give a lower --opset"):
        export_model(model, tmp_path / "m.onnx", "onnx", opset=20)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.long
def test_the_command_exports_one_or_all_levels_and_refuses_the_rest(tmp_path, capsys):
    model = str(saved(tmp_path / "m.safetensors", resolution=8))
    assert run(["export", model, str(tmp_path / "a.pt2"), "--res", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["resolution"] == 4
    assert run(["export", model, str(tmp_path / "all"), "--all-levels"]) == 0
    assert capsys.readouterr().out.count("differs from PyTorch by at most") == 2
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["m-4x4.onnx", "m-8x8.onnx"]
    (tmp_path / "all" / "m-4x4.onnx").unlink()
    for arguments, says in (
        ([str(tmp_path / "a.pt2")], "exists already"),
        ([str(tmp_path / "a.bin")], "give --format"),
        ([str(tmp_path / "b.onnx"), "--res", "16"], "no 16x16 pictures"),
        ([str(tmp_path / "b.onnx"), "--res", "5"], "power of two"),
        ([str(tmp_path / "b"), "--all-levels", "--res", "4"], "exclude"),
        ([str(tmp_path / "all"), "--all-levels"], "exists already"),
    ):
        assert run(["export", model, *arguments]) == 2
        assert says in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "all").iterdir()] == ["m-8x8.onnx"]  # seen before any was written


@pytest.mark.long
def test_what_goes_wrong_leaves_no_file(tmp_path, monkeypatch):
    def too_old(*arguments, **options):
        raise ModuleNotFoundError("No module named 'onnxscript._framework_apis'")

    model = pggan.load(saved(tmp_path / "m.safetensors", resolution=8), "cpu")
    monkeypatch.setattr(export, "_ONNX_BYTES", 10)
    with pytest.raises(ModelError, match="2 GiB"):
        export_model(model, tmp_path / "m.onnx", "onnx")
    monkeypatch.undo()
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="differs from PyTorch"):
        export_model(model, tmp_path / "m.onnx", "onnx")
    monkeypatch.setattr(torch.onnx, "export", too_old)
    with pytest.raises(UsageError, match="newer packages"):
        export_model(model, tmp_path / "m.onnx", "onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"pip install 'pggan\[onnx\]'"):
        export_model(model, tmp_path / "m.onnx", "onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.long
@pytest.mark.parametrize("arch,norm", [("pggan", "virtual-batch"), ("fc", "none"), ("dcgan", "virtual-batch")])
def test_other_architectures_are_exported_too(arch, norm, tmp_path):
    """Codes are inputs beside the noise; the reference batch is part of the program."""
    config = GeneratorConfig(
        resolution=16, fmap_base=128, fmap_max=32, latent_size=8, arch=arch, norm=norm, categorical=(3,), continuous=1
    )
    generator = make_generator(config).eval().requires_grad_(False)
    model = Model(ModelFile(generator, None, 4, 1.0), torch.device("cpu"))
    export_model(model, tmp_path / "m.onnx", "onnx")
    latents = model.seed_latents(range(5))
    assert latents.shape == (5, 12)
    program = programs(tmp_path / "m.onnx", "onnx")
    assert np.abs(program(latents) - model.synthesize(latents).numpy()).max() <= 1e-4
    assert np.abs(program(latents[2:3]) - program(latents)[2:3]).max() <= 1e-5
    if arch != "pggan":
        with pytest.raises(UsageError, match="it has 16x16 only"):
            export_model(model, tmp_path / "low.onnx", "onnx", 3)


@pytest.mark.long
def test_exporting_works_after_training_in_the_same_process(tmp_path):
    """A run sets how GPUs multiply float32; exporters look at that."""
    model = pggan.load(saved(tmp_path / "m.safetensors", resolution=4), "cpu")
    for precision in ("tf32", "fp32"):
        set_precision(precision)
        assert export_model(model, tmp_path / f"{precision}.pt2", "torch")["max_difference"] <= 1e-4
