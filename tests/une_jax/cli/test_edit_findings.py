"""What the report says of round trips and edits follows from the numbers."""

import pytest

from une_jax.cli.sections import effects, round_trip


@pytest.mark.parametrize(
    "psnr, begins", [(29.8, "Yes"), (28.0, "Nearly"), (20.0, "Not quite")]
)
def test_a_round_trip_is_held_against_the_vae(psnr, begins):
    rows = [
        {"generator": "a", "way": "50 DDIM steps", "VAE": 30.0, "round trip": 30.0},
        {"generator": "b", "way": "50 DDIM steps", "VAE": 30.0, "round trip": psnr},
    ]
    found = round_trip.finding(rows)
    assert found.verdict.startswith(begins) and found.of.startswith("PSNR of b")


def test_an_edit_reaches_what_a_random_direction_does_not():
    plain, control = {"per step": 1.5, "walked": 6}, {"per step": -0.1, "walked": 6}
    assert effects.reach(plain, control).verdict.startswith("Yes")
    assert effects.reach(control, plain).verdict.startswith("Not clearly")


@pytest.mark.parametrize(
    "change, low, high, said",
    [(-0.3, -0.4, -0.2, "Yes: others change 30 % less"), (0.2, 0.1, 0.3, "No: others change 20 % more"), (0.02, -0.1, 0.2, "Not shown: +2 %")],
)  # fmt: skip
def test_keeping_helps_where_the_interval_says_so(change, low, high, said):
    row = {"collateral": 0.2, "collateral of plain": 0.3, "compared": 5, "walked": 6}
    row |= {"collateral vs plain": change}
    row |= {"collateral vs plain low": low, "collateral vs plain high": high}
    assert effects.keeping("euclidean", row).verdict.startswith(said)
