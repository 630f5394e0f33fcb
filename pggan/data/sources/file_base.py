"""What sources of picture files share, wherever the files lie."""

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

from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, reason
from pggan.data.sources.image_io import MAX_FILE_BYTES, is_image_name, read_image, read_size

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
    """Whether a folder holds at least as many pictures, at whatever depth, as `count` files of another format.

    It is a folder of pictures then, with a stray file of that format.
    """
    pictures = 0
    for _, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        pictures += sum(map(is_image_name, files))
        if pictures >= count:
            return True
    return False


class FileReader(Reader):
    """Reads references to picture files."""

    @abstractmethod
    def open(self, ref: Ref) -> BinaryIO:
        """The file behind a reference, open for reading and seekable."""

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
            raise BadImage(reason(error)) from None
