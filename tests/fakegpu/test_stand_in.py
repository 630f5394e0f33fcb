"""The stand-in itself: torch's CUDA code runs on it, and it refuses what CUDA refuses; cards of other generations."""

import pytest
import torch


def test_torch_runs_its_kernels_on_it(fake_gpu):
    found = fake_gpu("convolution")
    assert found["gpu"] == "FAKE H200"
    assert found["counts"]["kernel: cudnn convolution"] == 2  # forwards, and the weight's gradient


def test_it_refuses_a_host_that_waits(fake_gpu):
    found = fake_gpu("mistakes")
    assert found["said"][0] == "called a synchronizing CUDA operation"
    assert found["bad"]["REFUSED in capture: cudaStreamSynchronize"] == 1
    assert len(found["said"]) == 2


@pytest.mark.parametrize(("capability", "best"), [("61", "fp32"), ("70", "fp16"), ("75", "fp16"), ("80", "bf16")])
def test_auto_is_the_precision_that_a_card_has(fake_gpu, capability, best):
    (found,) = fake_gpu.together("precision_of_a_card", [{"FAKEGPU_CC": capability}])
    assert found["auto"] == best
    if best == "bf16":
        assert found["warnings"] == {}
        return
    assert set(found["warnings"]) == {"bf16", "tf32"}
    assert "bf16 is emulated, which is slow on this GPU (FAKE" in found["warnings"]["bf16"]
    assert all(line.endswith(f"use --precision {best}") for line in found["warnings"].values())


@pytest.mark.parametrize(
    ("gigabytes", "says"), [(80, "by estimate, which is there"), (24, "by estimate, which is not there")]
)
def test_a_plan_offers_larger_batches_where_the_card_has_the_memory(fake_gpu, gigabytes, says):
    (line,) = fake_gpu("plan_of_the_default", gigabytes)
    assert line.startswith("on one large GPU --preset celebahq-v2-8gpu takes 277,736 iterations instead of 1,354,690")
    assert line.endswith(says)


def test_memory_that_runs_out_is_logged_by_torch_unless_the_command_hides_it(fake_gpu, tmp_path):
    levels = [{"TORCH_CPP_LOG_LEVEL": level} for level in ("WARNING", "ERROR")]
    texts = [fake_gpu.together("log_of_memory_that_runs_out", [each], file=str(tmp_path / "log"))[0] for each in levels]
    assert "OOM" in texts[0] or torch.__version__ < "2.14"
    assert texts[1] == ""


def test_a_card_that_torch_has_no_code_for_is_left_alone(fake_gpu):
    """Wheels for CUDA 13 begin with Turing."""
    found = fake_gpu.together("device_of_a_card", [{"FAKEGPU_CC": "50"}])[0]
    assert found["auto"] == "cpu"
    assert "has no code for FAKE H200" in found["cuda"]
    assert "FAULT: FAKE H200" in found["doctor"]["cuda:0"]
    assert fake_gpu("device_of_a_card")["auto"] == "cuda:0"
