import signal

import pytest
import torch

# small networks: one thread each is fastest, and leaves the cores to pytest-xdist
torch.set_num_threads(1)

# A program started in the background of a script inherits an ignored Ctrl-C, and passes it on to the commands that the
# tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
