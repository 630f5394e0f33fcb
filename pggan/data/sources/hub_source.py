"""Data sets of the Hugging Face Hub, `hf://datasets/user/name@revision`: their Parquet files, kept in the cache."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from pggan.data.sources.array_choice import join_remarks
from pggan.data.sources.parquet import PLACES, ParquetSource, pyarrow
from pggan.utils.caching.hub_files import HubAddress, fetch_parquet, is_address
from pggan.utils.errors import DataError, UsageError
from pggan.utils.formatting import natural_key

# Most folders that an error names.
_SHOWN = 10


class HubSource(ParquetSource):
    """A data set's Parquet files: of the train split, where there is one; of a folder, where the address names one."""

    def __init__(self, spec: str, images_root: str | None = None) -> None:
        address = HubAddress.parse(spec)
        if not address.is_dataset:
            raise UsageError(f"{spec} is a model; a data set is hf://datasets/user/name")
        pyarrow()  # before anything is fetched
        fetched = fetch_parquet(address, lambda names: choose_files(address, names))
        self._fetched = [fetched.folder / name for name in sorted(fetched.names, key=natural_key)]
        super().__init__(spec, images_root)
        self.address = str(HubAddress(address.repo, fetched.commit, address.file, is_dataset=True))
        licence = f", licence {fetched.licence}" if fetched.licence else ""
        self.attribution = f"{address.repo} on the Hugging Face Hub{licence}"
        others = fetched.among - len(fetched.names)
        passed_over = f"read {len(fetched.names)} Parquet files; passed over {others} others" if others else ""
        self.remark = join_remarks(passed_over, self.remark or "")

    def _choose_files(self, spec: str) -> tuple[list[Path], str]:
        return self._fetched, ""

    @staticmethod
    def sniff(spec: str) -> bool:
        return is_address(spec)


def choose_files(address: HubAddress, names: list[str]) -> list[str]:
    """Returns the Parquet files to read of all those in a repository. Raises `DataError` where that is not clear."""
    folders = defaultdict(list)
    for name in names:
        folders[str(Path(name).parent.as_posix())].append(name)
    if address.file is not None:
        wanted = address.file.strip("/")
        chosen = [wanted] if wanted in names else _train_split(folders.get(wanted, []))
        if not chosen and names:
            raise DataError(f"{address}: no Parquet file lies there; there are some in {_shown(folders)}")
        return chosen
    place = next((place for place in PLACES if place in folders), None)
    if place is None and len(folders) > 1:
        example = sorted(folders)[0]
        raise DataError(
            f"{address} has Parquet in {_shown(folders)}; name one of them: hf://datasets/{address.repo}/{example}"
        )
    files = folders[place] if place is not None else next(iter(folders.values()), [])
    return _train_split(files)


def _train_split(names: list[str]) -> list[str]:
    return [name for name in names if Path(name).name.startswith("train")] or names


def _shown(folders: dict[str, list[str]]) -> str:
    more = ", ..." if len(folders) > _SHOWN else ""
    return ", ".join(sorted(folders)[:_SHOWN]) + more
