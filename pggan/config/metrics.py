"""The table of metrics: the quality and variety of generated images, from 8-bit images (torch-free).

Images -> features -> statistics -> numbers. Statistics of parts merge into those of the whole, so that processes share
the work; those of the real images are cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pggan.config.registry import Registry
from pggan.utils.errors import UsageError

# The network that `--embedding` knows by name.
READY = "efficientnet-lite0"
# Real pictures that `--neighbours` shows beside each generated one, unless `--k` says otherwise.
NEAREST = 4


@dataclass(frozen=True)
class MetricSpec:
    """A metric of generated images."""

    name: str  # on the command line
    target: str  # `module:class`, imported on first use
    summary: str  # what it is, for people
    count: int  # generated images by default
    # Real images that it compares with: "" (none), "paired" (as many as generated ones, repeated where there are
    # fewer), "once" (as many, none twice), "all" (up to 50,000).
    reals: str
    better: str  # "lower" or "higher"
    needs: str = ""  # network: "" (none), "inception" or "embedding" (the user's)
    least: int = 2  # fewest generated images
    side: int = 4  # smallest side of the images
    headline: str = ""  # key of its main figure, where that is not its name

    @property
    def figure(self) -> str:
        """Key of its main figure."""
        return self.headline or self.name


_D, _N = "pggan.metrics.distances", "pggan.metrics.neighbours"
# As published: SWD of 16,384 images, MS-SSIM of 10,000 pairs, FID of 50,000 images.
# fmt: off
METRICS: Registry[MetricSpec] = Registry("metric", [
    MetricSpec("swd", "pggan.metrics.swd:SWD", "sliced Wasserstein distance x 1000",
        16_384, "paired", "lower", side=16),
    MetricSpec("msssim", "pggan.metrics.ms_ssim:MSSSIM", "MS-SSIM between generated pairs",
        20_000, "", "lower", side=16),
    MetricSpec("neighbours", f"{_N}:Neighbours", "copies of training pictures and near-duplicates, by pixels",
        1000, "all", "higher", least=4, headline="nearest_ratio"),
    MetricSpec("fid", f"{_D}:FrechetDistance", "Frechet inception distance", 50_000, "all", "lower", "inception"),
    MetricSpec("kid", f"{_D}:KernelDistance", "kernel inception distance", 50_000, "all", "lower", "inception"),
    MetricSpec("is", f"{_D}:InceptionScore", "inception score", 50_000, "", "higher", "inception"),
    MetricSpec("pr", f"{_D}:PrecisionRecall", "precision and recall on Inception",
        50_000, "once", "higher", "inception", least=4, headline="precision"),
    MetricSpec("fd", f"{_D}:FrechetDistance", "Frechet distance over --embedding", 50_000, "all", "lower", "embedding"),
    MetricSpec("kd", f"{_D}:KernelDistance", "kernel distance over --embedding", 50_000, "all", "lower", "embedding"),
    MetricSpec("epr", f"{_D}:PrecisionRecall", "precision and recall over --embedding",
        50_000, "once", "higher", "embedding", least=4, headline="embedding_precision"),
    MetricSpec("eneighbours", f"{_N}:Neighbours", "as neighbours, over --embedding",
        1000, "all", "higher", "embedding", least=4, headline="embedding_nearest_ratio"),
])
# fmt: on


NEVER = "never"


@dataclass(frozen=True)
class StopRule:
    """When a run stops: after `patience` evaluations without a better score."""

    metric: str
    patience: int

    @classmethod
    def parse(cls, text: str | None) -> StopRule | None:
        """Parses `swd:5`; None or `never` is no rule. Raises `UsageError` for anything else."""
        if text is None or text == NEVER:
            return None
        name, _, count = text.partition(":")
        if not (count.isdecimal() and 1 <= int(count[:9]) <= 1_000_000):
            raise UsageError(f"--stop-when {text} is not METRIC:N, as swd:5 for five evaluations without a better one")
        return cls(METRICS[name.strip()].name, int(count))


def measurable(names: Sequence[str], side: int) -> list[str]:
    """Returns those metrics that are defined for pictures of `side` pixels."""
    return [name for name in names if METRICS[name].side <= side]


def chosen(text: str | Sequence[str]) -> list[str]:
    """Parses `swd,msssim` or a list into names. Raises `UsageError` for unknown or repeated names, or none."""
    names = [part.strip() for part in (text.split(",") if isinstance(text, str) else text) if part.strip()]
    for name in names:
        _ = METRICS[name]
        if names.count(name) > 1:
            raise UsageError(f"metric {name!r} is there twice")
    if not names:
        raise UsageError(f"no metric is named; choose from: {', '.join(METRICS.names())}")
    return names
