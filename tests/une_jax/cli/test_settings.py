"""How images become noise is recorded in a view, and read back from it."""

import dataclasses

import pytest
import tiny_models

from ports.port import Port
from ports.stable_diffusion import StableDiffusion
from scripts.miniature import diffusion
from une_jax.cli.names import Model
from une_jax.cli.settings import Settings, settings_of, views_of
from une_jax.errors import UneError
from une_jax.schedule import Schedule
from une_jax.zoo import View


def views(settings: Settings, *, lcm: bool = False) -> tuple[View, ...]:
    unet = dataclasses.replace(tiny_models.UNET, time_cond_proj_dim=8 if lcm else None)
    vae_port, unet_port = (Port(c, {}, lambda: None) for c in (tiny_models.VAE, unet))
    sd = StableDiffusion(vae_port, (), unet_port, diffusion.SCHEDULER, "0" * 64)
    schedule = Schedule.from_config(
        sd.scheduler, steps=settings.steps, eval_at=settings.eval_at
    )
    model = Model("tiny", "some/tiny", "some/tiny", None)
    return views_of(model, sd, settings, schedule, size=16, edge=8)


@pytest.mark.parametrize(
    "settings",
    (
        Settings(),
        Settings(steps=7, eval_at="target", method="fixed-point", dtype="bfloat16"),
        Settings(method="exact", prompt="a hat", guidance=3.5, negative="a beard"),
        Settings(method="dpm-encoder", eta=0.5, seed=7, prompt=None, controls=True),
    ),
    ids=lambda s: s.method,
)
@pytest.mark.parametrize("round_trip", ("none", "latent", "pixels"))
def test_a_view_says_how_it_was_made(settings, round_trip):
    settings = dataclasses.replace(settings, round_trip=round_trip, size=16)
    view = views(settings)[0]
    assert view.settings["round_trip"] == round_trip  # the zoo's columns follow it
    again = settings_of(view)
    assert again == dataclasses.replace(settings, round_trip="none", controls=False)


def test_what_is_usual_is_not_recorded():
    """So that views of before there was a choice are views of today."""
    how = views(Settings())[0].settings
    assert not {"method", "guidance_scale", "negative", "eta", "seed"} & set(how)
    assert views(Settings(), lcm=True)[0].settings["guidance_scale"] == 1.0
    how = views(Settings(method="fixed-point"))[0].settings
    assert (how["tolerance"], how["max_calls"]) == (1e-4, 10)


def test_a_method_has_the_views_that_decoding_needs():
    def of(**how):
        return [
            (v.name, v.kind, v.shape, v.dtype) for v in views(Settings(steps=5, **how))
        ]

    noise = ("tiny", "generator", (4, 8, 8), "float32")
    assert of() == of(method="fixed-point") == [noise]
    before = ("tiny.before", "code", (4, 8, 8), "float32")
    assert of(method="exact") == [noise, before]
    eps = ("tiny.eps", "code", (20, 8, 8), "float32")
    assert of(method="dpm-encoder") == [noise, eps]
    controls = [(f"tiny.{n}", "control", *noise[2:]) for n in ("x0", "forward")]
    assert of(method="exact", controls=True) == [noise, before, *controls]


def test_half_precision_is_stored_as_float16_but_for_what_is_exact():
    for method, stored in (("dpm-encoder", "float16"), ("exact", "float32")):
        how = Settings(method=method, dtype="bfloat16", controls=True)
        assert [v.dtype for v in views(how)] == [stored] * 2 + ["float16"] * 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "edict"}, "method is 'edict'; use one of ddim, fixed-point, exact"),
        ({"round_trip": "yes"}, "round_trip is 'yes'; use one of none, latent, pixels"),
        ({"dtype": "float64"}, "dtype is 'float64'; use one of float32, bfloat16"),
        ({"guidance": float("nan")}, "guidance is nan; use a number"),
        ({"negative": "a beard"}, "negative is given, but guidance is 1"),
        ({"method": "dpm-encoder", "eta": 0.0}, "eta is 0.0; use above 0, up to 1"),
    ],
)
def test_a_setting_that_means_nothing_is_an_error(wrong, message):
    with pytest.raises(UneError, match=message):
        Settings(**wrong)


def test_a_view_of_other_making_says_what_is_missing():
    view = views(Settings())[0]
    how = {k: v for k, v in view.settings.items() if k not in ("steps", "prompt")}
    with pytest.raises(UneError, match="'tiny' does not say its steps, prompt: only"):
        settings_of(dataclasses.replace(view, settings=how))
