"""Checks the pages of an LMDB file before LMDB reads them: it trusts offsets and sizes, and dies of wrong ones.

Layout of LMDB 0.9 (64-bit, little-endian): pages of `psize` bytes, two meta pages first. A page has a header of 16
bytes (number, 8; padding, 2; flags, 2; lower, 2; upper, 2), then 2-byte offsets of its nodes. A node has a header of 8
bytes (size or page number, 4; flags, 2; key size, 2), then key and data. Large data lie on overflow pages.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from bisect import bisect_right
from pathlib import Path

import lmdb

from pggan.utils.errors import DataError

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_KINDS = 0x6F  # the flags of a page that say what it is: those above, LEAF2, and sub-page
_BIG, _SUBTREE = 1, 2  # flags of nodes
_HEADER, _NODE = 16, 8  # bytes
_NO_PAGE = (1 << 64) - 1
_MAX_DEPTH = 32  # of LMDB's cursors
_ENTRY_BYTES = 48
_MAIN_DATABASE = _HEADER + 24 + _ENTRY_BYTES  # place of the main database's entry in a meta page, after the free list's


class NoMemoryMaps(DataError):  # noqa: N818 (what the place lacks)
    """A place whose file system has no memory maps, as some FUSE, 9p and network mounts."""


def no_memory_maps(path: Path) -> NoMemoryMaps:
    """Returns the error for a store at `path`."""
    return NoMemoryMaps(
        f"{path} lies on a file system without shared memory maps, which stores need; put the store on a local disk"
    )


class LmdbPages:
    """The pages of a file.

    Raises `DataError` for one that is cut short, `lmdb.CorruptedError` for one whose meta pages cannot be right.
    """

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            require(os.fstat(file.fileno()).st_size >= 2 * 4096, "the file is cut short")
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except OSError as error:
                if error.errno == errno.ENOMEM:
                    raise
                raise no_memory_maps(path.parent) from None
        try:
            (self._page_bytes,) = struct.unpack_from("<I", self._map, _HEADER + 24)
            require(self._page_bytes in (4096, 8192, 16384, 32768, 65536), "no page size of LMDB's")
            require(len(self._map) >= 2 * self._page_bytes, "the file is cut short")
            meta = max((self._meta(number) for number in (0, 1)), key=lambda place: place[0])
            _, self.count, entry = meta  # pages in use
            needed = self.count * self._page_bytes
            if len(self._map) < needed:  # LMDB maps them, and reading past the end would kill the process
                raise DataError(f"{path} is cut short ({len(self._map)} of {needed} bytes); copy or make it again")
            self.main = PageTree(self, entry)
        except BaseException:
            self.close()
            raise

    def _meta(self, number: int) -> tuple[int, int, bytes]:
        """Returns transaction number, number of pages in use and the main database's entry of a meta page."""
        at = number * self._page_bytes
        flags, magic, version = struct.unpack_from("<10xH4xII", self._map, at)
        require(flags & _META > 0 and (magic, version) == (_MAGIC, _VERSION), "no LMDB file of a known version")
        (page_bytes,) = struct.unpack_from("<I", self._map, at + _HEADER + 24)
        last, transaction = struct.unpack_from("<QQ", self._map, at + _MAIN_DATABASE + _ENTRY_BYTES)
        require(page_bytes == self._page_bytes and last + 1 <= 1 << 52, "a damaged meta page")
        return transaction, last + 1, self._map[at + _MAIN_DATABASE : at + _MAIN_DATABASE + _ENTRY_BYTES]

    def database(self, name: bytes) -> PageTree:
        """Returns the tree of a named database. Raises `lmdb.NotFoundError` if there is none."""
        entry = self.main.entries().get(name)
        if entry is None:
            raise lmdb.NotFoundError("no such database")
        return PageTree(self, entry)

    def check(self) -> None:
        """Checks all databases. Raises `lmdb.CorruptedError`."""
        for entry in self.main.entries().values():
            PageTree(self, entry).check()

    def close(self) -> None:
        """Unmaps the file."""
        self._map.close()

    def page(self, number: int) -> tuple[int, bytes]:
        """Returns kind and bytes of a page."""
        at = number * self._page_bytes
        require(number < self.count, f"page {number} is not in the file")
        page = self._map[at : at + self._page_bytes]
        return struct.unpack_from("<H", page, 10)[0] & _KINDS, page

    def nodes(self, page: bytes) -> list[tuple[bytes, int, int, int]]:
        """Returns key, flags, size (in a branch: page number without its upper 16 bits) and data place of each node."""
        lower, upper = struct.unpack_from("<HH", page, 12)
        require(_HEADER <= lower <= upper <= len(page) and not lower & 1, "a damaged page")
        nodes = []
        for at in struct.unpack_from(f"<{(lower - _HEADER) // 2}H", page, _HEADER):
            require(lower <= at <= len(page) - _NODE, "a node outside its page")
            low, high, flags, key_bytes = struct.unpack_from("<HHHH", page, at)
            data = at + _NODE + key_bytes
            require(data <= len(page), "a key outside its page")
            nodes.append((page[at + _NODE : data], flags, low | high << 16, data))
        return nodes

    def check_leaf(self, number: int, subtrees: bool = False) -> dict[bytes, bytes]:
        """Checks a leaf and the overflow pages of its records. Returns the entries of named databases, if wanted."""
        kind, page = self.page(number)
        require(kind == _LEAF, f"page {number} is no leaf")
        entries = {}
        for key, flags, count, data in self.nodes(page):
            require(flags in (0, _BIG) or (subtrees and flags == _SUBTREE), "a node of an unknown kind")
            if flags == _BIG:
                require(data + 8 <= len(page), "a record outside its page")
                (first,) = struct.unpack_from("<Q", page, data)
                require(self.page(first)[0] == _OVERFLOW, "a record on no overflow page")
                end = first * self._page_bytes + _HEADER + count
                require(end <= self.count * self._page_bytes, "a record outside the file")
            else:
                require(data + count <= len(page), "a record outside its page")
            if flags == _SUBTREE:
                require(count == _ENTRY_BYTES, "a damaged entry of a database")
                entries[key] = page[data : data + count]
        return entries


