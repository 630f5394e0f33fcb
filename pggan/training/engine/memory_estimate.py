"""What training takes of memory: estimated here (torch-free), measured in `probe`; and the plan that a run keeps to.

The estimate: weights, moments, gradients and average in float32, the weights as a step scaled them, and for every image
that is computed at once so many values as D's layers put out times a factor. Measured on the CPU with torch's profile
of its allocations, at 32x32 to 256x256: tools/benchmark.py memory --tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pggan.config.train import TrainConfig, level_of
from pggan.networks.flops import discriminator_layers, generator_layers, parameters
from pggan.utils.errors import UsageError
from pggan.utils.formatting import duration, size

if TYPE_CHECKING:
    import torch

# Bytes a parameter has: the weight, two moments and a gradient; G's average beside.
PLAYER_BYTES, AVERAGE_BYTES = 16, 4
# Values kept an image in D's step over D's outputs, by bytes a value: everything, or blocks computed again.
KEPT = {4: 10.0, 2: 13.0}
AGAIN = {4: 5.5, 2: 8.0}
# Bytes a parameter of D beside, in a step: its weight as the passes scaled it, once a pass, or once.
PASSES = {False: 16, True: 8}
# On the CPU the C library keeps pieces of what is freed meanwhile: so much more is resident, measured as above.
RESIDENT = {False: 1.2, True: 1.4}
# What the device's libraries take beside, and the share of a budget that is planned with: memory is cut into pieces.
LIBRARIES = {"cuda": 700 << 20, "cpu": 680 << 20}
USABLE = 0.9
# An estimate may be off by so much: a plan that will be measured is refused only beyond it.
DOUBT = 1.5


class MicroBatchPlan(NamedTuple):
    """How a resolution is computed: images at once, blocks computed again or not, and the bytes that takes in all.

    `probed`: measured rather than estimated; `measured`: bytes by images at once, where they were.
    """

    micro_batch: int
    recompute: bool
    bytes: float
    probed: bool = False
    measured: dict[str, float] = {}  # noqa: RUF012 (never changed)

    def recorded(self) -> dict[str, Any]:
        """As a run keeps it."""
        kept = self._asdict()
        return kept if self.measured else {name: value for name, value in kept.items() if name != "measured"}


def asked_for(config: TrainConfig) -> bool:
    """Whether a run plans with memory at all."""
    return config.budget is not None or config.auto_batch


def fixed_bytes(config: TrainConfig, device: str) -> float:
    """What stays whatever the batch: all levels' weights with their moments."""
    g, d = config.networks()
    of_g, of_d = (parameters(each, each.max_level) for each in (g, d))
    return PLAYER_BYTES * (of_g + of_d) + AVERAGE_BYTES * of_g + LIBRARIES[device.partition(":")[0]]


def image_bytes(config: TrainConfig, resolution: int, value_bytes: int, recompute: bool, device: str) -> float:
    """What one image adds at a resolution: D's step holds most."""
    g, d = config.networks()
    level = level_of(resolution)
    both = discriminator_layers(d, level), generator_layers(g, level)
    values = max(sum(layer.activations for layer in layers) for layers in both)
    factor = (AGAIN if recompute else KEPT)[value_bytes]
    return value_bytes * values * factor * (RESIDENT[recompute] if device.startswith("cpu") else 1.0)


def pass_bytes(config: TrainConfig, resolution: int, recompute: bool) -> float:
    """What a step holds whatever the batch: the weights as its passes scaled them."""
    return PASSES[recompute] * parameters(config.networks()[1], level_of(resolution))


def value_bytes_of(precision: str) -> int:
    return 2 if precision in ("bf16", "fp16") else 4


def too_little(room: float, resolution: int, images: int, need: str) -> UsageError:
    """What a person is told whose memory has no room for one group."""
    return UsageError(
        f"{size(room)} of memory are too little for {resolution}x{resolution}: {images} images at once take {need}; "
        "give a --budget of that, --precision bf16 or fp16, or a smaller --fmap-base or --max-res"
    )


