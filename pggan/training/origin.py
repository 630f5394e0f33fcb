"""Training that goes on from a model: its networks' configurations as options, its weights in the new run's state."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pggan.checkpoints import MODEL_KEY, load_model, read_metadata
from pggan.config import DiscriminatorConfig, GeneratorConfig, NetworkConfig, TrainConfig, from_json
from pggan.errors import DataError, ModelError, UsageError
from pggan.places import find_model
from pggan.training.state import TrainState

# Options of training that a model's networks decide: field -> which network has it.
_DECIDED = {"fmap_base": "g", "fmap_max": "g", "fused_scale": "g", "latent_size": "g", "stddev_group": "d"}


@dataclasses.dataclass(frozen=True)
class Origin:
    """The model that a run begins with."""

    path: Path
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    level: int

    @classmethod
    def read(cls, name: str) -> Origin:
        """Raises `ModelError` where there is no such model, or it keeps no discriminator."""
        path = find_model(name)
        about = read_metadata(path, MODEL_KEY)
        if not about.get("discriminator"):
            raise ModelError(
                f"{path} keeps no discriminator, so that training cannot go on from it; give another model"
            )
        try:
            g = from_json(GeneratorConfig, about["generator"])
            d = from_json(DiscriminatorConfig, about["discriminator"])
            return cls(path.resolve(), g, d, int(about["level"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} has unreadable metadata ({error!r}); copy or make it again") from None

    def options(self, given: dict[str, Any], largest: int | None) -> dict[str, Any]:
        """What a person gave, with what the model decides. Raises `UsageError` where they contradict each other.

        The run starts at the model's own level, stable, and grows to its last one unless other ones are given.
        """
        decided = {}
        for name, network in _DECIDED.items():
            own = getattr(self.generator if network == "g" else self.discriminator, name)
            if given.get(name) not in (None, own):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag} {given[name]} contradicts --from: that model has {own}; leave it out")
            decided[name] = own
        last = given.get("max_res") or min(self.generator.resolution, largest or self.generator.resolution)
        first = given.get("start_res") or min(2**self.level, last)
        return {**given, **decided, "max_res": last, "start_res": first, "start_from": str(self.path)}

    def fit(self, config: TrainConfig) -> TrainConfig:
        """The configuration with the model's networks. Raises `DataError` where the data are of another kind."""
        if config.channels != self.generator.channels:
            kinds = {1: "grey", 3: "RGB"}
            theirs = kinds.get(self.generator.channels, f"{self.generator.channels}-channel")
            raise DataError(f"the model of --from makes {theirs} pictures, the data are {kinds[config.channels]}")
        if config.label_size != self.generator.label_size:
            mend = "leave --labels out" if not self.generator.label_size else "give --labels with such a column"
            raise DataError(
                f"the model of --from has {self.generator.label_size} classes, the run {config.label_size}; {mend}"
            )
        g, d = config.networks()
        g_network, d_network = _differences(self.generator, g), _differences(self.discriminator, d)
        return dataclasses.replace(config, g_network=g_network, d_network=d_network)


def _differences(wanted: NetworkConfig, made: NetworkConfig) -> tuple[tuple[str, Any], ...]:
    names = [entry.name for entry in dataclasses.fields(wanted) if entry.name != "resolution"]
    return tuple((name, getattr(wanted, name)) for name in names if getattr(wanted, name) != getattr(made, name))


def adopt(state: TrainState, path: str | Path) -> None:
    """Gives a new run the weights of a model. Levels above the model's own keep their fresh ones."""
    model = load_model(Path(path), state.device)
    assert model.discriminator is not None, "Origin.read has seen one"
    pairs = (
        (state.generator, model.trained or model.generator),
        (state.average, model.generator),
        (state.discriminator, model.discriminator),
    )
    for module, source in pairs:
        theirs = source.state_dict()
        module.load_state_dict({name: theirs.get(name, own) for name, own in module.state_dict().items()})
