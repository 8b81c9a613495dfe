"""Parse, run, report errors in one line, exit with the right code."""

import json
import math
import signal
import sys
from typing import Any, Protocol

import tyro

from ports.checkpoint import CheckpointError
from une_jax.cli import (
    align,
    app,
    build,
    demo,
    directions,
    edit,
    effects,
    export,
    faces,
    gaussianity,
    gcca,
    hspace,
    import_,
    interpolate,
    leakage,
    probe,
    recovery,
    report,
    similarity,
    stitch,
    synthesize,
    translate,
    verify,
)
from une_jax.cli.devices import configure_jax
from une_jax.cli.options import join_repeated
from une_jax.errors import UneError

COMMANDS = {
    "demo": demo.Demo,
    "faces": faces.Faces,
    "build": build.Build,
    "verify": verify.Verify,
    "align": align.Align,
    "gaussianity": gaussianity.Gaussianity,
    "gcca": gcca.Gcca,
    "leakage": leakage.Leakage,
    "probe": probe.Probe,
    "recovery": recovery.Recovery,
    "similarity": similarity.Similarity,
    "stitch": stitch.Stitch,
    "synthesize": synthesize.Synthesize,
    "edit": edit.Edit,
    "app": app.App,
    "interpolate": interpolate.Interpolate,
    "translate": translate.Translate,
    "directions": directions.Learn,
    "effects": effects.Effects,
    "hspace": hspace.Hspace,
    "report": report.Report,
    "import": import_.Import,
    "export": export.Export,
}


def spoken() -> list[tuple[str, ...]]:
    """Every command in the words that name it, also those that are parts of one."""
    return [
        words
        for name, command in COMMANDS.items()
        for words in [(name,), *((name, p) for p in getattr(command, "parts", ()))]
    ]


class Command(Protocol):
    """A frozen dataclass of arguments. ``run`` gives JSON; ``text`` says it in words."""

    @property
    def json(self) -> bool: ...

    def run(self) -> dict[str, Any]: ...

    def text(self, result: dict[str, Any]) -> str: ...


def main(argv: list[str] | None = None) -> int:
    """0 done, 1 a one-line error, 2 bad usage, 130 / 143 on SIGINT / SIGTERM."""
    command: Command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        prog="une-jax",
        description=(
            "One Gaussian space behind image generators and image encoders: invert "
            "images to noise, probe it, edit it. Start with `une-jax demo`."
        ),
        args=join_repeated(sys.argv[1:] if argv is None else argv),
        config=(
            tyro.conf.OmitSubcommandPrefixes,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.DisallowNone,
        ),
    )
    signal.signal(signal.SIGTERM, _terminate)
    try:
        configure_jax()
        result = command.run()
        print(to_json(result) if command.json else command.text(result))
        return int(result.get("exit_code", 0))
    except (UneError, CheckpointError) as e:
        print(f"une-jax: error: {' '.join(str(e).split())}", file=sys.stderr)
        return 1
    except OSError as e:  # a folder that cannot be written, a full disk
        named = f"{e.filename}: " if e.filename else ""
        print(f"une-jax: error: {named}{e.strerror or e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("une-jax: interrupted; run the same command to go on", file=sys.stderr)
        return 130
    except _Terminated:
        print("une-jax: terminated; run the same command to go on", file=sys.stderr)
        return 143


def to_json(result: dict[str, Any]) -> str:
    """JSON as its standard has it: null for the NaN of an undefined number."""
    return json.dumps(_finite(result), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Terminated(BaseException):
    """SIGTERM: like KeyboardInterrupt, so that everything is left as after that."""


def _terminate(signum: int, frame: Any) -> None:
    del signum, frame
    raise _Terminated
