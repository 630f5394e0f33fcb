"""Tar archives of images, compressed or not, read in place without unpacking."""

from __future__ import annotations

import io
import json
import os
import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

from pggan.data.label_columns import MAX_CLASSES, NO_YES, LabelColumn, order_classes, without_unknown
from pggan.data.sources.array_choice import join_remarks, no_classes_remark
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source
from pggan.data.sources.file_base import NO_IMAGES, FileReader, check_file_size, read_if_present
from pggan.data.sources.image_io import is_image_name
from pggan.data.sources.list_text import (
    ABOVE,
    CLASSES,
    DATASET,
    TABLE,
    are_measures,
    is_list_name,
    list_path,
    lists_above,
)
from pggan.data.sources.passed_over import PassedOver
from pggan.data.sources.sample_members import SampleMembers
from pggan.data.sources.tar_members import TarMembers, is_compressed, open_tar
from pggan.utils.errors import DataError
from pggan.utils.formatting import natural_key, printable
from pggan.utils.limits import MAX_CARRIED_BYTES, MAX_LIST_BYTES

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# Most bytes of one image's label file.
_MAX_LABEL_BYTES = 1 << 16
# Most links that follow each other, and lists of labels that are kept.
_MAX_LINKS, _MAX_LISTS = 8, 1000


class _Place(NamedTuple):
    """Where a member of an uncompressed tar is."""

    path: str  # of the tar
    offset: int  # in bytes
    nbytes: int  # of the member
    sparse: Any  # offsets and sizes of the parts that are no holes

    @classmethod
    def of(cls, path: str, member: tarfile.TarInfo) -> _Place | str:
        reason = _why_bad(member)
        sparse = member.sparse if member.issparse() else None
        return reason or cls(path, member.offset_data, member.size, sparse)


class TarReader(FileReader):
    """A reference's payload: (content, labels). The content is a `_Place`, the bytes, or why there are none."""

    max_bytes = MAX_CARRIED_BYTES

    def open(self, ref: Ref) -> BinaryIO:
        content, _ = ref.payload
        if isinstance(content, str):
            raise BadImage(content)
        if isinstance(content, bytes):
            return io.BytesIO(content)
        if self._opened is None or self._opened.name != content.path:
            if self._opened is not None:
                self._opened.close()
            self._opened, self.root = None, content.path
            self._opened = tarfile.open(content.path, "r:")  # noqa: SIM115 (stays open for the next image)
        member = tarfile.TarInfo()
        member.offset_data, member.size, member.sparse = content.offset, content.nbytes, content.sparse
        return cast(BinaryIO, self._opened.extractfile(member))

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        return super().read(ref, channels)._replace(labels=ref.payload[1])


