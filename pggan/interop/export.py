"""Exports a generator as ONNX or as a torch.export program: one level per file, any batch size, verified.

The program's inputs are `latents` float32 (N, latent_size) and, for a conditional model, `labels` float32 (N,
label_size); its output is `images` float32 (N, C, R, R), nominally in [-1, 1]. Level and alpha are constants, weights
have their run-time scale.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pggan.config.content.channels import RGBA
from pggan.generation.model import Model
from pggan.networks.layers import EqualizedLayer, UpscaleConv2d
from pggan.utils.atomic_files import replace_atomically
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.formatting import one_line
from pggan.utils.version import __version__

# Format -> file extension.
FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
# Largest difference of a pixel from PyTorch.
TOLERANCE = 1e-4
# Batch sizes that a program is checked with, and those from LARGE pixels of a side on.
BATCHES, LARGE_BATCHES, LARGE = (1, 3, 8), (1, 2), 512
# The opset that torch's exporter writes natively, and runtimes since 2023 run; the newest that a torch is known to
# write if it does not say.
DEFAULT_OPSET, _KNOWN_LIMIT = 18, 20
# An ONNX file is one protobuf message, at most 2 GiB; 16 MiB of that are left for the graph.
_ONNX_BYTES = 2**31 - 2**24

# A program as a function: latents, labels (None: unconditional) -> images.
Run = Callable[[NDArray[np.float32], NDArray[np.float32] | None], NDArray[np.float32]]


class _Program(nn.Module):
    """The generator at one level and alpha, with weights at their run-time scale."""

    def __init__(self, model: Model, level: int, alpha: float) -> None:
        super().__init__()
        self.generator = copy.deepcopy(model.file.generator).cpu().float()
        for module in self.generator.modules():
            if isinstance(module, EqualizedLayer):
                weight = module.effective_weight().detach()
                if isinstance(module, UpscaleConv2d) and module.fused:  # exporters do not fold constants that are large
                    module.prepared_weight = module.operand(weight, weight.dtype).contiguous()
                    weight = weight.new_zeros(1)
                module.weight = nn.Parameter(weight, requires_grad=False)
                vars(module)["effective_weight"] = functools.partial(getattr, module, "weight")
        self.level = level
        # at alpha 1 the level below has no effect, and is not in the program
        self.register_buffer("alpha", None if alpha == 1.0 else torch.tensor(alpha))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.generator(latents, self.level, self.alpha, labels)


def export_model(
    model: Model,
    out: str | Path,
    kind: str,
    level: int | None = None,
    overwrite: bool = False,
    opset: int | None = None,
) -> dict[str, Any]:
    """Writes one level of a generator to a file. Where it fails, no file is left.

    Args:
        model: to export.
        out: the file to write.
        kind: "onnx" or "torch".
        level: log2 of the resolution; None for the stored level at its alpha. Other levels have alpha 1.
        overwrite: whether an existing file is replaced.
        opset: of an ONNX file, from DEFAULT_OPSET, which None stands for.

    Returns:
        What was written: file, format, resolution, alpha, versions, largest difference from PyTorch, size in bytes.

    Raises:
        UsageError: a package is missing, `out` exists, or the model has no such level.
        ModelError: the program's images differ from PyTorch's by more than 1e-4.
    """
    path = Path(out)
    if kind not in FORMATS:
        raise UsageError(f"--format {kind} is none of {', '.join(FORMATS)}")
    if opset is not None and kind != "onnx":
        raise UsageError("--opset belongs to --format onnx; leave it out")
    _check_out(path, overwrite)
    chosen = model.file.level if level is None else level
    _check_level(model, chosen)
    alpha = model.file.alpha if chosen == model.file.level else 1.0
    program = _Program(model, chosen, alpha).eval()
    report: dict[str, Any] = {"file": str(path), "format": kind, "resolution": 2**chosen, "alpha": alpha}

    def write(temporary: Path) -> None:
        metadata = _metadata(model, chosen, alpha)
        if kind == "onnx":
            run, version = _write_onnx(program, model, temporary, metadata, opset or DEFAULT_OPSET)
        else:
            run, version = _write_torch(program, model, temporary, metadata)
        report.update(version, **_compare(model, chosen, alpha, run))

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_atomically(path, write)
    return {**report, "bytes": path.stat().st_size}


def _check_out(path: Path, overwrite: bool) -> None:
    """Raises `UsageError` where the file must not be written."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already; give another OUT, or --overwrite to replace it")
    if path.is_dir():
        raise UsageError(f"{path} is a directory; give a file, or --all-levels to fill it")


