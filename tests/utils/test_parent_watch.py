"""A process whose parent is killed ends, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
CHILD = "import time; from pggan.utils.parent_watch import exit_with_parent; exit_with_parent(); {work}"
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_child_with_a_pipe_ends_with_its_killed_parent():
    command = [sys.executable, "-c", PARENT, CHILD.format(work="time.sleep(2 * PATIENCE)")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline()
        parent.kill()
        # the child holds the other end of this pipe: end of file means that it is gone
        assert parent.communicate(timeout=PATIENCE)[0] == b""


def test_a_child_whose_parent_lives_does_its_work():
    command = [sys.executable, "-c", CHILD.format(work="print('done')")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"done\n"
        assert child.wait(timeout=PATIENCE) == 0