class TarSource(Source):
    """Members in natural order; those of a compressed tar, which is streamed, in the order of the file.

    An image's class is in a member of the same name with the ending `.cls`, or `.json` with an entry "label" or
    "class", as in webdataset: `7.cls` is that of all images of the sample, `7.image.png`, and `clip.01.cls` that of
    `clip.01.png` alone. Of the images of a sample, `SampleMembers` chooses.
    """

    choices = ("member",)

    def __init__(self, spec: str, member: str | None = None) -> None:
        self.paths = self.files(spec)
        self.streamed = any(map(is_compressed, self.paths))
        self._places: list[tuple[str, str, _Place | str]] = []  # name and path of the tar; empty if streamed
        self._lists: dict[str, bytes | None] = {}  # lists of labels by path; None: not read
        self._passed = PassedOver()
        self._streamed_names: list[str] = []
        self._members = SampleMembers(member)
        labels = _Labels()
        for path in self.paths:
            places = self._scan(path, labels)
            self._places += sorted(places, key=lambda place: natural_key(place[0]))
        self.path = spec
        if not self._members.count:
            raise DataError(join_remarks(f"{spec} {NO_IMAGES}", self._passed.remark()) or "")
        self._members.choose(spec)
        classes, numbers = _classes_of(set(labels.values()))
        self.label_columns = (LabelColumn("class", classes),) if classes else ()
        left_out = no_classes_remark(["class"] if labels and not classes else [])
        self.remark = join_remarks(self._members.remark(), self._passed.remark(), left_out)
        self._numbers = {key: numbers.get(name, -1) for key, name in labels.by_sample().items()}

    @staticmethod
    def files(spec: str) -> list[str]:
        """Returns the tars of a SOURCE argument."""
        return [spec]

    def _scan(self, path: str, labels: _Labels) -> list[tuple[str, str, _Place | str]]:
        """Counts the images of a tar; returns their places if it is not streamed; adds labels and companion files."""
        places = []
        links: dict[str, str] = {}  # the members that links name, by the link
        with open_tar(path) as members:
            for member in members:
                if member.issym() or member.islnk():
                    links[posixpath.normpath(member.name)] = _link_target(member)
                if _is_image(member):
                    stem = _stem(path, member.name)
                    self._members.add(_sample_of(stem), member.name)
                    labels.add_image(stem)
                    if self.streamed:
                        self._streamed_names.append(member.name)
                    else:
                        places.append((member.name, path, _Place.of(os.path.abspath(path), member)))
                elif member.isreg():
                    self._read_label(members, member, path, labels)
                    self._passed.add(member.name)
        return _follow(places, links, path) if links and not self.streamed else places

    def _read_label(self, members: TarMembers, member: tarfile.TarInfo, path: str, labels: _Labels) -> None:
        """Reads a list of labels, or the label file of one sample, of which `.cls` has priority over `.json`."""
        name = member.name.removeprefix("./")
        is_list = posixpath.basename(name) in (TABLE, CLASSES, DATASET)
        if is_list or is_list_name(name):
            held = sum(len(data or b"") for data in self._lists.values())
            reads = is_list and held + member.size <= MAX_LIST_BYTES and len(self._lists) < _MAX_LISTS
            self._lists[name] = members.read(member) if reads else None
        if is_list or not name.endswith((".cls", ".json")) or member.size > _MAX_LABEL_BYTES:
            return
        data = members.read(member)
        key, label = _stem(path, member.name), _parse_label(member.name, data)
        if label is not None and (key not in labels or name.endswith(".cls")):
            labels.add(key, label)

    def read_companion(self, name: str) -> bytes | None:
        if name.startswith(ABOVE):
            return read_if_present(list_path(self.path, name))
        if name in self._lists and self._lists[name] is None:
            raise DataError(f"{name} is above the limit of {MAX_LIST_BYTES >> 20} MiB for lists; give --labels none")
        return self._lists.get(name)

    def lists(self) -> Sequence[str]:
        return [*self._lists, *lists_above(self.path)]

    def image_names(self) -> Iterable[str]:
        names = self._streamed_names if self.streamed else [name for name, _, _ in self._places]
        return [name for name in names if self._members.includes(name)]

    @staticmethod
    def sniff(spec: str) -> bool:
        if not os.path.isfile(spec):
            return False
        try:
            return spec.lower().endswith(TAR_ENDINGS) or _is_tar(spec)
        except Exception:  # noqa: BLE001 (damaged archives raise a dozen kinds)
            return False

    def __len__(self) -> int:
        return self._members.count

    def refs(self) -> Iterable[Ref]:
        if self.streamed:
            return self._stream()
        return (
            Ref(name, (place, self._classes(path, name)))
            for name, path, place in self._places
            if self._members.includes(name)
        )

    def _stream(self) -> Iterator[Ref]:
        for path in self.paths:
            with open_tar(path) as members:
                for member in members:
                    if _is_image(member) and self._members.includes(member.name):
                        content = _why_bad(member) or members.read(member)
                        yield Ref(member.name, (content, self._classes(path, member.name)))
                        del content  # while the next one is read

    def _classes(self, path: str, name: str) -> tuple[int, ...]:
        if not self.label_columns:
            return ()
        stem = _stem(path, name)
        return (self._numbers.get(stem, self._numbers.get(_sample_of(stem), -1)),)

    def reader(self, resolution: int, seed: int) -> Reader:
        return TarReader()