def _check_level(model: Model, level: int) -> None:
    """Raises `UsageError` where the generator has no such level."""
    config = model.file.generator.config
    if not config.min_level <= level <= config.max_level:
        first, last = 2**config.min_level, 2**config.max_level
        levels = f"{first}x{first} to {last}x{last}" if first < last else f"{last}x{last} only"
        raise UsageError(f"the model has no {2**level}x{2**level} pictures; it has {levels}")


def _example(model: Model, count: int) -> tuple[Tensor, ...]:
    """A program's inputs: latents of the first seeds, and labels if it takes them."""
    latents = torch.from_numpy(model.seed_latents(range(count)))
    labels = model.seed_labels(range(count))
    return (latents,) if labels is None else (latents, torch.from_numpy(labels))


def _compare(model: Model, level: int, alpha: float, run: Run) -> dict[str, Any]:
    """Returns the largest difference from PyTorch, and the batch sizes. Raises `ModelError` above TOLERANCE."""
    worst = 0.0
    batches = BATCHES if 2**level < LARGE else LARGE_BATCHES
    for count in batches:
        inputs = [tensor.numpy() for tensor in _example(model, count)]
        labels = inputs[1] if len(inputs) > 1 else None
        expected = model.synthesize(inputs[0], labels, level, alpha).cpu().numpy()
        images = run(inputs[0], labels)
        if images.shape != expected.shape:
            raise ModelError(f"the exported program makes {images.shape} where PyTorch makes {expected.shape}")
        if not (np.isfinite(images).all() and np.isfinite(expected).all()):
            raise ModelError("the pictures are not finite; the model is damaged or diverged, choose an earlier one")
        worst = max(worst, float(np.abs(images - expected).max()))
    if worst > TOLERANCE:
        raise ModelError(f"the exported program differs from PyTorch by {worst:.2g}, more than {TOLERANCE:g}")
    return {"max_difference": worst, "batches": list(batches)}


def _write_torch(program: _Program, model: Model, path: Path, metadata: dict[str, str]) -> tuple[Run, dict[str, Any]]:
    """Writes a torch.export program; returns the program read back, and its version."""
    batch = torch.export.Dim("batch")
    example = _example(model, 2)
    with _quiet():
        exported = torch.export.export(
            program, example, dynamic_shapes=tuple({0: batch} for _ in example), strict=False
        )
        for node in exported.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        content = io.BytesIO()  # torch's own writer of files ends the process where the disk is full
        torch.export.save(exported, content, extra_files={"pggan.json": json.dumps(metadata)})
        path.write_bytes(content.getbuffer())
        loaded = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run(latents: NDArray[np.float32], labels: NDArray[np.float32] | None) -> NDArray[np.float32]:
        inputs = [torch.from_numpy(array) for array in (latents, labels) if array is not None]
        with torch.inference_mode():
            return loaded(*inputs).numpy()

    return run, {"torch": torch.__version__}


