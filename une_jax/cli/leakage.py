"""``une-jax leakage``: what probes read from noise that is left over from the image."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from une_jax import zoo
from une_jax.cli.analysis import Analysis
from une_jax.cli.options import OWN_DEFAULT
from une_jax.cli.progress import Progress
from une_jax.errors import UneError

if TYPE_CHECKING:
    from une_jax.cli.generator import Generator
    from une_jax.report.leakage import Reading, Rows

# Where the sweep stops over: the nearest timesteps of its walk.
STOPS = (100, 200, 300, 400, 500, 600, 700, 800, 900, 999)
SWEPT = 2000  # rows, unless --limit says otherwise
CHUNK = 8  # batches a call


@dataclass(frozen=True, kw_only=True)
class Leakage(Analysis):
    """Probe the noise beside what it could have kept: the leakage control."""

    sweep: bool = False
    """invert the stored clean latents anew, to t = 999, and probe on the way there"""
    generator: Annotated[str | None, OWN_DEFAULT] = None
    """PATH_OR_ID of the view's model, for --sweep (default: found by its name)"""
    steps: int = 50
    """of the sweep's walk"""
    limit: Annotated[int | None, OWN_DEFAULT] = None
    """use only the first rows (default: all; 2000 with --sweep)"""
    components: Annotated[int | None, OWN_DEFAULT] = None
    """PCA components of the probes (default: the paper's 500)"""

    def run(self) -> dict[str, Any]:
        opened = zoo.open(self.zoo)
        if self.limit is not None and self.limit < 1:
            raise UneError(f"--limit is {self.limit}; use 1 or more")
        named = self.views(opened, "generator")
        views = [v for v in opened.manifest.views if v.name in named]
        for view in views:
            if view.kind != "generator":
                raise UneError(f"view {view.name!r} is no generator's noise")

        from une_jax.report import leakage

        rows = leakage.rows_of(opened, self.limit or (SWEPT if self.sweep else None))
        if self.sweep:
            found = self._swept(opened, rows)
        else:
            found = []
            for view in views:
                found += leakage.stored(opened, view, rows, self.components)
        table = leakage.table(found)
        self.write(table, leakage.figure(found) if self.figure else None)
        return {
            "zoo": str(self.zoo),
            "train_rows": int(rows.train.sum()),
            "test_rows": int((~rows.train).sum()),
            "kinds": leakage.KINDS,
            "table": table,
        }

    def _swept(self, opened: zoo.Zoo, rows: "Rows") -> "list[Reading]":
        from une_jax.cli.generator import generator_of_view
        from une_jax.cli.pictures import generator_view
        from une_jax.report import leakage

        if len(self.view) > 1:
            raise UneError("--sweep walks one generator: give one --view")
        name = self.view[0] if self.view else None
        view = generator_view(opened, name, self.generator)
        clean = leakage.clean(opened, view, rows)
        generator = generator_of_view(view, self.generator, rows=len(clean))
        prompts = None
        if generator.settings.prompt is None:
            said = opened.rows.column("prompt").to_pylist()
            prompts = [said[i] for i in rows.index]
        stops, states = walked(generator, clean, self.steps, prompts)

        x0 = leakage.flat(clean)
        with Progress(1 + len(stops), "probing", unit="level") as progress:
            found = [*leakage.fixed(view.name, x0, rows, self.components)]
            progress.add(1)
            for i, t in enumerate(stops):
                _, signal = leakage.level(view, t)
                x_T = leakage.flat(states[:, i])
                found += leakage.at_level(
                    view.name, t, signal, x0, x_T, None, rows, self.components
                )
                progress.add(1)
        return found

    def text(self, result: dict[str, Any]) -> str:
        from une_jax.report import tables

        shown = ("view", "latents", "t", "signal", "auc", "auc low", "auc high")
        shown += ("balanced accuracy", "linear in x0")
        shown += ("above forward", "above low", "above high")
        rows = [{name: row[name] for name in shown} for row in result["table"]]
        return (
            f"{result['train_rows']} train rows, {result['test_rows']} test rows; means "
            "over the attributes, 95 % intervals over the test rows\n\n"
            f"{tables.text(rows)}\n\n"
            "signal is the part of the clean latents' amplitude that is left at t. What "
            "fresh noise at\nthe same t (forward) gives is leftover; what x_T has above "
            "it, inversion wrote there."
        )


def walked(
    generator: "Generator",
    clean: np.ndarray,
    steps: int,
    prompts: list[str] | None = None,
) -> tuple[list[int], np.ndarray]:
    """The timesteps of ``STOPS``, and the states there (n, m, c, h, w) float32.

    One walk of ``steps`` timesteps, evenly from 0, where the clean latents stand, to
    the last one of the training, whatever the generator's own spacing.
    """
    from une_jax.schedule import Schedule

    config = {**generator.sd.scheduler, "timestep_spacing": "linspace"}
    schedule = Schedule.from_config(config, steps=steps, eval_at="source")
    reached = np.asarray(schedule.reached)
    wanted = np.asarray(STOPS) * (schedule.terminal_t / STOPS[-1])
    nearest = np.abs(reached[:, None] - wanted[None]).argmin(axis=0)
    stops = [int(t) for t in reached[np.unique(nearest)]]

    n, size = len(clean), CHUNK * generator.batch_size
    states = np.empty((n, len(stops), *clean.shape[1:]), np.float32)
    with Progress(n, f"inverting to t = {stops[-1]}") as progress:
        for start in range(0, n, size):
            part = slice(start, start + size)
            own = None if prompts is None else prompts[part]
            states[part] = generator.states(clean[part], schedule, stops, prompts=own)
            progress.add(len(states[part]))
            progress.shard(f"{len(stops)} states of each kept")
    return stops, states
