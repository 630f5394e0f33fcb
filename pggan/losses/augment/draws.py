"""The random numbers of an augmentation as named columns, one row for each sample."""

from __future__ import annotations

from torch import Tensor


class Draws:
    """Columns by name of `uniform` (N, U) from U[0, 1) and `normal` (N, V) from N(0, 1)."""

    def __init__(
        self, uniform: Tensor, normal: Tensor | None, uniforms: tuple[str, ...], normals: tuple[str, ...] = ()
    ) -> None:
        widths = uniform.shape[1], 0 if normal is None else normal.shape[1]
        if widths != (len(uniforms), len(normals)):
            raise ValueError(f"noise of {widths} columns, not {(len(uniforms), len(normals))}")
        self._columns = {name: uniform[:, at] for at, name in enumerate(uniforms)}
        if normal is not None:
            self._columns |= {name: normal[:, at] for at, name in enumerate(normals)}

    def __getitem__(self, name: str) -> Tensor:
        """Returns a column, (N,)."""
        return self._columns[name]

    def gate(self, name: str, p: Tensor | float) -> Tensor:
        """Returns (N,) booleans, each true with probability `p`: never at 0, always at 1."""
        return self._columns[name] < p
