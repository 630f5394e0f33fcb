"""What is passed over of a folder or an archive: thumbnails and bins of other programs, images of formats not read."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict

from pggan.data.sources.phone_formats import ENDINGS, REMEDIES, reads
from pggan.data.sources.video_file import VIDEO_ENDINGS

# Endings of the images that are read; those of phones in ENDINGS are where a package reads them.
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff"})
# Endings of images that are not.
_OTHER_ENDINGS = frozenset({
    ".gif", ".jxl", ".jp2", ".j2k", ".jpf", ".psd", ".psb", ".xcf", ".svg", ".svgz", ".eps",
    ".tga", ".dds", ".exr", ".hdr", ".ico", ".icns", ".pcx", ".pgm", ".ppm", ".pbm", ".pnm", ".pfm", ".sgi", ".xpm",
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".raf", ".rw2", ".pef", ".raw",
    ".srw", ".x3f", ".3fr", ".erf", ".kdc", ".dcr", ".mrw", ".rwl", ".iiq", ".dcm", ".fits", ".bpg", ".qoi", ".jxr",
})  # fmt: skip
# `.jpg_large` (saved from web pages), `.jpg~`, `.jpeg!d`, `.png:large`, `.jpg.download`
_ALTERED = re.compile(r"\.(?:jpe?g|png|webp|bmp|tiff?)(?:[_~!:@%][^.]*|\.(?:download|part|crdownload|tmp|bak))$")
# Folders of thumbnails, bins and system files, in lower case: of Synology, QNAP and other NAS systems, Windows, macOS,
# Linux, clouds and photo managers.
_FOLDERS = frozenset({
    "@eadir", "#recycle", "@recycle", "@recently-snapshot", "@tmp", "@synoresource", "#snapshot", "@sharebin",
    ".@__thumb", "$recycle.bin", "recycler", "recycled", "system volume information", "found.000", "lost+found",
    "__macosx", ".trashes", ".trash", ".appledouble", ".temporaryitems", "network trash folder", "temporary items",
    ".thumbnails", ".thumb", ".thumbs", ".tmb", ".xvpics", ".dtrash", ".picasaoriginals", ".comments",
    "ipod photo cache", ".dropbox.cache", ".stversions", ".sync", ".snapshot", ".snapshots", ".zfs", "_gsdata_",
    "_vti_cnf", "captureone",
})  # fmt: skip
_FOLDER_ENDINGS = (".lrdata", ".cocatalog")  # previews of Lightroom and Capture One
_SHOWN = 4


def is_passed_folder(name: str) -> bool:
    """Whether a folder of this name holds thumbnails, deleted files or a system's own files, not a person's images."""
    name = name.lower()
    return name in _FOLDERS or name.endswith(_FOLDER_ENDINGS) or name.startswith(".trash-")


def has_image_ending(name: str) -> bool:
    """Whether a path has the ending of an image that is read; the name alone, `.png`, does not count."""
    base = os.path.basename(name.replace("\\", "/"))
    ending = os.path.splitext(base)[1].lower()
    return base.rfind(".") > 0 and (ending in EXTENSIONS or (ending in ENDINGS and reads(ENDINGS[ending])))


class PassedOver:
    """Counts the images that are passed over, for one line to people."""

    def __init__(self) -> None:
        self.folders: Counter[str] = Counter()  # images in folders that are passed over, by the folder's name
        self.endings: Counter[str] = Counter()  # images of other formats, by ending
        self.videos: Counter[str] = Counter()  # by ending
        self.unread: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by kind those that a package would read

    def add(self, path: str) -> None:
        """Counts a file that is not read, by its path in the source."""
        *folders, name = path.replace("\\", "/").split("/")
        if folder := next(filter(is_passed_folder, folders), None):
            if has_image_ending(name) and not name.startswith("."):
                self.folders[folder] += 1
            return
        if name.startswith(".") or any(folder.startswith(".") and folder.strip(".") for folder in folders):
            return
        ending = os.path.splitext(name)[1].lower()
        if ending in VIDEO_ENDINGS:
            self.videos[ending] += 1
        elif ending in ENDINGS:
            self.unread[ENDINGS[ending]][ending] += 1
        elif ending in _OTHER_ENDINGS:
            self.endings[ending] += 1
        elif altered := _ALTERED.search(name.lower()):
            self.endings[altered[0]] += 1

    def remark(self) -> str | None:
        """Returns what was passed over, None for nothing."""
        parts = []
        if count := sum(self.folders.values()):
            parts.append(f"passed over {count} pictures in {_listed(self.folders)} (thumbnails, deleted files)")
        if self.videos:
            parts.append(
                f"passed over {_counts(self.videos)}: a video, or a folder of videos alone, is a SOURCE of its own"
            )
        for kind, unread in self.unread.items():
            parts.append(f"passed over {_counts(unread)}: {REMEDIES[kind]} reads them")
        if endings := +self.endings:  # without zeros
            why = " (JPEG XL tells its size too late to bound it)" if ".jxl" in endings else ""
            parts.append(f"passed over {_counts(endings)}, which are not read: convert them to PNG or JPEG{why}")
        return "; ".join(parts) or None


def _counts(endings: Counter[str]) -> str:
    counts = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(_SHOWN))
    return counts + (" and others" if len(endings) > _SHOWN else "")


def _listed(names: Counter[str]) -> str:
    shown = [name for name, _ in names.most_common(_SHOWN)]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} other folders" if len(names) > _SHOWN else "")
