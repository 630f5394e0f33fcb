"""pggan: progressive-growing GANs, from images to a face generator.

>>> import pggan
>>> model = pggan.load("run")          # a model file, a run directory or the name of a shipped model
>>> images = model.generate([0, 1, 2])  # uint8 (3, H, W, C)

`import pggan` is instant: what it offers is imported, and torch with it, when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pggan.utils.startup import set_thread_waiting
from pggan.utils.version import __version__

__all__ = [
    "DirectionSet", "Keyframes", "LatentSet", "Model", "__version__", "average_snapshots", "blend_models",
    "build_average", "cross_over", "find_classes", "find_components", "find_marks", "find_scores", "find_sefa",
    "keyframe_video", "load", "project", "read_directions", "read_keyframes", "read_latents", "read_picture",
    "read_tuned", "set_thread_waiting", "tune",
]  # fmt: skip

if TYPE_CHECKING:
    from pggan.editing.blend import blend_models, cross_over
    from pggan.editing.directions import find_classes, find_components, find_marks, find_scores, find_sefa
    from pggan.editing.directions_file import DirectionSet, read_directions
    from pggan.editing.keyframes import Keyframes, keyframe_video, read_keyframes
    from pggan.editing.latent_sources import read_latents
    from pggan.editing.latents_file import LatentSet
    from pggan.editing.projection.picture_input import read_picture
    from pggan.editing.projection.project import project
    from pggan.editing.projection.tuning import read_tuned, tune
    from pggan.generation.model import Model, load
    from pggan.training.run.post_hoc import average_snapshots, build_average

# Modules, and what is imported from them on first use.
_OFFERED = {
    "pggan.editing.blend": ("blend_models", "cross_over"),
    "pggan.editing.directions": ("find_classes", "find_components", "find_marks", "find_scores", "find_sefa"),
    "pggan.editing.directions_file": ("DirectionSet", "read_directions"),
    "pggan.editing.keyframes": ("Keyframes", "keyframe_video", "read_keyframes"),
    "pggan.editing.latent_sources": ("read_latents",),
    "pggan.editing.latents_file": ("LatentSet",),
    "pggan.editing.projection.picture_input": ("read_picture",),
    "pggan.editing.projection.project": ("project",),
    "pggan.editing.projection.tuning": ("read_tuned", "tune"),
    "pggan.generation.model": ("Model", "load"),
    "pggan.training.run.post_hoc": ("average_snapshots", "build_average"),
}
_MODULE_OF = {name: module for module, names in _OFFERED.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports what the package offers on first use (PEP 562)."""
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'pggan' has no attribute {name!r}")
