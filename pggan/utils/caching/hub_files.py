"""Files of the Hugging Face Hub: `hf://user/name@revision`, from the cache where nothing changed (torch-free).

Each file is compared with the digest under which the Hub holds it, on every use: SHA-256 of large files, git's SHA-1 of
small ones. Without a network what the cache holds is used. Addresses come from the command line or a call alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pggan.utils.caching.cache_folders import cache_folder, cache_root
from pggan.utils.caching.limits_of_caches import limit_of, mark_used, remove_least_recent
from pggan.utils.errors import DataError, ModelError, PgganError, UsageError
from pggan.utils.formatting import one_line, printable

# What `pggan push` calls a model.
MODEL_FILE = "model.safetensors"
CARD = "README.md"
# Where the Hub keeps its own Parquet of data sets in other formats.
CONVERTED = "refs/convert/parquet"
_ADDRESS = re.compile(
    r"hf:/{1,2}(?P<data>datasets/)?(?P<repo>[^/@]+/[^/@]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>.+))?"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_FORM = "hf://user/name, hf://user/name@revision or hf://user/name/file.safetensors"
_PIECE = 1 << 20


@dataclass(frozen=True)
class HubAddress:
    """A repository of the Hub, at a revision."""

    repo: str  # user/name
    revision: str | None = None  # branch, tag or commit; None: the newest
    file: str | None = None
    is_dataset: bool = False

    def __str__(self) -> str:
        data, file = "datasets/" if self.is_dataset else "", f"/{self.file}" if self.file else ""
        return f"hf://{data}{self.repo}{file}" + (f"@{self.revision}" if self.revision else "")

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """Parses `hf://...`. Raises `UsageError` for an address that cannot be one."""
        match = _ADDRESS.fullmatch(text)
        if match is None or not is_repo(match["repo"]) or ".." in text:
            raise UsageError(f"{text} is no address of the Hugging Face Hub; give {_FORM}")
        return cls(match["repo"], match["revision"], match["file"], match["data"] is not None)


def is_address(text: object) -> bool:
    """Whether a MODEL or SOURCE argument is an address of the Hub (`Path` makes one slash of two)."""
    return str(text).startswith("hf:/")


def is_repo(text: str) -> bool:
    """Whether a text is `user/name`."""
    return all(_NAME.fullmatch(part) for part in text.split("/")) and text.count("/") == 1


def hub() -> Any:
    """Imports huggingface_hub. Raises `UsageError` where it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise UsageError("the Hugging Face Hub needs one more package: pip install 'pggan[hub]'") from None
    huggingface_hub.utils.disable_progress_bars()
    huggingface_hub.utils.logging.set_verbosity_error()
    return huggingface_hub


def endpoint() -> str | None:
    """Returns the address of the Hub that the environment names, None for the usual one."""
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def explaining(what: str, error: type[PgganError]) -> Iterator[None]:
    """Turns what the Hub and the network raise into one line about `what`."""
    errors = hub().errors
    try:
        yield
    except PgganError:
        raise
    except errors.LocalTokenNotFoundError:
        raise error(f"{what}: the Hub does not know you; hf auth login or HF_TOKEN tell it who you are") from None
    except errors.GatedRepoError:
        raise error(f"{what} wants you to agree to its terms first: do that on its page, then hf auth login") from None
    except errors.RevisionNotFoundError:
        raise error(f"{what}: there is no such revision (branch, tag or commit)") from None
    except errors.RepositoryNotFoundError:
        raise error(f"{what} is not on the Hub, or is private; for that, hf auth login or HF_TOKEN") from None
    except errors.LocalEntryNotFoundError:
        raise error(f"{what} is not in the cache, and the Hub cannot be reached; try again with a network") from None
    except errors.EntryNotFoundError as problem:
        raise error(f"{what} lacks the file that was asked for ({one_line(problem)})") from None
    except Exception as problem:  # noqa: BLE001 (httpx, huggingface_hub and its Rust library raise dozens of kinds)
        status = getattr(getattr(problem, "response", None), "status_code", None)
        advice = "; hf auth login or HF_TOKEN tell the Hub who you are" if status in (401, 403) else ""
        raise error(f"{what}: the Hub did not do it ({one_line(problem)}){advice}") from None


def fetch_model(address: HubAddress) -> Path:
    """Returns the model file of an address, from the cache or the Hub.

    Raises:
        UsageError: huggingface_hub is missing, or the address is a data set's.
        ModelError: There is no such model, it cannot be had, or it is damaged.
    """
    if address.is_dataset:
        raise UsageError(f"{address} is a data set, not a model; give it to prepare-data")
    with explaining(str(address), ModelError):
        name = address.file or MODEL_FILE
        try:
            return _fetch(address, name, ModelError)
        except hub().errors.LocalEntryNotFoundError:
            raise
        except hub().errors.EntryNotFoundError:
            if address.file is not None:
                raise
        files = [file for file in _list_files(address) if file.endswith(".safetensors")]
        if len(files) != 1:
            found = f"it has {', '.join(files)[:300]}" if files else "it has no .safetensors"
            raise ModelError(f"{address} has no {MODEL_FILE}; {found}; name a file: hf://user/name/FILE")
        return _fetch(address, files[0], ModelError)


