"""The page: whole whatever the run is like, self-contained, and nothing read from a file becomes markup."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pggan.config.schedule import Schedule
from pggan.report import write_report
from pggan.training.run.directory import RunDirectory
from pggan.utils.errors import TrainingError, UsageError
from pggan.utils.file_lock import exclusive_lock
from tests.helpers.model_files import saved
from tests.helpers.run_directories import add_grid, add_lines, make_run, tick

VOID = {"br", "img", "input", "meta", "source"}


class Page(HTMLParser):
    """Elements with their attributes, the text, and whether every element is closed where it was opened."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open, self.source = [], [], [], text
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)

    def all(self, tag, **attributes):
        return [own for name, own in self.tags if name == tag and attributes.items() <= own.items()]


def page_of(run, out=None):
    report = write_report(run, out)
    assert report.path.stat().st_size == report.bytes
    return Page(report.path.read_text(encoding="utf-8")), report


def curves(page):
    """Every chart's curves as the page's script reads them."""
    return [json.loads(figure["data-chart"])["curves"] for figure in page.all("figure") if "data-chart" in figure]


@pytest.mark.long
def test_a_page_has_status_terms_curves_and_grids(run):
    add_grid(run, "000000040-4x4.png")
    add_grid(run, "000000080-8x8-fade50.png", seed=1)
    add_grid(run, "reals-4x4.png")
    page, report = page_of(run)
    assert (report.status, report.ticks, report.grids) == ("finished", 12, 2)
    for word in ("Losses", "Gradient norm", "Speed", "8x8 fade", "8x8 fading in, 50 %", "fmap-base", "a CPU", "fp32"):
        assert word in page.text
    losses = curves(page)[0]
    assert losses[0]["y"] == pytest.approx([-0.1 * n for n in range(1, 13)])
    assert losses[1]["x"] == pytest.approx([0.12 * n / 12 for n in range(1, 13)], abs=1e-4)


def test_nothing_comes_from_outside_and_only_its_own_script_may_run(run):
    add_grid(run, "000000040-4x4.png")
    page, _ = page_of(run)
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        inside = re.findall(rf"<{kind}>(.*?)</{kind}>", page.source, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    for _, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "#").startswith(("data:image/webp;base64,", "#"))
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert "@import" not in page.source


def test_embedded_images_are_those_of_the_run(run):
    (run / "samples").mkdir(exist_ok=True)
    Image.new("RGB", (256, 128), (200, 30, 40)).save(run / "samples" / "000000040-4x4.png")
    page, _ = page_of(run)
    sources = [image["src"] for image in page.all("img")]
    with Image.open(io.BytesIO(base64.b64decode(sources[0].split(",")[1]))) as shown:
        assert shown.size == (256, 128)
        assert all(abs(a - b) < 6 for a, b in zip(shown.convert("RGB").getpixel((100, 60)), (200, 30, 40)))


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u0000\ud800"


def test_hostile_strings_stay_text(tmp_path):
    run = make_run(tmp_path / "<b>run & 'son'", data=HOSTILE)
    options = json.loads((run / "options.json").read_text())
    options["resolved"]["hardware"] = HOSTILE
    options["changes"] = [{"at_nimg": 50, HOSTILE: HOSTILE}]
    (run / "options.json").write_text(json.dumps(options))
    add_lines(
        run,
        {"event": HOSTILE, "at_nimg": 60, "reason": HOSTILE},
        {"nimg": 110, "resolution": 8, "alpha": 1, HOSTILE: 3.0},
    )
    add_grid(run, "000000040-4x4.png")
    page, report = page_of(run)
    assert report.events == 2
    assert len(page.all("script")) == 1
    assert not page.all("b", onerror="alert(1)")
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert page.text.count("<script>alert(1)</script>") >= 4


def test_an_option_of_any_length_is_cut(tmp_path):
    report = write_report(make_run(tmp_path / "run", data="&" * 100_000))
    assert report.bytes < 150_000


def test_a_run_that_has_just_begun_has_a_page_that_says_so(tmp_path):
    run = make_run(tmp_path / "run", ticks=0)
    page, report = page_of(run)
    assert (report.status, report.ticks, report.grids) == ("just begun", 0, 0)
    for text in ("No curves yet", "No sample grids yet", "No model yet"):
        assert text in page.text
    (run / "log.jsonl").unlink()
    (run / "samples").rmdir()
    assert page_of(run)[1].status == "just begun"


def test_a_run_in_progress_is_running_and_its_lock_stays_free(tmp_path):
    run = make_run(tmp_path / "run")
    text = (run / "log.jsonl").read_text().splitlines(keepends=True)[:5]
    (run / "log.jsonl").write_text("".join(text))
    assert page_of(run)[1].status == "unfinished"
    with exclusive_lock(run / "run.lock") as held:
        assert held
        assert page_of(run)[1].status == "running"
    with exclusive_lock(run / "run.lock") as held:
        assert held


def test_a_torn_last_line_is_no_damage_but_others_are(run):
    add_lines(run, '{"tick": 13, "nim')
    page, report = page_of(run)
    assert (report.ticks, report.damaged_lines) == (12, 0)
    assert "last line is not whole" in page.text
    add_lines(run, "\n[1]\n", "[" * 5000 + "\n", "\x00\udcff\n".encode("utf-8", "replace").decode(), {"event": "x"})
    page, report = page_of(run)
    assert (report.ticks, report.damaged_lines) == (12, 5)
    assert "could not be read: 5" in page.text


def test_a_last_tick_beyond_the_plan_belongs_to_the_last_phase(run):
    schedule = Schedule(RunDirectory(run).read_options()[0])
    add_lines(run, tick(schedule, 12, 12, nimg=schedule.total + 7, seconds=1000.0))
    assert "16:24" in page_of(run)[0].text  # 1000 s less the 16 s of the phases before


