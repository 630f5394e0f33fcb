"""Uploads a model to the Hugging Face Hub: the model file, a card with a YAML head, and a sheet of its pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pggan.config.metrics import METRICS
from pggan.config.train import TrainConfig
from pggan.generation.grid import grid_image
from pggan.generation.images import describe, write_png
from pggan.generation.model import Model
from pggan.networks.model_file import ModelFile, load_model, save_model
from pggan.training.run.directory import RunDirectory, is_run
from pggan.training.run.log_reader import read_log
from pggan.training.run.model_card import card
from pggan.training.run.snapshots import enlarged, grid_shape
from pggan.utils.caching.hub_files import CARD, MODEL_FILE, HubAddress, endpoint, explaining, hub, is_address, is_repo
from pggan.utils.errors import ModelError, UsageError
from pggan.utils.paths import find_model
from pggan.utils.version import __version__

SHEET = "sheet.png"
TAGS = ("pggan", "gan", "unconditional-image-generation")
# What the head of a card says where nobody named a licence.
UNKNOWN_LICENCE = "other"


@dataclass(frozen=True)
class PushOptions:
    """How a model is uploaded."""

    best: bool | None = None  # of a run: its best model, or its newest; None: the best where there is one
    discriminator: bool = False  # whether the file keeps the discriminator, for train --from
    private: bool = False
    licence: str = UNKNOWN_LICENCE  # as the Hub names it, e.g. cc-by-4.0
    datasets: tuple[str, ...] = ()  # user/name of data sets on the Hub; the store's own is added


@dataclass(frozen=True)
class Pushed:
    """What was uploaded, or would be."""

    address: str  # hf://user/name, with the commit once it is there
    url: str  # its page; empty before
    files: Mapping[str, int]  # bytes by name
    card: str

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def push(name: str | Path, repo: str, options: PushOptions = PushOptions(), dry_run: bool = False) -> Pushed:
    """Uploads a model, its card and a sheet of its pictures, in one commit. The repository is made where it is missing.

    Args:
        name: A run directory, a model file, or the name of a shipped model.
        repo: `user/name`, or `hf://user/name`.
        options: How.
        dry_run: Make all files, and upload none.

    Raises:
        UsageError: `repo` is no name, or huggingface_hub is missing.
        ModelError: There is no such model, or the Hub does not take it.
    """
    if is_address(repo):
        address = HubAddress.parse(repo)
        if address.is_dataset or address.file or address.revision:
            raise UsageError(f"{repo} names more than a model's repository; give user/name")
        repo = address.repo
    if not is_repo(repo):
        raise UsageError(f"{repo} is no repository of the Hub; give user/name, of letters, digits, '-', '_' and '.'")
    hub()
    with _staged(name, repo, options) as folder:
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        text = (folder / CARD).read_text(encoding="utf-8")
        if dry_run:
            return Pushed(str(HubAddress(repo)), "", files, text)
        with explaining(str(HubAddress(repo)), ModelError):
            api = hub().HfApi(endpoint())
            url = str(api.create_repo(repo, private=options.private, exist_ok=True))
            message = f"Upload with pggan {__version__}"
            commit = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
        return Pushed(str(HubAddress(repo, commit.oid)), url, files, text)


@contextmanager
def _staged(name: str | Path, repo: str, options: PushOptions) -> Iterator[Path]:
    """Makes the files of an upload in a folder that goes afterwards."""
    run = RunDirectory(Path(name)) if is_run(Path(name)) else None
    best = run is not None and run.best.is_file() if options.best is None else options.best
    path = find_model(name, best)
    contents = load_model(path)
    if not options.discriminator:
        contents = dataclasses.replace(contents, discriminator=None, trained=None)
    with TemporaryDirectory(prefix="pggan-push-") as temporary:
        folder = Path(temporary) / repo.partition("/")[2]
        folder.mkdir()
        save_model(folder / MODEL_FILE, contents)
        _write_sheet(folder, contents)
        (folder / CARD).write_text(_card(folder / MODEL_FILE, contents, run, path, repo, options), encoding="utf-8")
        yield folder


def _write_sheet(folder: Path, contents: ModelFile) -> None:
    """Writes a grid of the model's pictures, seeds 0, 1, 2, ..."""
    columns, rows = grid_shape(None, 2**contents.level)
    model = Model(contents, torch.device("cpu"), folder / MODEL_FILE)
    write_png(
        folder / SHEET, grid_image(enlarged(model.seed_images(range(columns * rows))), columns, rows), describe(model)
    )


def _card(
    path: Path, contents: ModelFile, run: RunDirectory | None, origin: Path, repo: str, options: PushOptions
) -> str:
    config: TrainConfig | None = None
    resolved: dict[str, Any] = {}
    log: list[dict[str, Any]] = []
    trained_at = origin.stat().st_mtime
    if run is not None:
        config, resolved = run.read_options()
        log = read_log(run.log)
        trained_at = run.log.stat().st_mtime if log else trained_at
    text = card(
        repo.partition("/")[2], {path: contents}, config, resolved, log, SHEET, trained_at, str(HubAddress(repo))
    )
    return f"---\n{_head(contents, log, repo, options)}\n---\n\n{text}"


def _head(contents: ModelFile, log: list[dict[str, Any]], repo: str, options: PushOptions) -> str:
    """Returns the YAML by which the Hub finds and shows a model."""
    source = str(contents.info.get("data") or "")
    datasets = list(options.datasets)
    if is_address(source):
        datasets.append(HubAddress.parse(source).repo)
    line: dict[str, Any] = next((tick for tick in reversed(log) if tick.get("kimg") == contents.info.get("kimg")), {})
    best = contents.info.get("best")
    scores = {spec.figure: line[spec.figure] for spec in METRICS if line.get(spec.figure) is not None}
    if isinstance(best, dict) and best.get("score") is not None:
        scores.setdefault(str(best.get("metric")), best["score"])
    library = hub()
    results = [
        library.EvalResult(
            task_type="unconditional-image-generation", dataset_type=(datasets or ["images"])[0],
            dataset_name=source or "images", metric_type=name, metric_value=round(float(value), 4),
        )
        for name, value in scores.items()
    ]  # fmt: skip
    data = library.ModelCardData(
        license=options.licence, library_name="pggan", pipeline_tag="unconditional-image-generation", tags=list(TAGS),
        datasets=list(dict.fromkeys(datasets)) or None, metrics=list(scores) or None,
        model_name=repo.partition("/")[2], eval_results=results or None,
    )  # fmt: skip
    return str(data.to_yaml())
