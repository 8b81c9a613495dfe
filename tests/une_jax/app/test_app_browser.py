"""The page in a real browser: pick, slide, see the picture change, upload, explore.

Over a linear generator, so that nothing is compiled; the miniature's own time is in
``test_cli_app``. Screenshots of each state stay in pytest's temporary folder.
"""

import json
import shutil

import pytest
from PIL import Image
from served import serving
from tiny import NOISE, SIZE, painted, png

pytest.importorskip("gradio", reason="needs the extra: pip install 'une-jax[app]'")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium"
)
AFTER = "#stage .after img"


@pytest.fixture(scope="module")
def url(opened, patterns):
    with serving(opened.path, patterns) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        # A container has no user namespaces for its sandbox; the page is our own.
        opened = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, url):
    """The page, open, its first picture and strip there; it asks nobody else."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page, asked, broken = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.set_default_timeout(30_000)
    page.goto(url)
    page.wait_for_selector("#strip .step")
    yield page
    context.close()
    elsewhere = [u for u in asked if not u.startswith((url, "data:", "blob:"))]
    assert elsewhere == [] and broken == []


def picture(page):
    return page.locator(AFTER).get_attribute("src")


def changed_by(page, act):
    """Does it, and waits until the edited picture is another."""
    before = picture(page)
    act()
    page.wait_for_function(
        # Between two pictures there is none for a moment.
        "([at, was]) => (document.querySelector(at)?.src ?? was) != was",
        arg=[AFTER, before],
    )


def slide(page, i, part):
    """Drags a slider to a part of its length, and waits for the picture of its end."""
    box = at_rest(page.locator(f"#slider{i} input[type=range]"))
    y, middle = box["y"] + box["height"] / 2, box["x"] + box["width"] / 2
    page.mouse.move(middle, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * part, y, steps=5)
    page.mouse.up()
    shown = f"{value(page, i):+.3g}"
    page.wait_for_function(
        "(to) => document.querySelector('#stage .after')?.innerText.includes(to)",
        arg=shown,
    )


def at_rest(part):
    """Where a part of the page is, once it has stopped moving."""
    before, box = None, part.bounding_box()
    while box is None or box != before:
        part.page.wait_for_timeout(150)
        before, box = box, part.bounding_box()
    return box


def value(page, i):
    return float(page.locator(f"#slider{i} input[type=number]").input_value())


def shot(page, tmp_path, name):
    path = tmp_path / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 10_000


def test_pick_slide_and_see_the_picture_change(page, tmp_path):
    assert page.locator("#gallery .tile").count() == 24
    changed_by(page, lambda: page.locator("#gallery .tile").nth(5).click())
    page.wait_for_selector('#gallery .tile.on[data-pick="5"]')
    assert "005.png" in page.locator("#stage").inner_text()
    still = picture(page)
    assert still == page.locator("#stage .before img").get_attribute("src")

    changed_by(page, lambda: slide(page, 0, 0.8))
    assert value(page, 0) > 1
    assert page.locator("#reading .track.changed").count() == 1
    shot(page, tmp_path, "slid")

    changed_by(page, lambda: page.locator("#reset").click())
    assert picture(page) == still and value(page, 0) == 0


def test_a_step_of_the_strip_moves_its_slider(page):
    assert page.locator("#strip .step").count() == 9
    assert page.locator("#strip .step.on span").inner_text() == "0"
    changed_by(page, lambda: page.locator("#strip .step").nth(7).click())
    page.wait_for_function("document.querySelector('#strip .step.on span')?.innerText == '+3'")  # fmt: skip
    assert value(page, 0) == 3


def test_keys_move_sliders_too(page):
    page.locator("#slider0 input[type=range]").focus()
    changed_by(page, lambda: [page.keyboard.press("ArrowRight") for _ in range(20)])
    page.wait_for_function("document.querySelector('#stage')?.innerText.includes('Round +2')")  # fmt: skip
    page.wait_for_function("document.querySelector('#strip .step.on span')?.innerText == '+2'")  # fmt: skip


def test_several_sliders_and_what_is_kept(page, tmp_path):
    page.locator("#changed input").click()
    page.get_by_role("option", name="Wide <b>").click()
    page.keyboard.press("Escape")
    page.wait_for_selector("#slider1 input[type=range]", state="visible")
    changed_by(page, lambda: slide(page, 1, 0.8))
    changed_by(page, lambda: slide(page, 0, 0.9))
    both = picture(page)
    assert page.locator("#reading .track.changed").count() == 2
    # What is changed cannot be ticked; what goes along with it is ticked by a click.
    assert page.locator("#keep label").all_inner_texts() == ["Striped"]
    changed_by(page, lambda: page.locator("#hold").click())
    assert page.locator("#keep input").is_checked()
    assert "still goes along" in page.locator("#left").inner_text()
    assert page.locator("#reading .track.kept").count() == 1
    shot(page, tmp_path, "kept")
    changed_by(page, lambda: page.locator("#keep input").uncheck())
    assert picture(page) == both


def test_units_ways_and_norms_can_be_chosen(page, tmp_path):
    changed_by(page, lambda: slide(page, 0, 0.9))
    page.locator("#how button").first.click()

    def choose(label, option):
        page.get_by_label(label).click()
        page.get_by_role("option", name=option).click()

    changed_by(page, lambda: choose("norm of the noise held", "as a whole"))
    changed_by(page, lambda: choose("directions learnt by", "class means"))
    changed_by(page, lambda: slide(page, 0, 0.9))
    # There, a slider starts where the picture is: nothing has changed yet.
    changed_by(
        page, lambda: choose("sliders count", "the score to end at (0: the boundary)")
    )
    assert "nothing changed" in page.locator("#stage .after").inner_text()
    assert value(page, 0) != 0
    shot(page, tmp_path, "ways")


def test_the_bottleneck_is_another_space_to_edit_in(page, tmp_path):
    changed_by(page, lambda: slide(page, 0, 0.9))
    page.locator("#how button").first.click()
    page.get_by_label("edit in").click()
    changed_by(
        page,
        lambda: page.get_by_role("option", name="the UNet's bottleneck (h)").click(),
    )
    # Its own directions, nothing moved yet, and no ways that mean nothing there.
    assert "nothing changed" in page.locator("#stage .after").inner_text()
    assert page.locator("#keep label").all_inner_texts() == ["Tall <i>"]
    assert page.get_by_label("norm of the noise held").count() == 0
    page.get_by_label("sliders count").click()
    assert page.get_by_role("option").count() == 2
    page.get_by_role("option").first.click()
    page.get_by_role("option").first.wait_for(state="detached")

    changed_by(page, lambda: slide(page, 0, 0.8))
    changed_by(page, lambda: page.locator("#keep input").check())
    assert "still goes along" in page.locator("#left").inner_text()
    assert page.locator("#reading .track").count() == 3
    page.locator("#within button").first.click()
    page.wait_for_function("document.querySelector('#noise')?.innerText.includes('noise stays')")  # fmt: skip
    shot(page, tmp_path, "bottleneck")
    with page.expect_download() as got:
        page.locator("#links a").filter(has_text="Settings").click()
    got.value.save_as(tmp_path / "taken.json")
    settings = json.loads((tmp_path / "taken.json").read_text())
    assert settings["edit"]["space"] == "h" and settings["command"] is None

    page.get_by_label("edit in").click()
    changed_by(page, lambda: page.get_by_role("option", name="the noise").click())
    assert page.locator("#keep label").all_inner_texts() == ["Striped", "Wide <b>"]
    assert page.get_by_label("norm of the noise held").count() == 1


def test_other_rows_are_a_page_away(page):
    assert page.locator("#where").inner_text() == "0–23 of 120"
    page.locator("#on").click()
    page.wait_for_selector('#gallery .tile[data-pick="24"]')
    page.locator("#back").click()
    page.locator("#back").click()
    page.wait_for_selector('#gallery .tile[data-pick="119"]')


def test_an_image_of_ones_own_is_inverted_and_a_bad_file_is_not(page, tmp_path):
    good, bad = tmp_path / "mine.png", tmp_path / "bad.png"
    good.write_bytes(png(painted(NOISE[50:51])[0]))
    bad.write_text("no image <b>at all</b>")
    drop = page.locator("#upload input[type=file]")
    changed_by(page, lambda: drop.set_input_files(good))
    assert "your picture" in page.locator("#stage").inner_text()
    assert page.locator("#gallery .tile.on").count() == 0
    changed_by(page, lambda: slide(page, 0, 0.8))
    edited = picture(page)

    drop.wait_for(state="attached")  # there is room for another at once
    drop.set_input_files(bad)
    message = page.get_by_test_id("toast-body")
    message.wait_for()
    assert "does not open as an image" in message.inner_text()
    shot(page, tmp_path, "refused")
    assert picture(page) == edited  # the last picture stays

    page.get_by_label("Close").first.click()
    drop.wait_for(state="attached")
    drop.set_input_files(good)  # and the page goes on
    page.wait_for_function("document.querySelector('#stage')?.innerText.includes('nothing changed')")  # fmt: skip


def test_picture_and_settings_can_be_taken_home(page, tmp_path):
    changed_by(page, lambda: slide(page, 0, 0.8))
    for word, kind in (("Picture", "png"), ("Settings", "json")):
        with page.expect_download() as got:
            page.locator("#links a").filter(has_text=word).click()
        got.value.save_as(tmp_path / f"taken.{kind}")
    with Image.open(tmp_path / "taken.png") as image:
        assert image.size == (SIZE, SIZE)
    settings = json.loads((tmp_path / "taken.json").read_text())
    assert settings["picture"] == {"row": 0, "name": "000.png"}
    amount = settings["edit"]["amounts"]["Round"]
    assert f"--attribute Round={amount:g} --strength 1" in settings["command"]


def test_a_map_shows_pictures_and_hands_them_over(page, tmp_path):
    page.get_by_role("tab", name="Explore").click()
    page.wait_for_selector("#map circle")
    assert page.locator("#map circle").count() == 120
    page.locator('#map circle[data-pick="77"]').click(force=True)
    page.wait_for_selector("#map circle.on")
    assert "row 77: 077.png" in page.locator("#card").inner_text()
    shot(page, tmp_path, "map")
    page.locator("#take").click()
    page.wait_for_selector('#gallery .tile.on[data-pick="77"]')
    assert "077.png" in page.locator("#stage").inner_text()


def test_tables_are_computed_when_asked_for(page, tmp_path):
    page.get_by_role("tab", name="Tables").click()
    page.get_by_label("Probes").click()
    page.wait_for_selector("#table table")
    assert "Striped" in page.locator("#table").inner_text()
    with page.expect_download() as got:
        page.locator("#csv a").click()
    assert got.value.suggested_filename == "probes.csv"
    shot(page, tmp_path, "table")


def test_it_fits_a_phone(browser, url, tmp_path):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#strip .step", timeout=30_000)
    wide = page.evaluate("document.documentElement.scrollWidth")
    shot(page, tmp_path, "phone")
    context.close()
    assert wide <= 390
