"""What the comparisons share: their settings, what they claim, where their numbers and plots go."""

from __future__ import annotations

import importlib
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from benchmarks.measuring import Numbers, machine

from pggan.utils.atomic_files import write_json
from pggan.utils.errors import UsageError

Say = Callable[[str], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """`quick`: as small as still shows something. `data`: idx files instead of drawn shapes."""

    seeds: tuple[int, ...] = (0, 1, 2)
    quick: bool = False
    data: str | None = None


@dataclass(frozen=True)
class Claim:
    """What a paper leads to expect, what was seen here, and whether that agrees."""

    expected: str
    seen: str
    agrees: bool


@dataclass(frozen=True)
class Result:
    """`rows`: the numbers, one row a curve or a run, whose lists belong together; `claims` are computed from them."""

    rows: list[Row]
    claims: list[Claim]
    about: Row = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """One comparison: the module `experiments.NAME` with `run(settings, say) -> Result` and `plot(result) -> Figure`.

    `pictures`: it takes idx files; `seeds`: number of the given seeds that are used, the first ones (None: all).
    """

    name: str
    title: str
    pictures: bool = False
    seeds: int | None = None

    def conduct(self, settings: Settings, out: Path, say: Say) -> dict[str, Any]:
        """Runs, writes `NAME.json` and `NAME.png` into `out`, and returns what the first holds."""
        if importlib.util.find_spec("matplotlib") is None:
            raise UsageError("the plots want matplotlib: pip install 'pggan[lab]'")
        import torch

        module = importlib.import_module(f"experiments.{self.name.replace('-', '_')}")
        torch.set_num_threads(1)  # such networks are too small to share among cores
        if self.seeds is not None:
            settings = replace(settings, seeds=settings.seeds[: self.seeds])
        out.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        say(f"{self.name}: {self.title}")
        result: Result = module.run(settings, lambda line: say(f"  {line}"))
        seconds = round(time.perf_counter() - start, 1)
        module.plot(result).savefig(out / f"{self.name}.png", dpi=110, bbox_inches="tight")
        found = {
            "experiment": self.name, "title": self.title, "seconds": seconds, "settings": asdict(settings),
            "machine": machine(), **asdict(result),
        }  # fmt: skip
        write_json(out / f"{self.name}.json", found)
        for claim in result.claims:
            say(f"  {'as expected' if claim.agrees else 'NOT as expected'}: {claim.seen}")
        say(f"  {seconds:.0f} s; {out / self.name}.json, .png")
        return found


def markdown(found: Sequence[dict[str, Any]]) -> str:
    """A table of all claims."""
    lines = ["| comparison | expected | seen | agrees |", "|---|---|---|---|"]
    for each in found:
        for claim in each["claims"]:
            agrees = "yes" if claim["agrees"] else "**no**"
            lines.append(f"| {each['experiment']} | {claim['expected']} | {claim['seen']} | {agrees} |")
    return "\n".join(lines) + "\n"


def command_of(experiment: Experiment) -> click.Command:
    """`lab.py NAME`."""

    def callback(as_json: bool, out: str, **given: Any) -> None:
        found = experiment.conduct(settings_of(**given), Path(out), speaker(as_json))
        if as_json:
            click.echo(json.dumps(found))

    return click.Command(experiment.name, callback=callback, params=options(experiment.pictures), help=experiment.title)


def options(pictures: bool) -> list[click.Parameter]:
    found: list[click.Parameter] = [
        click.Option(["--out"], default="lab", show_default=True, help="Folder for the numbers and plots."),
        click.Option(["--seeds"], type=Numbers(), default="0,1,2", show_default=True, help="Each is a repetition."),
        click.Option(["--quick"], is_flag=True, help="As little as shows that it works: seconds instead of minutes."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the numbers as JSON, too."),
    ]
    if pictures:
        told = "idx files of grey pictures with labels, as Fashion-MNIST's; default: drawn shapes."
        found.insert(1, click.Option(["--data"], type=click.Path(exists=True), help=told))
    return found


def settings_of(seeds: list[int], quick: bool, data: str | None = None) -> Settings:
    if not seeds or len(set(seeds)) != len(seeds):
        raise UsageError("--seeds names each seed once, as 0,1,2")
    return Settings(tuple(seeds), quick, data)


def speaker(as_json: bool) -> Say:
    """Progress goes where it does not mix with JSON."""
    return lambda line: click.echo(line, err=as_json)
