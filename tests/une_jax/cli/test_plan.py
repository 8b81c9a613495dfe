"""A dry run says how much a build is, from its own models, and writes nothing."""

import pytest

from une_jax.cli.plan import amount, duration, say, size

VIEWS = ("tiny", "tiny.x0", "tiny.forward", "eyes")


@pytest.fixture(scope="module")
def planned(run, build_args, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nothing")
    ran = run(*build_args, "--out", folder / "zoo", "--dry-run", "--json")
    assert ran.code == 0 and list(folder.iterdir()) == []
    return ran.json


def test_rows_and_bytes_are_counted(planned):
    assert (planned["rows"], planned["shards"]) == (24, 3)
    sizes = {view: 8 * 4 if view == "eyes" else 1024 for view in VIEWS}
    assert planned["bytes_per_row"] == sizes
    assert planned["bytes"] == 24 * sum(sizes.values())


def test_flops_and_seconds_add_up_over_models_and_rows(planned):
    models = planned["models"]
    assert list(models) == ["tiny", "eyes"]
    assert set(models["tiny"]["flops_per_image"]) == {"vae", "unet", "round_trip"}
    for model in models.values():
        assert list(model["flops_per_image"]) == list(model["seconds_per_image"])
        assert min(model["flops_per_image"].values()) > 0
        assert min(model["seconds_per_image"].values()) > 0
    flops = sum(sum(m["flops_per_image"].values()) for m in models.values())
    assert planned["flops"] == 24 * flops
    computing = sum(sum(m["seconds_per_image"].values()) for m in models.values())
    reading = planned["reading_seconds_per_image"]
    assert planned["seconds"] == pytest.approx(24 * max(computing, reading))


def test_more_steps_are_more_flops_and_no_round_trip_none(
    run, build_args, planned, tmp_path
):
    more = ("--steps", 5, "--round-trip", "none")
    ran = run(*build_args, *more, "--out", tmp_path / "zoo", "--dry-run", "--json")
    flops = ran.json["models"]["tiny"]["flops_per_image"]
    before = planned["models"]["tiny"]["flops_per_image"]
    # eval_at "source": N - 1 ways between N timesteps.
    assert flops["unet"] == pytest.approx(2 * before["unet"], rel=0.01)
    assert "round_trip" not in flops
    assert flops["vae"] == before["vae"]
    ran = run(
        *build_args, "--limit", 3, "--out", tmp_path / "zoo", "--dry-run", "--json"
    )
    assert (ran.json["rows"], ran.json["shards"]) == (3, 1)


def test_a_plan_reads_like_a_sentence():
    plan = {
        "rows": 3,
        "shards": 1,
        "bytes_per_row": {"sd15": 32768, "clip": 1536},
        "bytes": 102912,
        "models": {
            "sd15": {
                "flops_per_image": {"vae": 1.1e12, "unet": 4e13},
                "seconds_per_image": {"vae": 0.01, "unet": 0.4},
            }
        },
        "reading_seconds_per_image": 0.002,
        "flops": 1.233e14,
        "seconds": 1.23,
    }
    assert say(plan).splitlines() == [
        "3 rows in 1 shard(s), 103 kB (a row: sd15 32.8 kB, clip 1.54 kB)",
        "123 TFLOP, about 1.23 s on this device; for one image:",
        "  sd15: vae 0.01 s (1.1 TFLOP), unet 0.4 s (40 TFLOP)",
        "  reading, beside that: 0.002 s",
        "nothing was written",
    ]


def test_numbers_have_prefixes():
    assert [amount(x) for x in (0, 7, 1500, 4.1e13)] == ["0 ", "7 ", "1.5 k", "41 T"]
    assert size(2_500_000) == "2.5 MB"
    assert [duration(s) for s in (60, 600, 90000, 1e6)] == [
        "60 s",
        "10 min",
        "25 h",
        "11.6 days",
    ]
