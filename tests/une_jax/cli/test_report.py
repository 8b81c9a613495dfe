import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from une_jax import images, zoo
from une_jax.cli import sections
from une_jax.report import figures, page, probing

SECTIONS = [
    "There and back",
    "Samples",
    "What is linear in each view",
    "How much of each view the others tell",
    "Edits",
]


class Read(HTMLParser):
    """The page as a browser sees it: its headings, images and outside references."""

    def __init__(self, file):
        super().__init__()
        self.text = file.read_text(encoding="utf-8")
        self.headings, self.images, self.outside, self.inside = [], [], [], ""
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.inside, attrs = tag, dict(attrs)
        if tag == "img":
            self.images.append(attrs)
        for name in ("src", "href", "srcset", "data", "action"):
            if name in attrs and not attrs[name].startswith("data:"):
                self.outside.append(attrs[name])
        if tag in ("script", "link", "iframe", "object"):
            self.outside.append(tag)

    def handle_data(self, data):
        if self.inside == "h2":
            self.headings.append(data)
            self.inside = ""


@pytest.fixture(scope="module")
def full(run, built, tiny, faces, tmp_path_factory):
    """A report of all there is to report: its JSON, its folder and its page."""
    out = tmp_path_factory.mktemp("report") / "out"
    ran = run(
        *("report", built, "--generator", tiny, "--out", out, "--json"),
        *("--images", faces / "img_align_celeba"),
        *("--truth", faces / "truth.safetensors"),
        *("--attribute", "Smiling", "--prompt", "a hat", "no hat & <b>"),
    )
    assert ran.code == 0, ran.err
    return ran.json, out, Read(out / "index.html")


def test_the_page_has_its_sections_and_stands_alone(full):
    result, out, read = full
    assert result["report"] == str(out / "index.html")
    assert read.headings == SECTIONS
    assert read.outside == []
    assert "http:" not in read.text and "https:" not in read.text
    assert "url(" not in read.text and "@import" not in read.text


def test_every_figure_is_inside_and_beside_the_page_and_described(full):
    _, out, read = full
    written = {file.name: file.read_bytes() for file in out.glob("*.png")}
    assert {"round_trip_tiny.png", "samples_tiny.png", "probes.png", "maps.png"} < set(
        written
    )
    assert "edit_Smiling_plain.png" in written
    assert {file.name for file in out.iterdir()} == {*written, "index.html"}
    for png in written.values():
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.load()
            assert min(image.size) > 50
    assert len(read.images) == len(written)
    assert all(len(image["alt"]) > 20 for image in read.images)
    assert len({image["alt"] for image in read.images}) == len(written)
    assert "(2) no hat & <b>" in "".join(image["alt"] for image in read.images)
    assert "<b>" not in read.text  # what a user typed is text


def test_the_numbers_are_measured(full, built, faces):
    result, _, read = full
    opened = zoo.open(built)
    for view in opened.views:
        probed = probing.probe_view(opened, view)
        auc = float(np.nanmean(probed.metrics.auc))
        assert result[f"{view} mean_auc"] == pytest.approx(auc, abs=1e-6)
    again, coded = (result[f"tiny {k}_psnr_db"] for k in ("round_trip", "vae"))
    assert 0 < again < 60 and 0 < coded < 60
    assert f"PSNR {again:.1f} dB over 5 held-out" in read.text
    truth = load_file(faces / "truth.safetensors")["scores"][opened.split("test")]
    scores = probing.probe_view(opened, "tiny").scores
    with np.errstate(invalid="ignore"):
        r2 = [np.corrcoef(scores[:, a], truth[:, a])[0, 1] ** 2 for a in range(20)]
    r2 = np.nan_to_num(r2)  # a probe that always says the same explains nothing
    assert result["tiny mean_truth_r2"] == pytest.approx(r2.mean(), abs=1e-4)


def test_each_number_of_the_chart_stands_under_its_own_view(built, monkeypatch):
    drawn = {}

    def heatmap(values, rows, columns, **_):
        drawn.update(zip(columns, values.T, strict=True))
        return b""

    monkeypatch.setattr(sections.figures, "heatmap", heatmap)
    opened = zoo.open(built)
    made = sections.Sections(opened, [])
    made.probes(None)
    assert set(drawn) == set(opened.views)
    kinds = [opened[view].view.kind for view in drawn]
    assert kinds == sorted(kinds, key="control".__eq__)  # controls come last
    for view, column in drawn.items():
        assert column[-1] == pytest.approx(made.numbers[f"{view} mean_auc"])


def test_a_report_needs_neither_images_nor_truth(run, built, tiny, tmp_path):
    args = ("report", built, "--generator", tiny, "--out", tmp_path / "out")
    ran = run(*args)
    assert ran.code == 0
    assert ran.out == f"report: {tmp_path / 'out' / 'index.html'}\n"
    read = Read(tmp_path / "out/index.html")
    assert read.headings == SECTIONS and "PSNR" not in read.text
    assert "true score" not in read.text
    edited = {re.sub(r"_(plain|orthog\w+)$", "", f.stem) for f in (tmp_path / "out").glob("edit_*.png")}  # fmt: skip
    auc = probing.probe_view(zoo.open(built), "tiny").metrics.auc
    assert len(edited) == min(4, np.isfinite(np.asarray(auc)).sum())


