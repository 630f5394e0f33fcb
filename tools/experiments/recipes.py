"""Recipes on a growing network: each switch alone beside the published recipe.

They are compared at equal images and at equal processor time.

    pggan prepare-data pictures.zip data --max-res 32
    pggan prepare-data others.zip reals --max-res 32
    python tools/lab.py recipes data reals --recipes published,bilinear --seeds 0,1 --out lab

Every run is `pggan train` on one core with the same networks, batch, rates and phases, but for what its recipe changes.
`bilinear+mapping` is both in one run.
The runs lie in OUT, are gone on with where they were stopped, and their snapshots are measured once. The table and the
plot are of all runs that OUT holds, so that several calls may share the work. What is compared:

    SWD       x 1000, generated pictures against those of REALS, which no run trains on
    FD        Frechet distance by EfficientNet-Lite0 of the last snapshot (extra `metrics`)
    MS-SSIM   between generated pairs; lower is more varied
    gap       mean score of training pictures less that of held-out ones, over that of generated ones
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from experiments.commands import run_pggan
from experiments.frame import Row, Say
from pggan.training.run.directory import RunDirectory, is_run
from pggan.training.run.log_reader import is_tick, read_log
from pggan.utils.atomic_files import write_json
from pggan.utils.errors import UsageError

RECIPES: dict[str, tuple[str, ...]] = {
    "published": (),
    "bilinear": ("--resample", "bilinear"),
    "mapping": ("--mapping", "4"),
    "rpgan": ("--loss", "rpgan", "--r1-gamma", "0.1", "--r2-gamma", "0.1"),
    "rpgan-auto": ("--loss", "rpgan"),
    "rpgan-lazy": ("--loss", "rpgan", "--r1-gamma", "0.1", "--r2-gamma", "0.1", "--penalty-every", "4"),
    "he-gains": ("--gains", "he"),
    "rate-2": ("--g-lr", "0.002", "--d-lr", "0.002"),
    "batch-4": ("--batch", "4"),
}
# about a million weights each; thousands of images by resolution
NETWORKS = ("--latent-size", "128", "--fmap-base", "1024", "--fmap-max", "128")
STABLE, FADE = {4: 4.0, 8: 4.0, 16: 6.0, 32: 13.0}, {8: 2.0, 16: 3.0, 32: 3.0}
BATCH, SHARE_HELD_OUT, TICKS = 16, 0.1, 2
# the last part of a run over which the gap is averaged
LAST = 0.25


@dataclass(frozen=True)
class Plan:
    """What all runs of a comparison share. `scale`: of the phases; `pictures`: generated ones that are measured."""

    data: str
    reals: str
    out: Path
    max_res: int = 32
    scale: float = 1.0
    pictures: int = 4096
    embedding: str | None = "efficientnet-lite0"

    def options(self) -> list[str]:
        """Options of `pggan train` that no recipe changes."""

        def phases(kimg: dict[int, float]) -> str:
            return ",".join(f"{res}:{value * self.scale:g}" for res, value in kimg.items() if res <= self.max_res)

        return [
            "--max-res", str(self.max_res), *NETWORKS, "--batch", str(BATCH),
            "--stable-kimg", phases(STABLE), "--fade-kimg", phases(FADE), "--tick-kimg", f"{self.scale:g}",
            "--snapshot-ticks", str(TICKS), "--checkpoint-ticks", str(TICKS), "--eval-every", "0",
            "--held-out", str(SHARE_HELD_OUT), "--device", "cpu", "--mode", "eager",
        ]  # fmt: skip


def conduct(plan: Plan, recipes: Sequence[str], seeds: Sequence[int], say: Say) -> list[Row]:
    """Trains and measures what is missing; returns the figures of all runs in `plan.out`."""
    if unknown := [part for name in recipes for part in name.split("+") if part not in RECIPES]:
        raise UsageError(f"unknown recipe {unknown[0]}; known: {', '.join(RECIPES)}")
    for seed in seeds:
        for name in recipes:
            run = plan.out / f"{name}-{seed}"
            say(f"{run}: {' '.join(options_of(name)) or 'the published recipe'}")
            train(plan, run, name, seed)
            write_json(run / "measured.json", row := measure(plan, run, name, seed))
            say(f"  SWD x 1000 {row['curve'][-1]['swd']:.1f} after {row['curve'][-1]['processor_seconds']:.0f} s")
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(plan.out.glob("*/measured.json"))]


def options_of(name: str) -> tuple[str, ...]:
    """What a recipe, or several in one, changes of the published one."""
    return tuple(chain.from_iterable(RECIPES[part] for part in name.split("+")))


def names_in(rows: Sequence[Row]) -> list[str]:
    """Names of the recipes in the order of RECIPES, those of several parts last."""
    order = {name: place for place, name in enumerate(RECIPES)}
    return sorted({row["recipe"] for row in rows}, key=lambda name: (order.get(name, len(order)), name))


def train(plan: Plan, run: Path, name: str, seed: int) -> None:
    """Trains a run to its end; one that stands is gone on with."""
    if is_run(run):
        run_pggan("train", "--resume", str(run), "--quiet", threads=1)
        return
    rates = () if "--g-lr" in options_of(name) else ("--g-lr", "0.001", "--d-lr", "0.001")
    given = [*plan.options(), *rates, *options_of(name), "--seed", str(seed)]
    run_pggan("train", plan.data, "--out", str(run), *given, "--quiet", threads=1)


def measure(plan: Plan, run: Path, name: str, seed: int) -> Row:
    """Figures of a finished run. `curve`: kimg, processor seconds, SWD, MS-SSIM of the last resolution's snapshots."""
    ticks = [line for line in read_log(RunDirectory(run).log) if is_tick(line)]
    seconds = {line["nimg"]: line["processor_seconds"] for line in ticks if line["resolution"] == plan.max_res}
    before = run / "measured.json"
    known = {} if not before.exists() else {p["kimg"]: p for p in json.loads(before.read_text("utf-8"))["curve"]}
    curve: list[Row] = []
    for path in RunDirectory(run).models():
        nimg = int(path.stem.rpartition("-")[2])
        if nimg not in seconds or nimg / 1000 in known:
            curve += [known[nimg / 1000]] if nimg / 1000 in known else []
            continue
        figures = evaluate(plan, path, "swd,msssim", plan.pictures)
        point = {"kimg": nimg / 1000, "processor_seconds": seconds[nimg]}
        curve.append({**point, "swd": figures["swd"], "msssim": figures["msssim"]})
    last = ticks[-max(1, round(len(ticks) * LAST)) :]
    gap = statistics.mean(line["score_gap"] for line in last)
    apart = statistics.mean(line["score_real"] - line["score_fake"] for line in last)
    row = {"recipe": name, "seed": seed, "curve": curve, "gap": gap / apart if apart > 0 else None}
    if plan.embedding:
        row["fd"] = evaluate(plan, RunDirectory(run).models()[-1], "fd", plan.pictures // 2, plan.embedding)["fd"]
    return row


def evaluate(plan: Plan, model: Path, metrics: str, count: int, embedding: str | None = None) -> dict[str, float]:
    given = [] if embedding is None else ["--embedding", embedding]
    asked = ["--data", plan.reals, "--metrics", metrics, "--n", str(count), *given, "--json"]
    told = run_pggan("evaluate", str(model), *asked, threads=1)
    found: dict[str, float] = json.loads(told)["metrics"]
    return found


def at_equal_time(curve: Sequence[Row], seconds: float) -> float:
    """SWD after so much processor time, between two snapshots on the straight line."""
    for before, after in pairwise(curve):
        if before["processor_seconds"] <= seconds <= after["processor_seconds"]:
            share = (seconds - before["processor_seconds"]) / (after["processor_seconds"] - before["processor_seconds"])
            return float(before["swd"] + share * (after["swd"] - before["swd"]))
    return float(curve[-1 if seconds > curve[0]["processor_seconds"] else 0]["swd"])


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line a recipe; means over the seeds, with the smallest and the largest of them."""
    seconds = min(row["curve"][-1]["processor_seconds"] for row in rows)
    heads = [
        "recipe",
        "seeds",
        "processor s",
        "SWD x 1000 at equal images",
        f"at {seconds:.0f} s",
        "FD",
        "MS-SSIM",
        "gap",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name in names_in(rows):
        runs = [row for row in rows if row["recipe"] == name]
        ends = [row["curve"][-1] for row in runs]
        cells = [
            name, str(len(runs)),
            _spread([end["processor_seconds"] for end in ends]), _spread([end["swd"] for end in ends]),
            _spread([at_equal_time(row["curve"], seconds) for row in runs]),
            _spread([row["fd"] for row in runs if "fd" in row]), _spread([end["msssim"] for end in ends]),
            _spread([row["gap"] for row in runs if row["gap"] is not None]),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.3g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3g} to {max(values):.3g})"


def write(plan: Plan, rows: Sequence[Row]) -> None:
    """Writes recipes.json, recipes.md and recipes.png beside the runs."""
    write_json(plan.out / "recipes.json", {"plan": {**vars(plan), "out": str(plan.out)}, "runs": list(rows)})
    (plan.out / "recipes.md").write_text(table(rows), encoding="utf-8")
    plot(rows).savefig(plan.out / "recipes.png", dpi=110, bbox_inches="tight")


def plot(rows: Sequence[Row]) -> Any:
    """SWD by images and by processor seconds, a line a run."""
    from experiments import plots

    figure, axes = plots.panels(1)
    names = names_in(rows)
    for panel, (across, told) in zip(axes[0], (("kimg", "thousands of images"), ("processor_seconds", "processor s"))):
        for row in rows:
            colour = plots.COLOURS[names.index(row["recipe"]) % len(plots.COLOURS)]
            first = row["seed"] == min(r["seed"] for r in rows)
            label = row["recipe"] if first else None
            points = [[point[name] for point in row["curve"]] for name in (across, "swd")]
            panel.plot(*points, "-" if first else "--", color=colour, label=label, linewidth=1)
        plots.dress(panel, "SWD x 1000", told, log="y")
    return figure
