"""Where the settings of a zoo differ from those asked for."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from une_jax.zoo.manifest import Manifest


def differences(have: Manifest, asked: Manifest) -> list[str]:
    """Where two manifests differ, committed shards aside; empty if nowhere.

    One line each, as `views.sd15.settings.steps: 50 in the zoo, 20 asked`.
    """
    names = [[view.name for view in manifest.views] for manifest in (have, asked)]
    lines = list(_compare(*names, where="views"))
    common = set(names[0]) & set(names[1])
    return lines + list(
        _compare(_settings(have, common), _settings(asked, common), where="")
    )


def _settings(manifest: Manifest, views: set[str]) -> dict[str, Any]:
    """All but the shards; views by name, and only those in `views`."""
    content = dataclasses.asdict(manifest)
    del content["shards"]
    content["views"] = {v["name"]: v for v in content["views"] if v["name"] in views}
    return content


def _compare(have: Any, asked: Any, *, where: str) -> Iterator[str]:
    if not (isinstance(have, dict) and isinstance(asked, dict)):
        if have != asked:
            yield f"{where}: {_short(have)} in the zoo, {_short(asked)} asked"
        return
    for key in sorted(have.keys() | asked.keys()):
        path = f"{where}.{key}" if where else key
        if key not in asked:
            yield f"{path}: {_short(have[key])} in the zoo, not asked"
        elif key not in have:
            yield f"{path}: not in the zoo, {_short(asked[key])} asked"
        else:
            yield from _compare(have[key], asked[key], where=path)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
