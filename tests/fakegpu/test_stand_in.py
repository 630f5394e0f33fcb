"""The stand-in itself: torch's CUDA code runs on it."""


def test_torch_runs_its_kernels_on_it(fake_gpu):
    found = fake_gpu("tests.fakegpu.programs:hello")
    assert found["gpu"] == "FAKE H200"
    assert found["counts"]["kernel: cudnn convolution"] == 2  # forwards, and the weight's gradient
