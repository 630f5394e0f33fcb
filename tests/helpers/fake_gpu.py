"""A GPU that computes nothing, under torch's own CUDA code: tests/fakegpu/fakegpu.cpp, preloaded into processes.

Real there: torch's allocator and its peaks, launches by kernel, streams, pinned memory, the rules of capturing, waits.
Not real: every number, every time, cuDNN's workspaces, NCCL.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from filelock import FileLock

from tests.helpers.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "fakegpu" / "fakegpu.cpp"
LIBRARY = "libcuda.so.1"
PACKAGES = Path(sysconfig.get_paths()["purelib"])
# Functions that torch's libraries and Triton's driver may call; those that the source lacks do nothing.
CALLED = ("cuda", "cublas", "cudnn", "cu", "__cuda")
# cccl's header for code of CPU and GPU, which does not parse without nvcc
TARGET_HEADER = "#define NV_IF_ELSE_TARGET(a, b, c) c\n#define NV_IF_TARGET(a, ...)\n#define NV_DISPATCH_TARGET(...)\n"
PROGRAM = """
import json, os, sys
import torch
from importlib import import_module
torch.set_num_threads(1)
module, name = sys.argv[1].split(":")
result = getattr(import_module(module), name)(**json.loads(sys.argv[2]))
with open(sys.argv[3], "w", encoding="utf-8") as file:
    json.dump(result, file)
sys.stdout.flush(), sys.stderr.flush()
os._exit(0)  # torch's threads do not end on a device that never answers
"""


def missing() -> str | None:
    """Returns what this machine lacks to build the stand-in; None: nothing."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "Linux on x86-64"
    if torch.version.cuda is None or not list(PACKAGES.glob("nvidia/*/include/cuda_runtime_api.h")):
        return "a CUDA build of torch with its headers"
    return next((tool for tool in ("g++", "nm") if shutil.which(tool) is None), None)


def build(folder: Path) -> Path:
    """Builds the stand-in in a folder, once for all processes that ask; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / LIBRARY).exists():
            _build(folder)
    return folder


def _build(folder: Path) -> None:
    (folder / "nv").mkdir(exist_ok=True)
    (folder / "nv" / "target").write_text(TARGET_HEADER)
    includes = [folder, *PACKAGES.glob("nvidia/*/include"), PACKAGES / "triton/backends/nvidia/include"]
    compiler = ["g++", "-std=c++17", "-O1", "-fPIC", "-w"]
    object_file, rest = folder / "fakegpu.o", folder / "rest.s"
    _run([*compiler, "-c", str(SOURCE), *(f"-I{path}" for path in includes), "-o", str(object_file)])
    own = _symbols(object_file, "--defined-only")
    called = set().union(*(_symbols(path, "-D", "--undefined-only") for path in (PACKAGES / "torch/lib").glob("*.so")))
    driver = PACKAGES / "triton/backends/nvidia/driver.c"
    called |= set(re.findall(r"\bcu[A-Z]\w+\b", driver.read_text())) if driver.exists() else set()
    lines = ['.section .note.GNU-stack,"",@progbits', ".text"]
    for name in sorted(name for name in called - own if name.startswith(CALLED) and not name.startswith("cuFile")):
        product = any(word in name.lower() for word in ("gemm", "gemv"))
        code = "jmp fakegpu_gemm@PLT" if product else "xorl %eax, %eax\n ret"
        lines.append(f".globl {name}\n.type {name}, @function\n{name}: {code}")
    rest.write_text("\n".join(lines) + "\n")
    partial = folder / "partial.so"
    _run([*compiler, "-shared", "-o", str(partial), str(object_file), str(rest), f"-Wl,-soname,{LIBRARY}", "-ldl"])
    (folder / "libcuda.so").symlink_to(LIBRARY)
    partial.rename(folder / LIBRARY)


def _symbols(path: Path, *options: str) -> set[str]:
    lines = _run(["nm", *options, str(path)]).splitlines()
    return {line.split()[-1].partition("@")[0] for line in lines if line.strip()}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class FakeGpu:
    """Runs functions of tests/fakegpu/programs.py in processes that see the stand-in as their only GPU."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, function: str, gigabytes: float = 141, **arguments: Any) -> Any:
        """Runs a function on a card of that memory and returns its result."""
        return self.together(function, [{"FAKEGPU_BYTES": str(int(gigabytes * 1e9))}], **arguments)[0]

    def together(self, function: str, environments: list[dict[str, str]], **arguments: Any) -> list[Any]:
        """Runs a function in several processes at once, with variables of their own; returns their results."""
        with TemporaryDirectory() as folder:
            results = [Path(folder, str(number)) for number in range(len(environments))]
            processes = [self._start(function, *each, arguments) for each in zip(results, environments)]
            try:
                errors = [process.communicate(timeout=PATIENCE)[1] for process in processes]
            finally:
                for process in processes:
                    process.kill()
            for process, error in zip(processes, errors):
                assert process.returncode == 0, error[-6000:]
            return [json.loads(result.read_text()) for result in results]

    def _start(
        self, function: str, result: Path, variables: dict[str, str], arguments: dict[str, Any]
    ) -> subprocess.Popen[str]:
        folder = str(self.folder)
        own = {
            "LD_PRELOAD": f"{folder}/{LIBRARY}", "LD_LIBRARY_PATH": folder, "TRITON_LIBCUDA_PATH": folder,
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor", "TRITON_CACHE_DIR": f"{folder}/triton",
            "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR",
        }  # fmt: skip
        command = [
            sys.executable,
            "-c",
            PROGRAM,
            f"tests.fakegpu.programs:{function}",
            json.dumps(arguments),
            str(result),
        ]
        environment = {**os.environ, **own, **variables}
        return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)


@functools.cache
def _library() -> Any:
    import ctypes

    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.fakegpu_report.restype = ctypes.c_char_p
    return library


def reset() -> None:
    """Within such a process: forgets what was counted."""
    _library().fakegpu_reset()


def counts() -> dict[str, int]:
    """Within such a process: returns how often each thing was done since `reset`."""
    lines = _library().fakegpu_report().decode(errors="replace").splitlines()
    return {name: int(number) for number, name in (line.split("\t", 1) for line in lines)}
