"""Refuses pictures of one name where faces are told apart by the names of their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pggan.data.sources.base import Ref, Source
from pggan.utils.errors import DataError
from pggan.utils.formatting import printable


def distinct(refs: Iterable[Ref]) -> Iterator[Ref]:
    """Passes references on. Raises `DataError` for one whose name came before."""
    names: set[str] = set()
    for ref in refs:
        _add(ref.name, names)
        yield ref


def check_distinct(source: Source) -> list[str] | None:
    """Returns the names of a source's images, None where they are not known before these are read.

    Raises `DataError` for a name of several.
    """
    images = source.image_names()
    if images is None:
        return None
    names, seen = list(images), set[str]()
    for name in names:
        _add(name, seen)
    return names


def _add(name: str, names: set[str]) -> None:
    if name in names:
        raise DataError(
            f"--align tells pictures apart by their names, but several are called {printable(name)[:80]}; "
            "give them different names, or prepare the parts one by one"
        )
    names.add(name)
