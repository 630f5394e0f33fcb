"""The Hugging Face Hub, against one of our own on loopback: models and data sets, digests, offline use, push."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

import pggan
from pggan.cli import run
from pggan.config.model_metadata import ModelMetadata
from pggan.data.sources import open_source
from pggan.data.store.store import Store
from pggan.generation.grid import grid_image
from pggan.generation.images import write_png
from pggan.generation.model import Model
from pggan.interop.hub_push import PushOptions, _write_sheet, push
from pggan.networks.model_file import save_model
from pggan.training.run.directory import OPTIONS, RunDirectory
from pggan.training.run.snapshots import enlarged, grid_shape
from pggan.training.start import resume
from pggan.utils.caching.cache_folders import cache_root
from pggan.utils.caching.hub_files import MODEL_FILE, HubAddress, fetch_model, is_address
from pggan.utils.errors import DataError, ModelError, TrainingError, UsageError
from tests.helpers.model_files import model_file, saved
from tests.helpers.run_directories import add_lines, make_run
from tests.helpers.runs import Notes


@pytest.fixture
def model(tmp_path):
    return saved(tmp_path / "own.safetensors")


@pytest.fixture
def shared(hub, model):
    """A hub with a model; returns the hub."""
    hub.commit("models", "ana/faces", {"model.safetensors": model.read_bytes(), "README.md": b"# faces"})
    return hub


def pictures(name):
    return pggan.load(name, "cpu").generate([3, 4])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://ana/faces", HubAddress("ana/faces")),
        ("hf:/ana/faces", HubAddress("ana/faces")),  # what Path makes of it
        ("hf://ana/faces@v1.0", HubAddress("ana/faces", "v1.0")),
        ("hf://ana/faces@refs/pr/1", HubAddress("ana/faces", "refs/pr/1")),
        ("hf://ana/faces/sub/best.safetensors@x", HubAddress("ana/faces", "x", "sub/best.safetensors")),
        ("hf://datasets/ana/toons@x", HubAddress("ana/toons", "x", None, True)),
    ],
)
def test_an_address_is_read(text, expected):
    assert is_address(text)
    assert HubAddress.parse(text) == expected
    assert HubAddress.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["hf://", "hf://ana", "hf:///ana/faces", "hf://ana/..", "hf://a/b/../../x", "hf://a b/c", "hf://a/b@", "hf:x/y"],
)
def test_another_text_is_no_address(text):
    with pytest.raises(UsageError, match="is no address of the Hugging Face Hub"):
        HubAddress.parse(text)


def test_a_model_is_loaded_by_its_address_in_the_library_and_in_commands(shared, model, tmp_path, capsys):
    expected = pictures(model)
    assert np.array_equal(pictures("hf://ana/faces"), expected)
    assert run(["generate", "hf://ana/faces", "--n", "1", "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resolution"] == 16
    assert run(["info", "hf://ana/faces"]) == 0
    assert "16x16" in capsys.readouterr().out
    assert fetch_model(HubAddress("ana/faces")).is_relative_to(cache_root() / "hub")


def test_a_revision_is_a_branch_a_tag_or_a_commit(shared, model, tmp_path):
    old = shared.repositories["models", "ana/faces"]["refs"]["main"]
    shared.tag("models", "ana/faces", "v1")
    other = saved(tmp_path / "other.safetensors", resolution=8)
    shared.commit("models", "ana/faces", {"model.safetensors": other.read_bytes()})
    assert pictures("hf://ana/faces").shape[1] == 8
    for revision in ("v1", old):
        assert np.array_equal(pictures(f"hf://ana/faces@{revision}"), pictures(model))


def test_a_file_is_named_or_the_only_one(hub, model):
    hub.commit("models", "ana/one", {"best.safetensors": model.read_bytes()})
    assert np.array_equal(pictures("hf://ana/one"), pictures(model))
    hub.commit("models", "ana/one", {"b/second.safetensors": model.read_bytes()})
    assert np.array_equal(pictures("hf://ana/one/b/second.safetensors"), pictures(model))
    with pytest.raises(ModelError, match=r"it has b/second\.safetensors, best\.safetensors; name a file"):
        pictures("hf://ana/one")
    hub.commit("models", "ana/none", {"README.md": b"nothing"})
    with pytest.raises(ModelError, match=r"it has no \.safetensors"):
        pictures("hf://ana/none")


def test_without_a_network_the_cache_is_used_and_nothing_else(shared, model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between its tries
    expected = pictures("hf://ana/faces")
    shared.close()
    assert np.array_equal(pictures("hf://ana/faces"), expected)
    with pytest.raises(ModelError, match="hf://ana/other is not in the cache, and the Hub cannot be reached"):
        pictures("hf://ana/other")
    with pytest.raises(ModelError, match="not in the cache"):
        pictures("hf://ana/faces@v2")


def blob(path):
    return path.resolve()


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(shared, model):
    path = fetch_model(HubAddress("ana/faces"))
    good = path.read_bytes()
    blob(path).chmod(0o644)
    blob(path).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert fetch_model(HubAddress("ana/faces")).read_bytes() == good


def test_a_file_whose_digest_differs_is_refused(shared):
    shared.broken.add("model.safetensors")
    with pytest.raises(ModelError, match="is not what the Hub says that it is"):
        pictures("hf://ana/faces")
    shared.broken.clear()
    assert pictures("hf://ana/faces").shape == (2, 16, 16, 3)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://ana/nothing", "is not on the Hub, or is private"),
        ("hf://ana/faces@nowhere", "there is no such revision"),
        ("hf://ana/faces/x.safetensors", "lacks the file"),
        ("hf://datasets/ana/faces", "is a data set, not a model"),
    ],
)
def test_what_is_not_there_is_one_line(shared, address, message, capsys):
    assert run(["generate", address]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_file_that_is_no_model_is_refused_as_everywhere(hub):
    hub.commit("models", "ana/bad", {"model.safetensors": b"\x80\x04 a pickle" * 200})
    with pytest.raises(ModelError, match="model"):
        pictures("hf://ana/bad")


def test_the_package_that_is_missing_is_named(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for arguments in (["generate", "hf://ana/faces"], ["push", "faces", "ana/faces"], ["info", "hf://ana/faces"]):
        assert run(arguments) == 2
        assert "pip install 'pggan[hub]'" in capsys.readouterr().err


def parquet(count, first=0):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rng, rows = np.random.default_rng(first), []
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": None})
    out = io.BytesIO()
    pq.write_table(pa.table({"image": rows, "label": pa.array([i % 2 for i in range(count)])}), out)
    return out.getvalue()


CARD = b"---\nlicense: cc-by-4.0\n---\n# Toons\n"


def test_a_data_set_is_prepared_from_its_parquet_and_offline(hub, tmp_path, capsys):
    commit = hub.commit(
        "datasets", "ana/toons",
        {"README.md": CARD, "data/train-00000-of-00002.parquet": parquet(5),
         "data/train-00001-of-00002.parquet": parquet(4, 1), "data/test-00000-of-00001.parquet": parquet(3, 2)},
    )  # fmt: skip
    for dest in ("one", "two"):
        assert run(["prepare-data", "hf://datasets/ana/toons", str(tmp_path / dest), "--max-res", "16", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["count"] == 9
        assert report["attribution"] == "ana/toons on the Hugging Face Hub, licence cc-by-4.0"
        with Store(str(tmp_path / dest)) as store:
            assert store.manifest.source == f"hf://datasets/ana/toons@{commit}"
        if dest == "one":
            assert ("GET", "/datasets/ana/toons/resolve/main/data/test-00000-of-00001.parquet") not in hub.requests
            hub.close()


def test_the_hubs_own_parquet_stands_in_and_a_folder_can_be_named(hub, tmp_path, capsys):
    hub.commit("datasets", "ana/jpegs", {"README.md": b"# no head", "a.jpg": b"x"})
    hub.commit("datasets", "ana/jpegs", {"default/train/0000.parquet": parquet(3)}, branch="refs/convert/parquet")
    assert run(["prepare-data", "hf://datasets/ana/jpegs", str(tmp_path / "a"), "--max-res", "16", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["count"], report["attribution"]) == (3, "ana/jpegs on the Hugging Face Hub")
    hub.commit("datasets", "ana/two", {"cats/0.parquet": parquet(2), "dogs/0.parquet": parquet(4)})
    with pytest.raises(DataError, match="has Parquet in cats, dogs; name one of them: hf://datasets/ana/two/cats"):
        pggan_prepare("hf://datasets/ana/two", tmp_path / "b")
    assert pggan_prepare("hf://datasets/ana/two/dogs", tmp_path / "b").count == 4
    hub.commit("datasets", "ana/csv", {"a.csv": b"x"})
    with pytest.raises(DataError, match="holds no Parquet files"):
        pggan_prepare("hf://datasets/ana/csv", tmp_path / "c")
    with pytest.raises(UsageError, match="is a model; a data set is hf://datasets/user/name"):
        pggan_prepare("hf://ana/two", tmp_path / "c")


def test_the_file_that_is_named_is_read_alone_and_has_to_stay(hub):
    files = {f"data/train-{number}.parquet": parquet(2 + number) for number in range(2)}
    hub.commit("datasets", "ana/toons", files)
    assert len(open_source("hf://datasets/ana/toons")) == 5
    source = open_source("hf://datasets/ana/toons/data/train-1.parquet")
    assert len(source) == 3
    source.files[0].unlink()
    with pytest.raises(DataError, match=r"train-1\.parquet .*No such file"):
        list(source.refs())


def pggan_prepare(source, dest):
    from pggan.data.prepare.prepare import PrepareOptions, prepare

    return prepare(source, dest, PrepareOptions(max_res=16, workers=1))


@pytest.fixture
def trained(tmp_path):
    """A run with a best and a newer model, and figures in its log."""
    path = make_run(tmp_path / "myrun")
    run_directory = RunDirectory(path)
    info = {"kimg": 0.12, "data": "photos", "attribution": "by Ana, CC BY 4.0"}
    saved(run_directory.best, resolution=8, info={**info, "best": {"metric": "swd", "score": 12.5}})
    saved(run_directory.model(200), resolution=8, info={**info, "kimg": 0.2})
    add_lines(path, {"nimg": 120, "kimg": 0.12, "resolution": 8, "alpha": 1.0, "swd": 12.5, "msssim": 0.25})
    return path


def head_of(card):
    import yaml

    _, head, text = card.split("---\n", 2)
    return yaml.safe_load(head), text


def test_push_uploads_model_card_and_sheet_which_others_load(hub, trained, monkeypatch, capsys):
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", hub.token)
    options = ["--license", "cc-by-4.0", "--trained-on", "ana/toons", "--private", "--json"]
    assert run(["push", str(trained), "ana/mine", *options]) == 0
    pushed = json.loads(capsys.readouterr().out)
    files = hub.repositories["models", "ana/mine"]["commits"][pushed["address"].partition("@")[2]]
    assert set(pushed["files"]) == {"README.md", "model.safetensors", "sheet.png"} == set(files) - {".gitattributes"}
    assert hub.private == {"ana/mine": True}
    with Image.open(io.BytesIO(files["sheet.png"])) as sheet:
        assert sheet.width > 64
    head, text = head_of(files["README.md"].decode())
    assert (head["license"], head["datasets"]) == ("cc-by-4.0", ["ana/toons"])
    assert {"pggan", "unconditional-image-generation"} <= set(head["tags"])
    assert (head["library_name"], head["pipeline_tag"]) == ("pggan", "unconditional-image-generation")
    assert head["metrics"] == ["swd", "msssim"]
    measured = {m["type"]: m["value"] for m in head["model-index"][0]["results"][0]["metrics"]}
    assert measured == {"swd": 12.5, "msssim": 0.25}
    assert "pggan generate hf://ana/mine" in text
    assert "by Ana, CC BY 4.0" in text
    assert str(trained.parent) not in files["README.md"].decode()
    assert ModelMetadata.read(fetch_model(HubAddress("ana/mine"))).discriminator is None
    assert np.array_equal(pictures(pushed["address"]), pictures(RunDirectory(trained).best))
    assert "hf_secret" not in json.dumps(pushed)

    again = push(trained, "hf://ana/mine", PushOptions(best=False, discriminator=True))  # a second commit of the same
    assert ModelMetadata.read(fetch_model(HubAddress.parse(again.address))).discriminator is not None


def test_a_dry_run_sends_nothing_and_shows_the_card(hub, model, capsys):
    assert run(["push", str(model), "ana/mine", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("would upload README.md (")
    assert "license: other" in text
    assert "## Recipe" not in text
    assert hub.requests == []


def test_who_is_not_known_and_what_is_no_name_are_one_line(hub, model, capsys):
    hub.token = "hf_secret"
    assert run(["push", str(model), "ana/mine"]) == 1
    assert "hf auth login or HF_TOKEN" in capsys.readouterr().err
    for name in ("mine", "a/b/c", "../x", "hf://datasets/a/b", "a/b@c"):
        with pytest.raises(UsageError, match=r"give user/name|a model's repository|no address"):
            push(model, name)
    with pytest.raises(ModelError, match="neither a model file"):
        push("nowhere", "ana/mine")


def test_an_address_in_a_runs_options_is_never_followed(shared, trained):
    values = json.loads((trained / OPTIONS).read_text())
    values["config"]["start_from"] = "hf://ana/faces"
    (trained / OPTIONS).write_text(json.dumps(values))
    with pytest.raises(TrainingError, match="names an address in its options"):
        resume(RunDirectory(trained), Notes())
    for option in ("--like", "--config"):
        source = trained if option == "--like" else trained / OPTIONS
        assert run(["train", option, str(source), "--dry-run", "--max-res", "8"]) == 0
    values["config"] |= {"start_from": None, "data": "hf://datasets/ana/toons"}
    (trained / OPTIONS).write_text(json.dumps(values))
    with pytest.raises(TrainingError, match="the run's data is not at"):
        resume(RunDirectory(trained), Notes())
    assert shared.requests == []


def test_the_sheet_of_transparent_pictures_has_their_colours(tmp_path):
    contents = model_file(channels=4)
    save_model(tmp_path / MODEL_FILE, contents)
    _write_sheet(tmp_path, contents)
    columns, rows = grid_shape(None, 16)
    images = Model(contents, torch.device("cpu")).seed_images(range(columns * rows))
    write_png(tmp_path / "same.png", grid_image(enlarged(images), columns, rows))
    sheets = [np.asarray(Image.open(tmp_path / name)) for name in ("sheet.png", "same.png")]
    assert sheets[0].shape[2] == 4
    assert np.array_equal(*sheets)