class _Labels(dict[str, str]):
    """Class names by the stems of their files, together at most MAX_LIST_BYTES."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0
        self._images: set[str] = set()  # stems of images that have a dot

    def add_image(self, stem: str) -> None:
        """Notes an image, whose label file may have its own stem."""
        if stem != _sample_of(stem):
            self._images.add(stem)

    def add(self, key: str, label: str) -> None:
        self[key] = label
        self._bytes += len(key) + len(label)
        if self._bytes > MAX_LIST_BYTES:
            raise ValueError(f"labels above the limit of {MAX_LIST_BYTES >> 20} MiB")

    def by_sample(self) -> dict[str, str]:
        """Returns the class names by stem and, for all images of a sample, by what these share.

        A file of the stem of an image names the class of that image alone.
        """
        shared: dict[str, str] = {}
        for stem, label in self.items():
            sample = _sample_of(stem)
            if stem == sample:
                shared[sample] = label
            elif stem not in self._images:
                shared.setdefault(sample, label)
        return {**self, **shared}


def _classes_of(distinct: set[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Returns the classes of labels and their numbers by label: none where they are too many, fractions or unknown."""
    if distinct == {"-1", "1"}:
        return NO_YES, {"-1": 0, "1": 1}
    distinct = without_unknown(distinct)
    classes = () if len(distinct) > MAX_CLASSES or are_measures(distinct) else order_classes(distinct)
    return classes, {name: number for number, name in enumerate(classes)}


def _is_tar(path: str) -> bool:
    """Whether a file begins with a tar's first header, compressed or not."""
    try:
        with open_tar(path):
            return True
    except DataError:
        return False


def _is_image(member: tarfile.TarInfo) -> bool:
    return (member.isreg() or member.islnk() or member.issym()) and is_image_name(member.name)


def _why_bad(member: tarfile.TarInfo) -> str:
    """Returns why a member cannot be read, "" if it can."""
    if not member.isreg():
        target = printable(_link_target(member))[:80]
        return f"a link to {target}; pack the files themselves: tar --dereference --hard-dereference"
    try:
        check_file_size(member.size, MAX_CARRIED_BYTES)
    except BadImage as bad:
        return str(bad)
    return ""


def _link_target(member: tarfile.TarInfo) -> str:
    """Returns the name of the member that a link names; a hard link's is its full name."""
    folder = posixpath.dirname(member.name) if member.issym() else ""
    return posixpath.normpath(posixpath.join(folder, member.linkname))


def _follow(
    places: list[tuple[str, str, _Place | str]], links: dict[str, str], path: str
) -> list[tuple[str, str, _Place | str]]:
    """Replaces the places of links by those of the members that they name, where the tar holds these."""
    targets = {link: _last_target(link, links) for link in links}
    wanted = set(targets.values())
    found: dict[str, _Place | str] = {}
    with open_tar(path) as members:
        for member in members:
            if member.isreg() and (name := posixpath.normpath(member.name)) in wanted:
                found[name] = _Place.of(os.path.abspath(path), member)
    return [(name, tar, found.get(targets.get(posixpath.normpath(name), ""), place)) for name, tar, place in places]


def _last_target(link: str, links: dict[str, str]) -> str:
    """Follows links to links; a loop ends after a few."""
    for _ in range(_MAX_LINKS):
        link = links.get(link, link)
    return link


def _stem(path: str, name: str) -> str:
    """Returns shard, folder and name of a member without its ending."""
    folder, _, base = name.rpartition("/")
    return f"{path}\0{folder}/{base.rpartition('.')[0]}"


def _sample_of(stem: str) -> str:
    """Returns what the members of one webdataset sample share: shard, folder and the name up to its first dot."""
    folder, _, base = stem.rpartition("/")
    return f"{folder}/{base.partition('.')[0]}"


def _parse_label(name: str, data: bytes) -> str | None:
    """Returns the class in an image's label file, None if it names none."""
    try:
        text = data.decode().strip()
        if name.endswith(".cls"):
            return text or None
        entries = json.loads(text)
        value = entries.get("label", entries.get("class")) if isinstance(entries, dict) else None
        return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
    except (ValueError, RecursionError):
        return None
