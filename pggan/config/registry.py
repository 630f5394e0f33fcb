"""Registries: tables of named choices whose implementations are imported on first use (torch-free)."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from pggan.utils.errors import UsageError


class Spec(Protocol):
    """What every entry of a registry has, without importing its implementation."""

    @property
    def name(self) -> str:
        """Name on the command line."""

    @property
    def target(self) -> str:
        """Implementation as `package.module:attribute`."""


S = TypeVar("S", bound=Spec)


class Registry(Generic[S]):
    """An ordered table of entries of one kind ("loss", "preset", ...)."""

    def __init__(self, kind: str, specs: list[S]) -> None:
        self.kind = kind
        self._specs: dict[str, S] = {}
        for spec in specs:
            self.register(spec)

    def register(self, spec: S) -> S:
        """Adds an entry and returns it. Raises `ValueError` where the name is taken."""
        if spec.name in self._specs:
            raise ValueError(f"{self.kind} {spec.name!r} is registered twice")
        self._specs[spec.name] = spec
        return spec

    def __iter__(self) -> Iterator[S]:
        return iter(self._specs.values())

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def names(self) -> list[str]:
        """Returns the names in their order."""
        return list(self._specs)

    def __getitem__(self, name: str) -> S:
        """Returns the entry. Raises `UsageError` for an unknown name, listing the valid ones."""
        if name not in self._specs:
            near = difflib.get_close_matches(name, self._specs, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise UsageError(f"unknown {self.kind} {name!r}{hint}; choose one of: {', '.join(self._specs)}")
        return self._specs[name]

    def load(self, name: str) -> Any:
        """Imports and returns the implementation of an entry."""
        module, _, attribute = self[name].target.partition(":")
        return getattr(importlib.import_module(module), attribute)
