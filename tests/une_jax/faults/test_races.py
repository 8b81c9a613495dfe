"""Many processes at one dataset: a shard has one winner, and nothing is lost.

`races.MEETINGS` are exact: the first process stops before a call, and the second does
all it has to do. The others are left to chance.
"""

import pytest
import races
from effort import effort


@pytest.mark.parametrize("first", races.MEETINGS)
def test_whoever_comes_in_between_nothing_is_lost(light, first):
    every = 1 if first in ("create", races.READ) else effort(7, 1)  # those are short
    for second in races.MEETINGS[first]:
        result = light.call(races.meetings, first, second, every)
        assert result["wrong"] == [], second
        assert result["points"] > 2, second


def test_a_shard_that_all_commit_at_once_has_one_winner(light):
    assert light.call(races.rush, 4, effort(4, 300)) == []


def test_workers_come_and_go_while_others_fold_and_read(light):
    assert light.call(races.crowd, effort(1, 30)) == []
