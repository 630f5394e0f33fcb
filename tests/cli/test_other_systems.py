"""The command line where the system lacks what only POSIX has, as Windows does, and without UTF-8 as the default."""

import os
import subprocess
import sys

import pytest

# Python runs a module of this name first, also in the workers. What the standard library itself needs on Linux stays.
SITECUSTOMIZE = """
import builtins, io, os, signal, sys
for name in ("fork", "forkpty", "killpg", "getuid", "geteuid", "getgid", "nice", "sched_getaffinity", "sysconf",
             "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "posix_fadvise", "fchmod", "chown", "getloadavg",
             "getpgid", "setsid", "pread", "sync", "wait4", "mkfifo"):
    delattr(os, name)
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGQUIT", "pthread_sigmask", "pthread_kill", "alarm"):
    delattr(signal, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
plain_open = io.open
def open_without_proc(file, *args, **kwargs):
    if isinstance(file, (str, os.PathLike)) and str(file).startswith("/proc/"):
        raise FileNotFoundError(2, "No such file or directory", str(file))
    return plain_open(file, *args, **kwargs)
builtins.open = io.open = open_without_proc
"""

COMMANDS = """
prepare-data drawn:40 data --max-res 16 --workers 2
info data
verify-data data
train data --out run --max-res 8 --total-kimg 0.2 --batch 8 --fmap-max 16 --workers 1 --device cpu
train --resume run
info run
report run
generate run --n 3 --out pictures
interpolate run --out video.gif --seconds 1 --fps 4
export-data data folder --as folder
prepare-data folder again --max-res 16 --workers 2
merge-data merged data again
evaluate run --data data --metrics neighbours --n 40
prune run --yes
"""

RUN_ALL = """
import sys
from pggan import cli
if __name__ == "__main__":  # workers import this file
    for command in open(sys.argv[1], encoding="utf-8").read().split("\\n"):
        print("status", cli.run(command.split()), command, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("system", ["without POSIX", "without UTF-8"])
def test_every_command_runs(tmp_path, system):
    (tmp_path / "commands").write_text(COMMANDS.strip())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    flags = []
    if system == "without POSIX":
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
        paths = [str(tmp_path / "site"), os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    else:
        environment = {**environment, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
        flags = ["-X", "utf8=0", "-X", "warn_default_encoding"]
    (tmp_path / "run.py").write_text(RUN_ALL)
    done = subprocess.run(
        [sys.executable, *flags, "run.py", "commands"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    statuses = [line for line in done.stdout.splitlines() if line.startswith("status ")]
    assert statuses == [f"status 0 {command}" for command in COMMANDS.strip().splitlines()], done.stderr[-2000:]
    assert f"{os.sep}pggan{os.sep}" not in "".join(x for x in done.stderr.splitlines() if "EncodingWarning" in x)
