"""A generator as ONNX or as a torch.export program: one level a file, any batch, checked against PyTorch.

A program takes `latents` float32 (N, latent_size) and, of a conditional model, `labels` float32 (N, label_size); it
gives `images` float32 (N, C, R, R) around [-1, 1]. Level and alpha are fixed, weights at their run-time scale.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pggan.generation.model import Model
from pggan.networks.layers import EqualizedLayer, UpscaleConv2d, _spread
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.version import __version__

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-4
# Batches that a program is checked with; fewer and smaller ones where pictures are large.
BATCHES, LARGE_BATCHES, LARGE = (1, 3, 8), (1, 2), 512
# What every exporter of the declared torch writes, and the newest that it is known to where it does not say.
_OLDEST_OPSET, _KNOWN_LIMIT = 18, 20
# An ONNX file is one protobuf message, which ends at 2 GiB; some room for the graph.
_ONNX_BYTES = 2**31 - 2**24

Run = Callable[[NDArray[np.float32], NDArray[np.float32] | None], NDArray[np.float32]]


def _upscale(layer: UpscaleConv2d) -> nn.ConvTranspose2d:
    """A fused layer with its 4x4 kernel made once: exporters leave large constants as they find them."""
    kernel = _spread(layer.effective_weight().flip(2, 3).transpose(0, 1)).detach().contiguous()
    made = nn.ConvTranspose2d(kernel.shape[0], kernel.shape[1], 4, stride=2, padding=1)
    made.weight, made.bias = nn.Parameter(kernel, requires_grad=False), layer.bias
    return made


class _Program(nn.Module):
    """The generator at one level and alpha; its weights are as they are used."""

    def __init__(self, model: Model, level: int, alpha: float) -> None:
        super().__init__()
        self.generator = copy.deepcopy(model.file.generator).cpu().float()
        for module in list(self.generator.modules()):
            for name, child in module.named_children():
                if isinstance(child, UpscaleConv2d) and child.fused:
                    setattr(module, name, _upscale(child))
            if isinstance(module, EqualizedLayer):
                module.weight = nn.Parameter(module.effective_weight().detach(), requires_grad=False)
                vars(module)["effective_weight"] = functools.partial(getattr, module, "weight")
        self.level = level
        # at alpha 1 the level below takes no part, and stays out of the program
        self.register_buffer("alpha", None if alpha == 1.0 else torch.tensor(alpha))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.generator(latents, self.level, self.alpha, labels)


def export_model(
    model: Model, out: str | Path, kind: str, level: int | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Writes one level (default: the stored one, at its alpha; another one at alpha 1) to a file; returns a report.

    `kind`: "onnx" or "torch". Raises `UsageError` where a package is missing or `out` exists, `ModelError` where the
    program's images differ from PyTorch's by more than 1e-4; then no file is left.
    """
    path = Path(out)
    if kind not in FORMATS:
        raise UsageError(f"--format {kind} is none of {', '.join(FORMATS)}")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already; give another OUT, or --overwrite to replace it")
    if path.is_dir():
        raise UsageError(f"{path} is a directory; give a file, or --all-levels to fill it")
    stored = model.file.level
    chosen = stored if level is None else level
    config = model.file.generator.config
    if not config.min_level <= chosen <= config.max_level:
        first, last = 2**config.min_level, 2**config.max_level
        has = f"{first}x{first} to {last}x{last}" if first < last else f"{last}x{last} only"
        raise UsageError(f"the model has no {2**chosen}x{2**chosen} pictures; it has {has}")
    alpha = model.file.alpha if chosen == stored else 1.0
    program = _Program(model, chosen, alpha).eval()
    report: dict[str, Any] = {"file": str(path), "format": kind, "resolution": 2**chosen, "alpha": alpha}

    def write(temporary: Path) -> None:
        about = _about(model, chosen, alpha)
        run, made = (_onnx if kind == "onnx" else _torch)(program, model, temporary, about)
        report.update(made, **_check(model, chosen, alpha, run))

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, write)
    return {**report, "bytes": path.stat().st_size}


def _example(model: Model, count: int) -> tuple[Tensor, ...]:
    latents = torch.from_numpy(model.seed_latents(range(count)))
    labels = model.seed_labels(range(count))
    return (latents,) if labels is None else (latents, torch.from_numpy(labels))