class PageTree:
    """The tree of one database (its `entry`: depth, pages, root): branch pages at once, leaves when they are needed."""

    def __init__(self, pages: LmdbPages, entry: bytes) -> None:
        self._pages = pages
        _, flags, self._depth, self._root = struct.unpack("<IHH32xQ", entry)
        require(flags == 0, "a database with duplicates or other keys")
        self._keys: list[bytes] = []  # the lowest key of each leaf
        self._leaves: list[int] = []
        self._intact: list[bool | None] = []  # None: not checked yet
        self._collected = self._root == _NO_PAGE

    def _collect(self) -> None:
        """Lists the leaves in the order of their keys. Leaves are not read: those of small pictures are gigabytes."""
        require(1 <= self._depth <= _MAX_DEPTH, "a tree without end")
        level: list[tuple[bytes, int]] = [(b"", self._root)]
        for _ in range(self._depth - 1):
            children: list[tuple[bytes, int]] = []
            for lowest, number in level:
                kind, page = self._pages.page(number)
                nodes = self._pages.nodes(page)
                require(kind == _BRANCH and len(nodes) > 1, f"page {number} is no branch")
                require(len(children) < self._pages.count, "a tree that holds itself")
                children += [
                    (key if at else lowest, low | flags << 32) for at, (key, flags, low, _) in enumerate(nodes)
                ]
            level = children
        self._keys = [key for key, _ in level]
        self._leaves = [number for _, number in level]
        require(all(low < high for low, high in zip(self._keys, self._keys[1:])), "keys out of order")
        self._intact = [None] * len(level)
        self._collected = True

    def is_intact(self, key: bytes) -> bool:
        """Whether the pages can be read that LMDB reads to find a key. Raises `lmdb.CorruptedError` for the tree."""
        if not self._collected:
            self._collect()
        if not self._leaves:
            return True
        leaf = bisect_right(self._keys, key) - 1
        intact = self._intact[leaf]
        return self._check(leaf) if intact is None else intact

    def _check(self, leaf: int) -> bool:
        try:
            self._pages.check_leaf(self._leaves[leaf])
            self._intact[leaf] = True
        except lmdb.CorruptedError:
            self._intact[leaf] = False
        return bool(self._intact[leaf])

    def check(self) -> None:
        """Checks all leaves. Raises `lmdb.CorruptedError`."""
        self.entries(subtrees=False)

    def entries(self, subtrees: bool = True) -> dict[bytes, bytes]:
        """Checks all leaves. Returns the entries of the databases that they name. Raises `lmdb.CorruptedError`."""
        if not self._collected:
            self._collect()
        entries: dict[bytes, bytes] = {}
        for number in self._leaves:
            entries |= self._pages.check_leaf(number, subtrees)
        return entries


def require(fact: bool, fault: str) -> None:
    """Raises `lmdb.CorruptedError` unless a fact holds."""
    if not fact:
        raise lmdb.CorruptedError(fault)
