import pytest

from tests.helpers.run_directories import make_run


@pytest.fixture
def run(tmp_path):
    """A small run of 4x4 to 8x8, whole."""
    return make_run(tmp_path / "run")
