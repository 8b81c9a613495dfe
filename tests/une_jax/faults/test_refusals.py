"""Disks that are full, broken or read-only: one line says so, and the build goes on."""

import little
import pytest
import refusals
from effort import EXHAUSTIVE, effort

every_history = pytest.mark.parametrize("history", little.HISTORIES)


@every_history
def test_whatever_call_is_refused_an_error_says_so_and_a_resume_works(light, history):
    result = light.call(refusals.every_point, history, EXHAUSTIVE)
    assert result["wrong"] == []
    assert result["refused"] > effort(20, 200)


def test_ctrl_c_leaves_nothing_behind_wherever_it_comes(light):
    assert light.call(refusals.interrupted, "go on") == []


def test_a_disk_that_is_full_in_truth(light):
    assert light.call(refusals.small_disk, effort(8, 400)) == []


def test_a_folder_that_is_read_only_in_truth(light):
    assert light.call(refusals.read_only) == []
