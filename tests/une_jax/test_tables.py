"""One table as text, Markdown and CSV."""

import csv

from une_jax.report import tables

NAN = float("nan")
ROWS: list[tables.Row] = [
    {"data": "bimodal, |mu| = 1", "n": 5, "p": 0.25},
    {"data": "clip", "n": None, "p": 1e-7},
    {"data": "dino", "n": 12, "p": NAN},
]


def test_text_aligns_words_left_and_numbers_right():
    lines = tables.text(ROWS).splitlines()
    assert lines[0] == "data                n        p"
    assert lines[1] == "bimodal, |mu| = 1   5    0.250"
    assert lines[2] == "clip                –  1.0e-07"
    assert lines[3] == "dino               12        –"


def test_markdown_keeps_its_columns_whatever_the_words():
    lines = tables.markdown(ROWS, digits=1).splitlines()
    assert lines[:2] == ["| data | n | p |", "|---|---:|---:|"]
    assert lines[2] == r"| bimodal, \|mu\| = 1 | 5 | 0.2 |"


def test_csv_has_all_digits_and_nothing_where_nothing_is_known(tmp_path):
    path = tmp_path / "new" / "table.csv"
    tables.write_csv(path, ROWS)
    with path.open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [row["p"] for row in read] == ["0.25", "1e-07", ""]
    assert [row["n"] for row in read] == ["5", "", "12"]