def test_a_report_that_fails_writes_nothing(run, built, tiny, faces, tmp_path):
    out = tmp_path / "out"
    args = ("report", built, "--generator", tiny, "--out", out)
    truth = load_file(faces / "truth.safetensors")
    save_file({**truth, "scores": -truth["scores"]}, tmp_path / "other.safetensors")
    for file, said in (
        ("other.safetensors", "is not the truth of"),
        ("missing.safetensors", "is no file of true factors"),
    ):
        ran = run(*args, "--truth", tmp_path / file)
        assert ran.code == 1 and said in ran.errors[0]
    ran = run(*args, "--images", tmp_path / "nowhere")
    assert ran.code == 1 and "is no folder of images" in ran.errors[0]
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    ran = run(*args, "--images", tmp_path)  # a folder of other images
    assert ran.code == 1 and "no such file" in ran.errors[0]
    assert not out.exists()


def test_truth_is_given_in_the_order_of_the_zoos_rows_and_attributes(
    run, eyes, faces, tmp_path
):
    """A CSV of two attributes, the other way round, and a file that failed."""
    from une_jax import attributes
    from une_jax.cli.report import read_truth

    table = attributes.read(faces / "list_attr_celeba.txt")
    columns = [table.names.index("Young"), table.names.index("Male")]
    lines = ["file,Young,Male"]
    for key, row in zip(table.keys, table.values[:, columns].astype(int), strict=True):
        lines.append(f"{key},{row[0]},{row[1]}")
    (tmp_path / "two.csv").write_text("\n".join(lines))
    folder = tmp_path / "images"
    folder.mkdir()
    for key in table.keys[:4]:
        (folder / key).write_bytes((faces / "img_align_celeba" / key).read_bytes())
    (folder / table.keys[1]).write_bytes(b"")
    args = ("--images", folder, "--attributes", tmp_path / "two.csv", "--limit", 4)
    args += ("--encoder", f"eyes={eyes}", "--batch-size", 8, "--out", tmp_path / "zoo")
    assert run("build", *args).code == 0
    scores = read_truth(faces / "truth.safetensors", zoo.open(tmp_path / "zoo"))
    truth = load_file(faces / "truth.safetensors")["scores"]
    np.testing.assert_array_equal(scores, truth[np.ix_([0, 2, 3], columns)])


def test_a_zoo_without_a_generator_has_no_report(run, eyes, faces, tmp_path):
    args = ("--encoder", f"eyes={eyes}", "--batch-size", 8, "--out", tmp_path / "zoo")
    assert run("build", "--images", faces / "img_align_celeba", *args).code == 0
    ran = run("report", tmp_path / "zoo", "--out", tmp_path / "out")
    assert ran.code == 1 and "has no generator view" in ran.errors[0]
    assert not (tmp_path / "out").exists()


def test_a_heatmap_takes_cells_that_are_not_defined():
    cells = np.array([[0.9, np.nan], [np.nan, np.nan], [0.6, np.nan]])
    png = figures.heatmap(
        cells,
        ["Male", "Bald", "Young"],
        ["noise", "clip"],
        label="AUC",
        low=0.5,
        high=1.0,
    )
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG" and image.width > 200


def test_tables_escape_text_and_dash_what_is_undefined():
    table = page.table(["name", "<AUC>"], [["a & b", 0.12345], ["mean", float("nan")]])
    assert "<th>&lt;AUC&gt;</th>" in table
    assert "<td>a &amp; b</td><td>0.123</td>" in table
    assert "<td>mean</td><td>–</td>" in table


def test_squared_correlation_with_the_truth_knows_no_scale():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(200, 3))
    noisy = truth[:, 1] + rng.normal(size=200)
    scores = np.stack([5 - 2 * truth[:, 0], noisy, np.ones(200)], axis=1)
    r2 = probing.truth_r2(scores, truth)
    wanted = [1, np.corrcoef(noisy, truth[:, 1])[0, 1] ** 2, 0]
    np.testing.assert_allclose(r2, wanted, atol=1e-12)


def test_images_the_report_reads_are_those_of_the_zoo(full, faces):
    """The first row of the first figure shows the held-out images themselves."""
    _, out, _ = full
    sheet = np.asarray(images.decode(out / "round_trip_tiny.png"))
    opened_key = sorted((faces / "img_align_celeba").iterdir())
    split = zoo.paper_split(24)
    first = opened_key[int(np.flatnonzero(split == "test")[0])]
    tile = images.centre_crop(images.decode(first), 16).repeat(7, 0).repeat(7, 1)
    left = sheet.shape[1] - 5 * (112 + 2)
    np.testing.assert_array_equal(sheet[:112, left : left + 112], tile)
