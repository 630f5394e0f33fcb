"""The stand-in itself: torch's CUDA code runs on it, and it refuses what CUDA refuses."""


def test_torch_runs_its_kernels_on_it(fake_gpu):
    found = fake_gpu("convolution")
    assert found["gpu"] == "FAKE H200"
    assert found["counts"]["kernel: cudnn convolution"] == 2  # forwards, and the weight's gradient


def test_it_refuses_a_host_that_waits(fake_gpu):
    found = fake_gpu("mistakes")
    assert found["said"][0] == "called a synchronizing CUDA operation"
    assert found["bad"]["REFUSED in capture: cudaStreamSynchronize"] == 1
    assert len(found["said"]) == 2
