"""Few pictures, trained equally long with and without augmentation: how far D learns them by heart, and what G makes.

    pggan prepare-data faces256.zip faces --max-res 16
    python tools/lab_augment.py faces --pictures 64 --kimg 5 --seeds 0,1 --out lab

Every run trains on the same few pictures of DATA of its seed; the others are held out. All runs of `--kinds` and
`--seeds` lie in OUT, are gone on with where they were stopped, and are compared in OUT/augment.json and OUT/augment.md:

    gap       mean score of training pictures minus that of held-out ones, as D saw them in the last quarter of the run
    r         the gap as a share of the distance of training from generated pictures: 1, all learnt by heart
    SWD       x 1000, generated pictures against all of DATA;  MS-SSIM  between generated pairs; lower is better of both
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from experiments.commands import run_pggan

from pggan.data.store.store import Store
from pggan.training.run.directory import RunDirectory, is_run
from pggan.training.run.log_reader import read_log

COLUMNS = {"gap": "gap of D", "r": "r", "p": "p at the end", "swd": "SWD x 1000", "msssim": "MS-SSIM"}
# the last part of a run that the gap is a mean over
SHARE = 0.25


def train(data: str, run: Path, kind: str, seed: int, held_out: float, given: argparse.Namespace) -> None:
    if is_run(run):
        run_pggan("train", "--resume", str(run), "--quiet")
        return
    kimg = [f"{given.kimg:g}", "--tick-kimg", f"{given.kimg / 24:g}"]
    narrow = ["--fmap-base", str(given.fmap_base), "--fmap-max", str(given.fmap_base // 8)]
    plan = ["--start-res", str(given.res), "--max-res", str(given.res), "--stable-kimg", *kimg, *narrow]
    plan += ["--batch", str(given.batch)]
    few = ["--held-out", f"{held_out:.6f}", "--seed", str(seed), "--augment", kind]
    ada = ["--ada-kimg", f"{given.ada_kimg:g}", "--ada-target", f"{given.ada_target:g}"] if kind == "ada" else []
    run_pggan("train", data, "--out", str(run), "--preset", "demo", *plan, *few, *ada, "--quiet", *given.train)


def figures(data: str, run: Path, count: int) -> dict[str, float]:
    """What is compared of one run."""
    lines = read_log(RunDirectory(run).log)
    last = lines[-max(1, round(len(lines) * SHARE)) :]
    gap = statistics.mean(line["score_gap"] for line in last)
    apart = statistics.mean(line["score_real"] - line["score_fake"] for line in last)
    told = run_pggan("evaluate", str(run), "--data", data, "--metrics", "swd,msssim", "--n", str(count), "--json")
    measured = json.loads(told)["metrics"]
    found = {"gap": gap, "swd": measured["swd"], "msssim": measured["msssim"]}
    if apart > 0:  # else D tells nothing apart, and r is nothing
        found["r"] = gap / apart
    return {**found, "p": lines[-1]["augment_p"]} if "augment_p" in lines[-1] else found


def table(rows: list[dict[str, Any]], kinds: list[str]) -> str:
    """Markdown: a line a kind, mean over the seeds (and the smallest and largest)."""
    text = ["| `--augment` | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for kind in kinds:
        cells = []
        for name in COLUMNS:
            values = [row[name] for row in rows if row["augment"] == kind and name in row]
            spread = f" ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3g}{spread}" if values else "")
        text.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a store that prepare-data made")
    parser.add_argument("--out", type=Path, default=Path("lab"))
    parser.add_argument("--pictures", type=int, default=64, help="that are trained on")
    parser.add_argument("--kinds", default="none,diffaugment,ada")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--res", type=int, default=16)
    parser.add_argument("--kimg", type=float, default=5)
    parser.add_argument("--batch", type=int, default=4, help="small: many steps an image")
    parser.add_argument("--fmap-base", type=int, default=256)
    parser.add_argument("--ada-kimg", type=float, default=4, help="short runs want a short one")
    parser.add_argument("--ada-target", type=float, default=0.2, help="and a low one")
    parser.add_argument("--n", type=int, default=1024, help="generated pictures that are measured")
    parser.add_argument("--train", nargs="*", default=[], help="more options for pggan train (last)")
    given = parser.parse_args()
    with Store(given.data) as store:
        held_out = 1 - given.pictures / len(store)
    if not 0 < held_out <= 0.99:
        parser.error(f"--pictures {given.pictures} of {len(store)}: a hundredth at least, and not all")
    kinds, rows = given.kinds.split(","), []
    for seed in map(int, given.seeds.split(",")):
        for kind in kinds:
            run = given.out / f"{kind}-{seed}"
            train(given.data, run, kind, seed, held_out, given)
            rows.append({"augment": kind, "seed": seed, **figures(given.data, run, given.n)})
            print(json.dumps(rows[-1]), flush=True)
    setting = {name: value for name, value in vars(given).items() if name not in ("data", "out")}
    text = json.dumps({"setting": setting, "pictures": len(store), "runs": rows}, indent=2)
    (given.out / "augment.json").write_text(text + "\n", encoding="utf-8")
    (given.out / "augment.md").write_text(table(rows, kinds) + "\n", encoding="utf-8")
    print(table(rows, kinds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
