import pytest

from tests.helpers.hub_server import Hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on loopback that pggan takes for the Hugging Face Hub; caches and logins are of this test alone."""
    constants = pytest.importorskip("huggingface_hub.constants")
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for name, value in {
        "HF_HUB_DISABLE_XET": True, "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_HUB_DISABLE_TELEMETRY": True,
    }.items():  # fmt: skip
        monkeypatch.setattr(constants, name, value)
    yield server
    server.close()
