"""Panels of one look."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#56b4e9", "#e69f00", "#cc79a7", "#7f7f7f", "#000000", "#b2182b", "#5e3c99")


def panels(rows: int) -> tuple[Figure, Any]:
    """A figure and its panels (rows, 2)."""
    figure = Figure(figsize=(11, 3.6 * rows), layout="constrained")
    return figure, figure.subplots(rows, 2, squeeze=False)


def dress(axes: Any, title: str, across: str, log: str = "", legend: bool = True) -> None:
    """Title, the name of what goes across, logarithmic axes ("x", "y" or both), legend."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(across, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25, linewidth=0.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    if legend:
        axes.legend(fontsize=7, frameon=False)
