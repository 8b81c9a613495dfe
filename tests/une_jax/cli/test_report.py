"""The report as its reader and its user find it."""

import csv
import dataclasses
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from une_jax import directions, images, zoo
from une_jax.report import probing

SECTIONS = [
    "Summary",
    "How Gaussian the views are",
    "What is linear in each view",
    "Whether the noise only leaks the image",
    "How much of each view the others tell",
    "What all views share",
    "There and back",
    "Samples",
    "Edits",
    "What edits do",
    "Where this comes from",
]


class Read(HTMLParser):
    """The page as a browser sees it: its headings, images and outside references."""

    def __init__(self, file):
        super().__init__()
        self.text = file.read_text(encoding="utf-8")
        self.headings, self.images, self.outside, self.inside = [], [], [], ""
        self.ids, self.links = [], []
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.inside, attrs = tag, dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if tag == "a" else []
        if tag == "img":
            self.images.append(attrs)
        for name in ("src", "href", "srcset", "data", "action"):
            if name in attrs and not attrs[name].startswith(("data:", "#")):
                self.outside.append(attrs[name])
        if tag in ("script", "link", "iframe", "object"):
            self.outside.append(tag)

    def handle_data(self, data):
        if self.inside == "h2":
            self.headings.append(data)
            self.inside = ""


@pytest.fixture(scope="module")
def full(run, built, tiny, eyes, faces, tmp_path_factory):
    """A report of all there is to report: its JSON, its folder and its page."""
    out = tmp_path_factory.mktemp("report") / "out"
    ran = run(
        *("report", built, "--generator", tiny, "--out", out, "--json"),
        *("--images", faces / "img_align_celeba"),
        *("--truth", faces / "truth.safetensors"),
        *("--attribute", "Smiling", "--prompt", "a hat", "no hat & <b>"),
        *("--judge", f"eyes={eyes}"),
    )
    assert ran.code == 0, ran.err
    return ran.json, out, Read(out / "index.html")


def test_the_page_has_its_sections_and_stands_alone(full):
    result, out, read = full
    assert result["report"] == str(out / "index.html") and result["left_out"] == {}
    assert read.headings == SECTIONS
    assert read.outside == []
    # What looks like an address is in the settings of a view, and no browser goes there.
    code = re.sub(r"<pre>.*?</pre>", "", read.text, flags=re.DOTALL)
    assert "http:" not in code and "https:" not in code
    assert "url(" not in code and "@import" not in code
    assert result["bytes"] == (out / "index.html").stat().st_size < 15e6


def test_every_link_leads_to_a_section(full):
    _, _, read = full
    assert len(read.ids) == len(set(read.ids)) == len(SECTIONS)
    assert {link.removeprefix("#") for link in read.links} == set(read.ids)


def test_every_figure_is_inside_and_beside_the_page_and_described(full):
    _, out, read = full
    written = {file.name: file.read_bytes() for file in out.iterdir()}
    sheets = {"round_trip_tiny.png", "samples_tiny.png", "edit_Smiling_plain.png"}
    charts = {"gaussianity_random", "probes", "leakage", "maps", "shared", "recovery"}
    assert sheets < set(written)
    assert {f"{name}.{end}" for name in charts for end in ("png", "svg", "csv")} - {
        "gaussianity_random.csv"
    } < set(written)
    pngs = [data for name, data in written.items() if name.endswith(".png")]
    for png in pngs:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.load()
            assert min(image.size) > 50
    for name, data in written.items():
        if name.endswith(".svg"):
            assert ElementTree.fromstring(data).tag.endswith("svg")
    assert len(read.images) == len(pngs)
    assert all(len(image["alt"]) > 20 for image in read.images)
    assert len({image["alt"] for image in read.images}) == len(pngs)
    assert "(2) no hat & <b>" in "".join(image["alt"] for image in read.images)
    assert "<b>" not in read.text  # what a user typed is text


