"""Base of the readers of image files, in folders and archives."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref
from pggan.data.sources.image_io import MAX_FILE_BYTES, is_image_name, read_image, read_size
from pggan.utils.formatting import one_line

NO_IMAGES = "holds no pictures (PNG, JPEG, WebP, BMP or TIFF, by their endings)"

# What damaged, encrypted, vanished or unreadable files and archive members raise.
READ_ERRORS = (
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    ValueError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def is_mostly_images(folder: str, count: int) -> bool:
    """Whether a folder, with its subfolders, holds at least as many image files as `count` files of another format.

    It is then a folder of images with stray files of that format.
    """
    images = 0
    for _, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        images += sum(map(is_image_name, files))
        if images >= count:
            return True
    return False


def check_file_size(size: int) -> None:
    """Raises `BadImage` for a file above MAX_FILE_BYTES."""
    if size > MAX_FILE_BYTES:
        raise BadImage(f"a file of {size >> 20} MiB; the limit is {MAX_FILE_BYTES >> 20}")


class FileReader(Reader):
    """Reads references to image files."""

    @abstractmethod
    def open(self, ref: Ref) -> BinaryIO:
        """Opens the file of a reference, seekable."""

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        with self._opened(ref) as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise BadImage(f"a file above the limit of {MAX_FILE_BYTES >> 20} MiB")
        image, notes = read_image(data, channels)
        return DecodedImage(image, (), notes)

    def size(self, ref: Ref) -> tuple[int, int]:
        with self._opened(ref) as file:
            return read_size(file)

    @contextmanager
    def _opened(self, ref: Ref) -> Iterator[BinaryIO]:
        try:
            with self.open(ref) as file:
                yield file
        except OSError as error:
            raise BadImage(error.strerror or str(error)) from None
        except READ_ERRORS as error:
            raise BadImage(one_line(error)) from None
