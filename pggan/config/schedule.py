"""Everything that varies with progress, as a pure function of images seen (torch-free)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pggan.config.losses import OBJECTIVES
from pggan.config.train import PerResolution, TrainConfig, level_of
from pggan.utils.errors import UsageError


class ScheduleState(NamedTuple):
    """The training parameters at a number of images seen. `alpha` 1: the level trains alone, below: it fades in.

    `detail`, `detail_alpha`: the reals' level of detail and its fade, where the data grow instead of the networks.
    """

    nimg: int
    phase: int
    level: int
    alpha: float
    batch: int
    g_lr: float
    d_lr: float
    detail: int | None = None
    detail_alpha: float = 1.0

    @property
    def resolution(self) -> int:
        return int(2**self.level)


@dataclass(frozen=True)
class Phase:
    """Images `start` (exclusive) to `end` (inclusive) at one resolution, fading in or stable.

    `detail`: level of detail of the reals; where it is not `level`, that is what fades in or is stable.
    """

    index: int
    level: int
    fading: bool
    start: int
    end: int
    batch: int
    g_lr: float
    d_lr: float
    detail: int

    @property
    def resolution(self) -> int:
        return int(2**self.level)

    @property
    def images(self) -> int:
        return self.end - self.start

    @property
    def iterations(self) -> int:
        return -(-self.images // self.batch)


class Schedule:
    """The phases of a run and the training parameters at every point of it.

    As in the reference release, resolution, batch and learning rates switch at the start of a fade; a boundary still
    belongs to the phase that it ends. The last phase goes on for ever; `total` is where the run stops.
    Without growing there is one phase, as long as all would be together. Where the data grow, every phase trains the
    networks' last level, with its batch and rates.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.n_critic = config.n_critic or OBJECTIVES[config.loss].n_critic
        g_defaults, d_defaults = config.optimizers()
        self._g_lr = config.g_lr or PerResolution(g_defaults.lr)
        self._d_lr = config.d_lr or PerResolution(d_defaults.lr)
        self._blurs = config.growth == "data"
        self._phases = self._lay_out()
        self.total = self._phases[-1].end if config.total_kimg is None else round(config.total_kimg * 1000)
        if self.total < 1:
            raise UsageError("the phases have no images; give --stable-kimg, --fade-kimg or --total-kimg above 0")

    def _lay_out(self) -> list[Phase]:
        phases: list[Phase] = []
        start = 0
        for resolution in self.config.details():
            kinds = [(False, self.config.stable_kimg)]
            if resolution != self.config.start_res:
                kinds.insert(0, (True, self.config.fade_kimg))
            for fading, kimg in kinds:
                end = start + round(kimg.at(resolution) * 1000)
                last = resolution == self.config.max_res and not fading  # kept even if empty: it goes on for ever
                if end > start or last:
                    phases.append(self._phase(len(phases), resolution, fading, start, end))
                start = end
        return [self._phase(0, self.config.max_res, False, 0, start)] if self.config.growth == "none" else phases

    def _phase(self, index: int, detail: int, fading: bool, start: int, end: int) -> Phase:
        resolution = detail if self.config.growth == "progressive" else self.config.max_res
        batch = int(self.config.batch.at(resolution))
        rates = self._g_lr.at(resolution), self._d_lr.at(resolution)
        return Phase(index, level_of(resolution), fading, start, end, batch, *rates, level_of(detail))

    @property
    def phases(self) -> list[Phase]:
        """The phases up to the total, the last one lengthened or cut to end there."""
        kept = [p for p in self._phases if p.start < self.total]
        last = kept[-1]
        end = self.total if last is self._phases[-1] else min(last.end, self.total)
        return [*kept[:-1], self._phase(last.index, int(2**last.detail), last.fading, last.start, end)]

    def at(self, nimg: int) -> ScheduleState:
        """The training parameters after `nimg` images."""
        phase = next((p for p in self._phases if nimg <= p.end), self._phases[-1])
        alpha = (nimg - phase.start) / (phase.end - phase.start) if phase.fading else 1.0
        own = ScheduleState(nimg, phase.index, phase.level, alpha, phase.batch, phase.g_lr, phase.d_lr)
        return own._replace(alpha=1.0, detail=phase.detail, detail_alpha=alpha) if self._blurs else own

    def tick(self, nimg: int) -> int:
        """Images between two lines of the log."""
        return max(1, round(self.config.tick_kimg.at(self.at(nimg).resolution) * 1000))