def test_events_and_changed_options_are_listed_and_marked_in_the_charts(tmp_path):
    run = make_run(tmp_path / "run")
    add_lines(
        run,
        {"event": "rollback", "at_nimg": 90, "to": 40, "reason": "D loss is not finite", "lr_factor": 0.5, "times": 1},
        {"event": "stopped", "at_nimg": 10**6, "reason": "went wrong again", "rollbacks": 3},
    )
    options = json.loads((run / "options.json").read_text())
    options["changes"] = [{"at_nimg": 50, "d_lr": {"plain": 0.0005}, "mirror": False}]
    (run / "options.json").write_text(json.dumps(options))
    page, report = page_of(run)
    assert report.events == 3
    assert "D loss is not finite; back to 0.04 kimg; lr factor 0.5" in page.text
    assert "d-lr 0.0005; mirror no" in page.text
    marks = [mark for mark in page.all("line") if mark.get("class") == "mark"]
    assert len(marks) == 2 * len(curves(page))  # what lies beyond the last tick has no place on the axis


def test_a_run_that_gave_up_is_stopped(tmp_path):
    run = make_run(tmp_path / "run")
    text = (run / "log.jsonl").read_text().splitlines(keepends=True)[:5]
    (run / "log.jsonl").write_text("".join(text))
    add_lines(run, {"event": "stopped", "at_nimg": 70, "reason": "went wrong again", "rollbacks": 3})
    page, report = page_of(run)
    assert report.status == "stopped"
    assert "went wrong again" in page.text


def test_a_run_that_had_enough_is_told_to_go_on_all_the_same(tmp_path):
    run = make_run(tmp_path / "run")
    text = (run / "log.jsonl").read_text().splitlines(keepends=True)[:5]
    (run / "log.jsonl").write_text("".join(text))
    add_lines(run, {"event": "enough", "at_nimg": 70, "reason": "no better for 3 evaluations"})
    assert f"pggan train --resume {run} --stop-when never" in page_of(run)[0].text


def test_metrics_and_unknown_values_have_charts(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["ada_p"] = 0.01 * number
        if number % 4 == 3:
            line |= {"swd": 30.0 - number, "swd_8": 20.0 - number, "swd_std": 0.1}
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    add_lines(run, {"event": "metrics", "at_nimg": 60, "metrics": {"fid": 250.5, "oddity": 1.5}})
    page, report = page_of(run)
    assert report.events == 0
    names = [
        word for word in map(str.strip, page.words) if word in ("swd", "swd_8", "swd_std", "fid", "oddity", "ada_p")
    ]
    assert set(names) == {"swd", "swd_8", "fid", "oddity", "ada_p"}
    assert "Other figures" in page.text
    assert "250.5 at 0.1" in page.text
    swd = next(chart for chart in curves(page) if chart[0]["y"] == [27.0, 23.0, 19.0])
    assert swd[1]["y"] == [17.0, 13.0, 9.0]


BEST = {"kimg": 0.08, "best": {"metric": "swd", "score": 12.5, "pictures": 1000}, "attribution": "made by <them>"}


def test_the_best_and_the_last_model_are_listed_with_their_score(run):
    (run / "models").mkdir()
    saved(run / "models" / "model-000000080.safetensors")
    saved(run / "models" / "model-000000120.safetensors", info={"kimg": 0.12})
    saved(run / "models" / "best.safetensors", info=BEST)
    page, _ = page_of(run)
    for text in (
        "best.safetensors",
        "model-000000120.safetensors",
        "swd 12.5 of 1,000 pictures",
        "--best",
        "made by <them>",
        "2 models kept",
    ):
        assert text in page.text
    assert "model-000000080.safetensors" not in page.text
    (run / "models" / "best.safetensors").write_bytes(b"torn")
    assert "best.safetensors" in page_of(run)[0].text


def test_a_pruned_run_is_not_told_to_resume(run):
    log = run / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:6]))
    assert "pggan train --resume" in page_of(run)[0].text
    RunDirectory(run).mark_pruned()
    assert "pggan train --resume" not in page_of(run)[0].text


def test_only_the_page_is_written(run, tmp_path):
    add_grid(run, "000000040-4x4.png")

    def files():
        return {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}

    before = files()
    out = tmp_path / "elsewhere.html"
    page_of(run, out)
    after = files()
    assert after.pop(out)
    assert after == before
    page_of(run)
    assert files().keys() - before.keys() == {out, run / "report.html"}


def test_impossible_outputs_are_refused(run, tmp_path):
    with pytest.raises(UsageError, match="is a directory"):
        write_report(run, tmp_path)
    with pytest.raises(UsageError, match="there is no directory"):
        write_report(run, tmp_path / "no" / "page.html")
    before = (run / "options.json").read_bytes()
    with pytest.raises(UsageError, match="a file of the run"):
        write_report(run, run / "options.json")
    assert (run / "options.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": {}, "resolved": {}}', "[" * 100_000, "\ufffe"])
def test_damaged_options_are_an_error_that_names_the_file(run, content):
    (run / "options.json").write_text(content)
    with pytest.raises(TrainingError, match=r"options\.json"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_place_without_a_run_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(TrainingError, match="give a directory that pggan train made"):
            write_report(path)


def test_a_run_whose_name_begins_with_a_dash_is_named_as_a_path(tmp_path, monkeypatch):
    """As if it were an option otherwise."""
    monkeypatch.chdir(tmp_path)
    log = make_run(tmp_path / "-run") / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:5]))
    assert "pggan train --resume ./-run" in page_of(Path("-run"))[0].text
