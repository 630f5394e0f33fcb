import signal

import pytest
import torch

# small networks: one thread each is fastest, and leaves the cores to pytest-xdist
torch.set_num_threads(1)

# A program started in the background of a script inherits an ignored Ctrl-C, and passes it on to the commands that the
# tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--fuzz", type=int, default=1, metavar="N", help="N times as many rounds of the fuzzers")


@pytest.fixture
def fuzz_rounds(request):
    """Rounds of a fuzzer: `fuzz_rounds(30)` is 30, and 3,000 with `--fuzz 100` as in nightly runs."""
    return lambda default: default * request.config.getoption("--fuzz")


def pytest_collection_modifyitems(items):
    """The slow tests first, above all those with a limit of their own: no process is left alone with one of them."""
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("timeout", "slow")])


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
