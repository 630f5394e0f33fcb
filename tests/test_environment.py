"""The tools' environment: which build of PyTorch is taken."""

import importlib.util
import io
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture
def environment():
    path = Path(__file__).parents[1] / "tools" / "environment.py"
    spec = importlib.util.spec_from_file_location("environment", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("platform", "driver", "pip_config", "answers", "taken"),
    [
        ("linux", False, b"", True, True),
        ("linux", True, b"", True, False),
        ("darwin", False, b"", True, False),
        ("win32", False, b"", True, False),
        ("linux", False, b"global.index-url='https://mirror.example/simple'\n", True, False),
        ("linux", False, b":env:.find-links='/wheels'\n", True, False),
        ("linux", False, b"", False, False),
    ],
)
def test_the_small_build_is_taken_where_it_helps(
    environment, monkeypatch, platform, driver, pip_config, answers, taken
):
    def urlopen(address, timeout):
        assert address.startswith(environment.CPU_INDEX)
        if not answers:
            raise OSError("no network")
        return io.BytesIO()

    exists = environment.os.path.exists
    monkeypatch.setattr(environment.os.path, "exists", lambda path: driver if "nvidia" in str(path) else exists(path))
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi" if driver else None)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: SimpleNamespace(stdout=pip_config))
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert environment.index_of_small_torch() == (environment.CPU_INDEX if taken else None)