def planned(
    config: TrainConfig,
    budget: float,
    device: str,
    precision: str,
    sizes_at: dict[int, list[int]],
    doubt: float = 1.0,
) -> dict[int, MicroBatchPlan]:
    """A `MicroBatchPlan` of every resolution within `budget` bytes: as many images at once as fit, at least one group of the
    minibatch statistic; blocks are computed again where that alone lets a group fit.

    `sizes_at`: by resolution, the sizes of micro-batches that keep groups whole. Raises `UsageError` where none fits,
    even if the estimate is `doubt` times too high.
    """
    value_bytes = value_bytes_of(precision)
    fixed = fixed_bytes(config, device)
    room = budget * USABLE
    shares = {}
    for resolution, sizes in sizes_at.items():
        for recompute in (False, True):
            each = image_bytes(config, resolution, value_bytes, recompute, device)
            beside = fixed + pass_bytes(config, resolution, recompute)
            fitting = [count for count in sizes if beside + count * each <= room]
            if fitting:
                break
        if not fitting:
            need = (min(sizes) * each + beside) / USABLE
            if need > budget * doubt:
                raise too_little(budget, resolution, min(sizes), f"about {size(need)}")
            fitting = [min(sizes)]
        shares[resolution] = MicroBatchPlan(max(fitting), recompute, max(fitting) * each + beside)
    return shares


def sizes_of(config: TrainConfig, processes: int) -> dict[int, list[int]]:
    """By resolution, how many images a process may compute at once: ascending, groups whole, within --micro-batch."""
    from pggan.training.engine.state import divisors

    found = {}
    for resolution in config.resolutions():
        own = max(1, int(config.batch.at(resolution)) // processes)
        sizes = sorted(own // parts for parts in divisors(config, own, processes))
        most = own if config.micro_batch is None else int(config.micro_batch.at(resolution))
        found[resolution] = [count for count in sizes if count <= most] or sizes[:1]
    return found


def room(config: TrainConfig, device: torch.device) -> float:
    """Bytes that this process may take by --budget and, with `--batch auto`, by what is free: on the CPU its part."""
    from pggan.utils.devices import free_memory
    from pggan.utils.distributed import local_world_size

    limits = [config.budget] if config.budget is not None else []
    if config.auto_batch:
        sharing = 1 if device.type == "cuda" else local_world_size()
        limits.append(free_memory(device) / sharing)
    return float(min(limits))


def resolve_memory(config: TrainConfig, device: torch.device, precision: str) -> dict[str, dict[str, Any]]:
    """`planned` for this process: with `--batch auto` of the memory that is free, within --budget. The run measures.

    Empty where neither is asked for. Raises `UsageError` where it clearly does not suffice.
    """
    if not asked_for(config):
        return {}
    from pggan.utils.devices import can_measure
    from pggan.utils.distributed import world_from_environment

    doubt = DOUBT if can_measure(device) else 1.0
    shares = planned(
        config, room(config, device), device.type, precision, sizes_of(config, world_from_environment().size), doubt
    )
    return {str(side): share.recorded() for side, share in shares.items()}


def still_fits(shares: Mapping[str, Mapping[str, Any]], config: TrainConfig, device: torch.device) -> bool:
    """Whether a recorded plan fits into the memory that is free now, where it was made for what was free."""
    if not shares or not config.auto_batch:
        return True
    from pggan.utils.devices import held_memory

    free = room(config, device) + (held_memory(device) or 0)
    return max(float(share["bytes"]) for share in shares.values()) <= free


def describe(shares: Mapping[str, Mapping[str, Any]], seconds: float | None = None) -> list[str]:
    """`images computed at once: 4x4 16, 8x8 8; up to 1.2 GiB of memory, measured` in a line, none without a plan.

    `seconds`: what measuring took, where it was possible.
    """
    if not shares:
        return []
    each = [f"{r}x{r} {s['micro_batch']}{' (activations again)' if s['recompute'] else ''}" for r, s in shares.items()]
    most = max(share["bytes"] for share in shares.values())
    probed = [f"{r}x{r}" for r, share in shares.items() if share.get("probed")]
    how = "by estimate"
    if probed:
        how = "measured" if len(probed) == len(shares) else f"measured at {', '.join(probed)}, the others by estimate"
        if seconds is not None:
            how += f" (in {duration(seconds) if seconds >= 60 else f'{seconds:.1f} s'})"
    elif seconds is not None:
        how = "by estimate, far below what there is"
    return [f"images computed at once: {', '.join(each)}; up to {size(most)} of memory, {how}"]
