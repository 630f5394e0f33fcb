"""pggan: progressive-growing GANs, from images to a face generator.

>>> import pggan
>>> model = pggan.load("run")          # a model file, a run directory or the name of a shipped model
>>> images = model.generate([0, 1, 2])  # uint8 (3, H, W, C)

`import pggan` is instant: `load` and `Model` import torch when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pggan.utils.startup import set_thread_waiting
from pggan.utils.version import __version__

__all__ = ["Model", "__version__", "load", "set_thread_waiting"]

if TYPE_CHECKING:
    from pggan.generation.model import Model, load


def __getattr__(name: str) -> Any:
    """Imports `load` and `Model` on first use (PEP 562)."""
    if name in ("load", "Model"):
        from pggan.generation import model

        return getattr(model, name)
    raise AttributeError(f"module 'pggan' has no attribute {name!r}")