def _check(model: Model, level: int, alpha: float, run: Run) -> dict[str, Any]:
    """The largest difference from PyTorch, and the batches compared. Raises `ModelError` where it is too large."""
    worst = 0.0
    batches = BATCHES if 2**level < LARGE else LARGE_BATCHES
    for count in batches:
        inputs = [tensor.numpy() for tensor in _example(model, count)]
        labels = inputs[1] if len(inputs) > 1 else None
        expected = model.synthesize(inputs[0], labels, level, alpha).cpu().numpy()
        found = run(inputs[0], labels)
        if found.shape != expected.shape:
            raise ModelError(f"the exported program makes {found.shape} where PyTorch makes {expected.shape}")
        if not (np.isfinite(found).all() and np.isfinite(expected).all()):
            raise ModelError("the pictures are not finite; the model is damaged or diverged, choose an earlier one")
        worst = max(worst, float(np.abs(found - expected).max()))
    if worst > TOLERANCE:
        raise ModelError(f"the exported program differs from PyTorch by {worst:.2g}, more than {TOLERANCE:g}")
    return {"max_difference": worst, "batches": list(batches)}


def _torch(program: _Program, model: Model, path: Path, about: dict[str, str]) -> tuple[Run, dict[str, Any]]:
    batch = torch.export.Dim("batch")
    example = _example(model, 2)
    with _quiet():
        exported = torch.export.export(
            program, example, dynamic_shapes=tuple({0: batch} for _ in example), strict=False
        )
        for node in exported.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # its writer insists on the ending
            made = Path(folder) / "program.pt2"
            torch.export.save(exported, made, extra_files={"pggan.json": json.dumps(about)})
            made.replace(path)
        with open(path, "rb") as file:
            loaded = torch.export.load(io.BytesIO(file.read())).module()

    def run(latents: NDArray[np.float32], labels: NDArray[np.float32] | None) -> NDArray[np.float32]:
        given = [torch.from_numpy(each) for each in (latents, labels) if each is not None]
        with torch.inference_mode():
            return loaded(*given).numpy()

    return run, {"torch": torch.__version__}


def _onnx(program: _Program, model: Model, path: Path, about: dict[str, str]) -> tuple[Run, dict[str, Any]]:
    onnx, runtime = _packages()
    example = _example(model, 2)
    names = ["latents", "labels"][: len(example)]
    options: dict[str, Any] = {
        "input_names": names,
        "output_names": ["images"],
        "opset_version": _newest_opset(onnx, runtime),
    }
    dynamic = tuple({0: "batch"} for _ in example)
    try:
        with _quiet(), torch.inference_mode():
            exported = torch.onnx.export(program, example, dynamo=True, dynamic_shapes=dynamic, **options)
    except ImportError:  # an onnxscript that this torch is too new for
        raise UsageError("ONNX needs newer packages: pip install --upgrade 'pggan[onnx]'") from None
    assert exported is not None
    weights = [each.const_value for each in exported.model.graph.initializers.values()]
    if sum(each.nbytes for each in weights if each is not None) > _ONNX_BYTES:
        raise ModelError("the model is above the 2 GiB that one ONNX file holds; give --format torch")
    proto = exported.model_proto
    graph = proto.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")  # stack traces, with paths of this machine
    onnx.helper.set_model_props(proto, about)
    path.write_bytes(proto.SerializeToString())
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(latents: NDArray[np.float32], labels: NDArray[np.float32] | None) -> NDArray[np.float32]:
        given = (latents, labels)[: len(names)]
        return np.asarray(session.run(["images"], dict(zip(names, given)))[0])

    # what was written: the exporter may fall back to an older one
    return run, {"opset": next(each.version for each in proto.opset_import if each.domain in ("", "ai.onnx"))}


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError:
        raise UsageError("ONNX needs more packages: pip install 'pggan[onnx]'") from None
    return onnx, onnxruntime


def _newest_opset(onnx: Any, runtime: Any) -> int:
    """The newest opset that the installed onnxruntime runs and torch's exporter writes: tried, newest first."""
    written = getattr(getattr(torch.onnx, "_constants", None), "ONNX_MAX_OPSET", _KNOWN_LIMIT)
    helper = onnx.helper
    for opset in range(min(onnx.defs.onnx_opset_version(), written), _OLDEST_OPSET, -1):
        value, result = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [value], [result])
        probe = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        # not the newest file version, which an older runtime refuses whatever the opset
        probe.ir_version = helper.find_min_ir_version_for(probe.opset_import)
        try:
            with _quiet():
                runtime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
            return opset
        except Exception:  # noqa: BLE001 (whatever the runtime raises for an opset it does not know)
            continue
    return _OLDEST_OPSET


def _about(model: Model, level: int, alpha: float) -> dict[str, str]:
    """What the program is and comes from, for its metadata; `about` is JSON: the model's name, classes and info."""
    known = {"model": model.name, "classes": model.classes, **{k: v for k, v in model.info.items() if v is not None}}
    about = {"pggan": __version__, "resolution": str(2**level), "alpha": str(alpha), "range": "[-1, 1]"}
    if credit := model.info.get("attribution"):
        about["attribution"] = credit if isinstance(credit, str) else json.dumps(credit, ensure_ascii=False)
    return {**about, "about": json.dumps(known, ensure_ascii=False)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters print, warn and log on the way."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript", "onnx_ir", "onnxruntime")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
