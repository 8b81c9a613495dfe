"""Pieces of the page: nothing of a zoo's words is taken for HTML, nothing leads out."""

import json
import re
from urllib.parse import unquote

import numpy as np
import pytest
from tiny import NAMES, NOISE, Judge, make_studio, painted

from une_jax.app import atlas, pieces
from une_jax.app.scatter import scatter
from une_jax.app.wish import Wish
from une_jax.errors import UneError

EVIL = "<img src=x onerror=alert(1)>\"'"
FACES = painted(NOISE[:3])


@pytest.fixture(scope="module")
def edited(opened):
    studio = make_studio(opened, judges=(Judge(),))[0]
    picture = studio.pictures.row("sd", 1)
    wish = Wish(view="sd", amounts={NAMES[2]: 3.0}, keep=("Round",))
    return picture, studio.edit(picture, wish), wish


def tags(text):
    """Every tag that a browser would see."""
    return set(re.findall(r"<(\w+)", text))


def test_names_and_keys_stay_words(edited):
    picture, done, wish = edited
    reading = pieces.reading(done.noise, wish)
    texts = [
        pieces.gallery(FACES, [0, 1, 2], [EVIL] * 3, 1),
        pieces.strip(FACES, ["-1", "0", "+1"], EVIL, 1),
        pieces.card(FACES[0], 0, EVIL, [EVIL]),
        pieces.head(EVIL, EVIL),
        pieces.empty(EVIL),
        pieces.stage(picture, done, wish),
        pieces.left(done, wish.keep),
        reading,
    ]
    for text in texts:
        assert "<img src=x" not in text and '<b>"' not in text
    assert "Wide &lt;b&gt;" in reading and "<b>100 %" in reading
    assert tags(reading) == {"section", "h4", "p", "div", "span", "i", "b"}


def test_images_are_inside_and_have_words(edited):
    picture, done, wish = edited
    text = pieces.stage(picture, done, wish)
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 2  # there is no original here
    assert all(s.startswith("data:image/png;base64,") for s in sources)
    assert re.findall(r'alt="([^"]*)"', text) == ["before", "after"]
    assert "Wide &lt;b&gt; +3" in text


def test_small_pictures_are_shown_with_their_pixels():
    small, large = (np.zeros((1, n, n, 3), np.uint8) for n in (64, 512))
    assert 'class="px"' in pieces.strip(small, ["0"], "A", None)
    assert 'class="px"' not in pieces.strip(large, ["0"], "A", None)


def test_a_gallery_says_rows_and_marks_the_one_that_is_picked():
    text = pieces.gallery(FACES, [24, 25, 26], ["a", "b", "c"], 25)
    assert re.findall(r'class="(tile[^"]*)" data-pick="(\d+)"', text) == [
        ("tile", "24"), ("tile on", "25"), ("tile", "26"),
    ]  # fmt: skip


@pytest.mark.parametrize("sent", [None, 7, "-1", "1.5", "", "../1", "٣", "1 ", [1]])
def test_only_whole_numbers_are_taken_from_a_browser(sent):
    assert pieces.whole("17") == 17
    with pytest.raises(UneError, match="no row of this zoo"):
        pieces.whole(sent)


def test_changes_of_others_are_pointed_out_and_kept_ones_named(edited):
    _, done, wish = edited
    text = pieces.reading(done.noise, wish)
    kinds = dict(re.findall(r'track ([\w ]+)" title="[^"]*"><span class="name">([^<]*)', text))  # fmt: skip
    assert {"changed", "kept"} <= set(kinds)
    before, after, spread = (
        getattr(done.noise, k) for k in ("before", "after", "spread")
    )
    far = abs(after - before) / spread
    assert (far[1] >= pieces.NOTABLE) == ("other notable" in kinds)


def test_downloads_are_inside_the_page(edited):
    picture, done, _ = edited
    text = pieces.links(picture, done, {"edit": EVIL})
    links = re.findall(r'download="([^"]*)" href="data:([\w/]+);base64,([^"]*)"', text)
    assert [(name, kind) for name, kind, _ in links] == [
        ("row_1_edited.png", "image/png"),
        ("row_1_edited.json", "application/json"),
    ]
    import base64

    assert json.loads(base64.b64decode(unquote(links[1][2]))) == {"edit": EVIL}


def test_maps_are_of_the_shared_space_and_of_every_view(opened):
    assert atlas.kinds(opened) == (atlas.SHARED, "sd", "clip")
    for kind in atlas.kinds(opened):
        found = atlas.draw(opened, kind)
        assert found.at.shape == (opened.rows.num_rows, 2)
        np.testing.assert_allclose(found.at.std(axis=0), 1, rtol=1e-3)
    with pytest.raises(UneError, match="no map 'x'; there is shared space, sd, clip"):
        atlas.draw(opened, "x")


def test_components_of_a_view_are_its_widest(opened):
    found = atlas.draw(opened, "sd")
    x = np.asarray(opened["sd"]).reshape(len(NOISE), -1)
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    np.testing.assert_allclose(
        abs(np.corrcoef(found.at[:, 0], u[:, 0])[0, 1]), 1, rtol=1e-4
    )
    part = s[0] ** 2 / (s**2).sum()
    assert found.axes[0] == f"component 1: {part:.1%} of the variance"


def test_of_many_rows_some_are_drawn(opened, monkeypatch):
    monkeypatch.setattr(atlas, "LIMIT", 50)
    found = atlas.draw(opened, "sd")
    assert len(found.rows) == 50 and (np.diff(found.rows) > 0).all()


def test_points_can_be_clicked_and_lie_inside_even_the_farthest(opened):
    found = atlas.draw(opened, "sd")
    found.at[0] = 1e6
    labels = opened.attributes[found.rows, 0]
    text = scatter(found, labels, NAMES[2], chosen=3)
    assert sorted(map(int, re.findall(r'data-pick="(\d+)"', text))) == [*found.rows]
    places = re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', text)
    x, y = np.array(places, float).T
    assert (x >= 0).all() and (x <= 900).all() and (y >= 0).all() and (y <= 620).all()
    assert text.count('class="on"') == 1
    assert f"Wide &lt;b&gt; ({labels.sum()})" in text
