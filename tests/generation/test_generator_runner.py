"""A compiled generator draws what the eager one does; when it is compiled, and what happens where that fails."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import pggan
from pggan.cli import cli
from pggan.generation import generator_runner
from pggan.generation import model as models
from pggan.generation.generator_runner import GeneratorRunner
from pggan.generation.images import read_metadata
from pggan.utils.errors import UsageError
from tests.helpers.model_files import model_file, saved


def computed(mode, said, backend="aot_eager", **options):
    """A computing of a small generator at 16x16."""
    file = model_file(**options)
    return file.generator, GeneratorRunner(file.generator, mode, said.append, backend)


def z(count, inputs=12):
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(0))


def agrees(backend, labels=0, alpha=None, count=4):
    said = []
    generator, compute = computed("compiled", said, backend, labels=labels)
    classes = torch.eye(labels)[torch.arange(count) % labels] if labels else None
    with torch.inference_mode():
        fade = None if alpha is None else torch.tensor(alpha, dtype=torch.float64)
        found = compute(z(count), 4, fade, classes, remaining=count)
        assert compute.shape == (4, count, fade is not None)
        assert torch.allclose(found, generator(z(count), 4, fade, classes), rtol=0, atol=3e-5)
        if fade is not None:  # a tensor: another alpha is not another graph
            other = torch.tensor(0.75, dtype=torch.float64)
            assert torch.allclose(
                compute(z(count), 4, other, classes, remaining=count),
                generator(z(count), 4, other, classes), rtol=0, atol=3e-5,
            )  # fmt: skip
    assert len(said) == 1
    assert said[0].startswith(f"compiled the generator at 16x16, {count} pictures at a time: ")


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, {"labels": 3}, {"alpha": 0.25}])
def test_traced_and_eager_agree(options):
    agrees("aot_eager", **options)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="compiles with g++")
def test_really_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    agrees("inductor", alpha=0.25)
    assert list(tmp_path.rglob("*.so"))


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Compiles by tracing alone, for batches of four."""
    monkeypatch.setattr(models, "GeneratorRunner", partial(GeneratorRunner, backend="aot_eager"))
    said = []
    found = pggan.load(saved(tmp_path / "m.safetensors"), device="cpu", mode="compiled", note=said.append)
    monkeypatch.setattr(found, "batch_size", lambda: 4)
    found.said = said
    return found


def near(a, b):
    return np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.long
def test_all_batches_have_the_size_that_is_compiled(model, monkeypatch):
    sizes, function = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **how: counted(function(f, **how), sizes))
    found = model.generate(range(10))
    assert sizes == [4, 4, 4]
    assert len(model.said) == 1
    eager = pggan.load(model.path, device="cpu", mode="eager")
    assert near(found, eager.generate(range(10)))
    assert near(model.generate([3]), found[3:4])  # a quarter of a batch: filled up
    assert sizes == [4] * 4
    assert model.runner.describe() == "compiled (as asked for)"
    assert torch.allclose(
        model.synthesize(z(3)), eager.synthesize(z(3)), atol=1e-6
    )  # of any shape: eager, nothing is compiled
    assert len(model.said) == 1


def counted(function, sizes):
    def call(z, *rest):
        sizes.append(len(z))
        return function(z, *rest)

    return call


@pytest.mark.long
def test_few_pictures_are_compiled_as_few(model):
    model.generate(range(3))
    assert model.runner.batch == 3
    model.generate(range(2))  # fills the batch
    assert len(model.said) == 1
    model.generate(range(40))
    assert model.runner.batch == 3  # nearly as large as it may be: not compiled again
    model.runner.shape = model.runner.shape._replace(batch=1)
    model.generate(range(40))
    assert model.runner.batch == 4


@pytest.mark.long
def test_a_batch_that_was_asked_for_is_computed_in_one_way(model, monkeypatch):
    monkeypatch.setitem(generator_runner.PAYS_FROM, "cpu", (0, 0))  # compiling always pays
    auto = pggan.load(model.path, device="cpu", mode="auto")
    one = auto.generate(range(20), batch=2)
    assert auto.runner.describe() == "eager (a batch that was asked for is computed in one way)"
    assert np.array_equal(one[19:], auto.generate([19], batch=2))
    compiled = model.generate(range(20), batch=2)
    assert np.array_equal(compiled[19:], model.generate([19], batch=2))
    assert model.runner.batch == 2


