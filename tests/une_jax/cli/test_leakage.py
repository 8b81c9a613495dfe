import csv

import numpy as np
import pytest

from une_jax import zoo
from une_jax.schedule import alphas_cumprod_of

KINDS = ["x0", "x_T", "x_T less x0", "forward", "noise"]
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def leaked(run, built, tmp_path_factory):
    """The command's JSON, and the folder of its CSV and figure."""
    folder = tmp_path_factory.mktemp("leakage")
    files = ("--csv", folder / "table.csv", "--figure", folder / "figure.png")
    ran = run("leakage", built, "--json", *files)
    assert ran.code == 0, ran.err
    return ran.json, folder


def test_every_kind_is_probed_as_the_probe_command_does(run, built, leaked):
    result, _ = leaked
    assert (result["train_rows"], result["test_rows"]) == (19, 5)
    assert [row["latents"] for row in result["table"]] == KINDS
    probed = run("probe", built, "--json").json["table"][-1]
    for kind, view in (("x_T", "tiny"), ("x0", "tiny.x0"), ("forward", "tiny.forward")):
        row = result["table"][KINDS.index(kind)]
        for name in ("auc", "accuracy", "balanced accuracy"):
            assert row[name] == pytest.approx(probed[f"{view} {name}"], abs=1e-6)
        assert row["base rate"] == pytest.approx(probed["base_rate"], abs=1e-6)


def test_levels_are_the_views_own(built, leaked):
    settings = zoo.open(built).manifest.views[0].settings
    t = settings["terminal_t"]
    signal = alphas_cumprod_of(settings["scheduler"])[t] ** 0.5
    for row in leaked[0]["table"]:
        own = {"x0": (None, 1), "noise": (None, 0)}.get(row["latents"], (t, signal))
        assert (row["t"], row["signal"]) == (own[0], pytest.approx(own[1]))


def test_csv_has_the_table_and_the_figure_is_one(leaked):
    result, folder = leaked
    with (folder / "table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["auc"] for row in rows] == [str(r["auc"]) for r in result["table"]]
    assert (folder / "figure.png").read_bytes().startswith(PNG)


def test_the_text_names_what_was_compared(run, built):
    ran = run("leakage", built, "--limit", 20)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert " train rows, " in lines[0]
    counts = [int(word) for word in lines[0].replace(",", "").split() if word.isdigit()]
    assert counts[0] + counts[1] == 20
    assert [line.split("  ")[1].strip() for line in lines[3:8]] == KINDS
    assert "forward" in ran.out and "leftover" in ran.out


def test_the_sweep_walks_to_the_end_and_reads_each_stop(run, built, tiny, tmp_path):
    options = ("--sweep", "--generator", tiny, "--steps", 4, "--json")
    ran = run("leakage", built, *options, "--figure", tmp_path / "sweep.png")
    assert ran.code == 0, ran.err
    table = ran.json["table"]
    stops = [row["t"] for row in table if row["latents"] == "x_T"]
    assert stops == [333, 666, 999]
    assert [r["latents"] for r in table] == ["x0", "noise"] + 3 * [
        "x_T",
        "x_T less x0",
        "forward",
    ]
    scheduler = zoo.open(built).manifest.views[0].settings["scheduler"]
    signals = [row["signal"] for row in table if row["latents"] == "forward"]
    np.testing.assert_allclose(signals, alphas_cumprod_of(scheduler)[stops] ** 0.5)
    assert (tmp_path / "sweep.png").read_bytes().startswith(PNG)


def test_states_at_the_last_stop_are_the_inversion_of_the_whole_walk(built, tiny):
    import jax

    from une_jax import ddim
    from une_jax.cli.generator import generator_of_view
    from une_jax.cli.leakage import walked
    from une_jax.schedule import Schedule

    opened = zoo.open(built)
    view = opened.manifest.views[0]
    generator = generator_of_view(view, str(tiny), rows=8)
    clean = opened["tiny.x0"][:5]
    stops, states = walked(generator, clean, 4)
    config = view.settings["scheduler"] | {"timestep_spacing": "linspace"}
    schedule = Schedule.from_config(config, steps=4, eval_at="source")
    params = generator.walk_params
    x_T = jax.jit(ddim.invert, static_argnums=0)(
        generator.sd.unet.apply,
        params["unet"],
        np.moveaxis(clean, 1, -1),
        schedule,
        params["cond"],
    )
    assert states.shape == (5, 3, *clean.shape[1:])
    want = np.moveaxis(np.asarray(x_T), -1, 1)
    np.testing.assert_allclose(states[:, -1], want, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_controlled_is_said(run, built, build_args, tmp_path):
    for options, problem in (
        (("--view", "tinny"), "it has tiny"),
        (("--view", "eyes"), "view 'eyes' is no generator's noise"),
        (("--limit", 0), "--limit is 0; use 1 or more"),
        (("--limit", 1), "too few"),
        (("--components", 0), "components is 0; use 1 or more"),
    ):
        ran = run("leakage", built, *options)
        assert ran.code == 1 and problem in ran.errors[0], ran.err
    bare = [arg for arg in build_args if arg != "--controls"]
    assert run(*bare, "--out", tmp_path / "bare").code == 0
    ran = run("leakage", tmp_path / "bare")
    assert ran.code == 1
    assert "has no view tiny.x0: build it with --controls" in ran.errors[0]
