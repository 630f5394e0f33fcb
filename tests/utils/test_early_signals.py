"""A signal that comes before the run can handle it neither ends the command nor is lost."""

import os
import signal
import subprocess
import sys

from pggan.training.run.signals import Signals
from pggan.utils.distributed import SINGLE_PROCESS
from pggan.utils.startup import held_back, remember_early_signals

COMMAND = """
import os, signal, sys
from pggan import __main__, cli
def run():
    os.kill(os.getpid(), signal.SIGUSR1)  # while it imports
    return 7
cli.run = run
__main__.main()
"""


def test_a_command_outlives_an_early_signal():
    assert subprocess.run([sys.executable, "-c", COMMAND], check=False).returncode == 7


def test_a_signal_at_the_very_start_and_at_exit_ends_nothing(tmp_path):
    code = "from pggan.__main__ import main; import atexit, os; atexit.register(os.kill, os.getpid(), 10); main()"
    with held_back():
        process = subprocess.Popen([sys.executable, "-c", code, "--version"], stdout=subprocess.DEVNULL)
    process.send_signal(signal.SIGUSR1)  # before the first line
    assert process.wait() == 0


def test_training_saves_for_an_early_signal_once():
    before = signal.getsignal(signal.SIGUSR1)
    try:
        remember_early_signals()
        os.kill(os.getpid(), signal.SIGUSR1)
        for expected in (True, False):
            with Signals() as signals:
                signals.agree(SINGLE_PROCESS)
                assert signals.save is expected
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_terminal_that_closes_saves_the_run_and_nohup_ignores_it():
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            signals.agree(SINGLE_PROCESS)
            assert signals.stop == signal.SIGHUP
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            signals.agree(SINGLE_PROCESS)
            assert signals.stop == 0
    finally:
        signal.signal(signal.SIGHUP, before)
