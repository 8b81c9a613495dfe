"""Charts and sheets as files."""

import io
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from une_jax.report import charts, figures


def a_chart():
    x = np.arange(4.0)
    series = {"noise": x, "shuffled (control)": x / 2}
    return charts.lines(x, series, x_label="k", y_label="R² < 1")


def opened(png):
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB"))


def test_a_chart_is_a_png_on_white_and_an_svg_on_nothing():
    drawing = a_chart()
    assert (opened(drawing.png)[:3, :3] == 255).all()
    root = ElementTree.fromstring(drawing.svg)
    assert root.tag.endswith("svg")
    shapes = root.findall(".//{*}path") + root.findall(".//{*}rect")
    assert not any("fill: #ffffff" in s.get("style", "") for s in shapes)


def test_its_letters_are_text_in_the_ink_that_a_page_may_change():
    root = ElementTree.fromstring(a_chart().svg)
    letters = {node.text: node.get("style") for node in root.findall(".//{*}text")}
    assert {"k", "R² < 1", "noise", "shuffled (control)"} <= set(letters)
    assert all(figures.CHART_INK in style for style in letters.values())
    assert all("sans-serif" in style for style in letters.values())


def test_the_same_numbers_are_the_same_file():
    assert a_chart() == a_chart()


def test_the_ink_of_a_heatmap_s_cells_is_its_own():
    values = np.array([[0.9, 0.1]])
    svg = figures.heatmap(values, ["a"], ["b", "c"], label="AUC", low=0.0, high=1.0).svg
    root = ElementTree.fromstring(svg)
    ink = {n.text: n.get("style", "") for n in root.findall(".//{*}text")}
    assert figures.CHART_INK not in ink["0.90"] + ink["0.10"]
    assert "#101014" in ink["0.90"] and "#ffffff" in ink["0.10"]


def test_a_sheet_framed_shows_the_same_pixels():
    images = np.random.default_rng(0).integers(0, 256, (1, 2, 8, 8, 3), np.uint8)
    png = figures.sheet(images)
    drawing = figures.framed(png)
    assert drawing.png == png
    image = ElementTree.fromstring(drawing.svg).find("{*}image")
    h, w, _ = opened(png).shape
    assert (image.get("width"), image.get("height")) == (str(w), str(h))
    assert image.get("href").startswith("data:image/png;base64,")
