"""Options of a preparation and their checks."""

from __future__ import annotations

from dataclasses import dataclass

from pggan.config.content.channels import KINDS, LISTED
from pggan.config.resolution import MAX_RESOLUTION, level_of
from pggan.data.photos.face_search import FaceChoice
from pggan.data.prepare.convert import Converter
from pggan.data.sources.base import Reader
from pggan.data.store.codecs import check_resolution, choose_codecs
from pggan.data.store.pyramid import LOWEST
from pggan.utils.errors import UsageError

# --align of faces that are found instead of read from a file
AUTO = "auto"
FITS = ("crop", "pad", "frame", "reject")


@dataclass(frozen=True)
class PrepareOptions:
    """How images become a store. Raises `UsageError` that names the invalid option."""

    max_res: int | None = None  # None: the largest power of two that 95 % of the images reach
    codec: str | None = None  # see `choose_codecs`
    quality: int = 95  # of JPEG, 1 to 100
    channels: int | None = None  # 1, 3 or 4; None: 1 if all of the source is grey, else 3
    dataset: str | None = None  # name of the array of images in HDF5 or .npz; None: by names and sizes
    images_root: str | None = None  # folder of the images of which a table holds the relative paths
    labels: str | None = None  # "folders", "none" or a file of labels; None: the source's own
    numbers: tuple[str, ...] = ()  # label columns that hold numbers instead of classes
    member: str | None = None  # name of the images in samples of a tar or webdataset; None: see `SampleMembers`
    every: float | None = None  # of videos: seconds between pictures; None: the source's default
    align: str | None = None  # store upright face crops: a file of landmarks, or "auto" to find the faces
    faces: str = "largest"  # of "auto": of each image the largest face, or "all"
    min_face: float = FaceChoice.min_face  # of "auto": leave out smaller ones, pixels
    sharpest: float = 1.0  # of "auto": share of the faces that is kept, the sharpest ones
    duplicates: str = "drop"  # of "auto": photographs that come again, also smaller or recompressed, or "keep"
    keep_typical: float = 1.0  # share of the aligned faces that is kept, the most typical ones
    report: str | None = None  # of "auto": file for the table of all faces found
    fit: str = "crop"  # how non-square images become square: one of FITS
    upscale: bool = False  # enlarge images below max_res instead of leaving them out
    limit: int | None = None  # use only the first images
    shard: tuple[int, int] | None = None  # (i, n): only the i-th (from 1) of n parts; `merge` joins their stores
    strict: bool = False  # a bad image is an error
    whole: bool = False  # any image that is left out is an error
    seed: int = 0  # of sources that draw their images
    workers: int = 1  # processes
    overwrite: bool = False  # replace an existing store
    force: bool = False  # skip the check of the free disk space

    def __post_init__(self) -> None:
        if self.max_res is not None:
            check_resolution(self.max_res, "--max-res")
        choose_codecs(self.codec, (LOWEST, MAX_RESOLUTION), self.channels or 3)
        if not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality} is not from 1 to 100")
        if self.channels not in (*KINDS, None):
            raise UsageError(f"--channels {self.channels} is not {LISTED}")
        if self.fit not in FITS:
            raise UsageError(f"--fit {self.fit} is none of {', '.join(FITS)}")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit} is below 1")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise UsageError(f"--shard {self.shard[0]}/{self.shard[1]} needs 1 <= I <= N, such as 2/8")
        self._check_faces()
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed} is below 0")
        if not 1 <= self.workers <= 256:
            raise UsageError(f"--workers {self.workers} is not from 1 to 256")

    def _check_faces(self) -> None:
        chosen = self.face_choice != FaceChoice() or self.report is not None
        if chosen and self.align != AUTO:
            raise UsageError("--faces, --min-face, --sharpest, --duplicates and --report go with --align auto")
        if not 0 < self.keep_typical <= 1:
            raise UsageError(f"--keep-typical {self.keep_typical:g} is not above 0, up to 1")
        if self.keep_typical < 1 and self.align is None:
            raise UsageError(
                "--keep-typical compares faces that stand alike: give --align auto or a file of landmarks, too"
            )

    @property
    def face_choice(self) -> FaceChoice:
        """Which faces --align auto uses."""
        return FaceChoice(self.faces, self.min_face, self.sharpest, self.duplicates)

    def codecs(self, max_res: int) -> dict[int, str]:
        """Returns the codec of each resolution from 4x4 up to `max_res`."""
        assert self.channels is not None
        sides = [2**level for level in range(level_of(LOWEST), level_of(max_res) + 1)]
        return choose_codecs(self.codec, sides, self.channels)

    def converter(self, reader: Reader, max_res: int) -> Converter:
        assert self.channels is not None
        return Converter(
            reader, max_res, self.channels, self.fit, self.upscale, self.quality, codecs=self.codecs(max_res)
        )
