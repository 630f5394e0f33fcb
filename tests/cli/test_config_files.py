"""Configuration files: written, read again, checked, and under the command line."""

import json

import pytest
from click.testing import CliRunner

from pggan.cli import cli
from pggan.config.config_file import read_options, to_options
from pggan.config.presets import PRESETS
from pggan.config.train import TrainConfig, to_json
from pggan.training.run.directory import RunDirectory
from pggan.utils.errors import UsageError


def train(*arguments):
    result = CliRunner(catch_exceptions=False).invoke(cli, ["train", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def config_of(*arguments):
    return json.loads(train(*arguments, "--dry-run", "--json"))["config"]


OPTIONS = [
    ["--loss", "wgan", "--clip", "0.02", "--augment", "ada", "--held-out", "0.125", "--grid", "5x3"],
    ["--batch", "auto", "--budget", "8.3GB", "--ema-half-life", "2.5", "--no-mirror", "--total-kimg", "0.1234567"],
    ["--stable-kimg", "4:1e-3,16:123456.789", "--fade-kimg", "7", "--categorical", "10,4", "--adam-betas", "0.5,0.99"],
    ["--max-res", "64", "--eval-metrics", "swd,msssim", "--device", "cpu", "--loss", "hinge", "--d-lr", "0.0004"],
]


@pytest.mark.parametrize("given", [*(["--preset", name] for name in PRESETS.names()), *OPTIONS])
def test_a_written_file_makes_the_same_configuration(given, tmp_path):
    expected = config_of(*given)
    file = tmp_path / "run.toml"
    file.write_text(train(*given, "--write-config"), encoding="utf-8")
    again = config_of("--config", file, *(["--device", "cpu"] if "--device" in given else []))
    assert again == expected
    assert train("--config", file, "--write-config") == file.read_text(encoding="utf-8")


def test_the_command_line_goes_over_the_file_and_the_file_over_the_other_run(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create(TrainConfig(seed=1, max_res=32, fmap_base=64, embedding="/etc/passwd", start_from="/x"), RESOLVED)
    file = tmp_path / "run.toml"
    file.write_text("seed = 2\nmax_res = 16\n")
    config = config_of("--like", run.path, "--config", file, "--seed", "3")
    assert [config[name] for name in ("seed", "max_res", "fmap_base")] == [3, 16, 64]
    assert config == config_of("--config", file, "--like", run.path, "--seed", "3")
    assert (config["embedding"], config["start_from"]) == (None, None)  # files are named on the command line alone
    assert config_of("--config", run.path / "options.json")["seed"] == 1


RESOLVED = {"device": "cpu", "precision": "fp32"}


def test_lists_and_tables_are_taken_as_people_write_them(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(
        '\ufeffbatch = {4 = 64, 8 = 32}\neval-metrics = ["swd", "msssim"]\nadam_betas = [0, 0.99]\nmirror = false\n'
        "preset = 'demo'\ngrid = '4x2'\n"
    )
    config = config_of("--config", file)
    assert config["batch"] == {"plain": 4, "4": 64, "8": 32}
    assert (config["eval_metrics"], config["adam_betas"]) == (["swd", "msssim"], [0, 0.99])
    assert (config["mirror"], config["preset"], config["grid"]) == (False, "demo", [4, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max-rez = 8", "no option is called max-rez; is 'max-res' meant?"),
        ("qwertz = 8", "no option is called qwertz; see pggan train --help"),
        ("max-res = 'many'", "max_res: 'many' is not a valid integer"),
        ("max-res = true", "max_res is no matter of true or false"),
        ("mirror = 1", "mirror is a matter of true or false"),
        ("loss = 'nothing'", "'nothing' is not one of"),
        ("seed = [[1]]", "is neither a number"),
        ("seed = nan", "is neither a number"),
        ("seed = 2020-01-01", "is neither a number"),
        ("batch = {4 = 'x'}", "is neither a number"),
        ("seed = ", "is no configuration file"),
        ("seed = 1\nseed = 2", "is no configuration file"),
        ("a = " + "[" * 2000, "is no configuration file"),
        ("from = 'm.safetensors'", "from belongs on the command line"),
        ("embedding = '/etc/passwd'", "embedding belongs on the command line"),
        ("device = 'cpu'", "device belongs on the command line"),
        *((f"{name} = 'x'", "no option is called") for name in ("out", "resume", "config", "like", "data", "gpus")),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, message):
    file = tmp_path / "run.toml"
    file.write_text(text)
    result = CliRunner().invoke(cli, ["train", "--config", str(file), "--dry-run"], standalone_mode=False)
    assert isinstance(result.exception, UsageError)
    assert str(file) in str(result.exception)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (2 << 20), b'{"config": 1}', b"[1]", b"{"])
@pytest.mark.parametrize("name", ["a.toml", "a.json"])
def test_foreign_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.(toml|json)"):
        read_options(tmp_path / name)


def test_every_option_of_a_configuration_is_written_or_belongs_on_the_command_line():
    config = TrainConfig()
    names = to_options(config).keys() | {name for name, value in to_json(config).items() if value in (None, [])}
    left = to_json(config).keys() - names
    assert left - {"ema_decay", "ema_ramp"} == {"channels", "label_size", "device", "auto_batch"}
