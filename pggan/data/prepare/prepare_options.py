"""What can be asked of a preparation, checked."""

from __future__ import annotations

from dataclasses import dataclass

from pggan.config.resolution import level_of
from pggan.data.prepare.convert import Converter
from pggan.data.sources.base import Reader
from pggan.data.store.codecs import choose_codecs
from pggan.data.store.pyramid import LOWEST
from pggan.utils.errors import UsageError

FITS = ("crop", "pad", "frame", "reject")


@dataclass(frozen=True)
class PrepareOptions:
    """How pictures become a store. `max_res` None: the largest power of two that 95 % of the pictures reach.

    `codec`: as `choose_codecs`. `channels` None: 1 where the source is grey throughout, else 3. `labels`: "folders" or
    a file of labels; None: the source's own. `align`: a file of face landmarks, by which faces are cut out upright.
    `fit`: what non-square pictures become. `strict`: a bad picture is an error; `whole`: any that is left out is.
    `shard` (i, n): the i-th (from 1) of n parts of the pictures, in their order; `merge` joins the stores. Raises
    `UsageError`, naming the option.
    """

    max_res: int | None = None
    codec: str | None = None
    quality: int = 95
    channels: int | None = None
    labels: str | None = None
    align: str | None = None
    fit: str = "crop"
    upscale: bool = False
    limit: int | None = None
    shard: tuple[int, int] | None = None
    strict: bool = False
    whole: bool = False
    seed: int = 0
    workers: int = 1
    overwrite: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.max_res is not None:
            try:
                level_of(self.max_res)
            except UsageError as error:
                raise UsageError(f"--max-res: {error}") from None
        choose_codecs(self.codec, ())
        if not 1 <= self.quality <= 100:
            raise UsageError(f"--quality {self.quality} is not from 1 to 100")
        if self.channels not in (1, 3, None):
            raise UsageError(f"--channels {self.channels} is neither 1 (grey) nor 3 (RGB)")
        if self.fit not in FITS:
            raise UsageError(f"--fit {self.fit} is none of {', '.join(FITS)}")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit} is below 1")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise UsageError(f"--shard {self.shard[0]}/{self.shard[1]} is not one of so many from 1, such as 2/8")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed} is below 0")
        if not 1 <= self.workers <= 256:
            raise UsageError(f"--workers {self.workers} is not from 1 to 256")

    def codecs(self, max_res: int) -> dict[int, str]:
        assert self.channels is not None
        sides = [2**level for level in range(level_of(LOWEST), level_of(max_res) + 1)]
        return choose_codecs(self.codec, sides, self.channels)

    def converter(self, reader: Reader, max_res: int) -> Converter:
        assert self.channels is not None
        return Converter(
            reader, max_res, self.channels, self.fit, self.upscale, self.quality, codecs=self.codecs(max_res)
        )