def _write_onnx(
    program: _Program, model: Model, path: Path, metadata: dict[str, str], opset: int
) -> tuple[Run, dict[str, Any]]:
    """Writes an ONNX file; returns it as onnxruntime runs it, its opset and its IR version."""
    onnx, runtime = _import_onnx()
    _check_opset(onnx, opset)
    example = _example(model, 2)
    names = ["latents", "labels"][: len(example)]
    dynamic = tuple({0: "batch"} for _ in example)
    try:
        with _quiet(), torch.inference_mode():
            exported = torch.onnx.export(
                program, example, dynamo=True, dynamic_shapes=dynamic, input_names=names, output_names=["images"],
                opset_version=opset,
            )  # fmt: skip
    except ImportError:  # onnxscript is too old for this torch
        raise UsageError("ONNX needs newer packages: pip install --upgrade 'pggan[onnx]'") from None
    assert exported is not None
    weights = [initializer.const_value for initializer in exported.model.graph.initializers.values()]
    if sum(weight.nbytes for weight in weights if weight is not None) > _ONNX_BYTES:
        raise ModelError("the model is above the 2 GiB that one ONNX file holds; give --format torch")
    proto = exported.model_proto
    graph = proto.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")  # stack traces, with paths of this machine
    onnx.helper.set_model_props(proto, metadata)
    _set_oldest_ir(onnx, proto)
    path.write_bytes(proto.SerializeToString())
    session = _session(runtime, path, opset)

    def run(latents: NDArray[np.float32], labels: NDArray[np.float32] | None) -> NDArray[np.float32]:
        inputs = (latents, labels)[: len(names)]
        return np.asarray(session.run(["images"], dict(zip(names, inputs)))[0])

    # from the file: the exporter may fall back to an older opset than the one asked for
    written = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    return run, {"opset": written, "ir": proto.ir_version}


def _import_onnx() -> tuple[Any, Any]:
    """Returns onnx and onnxruntime. Raises `UsageError` where a package is missing."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError:
        raise UsageError("ONNX needs more packages: pip install 'pggan[onnx]'") from None
    return onnx, onnxruntime


def _check_opset(onnx: Any, opset: int) -> None:
    """Raises `UsageError` for an opset that torch's exporter does not write."""
    written = getattr(getattr(torch.onnx, "_constants", None), "ONNX_MAX_OPSET", _KNOWN_LIMIT)
    newest = min(onnx.defs.onnx_opset_version(), written)
    if not DEFAULT_OPSET <= opset <= newest:
        raise UsageError(f"--opset {opset}: the installed packages write {DEFAULT_OPSET} to {newest}")


def _set_oldest_ir(onnx: Any, proto: Any) -> None:
    """Stamps the oldest file version that has the opset, where the graph is valid in it: older runtimes take it."""
    newest, proto.ir_version = proto.ir_version, onnx.helper.find_min_ir_version_for(proto.opset_import)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError:
        proto.ir_version = newest


def _session(runtime: Any, path: Path, opset: int) -> Any:
    """Opens an ONNX file. Raises `UsageError` where the installed onnxruntime does not run it."""
    try:
        with _quiet():
            return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 (runtimes raise many kinds for an unknown opset)
        advice = "give a lower --opset, or upgrade onnxruntime" if opset > DEFAULT_OPSET else "upgrade onnxruntime"
        raise UsageError(
            f"onnxruntime {runtime.__version__} does not run opset {opset} ({one_line(error)}); {advice}"
        ) from None


def _metadata(model: Model, level: int, alpha: float) -> dict[str, str]:
    """The program's metadata. Its entry "about" is JSON: the model's name, classes and info."""
    known = {"model": model.name, "classes": model.classes, **{k: v for k, v in model.info.items() if v is not None}}
    metadata = {"pggan": __version__, "resolution": str(2**level), "alpha": str(alpha), "range": "[-1, 1]"}
    if model.channels == RGBA:
        metadata["channels"] = "RGBA, premultiplied"
    if credit := model.info.get("attribution"):
        metadata["attribution"] = credit if isinstance(credit, str) else json.dumps(credit, ensure_ascii=False)
    return {**metadata, "about": json.dumps(known, ensure_ascii=False)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporters print, warn and log."""
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
