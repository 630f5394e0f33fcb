"""pggan: progressive-growing GANs, from pictures to a face generator.

>>> import pggan
>>> model = pggan.load("run")            # a file, a run directory or a shipped model's name
>>> pictures = model.generate([0, 1, 2])  # uint8 (3, H, W, C)

Importing the package is instant: torch is loaded by the first call that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load"]

if TYPE_CHECKING:
    from pggan.generation.model import Model, load


def __getattr__(name: str) -> Any:
    if name in ("load", "Model"):
        from pggan.generation import model

        return getattr(model, name)
    raise AttributeError(f"module 'pggan' has no attribute {name!r}")
