"""The schedule: resolution, fade-in, batch and learning rates as a pure function of images seen (torch-free)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pggan.config.losses import OBJECTIVES
from pggan.config.resolution import PerResolution, level_of
from pggan.utils.errors import UsageError

if TYPE_CHECKING:
    from pggan.config.train import TrainConfig


class ScheduleState(NamedTuple):
    """The training parameters at a number of images seen."""

    nimg: int  # real images seen by the discriminator
    phase: int  # index of the phase
    level: int  # log2 of the resolution
    alpha: float  # fade-in of the level, 0 to 1; 1: it trains alone
    batch: int  # images per discriminator step, of all processes together
    g_lr: float
    d_lr: float
    detail: int | None = None  # level of detail of the reals; None: that of the networks
    detail_alpha: float = 1.0  # fade-in of that detail, with --growth data
    beta2: float | None = None  # Adam's second beta, where it changes over the run

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return int(2**self.level)


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one resolution, which fades in or is stable."""

    index: int
    level: int  # log2 of the resolution
    fading: bool
    start: int  # images seen before it
    end: int  # images seen at its end, inclusive
    batch: int
    g_lr: float
    d_lr: float
    detail: int  # level of detail of the reals; where it is not `level`, the detail fades in or is stable

    @property
    def resolution(self) -> int:
        """Side of the images."""
        return int(2**self.level)

    @property
    def images(self) -> int:
        """Images seen during the phase."""
        return self.end - self.start

    @property
    def d_steps(self) -> int:
        """Discriminator steps of the phase: `n_critic` of them are an iteration."""
        return -(-self.images // self.batch)


class Schedule:
    """The phases of a run, and the training parameters at every point of it.

    As in the reference release, resolution, batch and learning rates switch at the start of a fade-in, and a boundary
    belongs to the phase that it ends. The last phase never ends; training stops at `total` images.
    With `growth` "none" there is one phase as long as all together. With "data" every phase trains the last level,
    with its batch and learning rates.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.n_critic = config.n_critic or OBJECTIVES[config.loss].n_critic
        g_defaults, d_defaults = config.optimizers()
        self._g_lr = config.g_lr or PerResolution(g_defaults.lr)
        self._d_lr = config.d_lr or PerResolution(d_defaults.lr)
        self._phases = self._lay_out()
        self.total = self._phases[-1].end if config.total_kimg is None else round(config.total_kimg * 1000)
        if self.total < 1:
            raise UsageError("the phases have no images; give --stable-kimg, --fade-kimg or --total-kimg above 0")
        self._changing = config.schedules()

    def changing(self, nimg: int) -> dict[str, float]:
        """Returns the numbers that change over the run after `nimg` images, by the name of their option."""
        return {name: value.at(0, nimg / self.total) for name, value in self._changing.items()}

    def rates(self, nimg: int, resolution: int) -> tuple[float, float]:
        """Returns the learning rates of G and D after `nimg` images: `START..END` over the run, times the warm-up."""
        share, factor = nimg / self.total, 1.0
        if (warmup := self.config.lr_warmup * 1000) > 0:
            factor = min(1.0, (nimg + int(self.config.batch.at(resolution))) / warmup)
        return self._g_lr.at(resolution, share) * factor, self._d_lr.at(resolution, share) * factor

    def _lay_out(self) -> list[Phase]:
        phases: list[Phase] = []
        start = 0
        for resolution in self.config.details():
            kinds = [(False, self.config.stable_kimg)]
            if resolution != self.config.start_res:
                kinds.insert(0, (True, self.config.fade_kimg))
            for fading, kimg in kinds:
                end = start + round(kimg.at(resolution) * 1000)
                last = resolution == self.config.max_res and not fading  # stays even if empty: it never ends
                if end > start or last:
                    phases.append(self._phase(len(phases), resolution, fading, start, end))
                start = end
        if self.config.growth == "none":
            return [self._phase(0, self.config.max_res, False, 0, start)]
        return phases

    def _phase(self, index: int, detail: int, fading: bool, start: int, end: int) -> Phase:
        resolution = detail if self.config.growth == "progressive" else self.config.max_res
        batch = int(self.config.batch.at(resolution))
        rates = self._g_lr.at(resolution), self._d_lr.at(resolution)
        return Phase(index, level_of(resolution), fading, start, end, batch, *rates, level_of(detail))

    @property
    def phases(self) -> list[Phase]:
        """The phases up to the total; the last one is lengthened or cut to end there."""
        started = [phase for phase in self._phases if phase.start < self.total]
        last = started[-1]
        end = self.total if last is self._phases[-1] else min(last.end, self.total)
        return [*started[:-1], self._phase(last.index, int(2**last.detail), last.fading, last.start, end)]

    def at(self, nimg: int) -> ScheduleState:
        """Returns the training parameters after `nimg` images."""
        phase = next((phase for phase in self._phases if nimg <= phase.end), self._phases[-1])
        alpha = (nimg - phase.start) / (phase.end - phase.start) if phase.fading else 1.0
        rates = self.rates(nimg, phase.resolution)
        beta2 = self._changing["adam_beta2"].at(0, nimg / self.total) if "adam_beta2" in self._changing else None
        state = ScheduleState(nimg, phase.index, phase.level, alpha, phase.batch, *rates, beta2=beta2)
        if self.config.growth == "data":
            return state._replace(alpha=1.0, detail=phase.detail, detail_alpha=alpha)
        return state

    def level_start(self, level: int) -> int:
        """Returns the images seen when the layers of a level begin to train; the total where they never do."""
        return next((phase.start for phase in self._phases if phase.level >= level), self.total)

    def average_decay(self, nimg: int, batch: int, level: int) -> float:
        """Returns the decay of the EMA in one discriminator step, for the weights of a level's layers.

        The half-life is `min(ema_half_life, ema_ramp * images since the layers began)`, the same whatever the batch
        (Karras et al. 2020, StyleGAN2-ADA; Karras et al. 2022, EDM): each level soon leaves its initial weights. There
        is no ramp for layers that come trained from another model.

        Args:
            nimg: Images seen before the step.
            batch: Images of the step.
            level: Log2 of the resolution at which the layers work.
        """
        config = self.config
        if config.ema_half_life is None:
            return config.ema_decay
        half_life = PerResolution.of(config.ema_half_life).at(0, nimg / self.total) * 1000
        if self._ramps(level):
            half_life = min(half_life, config.ema_ramp * (nimg - self.level_start(level)))
        return float(0.5 ** (batch / half_life)) if half_life > 0 else 0.0

    def _ramps(self, level: int) -> bool:
        """Whether the half-life grows with the images since a level's layers began."""
        config = self.config
        pretrained = config.start_from is not None and 2**level <= (config.start_from_res or config.start_res)
        return config.ema_half_life is not None and config.ema_ramp > 0 and not pretrained

    def initial_share(self, level: int) -> float:
        """Returns the share of a level's initial weights that the EMA holds at the end of the run, 0 to 1.

        With a ramp it is next to nothing, and 0 here. A half-life that changes counts as in the middle of each phase.
        """
        if self._ramps(level):
            return 0.0
        share, start = 1.0, self.level_start(level)
        for phase in self.phases:
            if phase.start >= start:
                middle = (phase.start + phase.end) // 2
                share *= self.average_decay(middle, phase.batch, level) ** phase.d_steps
        return share

    def tick(self, nimg: int) -> int:
        """Returns the number of images from one log line to the next, after `nimg` images."""
        return max(1, round(self.config.tick_kimg.at(self.at(nimg).resolution) * 1000))
