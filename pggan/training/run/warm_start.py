"""Warm start (`--from`): a new run takes a model's network configurations as options, and its pretrained weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pggan.config.content.channels import kind_of_channels
from pggan.config.model_metadata import ModelMetadata
from pggan.config.network import DiscriminatorConfig, GeneratorConfig, NetworkConfig
from pggan.config.train import FIXED_BY_MODEL, OPTIONS, TrainConfig
from pggan.generation.labels import LabelSpace
from pggan.networks.model_file import load_model
from pggan.training.engine.state import TrainState
from pggan.utils.errors import DataError, UsageError
from pggan.utils.paths import find_model

_COMMON = [entry.name for entry in dataclasses.fields(NetworkConfig)]


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """The pretrained model that a run starts from.

    `keeps_discriminator`: whether the file has one. If not, as in shipped models, the run initialises one as wide as
    the generator.
    """

    path: Path
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    level: int
    keeps_discriminator: bool = True
    layout: tuple[int, ...] = ()  # of its labels, as `TrainConfig.label_layout`

    @classmethod
    def read(cls, name: str) -> WarmStart:
        """Reads a model's configurations. Raises `ModelError` where there is no such model, or it is unreadable."""
        path = find_model(name)
        about = ModelMetadata.read(path)
        g, d = about.generator, about.discriminator
        fresh = d or DiscriminatorConfig(**{name: getattr(g, name) for name in _COMMON})
        layout = tuple(column.layout for column in LabelSpace.of(about.labels, g.label_size).columns)
        return cls(path.resolve(), g, fresh, about.level, d is not None, layout)

    def options(self, requested: dict[str, Any], largest: int | None) -> dict[str, Any]:
        """Adds the options that the model fixes. The run starts at the model's level and grows to its last one.

        Args:
            requested: options by field, None where not given; a resolution among them goes before the model's.
            largest: resolution of the data, None where it is unknown.

        Raises:
            UsageError: a requested option contradicts the model.
        """
        fixed = {}
        for name, (network, field) in FIXED_BY_MODEL.items():
            if network == "d" and not self.keeps_discriminator:
                continue
            own = getattr(self.generator if network == "g" else self.discriminator, field)
            if requested.get(name) not in (None, own):
                flag = OPTIONS[name].flag
                raise UsageError(f"{flag} {requested[name]} contradicts --from: that model has {own}; leave it out")
            fixed[name] = own
        last = requested.get("max_res") or min(self.generator.resolution, largest or self.generator.resolution)
        first = requested.get("start_res") or min(2**self.level, last)
        own = {"max_res": last, "start_res": first, "start_from": str(self.path), "start_from_res": 2**self.level}
        return {**requested, **fixed, **own}

    def fit(self, config: TrainConfig) -> TrainConfig:
        """Returns the configuration with the model's networks.

        Raises `DataError` where the data have other channels or classes, `UsageError` where D is of another kind.
        """
        if config.channels != self.generator.channels:
            model_kind, data_kind = map(kind_of_channels, (self.generator.channels, config.channels))
            raise DataError(f"the model of --from makes {model_kind} pictures, the data are {data_kind}")
        g, d = config.networks()
        if g.label_size != self.generator.label_size or d.label_size != self.discriminator.label_size:
            raise DataError(
                f"the model of --from has {self.discriminator.label_size} classes (its generator "
                f"{self.generator.label_size}), the run {d.label_size} (its generator {g.label_size}); "
                f"{self._label_advice(g, d)}"
            )
        if _numbers_in(self.layout) != _numbers_in(config.label_layout) and g.label_size:
            raise DataError(
                "the model of --from has other numbers among its labels than the run; name columns of the same kinds, "
                "in the same order, with --labels"
            )
        if self.keeps_discriminator and d.decodes != self.discriminator.decodes:
            kind, advice = ("an", "--loss began") if self.discriminator.decodes else ("no", "another --loss")
            raise UsageError(f"the discriminator of --from is {kind} auto-encoder; give {advice}")
        g_network, d_network = _differences(self.generator, g), _differences(self.discriminator, d)
        if not self.keeps_discriminator:  # only what D shares with G; the run chooses the rest
            d_network = tuple((name, value) for name, value in d_network if name in _COMMON and name != "arch")
        return dataclasses.replace(config, g_network=g_network, d_network=d_network)

    def _label_advice(self, g: GeneratorConfig, d: DiscriminatorConfig) -> str:
        """Which option gives the run's networks the model's number of classes."""
        if d.label_size == self.discriminator.label_size:
            return "give --semi-supervised" if g.label_size else "leave --semi-supervised out"
        return "give --labels with such a column" if self.discriminator.label_size else "leave --labels out"


def _numbers_in(layout: tuple[int, ...]) -> list[int]:
    """Returns the places of numbers in the label vector of a layout."""
    starts = [sum(size or 1 for size in layout[:at]) for at in range(len(layout))]
    return [start for start, size in zip(starts, layout) if not size]


def _differences(model: NetworkConfig, run: NetworkConfig) -> tuple[tuple[str, Any], ...]:
    """The model's values of the fields, but for the resolution, in which the run's configuration differs."""
    names = [entry.name for entry in dataclasses.fields(model) if entry.name != "resolution"]
    return tuple((name, getattr(model, name)) for name in names if getattr(model, name) != getattr(run, name))


def load_pretrained(state: TrainState, path: str | Path) -> bool:
    """Copies a model's weights into a new run's networks; returns whether the model has a discriminator.

    Levels above the model's own stay freshly initialised, and so does a discriminator that the model lacks.
    """
    model = load_model(Path(path), state.device)
    pairs = (
        (state.generator, model.trained or model.generator),
        (state.average, model.generator),
        (state.discriminator, model.discriminator),
    )
    for module, source in pairs:
        if source is None:
            continue
        pretrained = source.state_dict()
        module.load_state_dict({name: pretrained.get(name, own) for name, own in module.state_dict().items()})
    for average in state.power_averages.values():
        average.load_state_dict(state.average.state_dict())  # for the reference batch, which no update touches
    state.attach()
    return model.discriminator is not None


def load_start(state: TrainState) -> None:
    """Gives the state of a run at its beginning the weights with which the run starts (`start_from`), if it has any."""
    if state.config.start_from is not None:
        load_pretrained(state, state.config.start_from)