def test_every_table_is_beside_the_page_as_csv_with_all_digits(full):
    result, out, read = full
    named = set(re.findall(r"<code>(\w+\.csv)</code>", read.text))
    assert named < {file.name for file in out.glob("*.csv")}
    with (out / "probes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["attribute"] == "mean"
    assert float(rows[-1]["tiny auc"]) == result["tiny mean_auc"]


def test_the_summary_says_each_section_s_findings_beside_their_controls(full):
    _, out, read = full
    with (out / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["section"] for row in rows} >= {"gaussianity", "probes", "leakage"}
    for row in rows:
        assert row["question"].endswith("?") and row["verdict"].endswith(".")
        assert float(row["beside"]) == float(row["beside"])
        assert row["verdict"] in read.text.replace("\u00a0", " ")


def test_it_says_where_it_comes_from(full, built):
    import hashlib

    _, out, read = full
    digest = hashlib.sha256((built / "manifest.json").read_bytes()).hexdigest()
    assert digest in read.text and "all 24 images" in read.text
    views = {view.name: view for view in zoo.open(built).manifest.views}
    with (out / "views.csv").open() as file:
        rows = {row["view"]: row for row in csv.DictReader(file)}
    assert {n: r["weights sha256"] for n, r in rows.items()} == {
        n: v.weights_sha256 for n, v in views.items()
    }
    with (out / "versions.csv").open() as file:
        assert {"jax", "une-jax", "Python"} < {
            r["library"] for r in csv.DictReader(file)
        }


def test_the_numbers_are_measured(full, built, faces):
    result, _, read = full
    opened = zoo.open(built)
    for view in opened.views:
        probed = probing.probe_view(opened, view)
        auc = float(np.nanmean(probed.metrics.auc))
        assert result[f"{view} mean_auc"] == pytest.approx(auc, abs=1e-6)
    again, coded = (result[f"tiny {k}_psnr_db"] for k in ("round_trip", "vae"))
    assert 0 < again < 60 and 0 < coded < 60
    assert f'<span class="big">{again:.1f}\u00a0dB</span>' in read.text
    truth = load_file(faces / "truth.safetensors")["scores"][opened.split("test")]
    scores = probing.probe_view(opened, "tiny").scores
    with np.errstate(invalid="ignore"):
        r2 = [np.corrcoef(scores[:, a], truth[:, a])[0, 1] ** 2 for a in range(20)]
    r2 = np.nan_to_num(r2)  # a probe that always says the same explains nothing
    assert result["tiny mean_truth_r2"] == pytest.approx(r2.mean(), abs=1e-4)


def test_sections_are_chosen_and_what_is_impossible_is_said(run, built, tiny, tmp_path):
    """Neither images nor truth are needed, nor a judge that is not to be found."""
    args = ("report", built, "--generator", tiny, "--out", tmp_path / "out", "--json")
    ran = run(*args, "--only", "probes", "edits", "effects", "--without", "edits")
    assert ran.code == 0, ran.err
    assert list(ran.json["left_out"]) == ["effects"]
    assert "--judge eyes" in ran.json["left_out"]["effects"]
    read = Read(tmp_path / "out/index.html")
    assert read.headings == ["Summary", SECTIONS[2], "Where this comes from"]
    assert "Left out: effects, since" in read.text
    assert "true score" not in read.text
    assert not list((tmp_path / "out").glob("edit_*"))


@pytest.fixture(scope="module")
def inner(run, built, tiny, tmp_path_factory):
    """A file of directions of the pipeline's h, two of them attributes'."""
    file = tmp_path_factory.mktemp("h") / "inner.safetensors"
    how = ("--attribute", "Smiling", "Male", "--generator", tiny, "--out", file)
    ran = run("hspace", "fit", built, *how)
    assert ran.code == 0, ran.err
    return file


def test_edits_are_made_in_h_beside_those_in_the_noise(
    run, built, tiny, inner, tmp_path
):
    out = tmp_path / "out"
    args = ("report", built, "--generator", tiny, "--only", "edits", "--out", out)
    ran = run(*args, "--hspace", inner, "--attribute", "Smiling", "Young")
    assert ran.code == 0, ran.err
    sheets = {file.name for file in out.glob("edit_*_h.png")}
    assert sheets == {"edit_Smiling_h.png"}
    assert {"edit_Smiling_plain.png", "edit_Young_plain.png"} < {
        file.name for file in out.glob("*.png")
    }
    read = Read(out / "index.html")
    assert "middle block (h)" in read.text
    assert "Without a direction in h: Young." in read.text
    # The same faces at strength 0, to rounding: three rows, the middle of seven.
    noise, h = (
        np.asarray(images.decode(out / f"edit_Smiling_{way}.png")).astype(int)
        for way in ("plain", "h")
    )
    tile = h.shape[1] // 7
    assert np.abs((noise - h)[:, 3 * tile + 4 : 4 * tile - 4]).max() <= 1
    assert np.abs((noise - h)[:, :tile]).max() > 1


def test_edits_in_h_and_in_noise_are_judged_side_by_side(
    run, built, tiny, eyes, inner, tmp_path
):
    out = tmp_path / "out"
    args = ("report", built, "--generator", tiny, "--only", "effects", "--out", out)
    ran = run(*args, "--hspace", inner, "--judge", f"eyes={eyes}")
    assert ran.code == 0, ran.err
    with (out / "spaces.csv").open() as file:
        rows = list(csv.DictReader(file))
    ways = ["noise", "noise, others kept", "h", "h, others kept"]
    assert [row["way"] for row in rows] == ways
    with (out / "spaces_by_attribute.csv").open() as file:
        edited = [r["attribute"] for r in csv.DictReader(file)]
    names = set(edited)
    # The tiny zoo's best-read attributes; those of them that the file has.
    assert names <= {"Smiling", "Male"} and len(edited) == 4 * len(names)
    assert {row["reached"][-4:] for row in rows} == {f"of {len(names)}"}
    assert "middle block (h) another" in Read(out / "index.html").text


def test_components_have_sheets_of_their_own(run, built, tiny, tmp_path):
    file, out = tmp_path / "pca.safetensors", tmp_path / "out"
    how = ("--method", "pca", "--components", 2, "--generator", tiny, "--out", file)
    assert run("hspace", "fit", built, *how).code == 0
    args = ("report", built, "--generator", tiny, "--only", "edits", "--out", out)
    ran = run(*args, "--hspace", file, "--attribute", "Smiling")
    assert ran.code == 0, ran.err
    assert {f.name for f in out.glob("edit_*_h.png")} == {"edit_pc1_h.png"}


def test_directions_of_another_model_s_h_are_refused(run, built, inner, tmp_path):
    found = directions.load(inner)
    other = dataclasses.replace(found.view, weights_sha256="1" * 64)
    file, out = tmp_path / "other.safetensors", tmp_path / "out"
    directions.save(file, dataclasses.replace(found, view=other))
    ran = run("report", built, "--out", out, "--hspace", file)
    (error,) = ran.errors
    assert ran.code == 1 and not out.exists()
    assert f"--hspace {file}: these directions are of tiny.h" in error
    assert "weights_sha256" in error


def test_a_generator_that_is_not_found_leaves_its_pictures_out(run, built, tmp_path):
    others = ("gaussianity", "probes", "leakage", "maps", "shared")
    args = ("report", built, "--out", tmp_path / "out", "--json", "--without", *others)
    ran = run(*args)
    assert ran.code == 0, ran.err
    assert set(ran.json["left_out"]) == {"round-trip", "samples", "edits", "effects"}
    ran = run(*args, "--view", "tiny")  # it was asked for
    assert ran.code == 1 and len(ran.errors) == 1


def test_a_report_of_a_sample_says_so(run, built, tmp_path):
    out = tmp_path / "out"
    ran = run("report", built, "--out", out, "--only", "probes", "--rows", 16)
    assert ran.code == 0, ran.err
    assert ran.out == f"report: {out / 'index.html'}\n"
    assert "16 of 24, drawn at random, images" in Read(out / "index.html").text


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
    from une_jax.report.subject import Subject

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
    opened = zoo.open(tmp_path / "zoo")
    scores = Subject(zoo=opened, truth=faces / "truth.safetensors").scores
    truth = load_file(faces / "truth.safetensors")["scores"]
    np.testing.assert_array_equal(scores, truth[np.ix_([0, 2, 3], columns)])


def test_a_zoo_without_a_generator_has_a_report_without_pictures(
    run, eyes, faces, tmp_path
):
    args = ("--encoder", f"eyes={eyes}", "--batch-size", 8, "--out", tmp_path / "zoo")
    args += ("--attributes", faces / "list_attr_celeba.txt")
    assert run("build", "--images", faces / "img_align_celeba", *args).code == 0
    only = ("--only", "probes", "maps", "samples")
    ran = run("report", tmp_path / "zoo", "--out", tmp_path / "out", *only, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["left_out"] == {
        "maps": "the zoo has one view only",
        "samples": "the zoo has no generator view to decode",
    }
    ran = run("report", tmp_path / "zoo", "--out", tmp_path / "out", "--view", "eyes")
    assert ran.code == 1 and "has the generator views (none)" in ran.errors[0]


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