@pytest.mark.parametrize(
    "level,batches,kind,pays",
    [
        (2, 599, "cpu", False),
        (2, 600, "cpu", True),
        (6, 999, "cpu", False),  # the model that ships: 64x64
        (6, 1000, "cpu", True),
        (6, 1_000_000, "cuda", False),  # not measured
    ],
)
def test_whether_compiling_pays_depends_on_level_batches_and_device(level, batches, kind, pays):
    assert generator_runner.compiling_pays(level, batches, kind) is pays


@pytest.mark.parametrize(
    "remaining,says",
    [(3204, "compiled (where compiling pays)"), (3199, "eager (too few pictures to compile for)")],
)
def test_auto_compiles_where_enough_batches_are_to_come(monkeypatch, remaining, says):
    """At 16x16 on the CPU: 800 batches. What is compiled stays so to the last batch; no batch is computed twice."""
    said, computed_by = [], []

    def taking(mode):
        return lambda z, *rest: computed_by.append(mode) or z

    monkeypatch.setattr(generator_runner, "_compiled", lambda generator, shape, backend: taking("compiled"))
    compute = GeneratorRunner(taking("eager"), "auto", said.append)
    for left in range(remaining, 0, -4):
        compute(torch.zeros(4, 1), 4, None, None, left)
    assert compute.describe() == says
    assert set(computed_by) == {says.split()[0]}
    assert len(computed_by) == -(-remaining // 4)
    assert len(said) == (1 if says.startswith("compiled") else 0)


def test_on_a_gpu_auto_compiles_only_when_asked(monkeypatch):
    monkeypatch.delitem(generator_runner.PAYS_FROM, "cpu")  # as a GPU has no entry
    compute = GeneratorRunner(lambda z, *rest: z, "auto")
    compute(torch.zeros(4, 1), 4, None, None, 1_000_000)
    assert compute.describe() == "eager (on a GPU compiling has to be asked for: --mode compiled)"


def test_what_cannot_be_compiled_goes_on_eagerly(model, monkeypatch):
    def failing(function, **_):
        raise RuntimeError("no such\ninstruction")

    monkeypatch.setattr(torch, "compile", failing)
    expected = pggan.load(model.path, device="cpu", mode="eager").generate(range(10))
    assert near(model.generate(range(10)), expected)
    assert model.said == ["the generator could not be compiled (no such instruction); going on with --mode eager"]
    assert model.runner.describe() == "eager (it could not be compiled)"


@pytest.mark.long
def test_memory_that_runs_out_is_no_fault_of_the_compiler(model, monkeypatch):
    """Batches are halved, and compiled anew."""
    function = torch.compile

    def narrow(f, **how):
        made = function(f, **how)

        def call(z, *rest):
            if len(z) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return made(z, *rest)

        return call

    monkeypatch.setattr(torch, "compile", narrow)
    expected = pggan.load(model.path, device="cpu", mode="eager").generate(range(10))
    assert near(model.generate(range(10)), expected)
    assert model.runner.describe() == "compiled (as asked for)"
    assert model.runner.batch == 2


@pytest.mark.long
def test_the_command(tmp_path, model):
    def run(*arguments):
        done = CliRunner().invoke(cli, ["generate", str(model.path), "--device", "cpu", "--n", "6", *arguments])
        assert done.exit_code == 0, done.output
        return done

    done = run("--mode", "compiled", "--out", str(tmp_path / "a"), "--no-grid")
    assert "mode: compiled (as asked for)" in done.stdout
    assert "compiled the generator at 16x16, 6 pictures at a time" in done.stderr
    assert read_metadata(tmp_path / "a" / "seed0000000003.png")["seed"] == 3
    found = json.loads(run("--json", "--out", str(tmp_path / "b")).stdout)
    assert found["mode"] == "eager (too few pictures to compile for)"
    done = run("--layout", "tar", "--out", str(tmp_path / "c"), "--mode", "eager", "--quiet")
    assert "mode" not in done.output
    with pytest.raises(UsageError, match="unknown mode 'fast'; choose one of: auto, eager, compiled"):
        pggan.load(model.path, mode="fast")
