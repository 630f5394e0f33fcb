"""The project's own virtual environment, .venv beside pyproject.toml: made, filled and checked; safe to run again.

Plain code without annotations, so that an old Python gets its one clear line instead of a syntax error.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
OLDEST = (3, 10)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PAIR_CHECK = "import torch, torchvision; torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)"


def fail(message):
    sys.stderr.write("error: " + message + "\n")
    sys.exit(1)


def python_path():
    folder, name = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return os.path.join(VENV, folder, name)


def works(*arguments):
    """Whether the environment's Python runs these arguments without an error."""
    try:
        null = subprocess.DEVNULL
        return subprocess.call([python_path(), *arguments], stdout=null, stderr=null, cwd=ROOT) == 0
    except OSError:
        return False


def make_venv():
    """A virtual environment with pip, by venv or, where a system's Python lacks it, virtualenv or uv."""
    makers = [
        [sys.executable, "-m", "venv", "--clear", VENV],
        [sys.executable, "-m", "virtualenv", "--clear", VENV],
        ["uv", "venv", "--clear", "--seed", "--python", sys.executable, VENV],
    ]
    print("making a virtual environment in " + VENV)
    for maker in makers:
        if shutil.which(maker[0]) is None:
            continue
        if subprocess.call(maker, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
            return
    fail("this Python cannot make a virtual environment; install its venv module (Debian: apt install python3-venv)")


def pip(*arguments):
    return subprocess.call(
        [python_path(), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *arguments], cwd=ROOT
    )


def index_of_small_torch():
    """The index of PyTorch's builds for CPUs: on Linux the usual one brings 5 GB for GPUs. None where it does not help.

    That is where an NVIDIA driver is, where pip has an index of the user's choice, and where the index does not answer.
    """
    driver = shutil.which("nvidia-smi") or os.path.exists("/proc/driver/nvidia/version")
    if sys.platform != "linux" or driver:
        return None
    command = [python_path(), "-m", "pip", "--disable-pip-version-check", "config", "list"]
    chosen = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    if b"index" in chosen or b"find-links" in chosen:
        return None
    try:
        with urllib.request.urlopen(CPU_INDEX + "/torch/", timeout=5):
            return CPU_INDEX
    except (OSError, ValueError):
        return None


def install_small_torch():
    """Installs PyTorch's build for CPUs where that is enough; else leaves it to pip, which takes the usual one."""
    if works("-c", PAIR_CHECK):
        return
    index = index_of_small_torch()
    if index and pip("torch", "torchvision", "--index-url", index) == 0:
        print("no NVIDIA driver here: PyTorch's build for CPUs was taken, of " + index, flush=True)


def stamp_of(extra):
    """Changes whenever what has to be installed does."""
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        text = file.read()
    return hashlib.sha256(text + sys.version.encode()).hexdigest() + " " + (extra or "")


def ensure(extra=None):
    """Makes or completes the environment with the package and an extra; returns its Python."""
    if sys.version_info < OLDEST:
        have = ".".join(map(str, sys.version_info[:2]))
        fail(
            "pggan needs Python 3.10 or newer and this is " + have + "; run this script with a newer one, as python3.12"
        )
    stamp_file = os.path.join(VENV, "pggan-" + (extra or "base") + ".stamp")
    wanted = stamp_of(extra)
    if os.path.exists(stamp_file):
        with open(stamp_file) as file:
            if file.read() == wanted and works("-c", "import pggan"):
                return python_path()
    if not works("-m", "pip", "--version"):
        make_venv()
    print("installing pggan and what it needs (PyTorch is large: some minutes the first time)", flush=True)
    install_small_torch()
    if pip("--editable", ROOT + ("[" + extra + "]" if extra else "")) != 0:
        fail("pip could not install pggan's packages (see above); check the network and the disk, then run this again")
    if not works("-c", PAIR_CHECK):
        # a torchvision built for another torch does not import: take both from one place
        pip("--upgrade", "--force-reinstall", "torch", "torchvision")
        if not works("-c", PAIR_CHECK):
            fail(
                "torch and torchvision do not fit each other; install a matching pair into "
                + VENV
                + ", then run this again"
            )
    with open(stamp_file, "w") as file:
        file.write(wanted)
    return python_path()
