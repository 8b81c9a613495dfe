"""``une-jax export``: a NoiseZoo for Hugging Face, numpy or a table browser."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from une_jax import zoo
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.cli.progress import Progress
from une_jax.interop import hf, noises, stream, table, whole


@dataclass(frozen=True, kw_only=True)
class Export:
    """Copy a finished NoiseZoo into files of other tools; float16 stays float16."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    to: Literal["hf", "npy", "table"]
    """hf: a Hugging Face dataset in Parquet. npy: noises_<view>.npy, keys.txt and
    attributes.csv, as the UNE authors' release. table: rows.parquet, no latents, for
    Embedding Atlas; with --view, columns x and y: that view's first two principal
    components"""
    out: Path
    """a new or empty folder"""
    view: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """only these views (default: all)"""
    split: Annotated[Literal["train", "test"] | None, OWN_DEFAULT] = None
    """only these rows of the paper's split (default: both)"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        opened = stream.finished(zoo.open(self.zoo))
        views = stream.views_of(opened, self.view)
        if self.to == "table" and not self.view:
            views = ()
        write = {"hf": hf.write, "npy": noises.write, "table": table.write}[self.to]
        inner = (hf.DATA,) if self.to == "hf" else ()
        whole.require_free(self.out)  # before all the counting
        counts = stream.count(opened, self.split, ok_only=bool(views))
        with (
            whole.whole_folder(self.out, *inner) as folder,
            Progress(sum(counts.values()), "exporting") as progress,
        ):
            notes = write(opened, folder, views, counts, progress.add)
        return {
            "zoo": str(self.zoo),
            "to": self.to,
            "out": str(self.out),
            "rows": counts,
            "views": [view.name for view in views],
            "notes": notes,
        }

    def text(self, result: dict[str, Any]) -> str:
        rows = " and ".join(f"{n} {part}" for part, n in result["rows"].items())
        views = f" of {', '.join(result['views'])}" if result["views"] else ""
        lines = [f"{self.out}: {rows} rows{views}"]
        lines += [f"  {note}" for note in result["notes"]]
        if self.to == "hf":
            lines.append(f'  datasets.load_dataset("{self.out}")')
        if self.to == "table":
            how = "--x x --y y" if result["views"] else "--disable-projection"
            lines.append(f"  embedding-atlas {self.out / table.FILE} {how}")
        return "\n".join(lines)
