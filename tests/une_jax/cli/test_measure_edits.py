"""The script that measures edits by inversion method and steps: what it runs and says."""

import csv
import json
import threading
from dataclasses import replace
from importlib import import_module

import pytest

from scripts import measure_edits
from scripts.measure_edits import Args, Case

cli = import_module("une_jax.cli.main")  # the package has a function there
WAYS = ("plain", "euclidean", "conditional", "erasure", "pattern", "random (control)")


def number(collateral, compared=3, less=0.0):
    """A way's row, as ``une-jax effects`` has it."""
    row = {"walked": 4, "compared": compared, "per step": 1.5}
    for name in (
        "step",
        "collateral",
        "systematic",
        "kept",
        "identity",
        "psnr outside",
    ):
        row |= {name: collateral, f"{name} of plain": 0.2}
    for name in ("step", "collateral", "systematic", "kept"):
        ends = {"": less, " low": less - 0.1, " high": less + 0.1}
        row |= {f"{name} vs plain{end}": value for end, value in ends.items()}
    if not compared:
        row = {
            k: None if "plain" in k or k == "collateral" else v for k, v in row.items()
        }
    return row


def result(plain):
    """Of a case: conditional a fifth less, surely; erasure gets nowhere."""
    rows = {
        "plain": number(plain, 4),
        "euclidean": number(plain, less=0.05),
        "conditional": number(plain * 0.8, less=-0.2),
        "erasure": number(None, 0),
        "pattern": number(plain, 4),
        "random (control)": number(None, 0) | {"per step": -0.25},
    }
    table = [
        {"attribute": "Smiling", "way": way, "keep": "Male", "collateral": plain}
        | dict.fromkeys(("per sd", "identity", "psnr outside", "planted share"), 0.5)
        for way in WAYS
    ]
    return {
        "images": 4,
        "test_auc": {"Smiling": 0.9, "Young": 0.7},
        "verdict": ["plain edits do this", "kept ones that"],
        "ways": [{"way": way, **row} for way, row in rows.items()],
        "table": table,
    }


@pytest.fixture
def ran(monkeypatch):
    """The commands it would have run, which answer at once."""
    said, lock = [], threading.Lock()

    def answer(*args):
        words = [str(arg) for arg in args]
        with lock:
            said.append(words)
        steps = int(words[1].rpartition("_")[2]) if words[0] == "effects" else 0
        return json.dumps(result(0.1 + steps / 100)).encode()

    monkeypatch.setattr(measure_edits, "_une_jax", answer)
    return said


@pytest.fixture
def args(tmp_path):
    return Args(
        out=tmp_path / "out",
        faces=4,
        method=("ddim", "exact"),
        steps=(3, 5),
        batch_size=64,
        jobs=2,
    )


def test_every_case_is_built_and_measured_once(args, ran, capsys):
    measure_edits.main(args)
    assert len(ran) == 8 and sum(words[0] == "build" for words in ran) == 4
    assert {words[words.index("--method") + 1] for words in ran if words[0] == "build"} == {"ddim", "exact"}  # fmt: skip
    assert capsys.readouterr().out.strip() == str(args.out / "results.md")
    measure_edits.main(args)
    assert len(ran) == 8  # all of it is there
    (args.out / "exact_5.json").unlink()
    measure_edits.main(args)
    assert len(ran) == 10


def test_numbers_of_other_settings_are_not_taken_for_these(args, ran):
    measure_edits.main(args)
    more = replace(args, steps=(3, 5, 7))
    measure_edits.main(more)
    assert len(ran) == 12
    for change in ({"change": 1.0}, {"images": 3}, {"step": (0.5,)}):
        with pytest.raises(SystemExit, match="holds results of .*another --out"):
            measure_edits.main(replace(more, **change))
    assert len(ran) == 12


def test_the_commands_that_it_runs_are_those_there_are(args, ran, monkeypatch):
    measure_edits.main(args)

    class Parsed(BaseException):
        pass

    def parsed():
        raise Parsed

    monkeypatch.setattr(cli, "configure_jax", parsed)
    for words in ran:
        with pytest.raises(Parsed):
            cli.main(words)


def test_the_page_has_every_case_and_what_holds_over_all(args, ran):
    measure_edits.main(args)
    page = (args.out / "results.md").read_text()
    assert "**conditional**, against plain, changes all others by -20 %" in page
    assert "surely less in 4, surely more in 0" in page
    assert "changes all others by +5 % (median of 4 cases; surely less in 0, surely more in 0)" in page  # fmt: skip
    assert "**erasure**: reaches a change of 0.5 sd nowhere" in page
    assert (
        "least with ddim at 3 steps (0.130 sd) and most with ddim at 5 (0.150)" in page
    )
    assert "a score by 0.25 sd at most" in page and "1.50 at least" in page
    assert "- plain edits do this\n- kept ones that" in page
    assert "| exact | 5 | 0.800 | conditional | 3 |" in page
    with (args.out / "results.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 4 * len(WAYS)
    assert (args.out / "results.png").read_bytes().startswith(b"\x89PNG")


def test_quick_is_a_first_look(tmp_path):
    quick = Args(out=tmp_path, quick=True)
    assert quick.steps == (12,) and quick.faces < Args(out=tmp_path).faces
    assert Case("ddim", 12).name == "ddim_12"


def test_a_command_that_fails_is_shown(args, monkeypatch):
    monkeypatch.setattr(measure_edits.sys, "executable", "/bin/false")
    with pytest.raises(SystemExit, match="/bin/false -m une_jax build"):
        measure_edits.main(args)
