"""Progress over unlike parts."""

import pytest

from une_jax.cli import course as module
from une_jax.cli.course import Course


def test_a_line_a_part_with_the_time_left(capsys, monkeypatch):
    clock = iter([0.0, 30.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with Course({"a": 10, "b": 30}) as course:
        course.begin("a")
        course.tell(0.5)
        course.begin("b")
    said = capsys.readouterr().err.splitlines()
    assert said == ["report: a", "report: b (25% done, about 90 s left)"]


def test_it_ends_whole_where_nothing_failed():
    with Course({"a": 10, "b": 30}) as course:
        course.begin("a")
        course.begin("b")
    assert course.ended == 40
    with pytest.raises(KeyError), Course({"a": 10}) as course:
        course.begin("a")
        raise KeyError
    assert course.ended == 0