class FetchedFiles(NamedTuple):
    """Files of a data set in the cache."""

    folder: Path  # in which they lie by their names
    names: list[str]
    among: int  # Parquet files in the repository
    commit: str
    licence: str | None  # as its card says


def fetch_parquet(address: HubAddress, choose: Callable[[list[str]], list[str]]) -> FetchedFiles:
    """Fetches Parquet files of a data set, as far as the cache lacks them.

    Args:
        address: Of the data set. Without a revision, the Hub's own Parquet of it counts where it has none itself.
        choose: Picks files from the names of all Parquet files in the repository.

    Raises:
        DataError: There is no such data set, it has no Parquet, it cannot be had, or it is damaged.
    """
    with explaining(str(address), DataError):
        revisions = [address.revision] if address.revision else [None, CONVERTED]
        for revision in revisions:
            at = HubAddress(address.repo, revision, None, is_dataset=True)
            files = _list_or_cached(at)
            parquet = [file for file in files if file.endswith(".parquet")]
            if names := choose(parquet):
                folders = [_root_of(_fetch(at, name, DataError), name) for name in names]
                licence = _licence(_fetch(at, CARD, DataError)) if CARD in files else None
                return FetchedFiles(folders[0], names, len(parquet), folders[0].name, licence)
        raise DataError(f"{address} holds no Parquet files; download it and prepare the folder")


def _root_of(path: Path, name: str) -> Path:
    """Returns the folder of a revision in the cache, of a file in it and that file's name in the repository."""
    return path.parents[name.count("/")]


def _licence(card: Path) -> str | None:
    """Returns the licence in the head of a card, None where there is none to read."""
    try:
        value = (hub().metadata_load(card) or {}).get("license")
    except Exception:  # noqa: BLE001 (YAML of anyone)
        return None
    return printable(value)[:100] if isinstance(value, str) else None


def _options(address: HubAddress) -> dict[str, Any]:
    folder = cache_folder("hub")
    if folder is None:
        raise UsageError(f"the cache for files of the Hub ({cache_root()}) cannot be written; set XDG_CACHE_HOME")
    kind = "dataset" if address.is_dataset else "model"
    return {"repo_id": address.repo, "repo_type": kind, "revision": address.revision, "cache_dir": str(folder)}


def _list_files(address: HubAddress) -> list[str]:
    kind = "dataset" if address.is_dataset else "model"
    files = hub().HfApi(endpoint()).list_repo_files(address.repo, repo_type=kind, revision=address.revision)
    return sorted(map(str, files))


def _list_or_cached(address: HubAddress) -> list[str]:
    """Returns the names of a repository's files; without a network, of those that the cache has at that revision."""
    errors = hub().errors
    try:
        if _is_reachable(address):
            return _list_files(address)
        folder = Path(hub().snapshot_download(**_options(address), endpoint=endpoint(), local_files_only=True))
    except (errors.RevisionNotFoundError, errors.LocalEntryNotFoundError):
        if address.revision == CONVERTED:
            return []
        raise
    return sorted(str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file())


def _is_reachable(address: HubAddress) -> bool:
    """Whether the Hub answers, whatever it does: huggingface_hub itself tries for half a minute."""
    kind = "dataset" if address.is_dataset else "model"
    url = hub().hf_hub_url(address.repo, CARD, repo_type=kind, revision=address.revision, endpoint=endpoint())
    try:
        hub().get_hf_file_metadata(url, endpoint=endpoint())
    except Exception as error:  # noqa: BLE001 (as above)
        return getattr(error, "response", None) is not None
    return True


def _fetch(address: HubAddress, name: str, error: type[PgganError]) -> Path:
    """Returns a file of a repository; one that was damaged in the cache is fetched once more."""
    options = _options(address)
    path = Path(hub().hf_hub_download(filename=name, **options, endpoint=endpoint()))
    if not _is_sound(path):
        path = Path(hub().hf_hub_download(filename=name, **options, endpoint=endpoint(), force_download=True))
        if not _is_sound(path):
            Path(os.path.realpath(path)).unlink(missing_ok=True)
            raise error(f"{address}: {name} is not what the Hub says that it is (its digest differs); try again")
    mark_used(Path(os.path.realpath(path)))
    remove_least_recent(Path(options["cache_dir"]), limit_of("hub"))
    return path


def _is_sound(path: Path) -> bool:
    """Whether a cached file has the digest by which it is named there; True where its name is none."""
    blob = Path(os.path.realpath(path))
    expected = blob.name
    if re.fullmatch(r"[0-9a-f]{64}", expected):
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", expected):
        digest = hashlib.sha1(f"blob {blob.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        return True
    with open(blob, "rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest() == expected
