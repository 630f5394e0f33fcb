"""What a file that cannot be used looks like, by its first bytes, and what helps: for error messages."""

from __future__ import annotations

from pathlib import Path

# Bytes that tell what a file is.
HEAD = 512
_LFS = b"version https://git-lfs"
# First bytes -> what it is. Order matters.
_MAGICS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF"),
    (b"8BPS", "a Photoshop file"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "a PostScript file"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK\3\4", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
)
HEIC, AVIF = "a HEIC picture", "an AVIF picture"
# Brands of MP4's container: its own comes first, those that it is compatible with follow.
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), HEIC),
    **dict.fromkeys((b"qt  ", b"isom"), "a video"),
}
_ANY_PICTURE = (b"mif1", b"msf1")  # HEIC unless another brand says more


def head_of(path: Path) -> bytes:
    """Returns the first bytes of a file, none where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def is_pickle(head: bytes) -> bool:
    """Whether a file begins as a pickle of protocol 2 or later does."""
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


def kind_of(head: bytes) -> str | None:
    """Returns what a file looks like, with what helps where it is not the file that was meant; None: nothing known."""
    if not head:
        return "an empty file; download or copy it again"
    if head.startswith(_LFS):
        return "a Git LFS pointer, not the file itself; run git lfs pull"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<!--")) or (b"<html" in text and text[:5] == b"<?xml"):
        return "a saved web page, as of a download that was refused; download it again, in a browser"
    if is_pickle(head):
        return "a pickle"
    if head[4:8] == b"ftyp":
        return _by_brands(head)
    if head[:4] == b"RIFF":
        return "a WebP picture" if head[8:12] == b"WEBP" else "a RIFF file, such as a video"
    found = next((kind for magic, kind in _MAGICS if head.startswith(magic)), None)
    if found is None and text[:1] in (b"{", b"["):
        return "a JSON text"
    return found


def _by_brands(head: bytes) -> str:
    """Returns what a file in MP4's container is, by its brands."""
    own, end = head[8:12], min(int.from_bytes(head[:4], "big"), len(head) - 3)
    if own not in _ANY_PICTURE:
        return _BRANDS.get(own, "a video or picture in MP4's container")
    return next((_BRANDS[brand] for at in range(16, end, 4) if (brand := head[at : at + 4]) in _BRANDS), HEIC)
