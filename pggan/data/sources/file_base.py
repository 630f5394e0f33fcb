"""Bases of the sources of image files, in folders and archives, and what damaged files raise."""

from __future__ import annotations

import errno
import io
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from pggan.data.sources.array_choice import join_remarks
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source
from pggan.data.sources.image_io import is_image_name, read_image, read_page, read_size
from pggan.data.sources.list_text import DATASET, TABLE, list_path, lists_above
from pggan.data.sources.passed_over import PassedOver, is_passed_folder
from pggan.data.sources.tiff_pages import TIFF_ENDINGS, PageCounts, PageFile, TiffPage, TiffPages, find_pages
from pggan.utils.errors import DataError, PgganError
from pggan.utils.formatting import natural_key, one_line
from pggan.utils.limits import MAX_FILE_BYTES, MAX_LIST_BYTES

# Errors of the disk, the network or the process, not of one file.
_FATAL = frozenset((errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENFILE, errno.ENODEV))
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
def report_bad_image(root: str = "") -> Iterator[None]:
    """Turns what a damaged, encrypted, vanished or unreadable image raises in the block into `BadImage`.

    Raises `DataError` where all other images would fail as well: the disk or the network fails, too many files are
    open, or `root`, which holds the images, is gone.
    """
    try:
        yield
    except (PgganError, BadImage, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001
        code = getattr(error, "errno", None)
        if code in _FATAL or (code == errno.ENOENT and root and _is_gone(root)):
            raise DataError(
                f"the pictures{root and f' in {root}'} cannot be read any more ({os.strerror(code)}); "
                "see to it, and give the same command again"
            ) from None
        raise BadImage(getattr(error, "strerror", None) or one_line(error)) from None


def _is_gone(root: str) -> bool:
    """Whether a file or folder is gone. A disk that was unplugged may leave the empty folder where it was mounted."""
    return not os.path.exists(root) or (os.path.isdir(root) and not os.listdir(root))


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
    root = ""  # path of what holds the files, where that is one place
    _paged: tuple[Any, bytes] | None = None  # payload and content of the last file of several pages in an archive

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_paged": None}

    @abstractmethod
    def open(self, ref: Ref) -> BinaryIO:
        """Opens the file of a reference, seekable."""

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        if isinstance(ref.payload, TiffPage):
            with report_bad_image(self.root), self._open_file_of(ref.payload) as file:
                return DecodedImage(*read_page(cast(BinaryIO, PageFile(file, ref.payload)), channels))
        self._paged = None
        with report_bad_image(self.root), self.open(ref) as file:
            data = self._content(file)
        return DecodedImage(*read_image(data, channels))

    def _content(self, file: BinaryIO) -> bytes:
        data = file.read(self.max_bytes + 1)
        check_file_size(len(data), self.max_bytes)
        return data

    def _open_file_of(self, page: TiffPage) -> BinaryIO:
        """Opens the file of a page; the content of one in an archive is kept for the next page."""
        if self._paged is None or self._paged[0] != page.file:
            self._paged = None  # before the next one is in memory
            file = self.open(Ref("", page.file))
            if isinstance(file, io.BufferedReader):
                return file
            with file:
                self._paged = page.file, self._content(file)
        return io.BytesIO(self._paged[1])

    def size(self, ref: Ref) -> tuple[int, int]:
        if isinstance(ref.payload, TiffPage):
            return ref.payload.width, ref.payload.height
        with report_bad_image(self.root), self.open(ref) as file:
            return read_size(file)


class NamedFilesSource(Source):
    """Files of a folder or an archive (`path`), by their names in it, in natural order. Raises `DataError` for none."""

    def __init__(self, path: str, names: Iterable[str], passed: PassedOver | None = None) -> None:
        self.path = path
        self.remark = passed.remark() if passed is not None else None
        self._names = sorted(names, key=lambda name: (natural_key(name), name))
        if not self._names:
            raise DataError("; ".join(filter(None, (f"{path} {NO_IMAGES}", self.remark))))
        counts = PageCounts()
        self._pages = dict(self._find_pages(counts))  # of TIFFs with several, by name
        self.remark = join_remarks(self.remark, counts.remark())

    def _find_pages(self, counts: PageCounts) -> Iterator[tuple[str, TiffPages]]:
        reader = self.reader(0, 0)
        for name in self._names:
            if isinstance(reader, FileReader) and name.lower().endswith(TIFF_ENDINGS):
                # an image that cannot be read is reported when it is its turn
                with suppress(BadImage), report_bad_image(), reader.open(Ref(name, self.payload(name))) as file:
                    if (pages := find_pages(file, counts)) is not None:
                        yield name, pages

    def payload(self, name: str) -> Any:
        """Returns what the reader needs for a file."""
        return name

    def __len__(self) -> int:
        return len(self._names) + sum(len(pages.offsets) - 1 for pages in self._pages.values())

    def refs(self) -> Iterable[Ref]:
        for name in self._names:
            if name not in self._pages:
                yield Ref(name, self.payload(name))
                continue
            offsets, *size = self._pages[name]
            for number, offset in offsets.items():
                yield Ref(_page_name(name, number), TiffPage(self.payload(name), offset, *size))

    def image_names(self) -> Iterable[str]:
        for name in self._names:
            numbers = self._pages[name].offsets if name in self._pages else (1,)
            yield from (_page_name(name, number) for number in numbers)

    def lists(self) -> Sequence[str]:
        here = [name for name in (TABLE, DATASET) if os.path.isfile(os.path.join(self.path, name))]
        return here + lists_above(self.path)

    def read_companion(self, name: str) -> bytes | None:
        return read_if_present(list_path(self.path, name))


def _page_name(name: str, number: int) -> str:
    return f"{name}#{number}" if number > 1 else name


def read_if_present(path: str) -> bytes | None:
    """Returns a list's content, None if it does not exist. Raises `DataError` above MAX_LIST_BYTES."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        data = file.read(MAX_LIST_BYTES + 1)
    if len(data) > MAX_LIST_BYTES:
        raise DataError(f"{path} is above the limit of {MAX_LIST_BYTES >> 20} MiB for lists; remove it, or shorten it")
    return data
