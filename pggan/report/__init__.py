"""The training report: a run as one self-contained HTML page (torch-free)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from pggan.report.page import Report, write_report

__all__ = ["Report", "write_report"]


class _CallableModule(ModuleType):
    """`pggan.report` is this room, and a function of the library: the import of the one would hide the other."""

    def __call__(self, run: str | Path, out: str | Path | None = None) -> Report:
        """Does what `pggan.api.report` does."""
        return write_report(Path(run), None if out is None else Path(out))


sys.modules[__name__].__class__ = _CallableModule
