import csv


def test_every_space_is_scored_against_the_truth(run, built, faces, tmp_path):
    truth = faces / "truth.safetensors"
    files = ("--csv", tmp_path / "r.csv", "--figure", tmp_path / "r.png")
    ran = run("recovery", built, "--truth", truth, "--json", *files)
    assert ran.code == 0, ran.err
    result = ran.json
    assert (result["train_rows"], result["test_rows"]) == (19, 5)
    assert result["dimensions_of_truth"] == 32
    assert {row["by"] for row in result["table"]} == {"view", "k", "views", "n"}
    spaces = [row["space"] for row in result["table"] if row["by"] == "view"]
    assert spaces == ["tiny", "eyes", "all, side by side", "unpaired (control)"]
    with (tmp_path / "r.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(result["table"])
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    ran = run("recovery", built, "--truth", truth)
    assert ran.code == 0 and "32 dimensions" in ran.out


def test_what_cannot_be_scored_is_said(run, built, faces, tmp_path):
    truth = faces / "truth.safetensors"
    for options, problem in (
        (("--truth", tmp_path / "none"), "is no file of true factors"),
        (("--truth", truth, "--view", "eyes"), "needs two generator or encoder views"),
        (("--truth", truth, "--view", "tinny"), "it has tiny"),
    ):
        ran = run("recovery", built, *options)
        assert ran.code == 1 and problem in ran.errors[0], ran.err
