"""A power cut may undo whatever was not synced; the next build makes the same bytes.

Not every cut can be had from a real disk, so `power.Disk` works out what may be left.
"""

import little
import power
import pytest
from effort import effort


@pytest.mark.parametrize("history", little.HISTORIES)
def test_what_a_power_cut_leaves_resumes_to_the_same_bytes(light, history):
    result = light.call(power.every_cut, history, effort(3, 30))
    assert result["wrong"] == []
    assert result["unseen"] == []  # the shim accounts for every byte that changed
    assert result["points"] > 15
