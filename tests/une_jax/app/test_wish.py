"""What can be asked of a picture."""

import math

import pytest

from une_jax.app.wish import Wish
from une_jax.errors import UneError


def test_a_wish_that_makes_no_sense_is_refused_by_what_is_wrong():
    for changes, what in (
        ({"amounts": {"Smiling": math.nan}}, "Smiling: nan is not finite"),
        ({"amounts": {"Smiling": -math.inf}}, "Smiling: -inf is not finite"),
        ({"keep": ("Smiling",)}, "Smiling: cannot be changed and kept at once"),
    ):
        with pytest.raises(UneError, match=what):
            Wish(**{"view": "sd", "amounts": {"Smiling": 1.0}, **changes})


def test_directions_depend_on_neither_amounts_nor_their_unit_nor_the_order_kept():
    def taught(**changes):
        base = {"view": "sd", "amounts": {"Smiling": 1.0}, "keep": ("Male", "Young")}
        return Wish(**{**base, **changes}).taught

    assert taught() == taught(amounts={"Smiling": -3.0}, unit="raw", control="sphere")
    assert taught() == taught(keep=("Young", "Male"))
    assert taught() != taught(how="erasure")
    assert taught() != taught(method="means")
    assert taught() != taught(space="h")
    assert taught(keep=()) == taught(keep=(), how="erasure")


def test_a_score_brought_to_0_is_an_edit():
    amounts = {"A": 0.0, "B": 2.0}
    assert Wish(view="sd", amounts=amounts).moved_to == {"B": 2.0}
    margin = Wish(view="sd", amounts=amounts, unit="margin")
    assert margin.moved_to == amounts


def test_one_slider_moves():
    wish = Wish(view="sd", amounts={"A": 1.0, "B": 2.0}).moved("B", -1.0)
    assert wish.amounts == {"A": 1.0, "B": -1.0}
    assert wish.as_json()["amounts"] == {"A": 1.0, "B": -1.0}
