"""`pggan doctor`: what this installation and this machine have, for people and for bug reports."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import cloup

from pggan.cli.options import Output, json_option
from pggan.utils.caching.cache_folders import cache_root
from pggan.utils.caching.limits_of_caches import CACHES, limit_of, size_of
from pggan.utils.formatting import one_line, size
from pggan.utils.paths import shipped
from pggan.utils.process_pool import available_cores
from pggan.utils.startup import WAITING
from pggan.utils.version import __version__

# What each optional extra adds. A test compares the names with those of the package.
EXTRAS = {
    "align": "faces found in photographs (prepare-data and project --align auto)",
    "photos": "HEIC pictures, as phones save them, as sources",
    "fast": "PNG files four times as fast",
    "hub": "pggan push, and models and data sets of the Hugging Face Hub (hf://user/name)",
    "hdf5": "HDF5 files and MATLAB's as sources",
    "parquet": "Parquet and Arrow files as sources and exports",
    "lab": "plots of tools/lab.py",
    "metrics": "FID, KID and their like, by Inception or EfficientNet",
    "onnx": "pggan export to ONNX",
    "docs": "the reference of the library from its docstrings",
    "test": "the tests",
}
FAULT = "FAULT: "


@cloup.command("doctor")
@cloup.option_group(
    "Caches",
    cloup.option("--clear-caches", is_flag=True, help="Remove pggan's caches; they are made again when needed."),
)
@cloup.option_group("Output", json_option)
def command(clear_caches: bool, as_json: bool) -> int:
    """Say what this machine has and lacks.

    Put its output into a bug report: it names no file of yours but the folders of caches. Exit status 1: something that
    pggan needs does not work.
    """
    values = {name: _looked_at(look) for name, look in SECTIONS.items()}
    if clear_caches:
        values["caches"] = _cleared()
    faults = [f"{name}: {text.removeprefix(FAULT)}" for name, text in _faults(values)]
    Output(as_json).result({**values, "faults": faults}, *_lines(values), *(f"fault: {fault}" for fault in faults))
    return 1 if faults else 0


def _looked_at(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a look found; whatever stops it is a fault of the machine, in one line."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 (a broken installation may fail in any way)
        return {"fault": f"{FAULT}{type(error).__name__}: {one_line(error)}"}


def _versions() -> dict[str, Any]:
    values = {"pggan": __version__, "python": platform.python_version(), "system": platform.platform()}
    modules = {_plain(name): module for module, names in metadata.packages_distributions().items() for name in names}
    for line in sorted(metadata.requires("pggan") or [], key=str.lower):
        name = _package(line)
        if "extra ==" not in line and "python_version" not in line:
            values[name] = _imported(name, modules.get(_plain(name)))
    return values


def _package(requirement: str) -> str:
    return re.split(r"[\s<>=!~;\[]", requirement)[0]


def _plain(package: str) -> str:
    """Returns the name by which installers tell packages apart."""
    return re.sub(r"[-_.]+", "-", package).lower()


def _imported(package: str, module: str | None) -> str:
    """Returns the version of a package that can be imported, else the fault."""
    version = _version(package)
    if version is None:
        return f"{FAULT}missing; install pggan again: pip install pggan"
    try:
        if module is not None:  # some hold data alone
            importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 (as above)
        return f"{FAULT}{version} cannot be imported ({one_line(error)}); install it again"
    return version


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    import torch

    from pggan.utils.devices import PLAIN, device_name, has_kernels, pick_device, pick_precision

    values: dict[str, Any] = {"cpu": f"{platform.processor() or platform.machine()}, {available_cores()} cores"}
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        precision = pick_precision("auto", torch.device("cuda", number))
        capability = f"capability {properties.major}.{properties.minor}"
        about = f"{properties.name}, {size(properties.total_memory)}, {capability}"
        without = f"{FAULT}{about}: this torch has no code for it; install another build of torch"
        values[f"cuda:{number}"] = f"{about}, {precision}" if has_kernels(number) else without
    for kind in (kind for kind in sorted(PLAIN) if getattr(torch, kind).device_count()):
        values[kind] = f"{device_name(torch.device(kind, 0))}, fp32, where asked for: --device {kind}"
    if not torch.cuda.device_count():
        build = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built for CPUs"
        values["gpu"] = f"none that torch can use; {build}"
    values["chosen"] = str(pick_device("auto"))
    return values


def _threads() -> dict[str, Any]:
    import torch

    values: dict[str, Any] = {"torch": torch.get_num_threads()}
    names = (*WAITING, "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS")
    return {**values, **{name: os.environ[name] for name in names if name in os.environ}}


def _memory() -> dict[str, Any]:
    import torch

    from pggan.utils.devices import free_memory

    return {"free": size(free_memory(torch.device("cpu")))}


def _disk() -> dict[str, Any]:
    values = {}
    for name, folder in {"here": Path(), "temporary": Path(tempfile.gettempdir()), "shared": Path("/dev/shm")}.items():
        if not folder.is_dir():
            values[name] = "none: caches of decoded pictures and workers use other ways"
            continue
        usage = shutil.disk_usage(folder)
        writable = "" if os.access(folder, os.W_OK) else ", not writable"
        values[name] = f"{size(usage.free)} free of {size(usage.total)}{writable}"
    return values


def _compilers() -> dict[str, Any]:
    from pggan.training.engine.step_modes import COMPILERS

    found = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    triton = _version("triton") or _version("triton-windows")
    return {
        "C++": found or "none: compiled steps cannot be used on a CPU",
        "triton": triton or "none: compiled steps cannot be used on a GPU",
    }


def _extras() -> dict[str, Any]:
    values = {}
    for extra, adds in EXTRAS.items():
        wanted = [line for line in metadata.requires("pggan") or [] if re.search(rf"extra == ['\"]{extra}['\"]", line)]
        names = [_package(line) for line in wanted]
        missing = [name for name in names if name != "pggan" and _version(name) is None]
        lacks = f"missing {', '.join(missing)}: pip install 'pggan[{extra}]'"
        values[extra] = f"{adds}; {lacks if missing else 'installed'}"
    return values


def _models() -> dict[str, Any]:
    return {name: size(path.stat().st_size) for name, path in shipped().items()}


def _caches() -> dict[str, Any]:
    folder = cache_root()
    return {"folder": str(folder), **{place.name: _described(place) for place in _cache_places()}}


def _described(place: Path) -> str:
    """Returns what a cache takes, its limit and what it is for."""
    spec, limit = CACHES.get(place.name), limit_of(place.name)
    most = f" of at most {size(limit)}" if limit is not None else ""
    return size(size_of(place)) + (f"{most}: {spec.what}" if spec is not None else ": not pggan's")


def _cache_places() -> list[Path]:
    folder = cache_root()
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _cleared() -> dict[str, Any]:
    """Removes what lies in the folder of pggan's caches; a link is removed, not what it leads to."""
    freed = 0
    for place in _cache_places():
        freed += size_of(place)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()
    return {"folder": str(cache_root()), "cleared": size(freed)}


SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "versions": _versions,
    "devices": _devices,
    "threads": _threads,
    "memory": _memory,
    "disk": _disk,
    "compilers": _compilers,
    "extras": _extras,
    "models": _models,
    "caches": _caches,
}


def _faults(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for section, found in values.items():
        for name, text in found.items():
            if str(text).startswith(FAULT):
                yield (section if name == "fault" else name), str(text)


def _lines(values: dict[str, Any]) -> Iterator[str]:
    for section, found in values.items():
        yield section
        width = max(map(len, found), default=0)
        for name, text in found.items():
            yield f"  {name:<{width}}  {text}"
