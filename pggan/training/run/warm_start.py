"""Training that goes on from a model: its networks' configurations as options, its weights in the new run's state."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pggan.config.train import DiscriminatorConfig, GeneratorConfig, NetworkConfig, TrainConfig, from_json
from pggan.networks.model_file import MODEL_KEY, load_model, read_metadata
from pggan.training.engine.state import TrainState
from pggan.utils.errors import DataError, ModelError, UsageError
from pggan.utils.paths import find_model

# Options of training that a model's networks decide: field -> which network has it, and under what name.
_DECIDED = {
    "fmap_base": ("g", "fmap_base"), "fmap_max": ("g", "fmap_max"), "fused_scale": ("g", "fused_scale"),
    "latent_size": ("g", "latent_size"), "stddev_group": ("d", "stddev_group"), "arch_g": ("g", "arch"),
    "arch_d": ("d", "arch"), "g_norm": ("g", "norm"), "d_norm": ("d", "norm"), "diversity": ("d", "diversity"),
    "discrimination_kernels": ("d", "discrimination_kernels"), "discrimination_dim": ("d", "discrimination_dim"),
    "discrimination_group": ("d", "discrimination_group"),
    "categorical": ("g", "categorical"), "continuous": ("g", "continuous"),
}  # fmt: skip

_COMMON = [entry.name for entry in dataclasses.fields(NetworkConfig)]


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """The model that a run begins with.

    `keeps_discriminator` False, as of models that ship: the run makes one as wide as the generator, from fresh weights.
    """

    path: Path
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    level: int
    keeps_discriminator: bool = True

    @classmethod
    def read(cls, name: str) -> WarmStart:
        """Raises `ModelError` where there is no such model, or it cannot be read."""
        path = find_model(name)
        about = read_metadata(path, MODEL_KEY)
        try:
            g = from_json(GeneratorConfig, about["generator"])
            kept, level = about.get("discriminator"), int(about["level"])
            if kept:
                return cls(path.resolve(), g, from_json(DiscriminatorConfig, kept), level)
            common = {name: getattr(g, name) for name in _COMMON}
            return cls(path.resolve(), g, DiscriminatorConfig(**common), level, False)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} has unreadable metadata ({error!r}); copy or make it again") from None

    def options(self, given: dict[str, Any], largest: int | None) -> dict[str, Any]:
        """What a person gave, with what the model decides. Raises `UsageError` where they contradict each other.

        The run starts at the model's own level, stable, and grows to its last one unless other ones are given.
        """
        decided = {}
        for name, (network, theirs) in _DECIDED.items():
            if network == "d" and not self.keeps_discriminator:
                continue
            own = getattr(self.generator if network == "g" else self.discriminator, theirs)
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
        g, d = config.networks()
        if g.label_size != self.generator.label_size or d.label_size != self.discriminator.label_size:
            mend = "leave --labels out" if not self.discriminator.label_size else "give --labels with such a column"
            if d.label_size == self.discriminator.label_size:
                mend = "give --semi-supervised" if g.label_size else "leave --semi-supervised out"
            raise DataError(
                f"the model of --from has {self.discriminator.label_size} classes (its generator "
                f"{self.generator.label_size}), the run {d.label_size} (its generator {g.label_size}); {mend}"
            )
        if self.keeps_discriminator and d.decodes != self.discriminator.decodes:
            kind, mend = ("an", "--loss began") if self.discriminator.decodes else ("no", "another --loss")
            raise UsageError(f"the discriminator of --from is {kind} auto-encoder; give {mend}")
        g_network, d_network = _differences(self.generator, g), _differences(self.discriminator, d)
        if not self.keeps_discriminator:  # what the two networks share; the rest is the run's to choose
            d_network = tuple((name, value) for name, value in d_network if name in _COMMON and name != "arch")
        return dataclasses.replace(config, g_network=g_network, d_network=d_network)


def _differences(wanted: NetworkConfig, made: NetworkConfig) -> tuple[tuple[str, Any], ...]:
    names = [entry.name for entry in dataclasses.fields(wanted) if entry.name != "resolution"]
    return tuple((name, getattr(wanted, name)) for name in names if getattr(wanted, name) != getattr(made, name))


def load_pretrained(state: TrainState, path: str | Path) -> bool:
    """Gives a new run the weights of a model; whether it had those of a discriminator, too.

    Levels above the model's own keep their fresh ones, and so does a discriminator that the model does not keep.
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
        theirs = source.state_dict()
        module.load_state_dict({name: theirs.get(name, own) for name, own in module.state_dict().items()})
    state.attach()
    return model.discriminator is not None
