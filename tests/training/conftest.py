import pytest

from pggan.config.train import PerResolution, TrainConfig
from pggan.data.prepare.prepare import PrepareOptions, prepare


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Forty drawn faces, 4x4 to 16x16."""
    path = tmp_path_factory.mktemp("data") / "store"
    prepare("drawn:40", path, PrepareOptions(max_res=16))
    return path


@pytest.fixture
def config(data):
    """A run of seconds: 4x4 to 16x16 with both fades."""
    return TrainConfig(
        data=str(data),
        max_res=16,
        latent_size=8,
        fmap_base=64,
        fmap_max=8,
        batch=PerResolution(8),
        stable_kimg=PerResolution(0.04),
        fade_kimg=PerResolution(0.04),
        tick_kimg=PerResolution(0.024),
        snapshot_ticks=1,
        checkpoint_ticks=1,
        keep_checkpoints=100,
        eval_every=0,
        device="cpu",
        workers=1,
    )
