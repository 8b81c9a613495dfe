"""The benchmark of h-space, on the smallest of what it can be given."""

import re
from types import SimpleNamespace

import pytest

from scripts import bench_hspace


class Instant:
    """In place of a compiled program, which would take minutes."""

    def __call__(self, given):
        return given.x_T

    def memory_analysis(self):
        return SimpleNamespace(temp_size_in_bytes=3_000_000)


def test_it_prints_each_call_beside_plain_sampling(monkeypatch):
    monkeypatch.setattr(bench_hspace, "compiled", lambda fn, *args: Instant())
    monkeypatch.setattr(bench_hspace, "timed", lambda run: (run(), (2.0, 4.0))[1])
    args = bench_hspace.Edits(images=1, strengths=2, rounds=1)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in bench_hspace.rows("mini-sd15", 2, args)
    ]
    labels = [row[1] for row in rows]
    assert labels[0] == "plain sampling" and labels[-1] == "asymmetric, rows, 50% of steps"  # fmt: skip
    numbers = [[float(x) for x in re.findall(r"[\d.]+", " ".join(r[2:]))] for r in rows]
    rate, wall, cpu, expected, of, of_cpu, memory = zip(*numbers, strict=True)
    assert set(rate) == {1.0} and set(wall) == set(cpu) == {1.0}  # 2 images in 2 s
    assert of == of_cpu == pytest.approx([100 * e for e in expected], abs=1)
    assert set(memory) == {3.0}
    ratios = dict(zip(labels, expected, strict=True))
    assert ratios["symmetric, rows"] == pytest.approx(1, abs=0.01)
    whole, half = ratios["asymmetric, rows"], ratios[labels[-1]]
    assert 1.5 < whole < 2 and half - 1 == pytest.approx((whole - 1) / 2, abs=0.01)
    assert ratios["asymmetric, vmap"] == whole
