import socket

import pytest

from tests.helpers.fake_gpu import FakeGpu, build, missing


@pytest.fixture(scope="session")
def fake_gpu(tmp_path_factory):
    """Runs functions on a GPU that computes nothing (tests/helpers/fake_gpu.py)."""
    if lacking := missing():
        pytest.skip(f"a stand-in GPU needs {lacking}")
    base = tmp_path_factory.getbasetemp()
    return FakeGpu(build((base.parent if base.name.startswith("popen-") else base) / "fakegpu"))


@pytest.fixture
def free_port():
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
