"""The page's blocks: what was typed is text, charts follow the night, nothing is fetched."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from une_jax.report import figures, page, style
from une_jax.report.chapter import Chapter


@pytest.fixture(scope="module")
def drawing():
    values = np.array([[0.9, np.nan]])
    return figures.heatmap(values, ["a"], ["b", "c"], label="AUC", low=0.0, high=1.0)


def embedded(block):
    kind, data = re.findall(r'src="data:image/([\w+]+);base64,([^"]+)"', block)[0]
    return kind, base64.b64decode(data)


def test_tables_escape_text_and_dash_what_is_undefined():
    rows = [
        {"name": "a & b", "<AUC>": 0.12345},
        {"name": "mean", "<AUC>": float("nan")},
    ]
    table = page.table(rows, "of `x < y`", total=True)
    assert "<span>&lt;AUC&gt;</span>" in table
    assert '<td class="word">a &amp; b</td><td>0.123</td>' in table
    assert '<tr class="total"><td class="word">mean</td><td>–</td>' in table
    assert "<code>x &lt; y</code>" in table


def test_a_table_shows_the_columns_that_are_asked_for_and_turns_many_headings():
    rows = [{f"c{i}": i for i in range(12)}]
    few = page.table(rows, names={"c3": "three", "c1": "one"})
    assert re.findall(r"<span>(\w+)</span>", few) == ["three", "one"]
    assert 'class="up"' not in few and 'class="up"' in page.table(rows)


def test_a_chart_is_an_svg_whose_ink_follows_light_and_dark(drawing):
    kind, svg = embedded(page.chart(drawing, "caption", "what it shows"))
    assert kind == "svg+xml"
    root = ElementTree.fromstring(svg)
    text = svg.decode()
    assert "prefers-color-scheme:dark" in text and "DOCTYPE" not in text
    outside_style = text.replace(page._NIGHT, "")
    assert figures.CHART_INK not in outside_style and "currentColor" in outside_style
    cell = next(n for n in root.findall(".//{*}text") if n.text == "0.90")
    assert "currentColor" not in cell.get("style", "")  # it lies on a colour of its own


def test_a_heavy_sheet_goes_into_the_page_smaller_and_looks_the_same():
    smooth = np.linspace(0, 255, 256 * 256).reshape(1, 1, 256, 256, 1)
    noise = np.random.default_rng(0).normal(0, 4, (3, 3, 256, 256, 3))
    images = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    png = figures.sheet(images, tile=256)
    assert len(png) > page.HEAVY
    kind, data = embedded(page.sheet(png, "caption", "alt"))
    assert kind == "webp" and len(data) < len(png) / 3
    a, b = (
        np.asarray(Image.open(io.BytesIO(x)).convert("RGB"), float) for x in (png, data)
    )
    assert np.sqrt(np.square(a - b).mean()) < 6
    light = figures.sheet(images[:1, :1, :16, :16])
    assert embedded(page.sheet(light, "", "alt")) == ("png", light)


def test_the_page_lists_its_sections_and_prints():
    sections = [page.Section("one", "One & all", [page.paragraph("text")])]
    html = page.page("<Title>", "lead", sections)
    assert '<a href="#one">One &amp; all</a>' in html
    assert '<section id="one">' in html and "&lt;Title&gt;" in html
    assert "<script" not in html and "http" not in html and "url(" not in html
    for part in ("@media print", "prefers-color-scheme: dark", "max-width: 40rem"):
        assert part in style.CSS


def test_a_chapter_keeps_beside_the_page_what_it_shows_on_it(drawing):
    chapter = Chapter(key="k", title="K")
    chapter.chart("mini-sd15 probes", drawing, "caption", "alt")
    chapter.table("table", [{"a": 1.23456789, "b": 2}], "Said.", names={"a": "A"})
    assert set(chapter.files) == {
        "mini_sd15_probes.png",
        "mini_sd15_probes.svg",
        "table.csv",
    }
    assert chapter.files["table.csv"] == b"a,b\r\n1.23456789,2\r\n"
    assert "(<code>table.csv</code>)" in chapter.blocks[-1]
    assert chapter.files["mini_sd15_probes.svg"] == drawing.svg
