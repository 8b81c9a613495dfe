"""The benchmark of h-space, on the smallest of what it can be given."""

import re

import pytest

from scripts import bench_hspace


@pytest.mark.slow
def test_it_prints_each_call_beside_plain_sampling():
    args = bench_hspace.Edits(images=1, strengths=2, rounds=1)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in bench_hspace.rows("mini-sd15", 2, args)
    ]
    labels = [row[1] for row in rows]
    assert labels[0] == "plain sampling" and labels[-1] == "asymmetric, rows, 50% of steps"  # fmt: skip
    numbers = [[float(x) for x in re.findall(r"[\d.]+", " ".join(r[2:]))] for r in rows]
    rate, wall, cpu, expected, of, of_cpu, memory = zip(*numbers, strict=True)
    assert wall[0] == cpu[0] == expected[0] == 1 and of[0] == of_cpu[0] == 100
    for i in range(len(rows)):  # all of one row is of one measurement
        assert rate[0] / rate[i] == pytest.approx(wall[i], rel=0.1)
        assert expected[i] / wall[i] == pytest.approx(of[i] / 100, rel=0.05)
    ratios = dict(zip(labels, expected, strict=True))
    assert ratios["symmetric, rows"] == pytest.approx(1, abs=0.01)
    whole, half = ratios["asymmetric, rows"], ratios[labels[-1]]
    assert 1.5 < whole < 2 and half - 1 == pytest.approx((whole - 1) / 2, abs=0.01)
    assert ratios["asymmetric, vmap"] == whole and min(memory) >= 0
