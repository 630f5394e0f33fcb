"""How threads wait is set before torch is imported, and only where the user chose nothing."""

import os
import subprocess
import sys

import pytest

from pggan import set_thread_waiting
from pggan.utils.errors import UsageError
from pggan.utils.startup import WAITING


def environment(**variables):
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    return {**plain, **variables}


def run(code, **variables):
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(**variables), capture_output=True, text=True, check=True
    )
    return done.stdout.split()


IN_THE_COMMAND = (
    "import os, sys; from pggan import __main__, cli;"
    "cli.main = lambda: print(*(os.environ.get(name) for name in ('GOMP_SPINCOUNT', 'KMP_BLOCKTIME')));"
    "__main__.main()"
)


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_set_stays(name):
    expected = [str({name: "1"}.get(each)) for each in WAITING]
    assert run(IN_THE_COMMAND, **{name: "1"}) == expected


def test_the_command_sets_it_and_the_runtime_takes_it():
    assert run(IN_THE_COMMAND) == list(WAITING.values())
    code = (
        "import os, pggan; assert pggan.set_thread_waiting(); os.environ['OMP_DISPLAY_ENV'] = 'verbose'; import torch"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    ).stderr
    if "GOMP_SPINCOUNT" in shown:  # GNU's runtime
        assert f"GOMP_SPINCOUNT = '{WAITING['GOMP_SPINCOUNT']}'" in shown


@pytest.mark.parametrize(("given", "expected"), [(None, "ERROR"), ("INFO", "INFO")])
def test_the_command_keeps_torch_from_logging_unless_told_otherwise(given, expected):
    variables = {} if given is None else {"TORCH_CPP_LOG_LEVEL": given}
    unset = "" if given else "import os; os.environ.pop('TORCH_CPP_LOG_LEVEL', None);"
    assert run(unset + IN_THE_COMMAND.replace("'KMP_BLOCKTIME'", "'TORCH_CPP_LOG_LEVEL'"), **variables)[1] == expected


def test_it_says_when_it_is_too_late():
    import torch  # noqa: F401

    with pytest.raises(UsageError, match="too late: torch is imported"):
        set_thread_waiting()
