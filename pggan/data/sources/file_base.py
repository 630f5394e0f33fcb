"""Bases of the sources of image files, in folders and archives, and what damaged files raise."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source
from pggan.data.sources.image_io import is_image_name, read_image, read_size
from pggan.data.sources.list_text import DATASET, TABLE, list_path, lists_above
from pggan.data.sources.passed_over import PassedOver, is_passed_folder
from pggan.utils.errors import DataError, PgganError
from pggan.utils.formatting import natural_key, one_line
from pggan.utils.limits import MAX_FILE_BYTES, MAX_LIST_BYTES

NO_IMAGES = "holds no pictures (PNG, JPEG, WebP, HEIC, AVIF, BMP or TIFF, by their endings)"


def is_folder_of(spec: str, list_files: Callable[[Path], Sized]) -> bool:
    """Whether `spec` is a folder with more files of a format, which `list_files` returns, than images.

    With fewer it is a folder of images, nested or not, with stray files of that format.
    """
    count, images = len(list_files(Path(spec))) if os.path.isdir(spec) else 0, 0
    for _, subfolders, files in os.walk(spec) if count else ():
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and not is_passed_folder(name)]
        images += sum(map(is_image_name, files))
        if images >= count:
            return False
    return count > 0


@contextmanager
def explain_damage(problem: str, advice: str = "copy or make it again") -> Iterator[None]:
    """Turns what a damaged file raises in the block into a `DataError`: the problem, the error and the advice.

    Libraries raise a dozen kinds of errors. Missing permission and this program's own errors pass.
    """
    try:
        yield
    except (PgganError, PermissionError):
        raise
    except Exception as error:  # noqa: BLE001
        raise DataError(f"{problem} ({one_line(error)}); {advice}") from None


@contextmanager
def report_bad_image() -> Iterator[None]:
    """Turns what a damaged, encrypted, vanished or unreadable image raises in the block into `BadImage`."""
    try:
        yield
    except (PgganError, BadImage, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001
        raise BadImage(getattr(error, "strerror", None) or one_line(error)) from None


def walk_once(
    root: str,
    onerror: Callable[[OSError], None] | None = None,
    without: Iterable[str] = (),
    on_passed: Callable[[str], None] = lambda folder: None,
) -> Iterator[tuple[str, list[str]]]:
    """Yields each folder in `root` and the names of its files. Follows links, but visits each folder once.

    Passes over hidden folders, and those that `is_passed_folder`.

    Args:
        root: A folder; for anything else nothing is yielded.
        onerror: Gets the error of a folder that cannot be listed.
        without: Real paths of folders to leave out.
        on_passed: Gets each folder that is passed over because `is_passed_folder`.
    """
    visited = set(without)
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=onerror):
        real = os.path.realpath(folder)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        for name in filter(is_passed_folder, subfolders):
            on_passed(os.path.join(folder, name))
        # real folders before links to them, in a fixed order: it decides under which name a folder is visited
        shown = (name for name in subfolders if not name.startswith(".") and not is_passed_folder(name))
        subfolders[:] = sorted(shown, key=natural_key)
        subfolders.sort(key=lambda name: os.path.islink(os.path.join(folder, name)))
        yield folder, files


def check_file_size(size: int, most: int) -> None:
    """Raises `BadImage` for a file above `most` bytes."""
    if size > most:
        raise BadImage(f"a file of {size >> 20} MiB; the limit is {most >> 20}")


class FileReader(Reader):
    """Reads references to image files."""

    max_bytes = MAX_FILE_BYTES  # of a file

    @abstractmethod
    def open(self, ref: Ref) -> BinaryIO:
        """Opens the file of a reference, seekable."""

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        with report_bad_image(), self.open(ref) as file:
            data = file.read(self.max_bytes + 1)
        check_file_size(len(data), self.max_bytes)
        return DecodedImage(*read_image(data, channels))

    def size(self, ref: Ref) -> tuple[int, int]:
        with report_bad_image(), self.open(ref) as file:
            return read_size(file)


class NamedFilesSource(Source):
    """Files of a folder or an archive (`path`), by their names in it, in natural order. Raises `DataError` for none."""

    def __init__(self, path: str, names: Iterable[str], passed: PassedOver | None = None) -> None:
        self.path = path
        self.remark = passed.remark() if passed is not None else None
        self._names = sorted(names, key=lambda name: (natural_key(name), name))
        if not self._names:
            raise DataError("; ".join(filter(None, (f"{path} {NO_IMAGES}", self.remark))))

    def __len__(self) -> int:
        return len(self._names)

    def refs(self) -> Iterable[Ref]:
        return (Ref(name, name) for name in self._names)

    def image_names(self) -> Iterable[str]:
        return self._names

    def lists(self) -> Sequence[str]:
        here = [name for name in (TABLE, DATASET) if os.path.isfile(os.path.join(self.path, name))]
        return here + lists_above(self.path)

    def read_companion(self, name: str) -> bytes | None:
        return read_if_present(list_path(self.path, name))


def read_if_present(path: str) -> bytes | None:
    """Returns a list's content, None if it does not exist. Raises `DataError` above MAX_LIST_BYTES."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        data = file.read(MAX_LIST_BYTES + 1)
    if len(data) > MAX_LIST_BYTES:
        raise DataError(f"{path} is above the limit of {MAX_LIST_BYTES >> 20} MiB for lists; remove it, or shorten it")
    return data
