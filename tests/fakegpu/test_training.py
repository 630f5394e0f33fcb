"""Training under torch's CUDA code: waits, captures, launches, memory and what a run does where memory runs out."""

from __future__ import annotations

import pytest

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.training.engine.memory_estimate import LIBRARIES, PREPARING

CAPTURED_EAGER = "captured-eager"
# Kernels of an iteration with 4 images in bf16, eager and in replayed graphs: 5 % above those counted with torch 2.14.
MOST_LAUNCHES = {4: (550, 500), 64: (1455, 1400), 1024: (2235, 2180)}
# Kernels launched one by one beside the graphs: the batch, the optimizers, the average, copies into the graphs.
BESIDE_GRAPHS = 90
# Memory that captured steps set aside, by that of eager ones: both players' graphs share a pool.
CAPTURED_SHARE = 1.2


@pytest.mark.long
@pytest.mark.parametrize("mode", ["eager", CAPTURED_EAGER])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_no_setting_waits_or_is_refused(fake_gpu, precision, mode):
    """Every loss, technique, norm and architecture."""
    found = fake_gpu("every_setting", precision=precision, mode=mode)
    assert found["faults"] == {}
    assert found["settings"] >= 26
    assert found["captured"] == (found["settings"] if mode == CAPTURED_EAGER else 0)


@pytest.mark.long
def test_launches_of_an_iteration_are_bounded(fake_gpu):
    counted = fake_gpu("launches", sides=list(MOST_LAUNCHES))
    for side, (eager, captured) in MOST_LAUNCHES.items():
        found = counted[str(side)]
        assert found["eager"]["launched"] <= eager, counted
        assert found["captured"]["launched"] <= BESIDE_GRAPHS, counted
        assert found["captured"]["replayed"] <= captured, counted
        # weights prepared once for all passes of D, or in each of them
        assert found["captured"]["replayed"] < found["unprepared"]["replayed"], counted


@pytest.mark.long
def test_an_optimizer_without_a_fused_form_updates_in_few_launches(fake_gpu):
    """RMSprop and clipping: a launch a weight undoes a step that is not finite, the rest goes together."""
    counted = fake_gpu("launches_beside_graphs", losses=["wgan", "wgan-gp"], side=64)
    assert counted["wgan-gp"] <= 40
    assert counted["wgan"] <= 135


@pytest.mark.long
def test_captured_steps_set_aside_little_more_than_eager_ones(fake_gpu):
    for found in fake_gpu("memory_by_mode", cases=[(64, 32), (256, 16), (1024, 4)]):
        eager, captured = found["eager"], found[CAPTURED_EAGER]
        assert captured["later"] <= CAPTURED_SHARE * eager["later"]
        assert captured["first"] <= PREPARING * eager["later"]
        assert CAPTURED_EAGER in captured["said"][0]


@pytest.mark.long
def test_the_estimate_for_gpus_is_what_the_allocator_sets_aside(fake_gpu):
    """The networks of the official release; workspaces of cuDNN are not in it."""
    cases = [(256, 8, "bf16"), (1024, 4, "bf16"), (256, 8, "fp32")]
    for case, found in zip([case for case in cases for _ in range(2)], fake_gpu("micro_batch_memory", cases=cases)):
        assert 0.75 < found["measured"] / found["estimate"] < 1.1, (case, found)


@pytest.mark.long
def test_too_little_memory_to_record_leaves_micro_batches_and_activations(fake_gpu):
    """On 8.5 GB, 4 images at 1024x1024 fit eagerly and captured, but one player's check does not beside the graph."""
    found = fake_gpu("iterations_memory", 8.5, side=1024, batch=4, mode=CAPTURED_EAGER)
    assert found["said"] == ["memory ran out while capturing 1024x1024: going on with eager steps, which take less"]
    assert (found["parts"], found["checkpointed"]) == (1, False)


@pytest.mark.long
def test_a_budget_holds_the_context_and_the_libraries_too(fake_gpu, tmp_path):
    """Within 4 GB of 141: torch sets aside what is left of the budget, and the batch is cut until it fits."""
    budget = 4e9
    found = fake_gpu("run_within", folder=str(tmp_path), budget=budget)
    assert found["peak"] <= budget - LIBRARIES["cuda"]
    assert any("micro-batches an iteration" in line for line in found["notes"]), found


@pytest.mark.slow
@pytest.mark.long
def test_a_run_at_1024_on_a_small_card(fake_gpu, tmp_path):
    """8.5 GB: memory runs out, the run falls back, trains, resumes, evaluates and samples."""
    found = fake_gpu("whole_run", 8.5, folder=str(tmp_path))
    assert any("going on with 2 micro-batches" in line for line in found["notes"])
    assert not any("computed again" in line or "could not" in line for line in found["notes"])
    assert found["nimg"] == [8, 16, 24]
    assert found["evaluated"] >= 1
    assert found["samples"] >= 2
    assert found["pictures"] == [3, 1024, 1024, 3]
    assert not [what for what in found["bad"] if "REFUSED" in what or "BAD" in what]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("player", "triton", "convolutions"), [("d", 99, 49), ("g", 63, 27)])
def test_code_is_made_for_cuda(fake_gpu, player, triton, convolutions):
    """A player's gradients at 8x8 by inductor, without Triton's own compiler; kernels 5 % above those counted."""
    found = fake_gpu("generated_code", player=player)
    assert found["triton"] <= triton
    assert found["convolutions"] <= convolutions
    assert found["triton"] > 20
    assert found["convolutions"] > 10
    assert found["shapes"]
    assert found["gradients"] > 10
    assert found["bad"] == {}


@pytest.mark.long
@pytest.mark.parametrize("switch", ["matmul", "all"])
def test_pictures_after_a_program_set_the_new_precision_switch(fake_gpu, switch):
    found = fake_gpu("generate_after_a_switch", name=switch)
    assert found == {"pictures": [2, 64, 64, 3], "after": "tf32"}


@pytest.mark.long
def test_two_processes_that_each_see_one_gpu_communicate_in_the_same_order(fake_gpu, tmp_path, free_port):
    """A collective that the others do not make, or another one, would hang a run on real cards."""
    prepare("drawn:16", tmp_path / "data", PrepareOptions(max_res=8))
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port)}
    ranks = [{**common, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
    first, second = fake_gpu.together("one_of_two_ranks", ranks, folder=str(tmp_path))
    assert first == second
    on_gpu = [each for each in first if each[1] == "cuda"]
    assert len(on_gpu) > 10
    assert len(first) > len(on_gpu)
