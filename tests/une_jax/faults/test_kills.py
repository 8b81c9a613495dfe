"""SIGKILL at every write, fsync and rename; then the next build makes the same bytes.

The kills are real, in forked children.
"""

import kills
import little
import pytest
from effort import effort

every_history = pytest.mark.parametrize("history", little.HISTORIES)


@every_history
def test_killed_anywhere_a_build_resumes_to_the_same_bytes(light, history):
    result = light.call(kills.every_point, history)
    assert result["wrong"] == []
    assert result["points"] > 20


@every_history
def test_a_resumed_build_may_be_killed_as_well(light, history):
    pairs = effort(6, 1000)
    result = light.call(kills.twice, history, pairs)
    assert result["wrong"] == []
    assert result["killed_twice"] > pairs / 3
