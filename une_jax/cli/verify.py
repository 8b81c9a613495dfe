"""``une-jax verify``: every byte and every row of a NoiseZoo."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from une_jax import zoo
from une_jax.cli.options import Json


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Check every byte and every row of a NoiseZoo; says what is wrong, exits with 1."""

    zoo: tyro.conf.Positional[Path]
    """the NoiseZoo's folder"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        problems = zoo.verify(self.zoo)
        return {
            "zoo": str(self.zoo),
            "problems": problems,
            "exit_code": 1 if problems else 0,
        }

    def text(self, result: dict[str, Any]) -> str:
        if not result["problems"]:
            return f"{self.zoo}: sound"
        return "\n".join(f"{self.zoo}: {p}" for p in result["problems"])
