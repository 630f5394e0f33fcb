"""pggan: progressive-growing GANs, from images to a face generator.

>>> import pggan
>>> model = pggan.load("portraits", device="cpu")  # a shipped model; or a model file, or a run directory
>>> images = model.generate([0, 1, 2])
>>> images.shape, str(images.dtype)
((3, 128, 128, 3), 'uint8')

`prepare`, `train`, `load`, `evaluate` and `report` do what the commands of those names do. What `__all__` lists is the
library; everything else may change in any version.

`import pggan` is instant: what it offers is imported, and torch with it, when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pggan.utils.startup import set_thread_waiting
from pggan.utils.version import __version__

if TYPE_CHECKING:
    from pggan.api import evaluate, prepare, report, train
    from pggan.data.prepare.prepare import PrepareReport
    from pggan.data.prepare.prepare_options import PrepareOptions
    from pggan.editing.blend import blend_models, cross_over
    from pggan.editing.directions import find_classes, find_components, find_marks, find_scores, find_sefa
    from pggan.editing.directions_file import DirectionSet, read_directions
    from pggan.editing.keyframes import Keyframes, keyframe_video, read_keyframes
    from pggan.editing.latent_sources import read_latents
    from pggan.editing.latents_file import LatentSet
    from pggan.editing.projection.picture_input import read_picture
    from pggan.editing.projection.project import ProjectOptions, project
    from pggan.editing.projection.tuning import read_tuned, tune
    from pggan.generation.grid import Grid, image_grid, to_pil
    from pggan.generation.model import Model, load
    from pggan.generation.video import VideoOptions, interpolate
    from pggan.model_evaluation import EvaluateOptions, Evaluation
    from pggan.report.page import Report
    from pggan.training.loop import RunResult
    from pggan.training.run.post_hoc import average_snapshots, build_average
    from pggan.utils.errors import DataError, ModelError, PgganError, TrainingError, UsageError

# The public names, by the modules from which they are imported on first use.
_OFFERED = {
    "pggan.api": ("evaluate", "prepare", "report", "train"),
    "pggan.data.prepare.prepare": ("PrepareReport",),
    "pggan.data.prepare.prepare_options": ("PrepareOptions",),
    "pggan.editing.blend": ("blend_models", "cross_over"),
    "pggan.editing.directions": ("find_classes", "find_components", "find_marks", "find_scores", "find_sefa"),
    "pggan.editing.directions_file": ("DirectionSet", "read_directions"),
    "pggan.editing.keyframes": ("Keyframes", "keyframe_video", "read_keyframes"),
    "pggan.editing.latent_sources": ("read_latents",),
    "pggan.editing.latents_file": ("LatentSet",),
    "pggan.editing.projection.picture_input": ("read_picture",),
    "pggan.editing.projection.project": ("ProjectOptions", "project"),
    "pggan.editing.projection.tuning": ("read_tuned", "tune"),
    "pggan.generation.grid": ("Grid", "image_grid", "to_pil"),
    "pggan.generation.model": ("Model", "load"),
    "pggan.generation.video": ("VideoOptions", "interpolate"),
    "pggan.model_evaluation": ("EvaluateOptions", "Evaluation"),
    "pggan.report.page": ("Report",),
    "pggan.training.loop": ("RunResult",),
    "pggan.utils.errors": ("DataError", "ModelError", "PgganError", "TrainingError", "UsageError"),
    "pggan.training.run.post_hoc": ("average_snapshots", "build_average"),
}
_MODULE_OF = {name: module for module, names in _OFFERED.items() for name in names}

__all__ = sorted([*_MODULE_OF, "__version__", "set_thread_waiting"])


def __getattr__(name: str) -> Any:
    """Imports what the package offers on first use (PEP 562)."""
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'pggan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
