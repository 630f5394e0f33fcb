"""Options are declared once: what the help, the checks, the resume policy and the documents say follows from that."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest

from pggan.cli import run
from pggan.cli.train import command
from pggan.cli.train_options import default_of, shown_options
from pggan.config.network import DiscriminatorConfig, GeneratorConfig
from pggan.config.option import Group, Option, options_of
from pggan.config.resume_policy import IMMUTABLE, SAFE_ON_RESUME, changed
from pggan.config.serialization import from_json, to_json
from pggan.config.train import FIXED_BY_MODEL, IN_RECIPE, OPTIONS, TrainConfig
from pggan.utils.errors import UsageError

CONFIGURATIONS = [TrainConfig, GeneratorConfig, DiscriminatorConfig]


@pytest.fixture(scope="module")
def help_text():
    """What `pggan train --help` prints on a very wide terminal."""
    with command.context_class(command, info_name="train", terminal_width=2000, max_content_width=2000) as context:
        return command.get_help(context)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_field_explains_itself_in_whole_sentences(configuration):
    for name, option in options_of(configuration).items():
        assert option.help[0].isupper() or option.help.startswith(("auto", "torch")), name
        assert option.help.endswith("."), name
    assert list(options_of(configuration)) == [entry.name for entry in dataclasses.fields(configuration)]


@pytest.mark.parametrize("option", shown_options(), ids=lambda option: option.name)
def test_the_help_shows_every_option_with_its_default(option, help_text):
    entries = [" ".join(entry.split()) for entry in help_text.split("\n  -")]
    (own,) = [entry for entry in entries if re.match(rf"-{option.flag[2:]} ", entry)]
    assert option.help in own
    assert f"[default: {default_of(option)}" in own


def test_the_help_has_every_heading_in_order(help_text):
    places = [help_text.index(f"\n{group.value}:\n") for group in Group]
    assert places == sorted(places)


def test_each_option_has_a_flag_of_its_own():
    flags = [flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)]
    assert len(flags) == len(set(flags))
    assert {option.flag for option in shown_options()} <= set(flags)


@pytest.mark.parametrize(
    "option",
    [option for option in OPTIONS.values() if option.kind in (int, float) and option.range],
    ids=lambda option: option.name,
)
def test_values_out_of_range_are_refused_by_their_flag(option):
    low = option.low if option.above_low else option.low - 1
    for value in [low] if option.high == float("inf") else [low, option.high if option.below_high else option.high + 1]:
        with pytest.raises(UsageError, match=rf"^{option.flag} \S+ is not {option.range}$"):
            TrainConfig(**{option.name: value})


def test_ranges_in_words():
    assert Option("x", 1, 0, 5).range == "from 0 to 5"
    assert Option("x", 1, 0, 1e9, above_low=True).range == "above 0, up to 1000000000"
    assert Option("x", 1, 0, 1, below_high=True).range == "from 0 to below 1"
    assert (Option("x", 1, 3).range, Option("x", 1, 0, above_low=True).range) == ("3 or more", "above 0")
    assert Option("x", 1).range == ""


def test_whole_numbers_and_texts_are_told_from_others():
    for value in (1.5, True, "2", float("nan")):
        with pytest.raises(UsageError, match=r"^--seed .* is not "):
            OPTIONS["seed"].check(value)
    with pytest.raises(UsageError, match=r"--batch 2\.5 is not a whole number"):
        OPTIONS["batch"].check(type(OPTIONS["batch"].default)(2.5))


def test_resume_policy_recipe_and_warm_start_follow_from_the_declarations():
    assert not SAFE_ON_RESUME & IMMUTABLE
    assert {"workers", "mode", "budget", "eval_every"} <= SAFE_ON_RESUME
    assert {"max_res", "loss", "preset", "start_from", "labels", "label_size", "adam_betas"} <= IMMUTABLE
    assert not {"seed", "batch", "loss_options", "total_kimg"} & (SAFE_ON_RESUME | IMMUTABLE)
    assert {"batch", "loss", "start_from", "arch_g"} <= IN_RECIPE
    assert not {"data", "preset", "device", "channels", "g_network", "loss_options", "workers"} & IN_RECIPE
    assert FIXED_BY_MODEL["arch_g"] == ("g", "arch")
    assert FIXED_BY_MODEL["stddev_group"] == ("d", "stddev_group")
    assert not {"channels", "label_size", "loss"} & FIXED_BY_MODEL.keys()
    assert set(FIXED_BY_MODEL) <= IMMUTABLE


def test_options_on_resume_that_the_run_has_no_use_for_are_refused():
    """RMSprop has no moments for Adam; a decay has no half-life to limit."""
    for before, after, reason in (
        ({"loss": "wgan"}, {"adam_beta2": 0.9}, "--adam-beta2: a run that has begun keeps its optimizer"),
        ({"ema_decay": 0.99}, {"ema_ramp": 0.1}, "--ema-ramp is about a half-life, and the run has --ema-decay"),
    ):
        with pytest.raises(UsageError, match=reason):
            changed(TrainConfig(**before), after, True)
    new, _ = changed(TrainConfig(ema_decay=0.99), {"ema_ramp": 0.1, "ema_half_life": 5.0}, True)
    assert (new.ema_ramp, new.ema_half_life) == (0.1, 5.0)
    new, _ = changed(TrainConfig(), {"adam_beta2": 0.9}, True)
    assert new.adam_beta2 == 0.9


def test_networks_and_schedule_are_made_once_and_belong_to_no_comparison():
    config, other = TrainConfig(), TrainConfig()
    assert config.generator is config.networks()[0]
    assert config.discriminator is config.networks()[1]
    assert config.schedule is config.schedule
    assert config == other
    assert hash(config) == hash(other)
    assert from_json(TrainConfig, to_json(config)) == config
    smaller = dataclasses.replace(config, max_res=64)
    assert smaller.generator.resolution == 64
    assert smaller.schedule.total < config.schedule.total
    assert "schedule" not in dataclasses.asdict(config)


NEW_LOSS = """
import sys
from pggan.config.losses import OBJECTIVES, REGULARIZERS, ObjectiveSpec, Option, RegularizerSpec
weight = Option("square_weight", 2.0, 0.0, 9.0, "Weight of the square.")
strength = Option("blur", 0.0, 0.0, 1.0, "Strength of the blur.")
OBJECTIVES.register(ObjectiveSpec("square", "nowhere:Square", "a new loss", options=(weight,)))
REGULARIZERS.register(RegularizerSpec("blur", "nowhere:Blur", "a new technique", options=(strength,), switch="blur"))
from pggan.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments,status,says",
    [
        (["--help"], 0, ["--square-weight FLOAT", "Weight of the square.", "[default: 2;", "--blur FLOAT", "|square]"]),
        (["--dry-run", "--loss", "square", "--square-weight", "3", "--blur", "0.5"], 0, ["loss square", "blur"]),
        (["--dry-run", "--loss", "square", "--square-weight", "10"], 2, ["--square-weight 10 is not from 0 to 9"]),
        (["--dry-run", "--square-weight", "3"], 2, ["--square-weight means nothing to --loss wgan-gp"]),
    ],
)
def test_a_new_loss_or_technique_is_one_entry_in_the_table(arguments, status, says):
    code = [sys.executable, "-c", NEW_LOSS, "train", *arguments]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    for text in says:
        assert text in " ".join((done.stdout + done.stderr).split())


def test_mistakes_in_the_command_line_are_one_line(capsys):
    assert run(["train", "--keep-checkpoints", "0", "--dry-run"]) == 2
    assert capsys.readouterr().err == "pggan: error: --keep-checkpoints 0 is not 1 or more\n"
