"""Captions of miniature faces, written from their attributes."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from une_jax.miniature.factors import NAMES

Style = Literal["sentence", "tags"]

_HAIR = (("Black_Hair", "black"), ("Blond_Hair", "blond"), ("Gray_Hair", "gray"))
_WITH = (
    ("Bangs", "bangs"),
    ("Big_Nose", "a big nose"),
    ("Bushy_Eyebrows", "bushy eyebrows"),
    ("Narrow_Eyes", "narrow eyes"),
    ("Pale_Skin", "pale skin"),
    ("Rosy_Cheeks", "rosy cheeks"),
)
_WEARING = (
    ("Eyeglasses", "glasses"),
    ("Wearing_Hat", "a hat"),
    ("Wearing_Earrings", "earrings"),
    ("Wearing_Lipstick", "lipstick"),
    ("Wearing_Necktie", "a necktie"),
)
_DOING = (("Smiling", "smiling"), ("Mouth_Slightly_Open", "mouth open"))


def write(
    attributes: np.ndarray,
    rng: np.random.Generator,
    *,
    mention: float = 1.0,
    style: Style = "sentence",
) -> list[str]:
    """One caption a face; each present attribute is mentioned with that probability.

    A "sentence" has one order of words, "tags" are the same phrases in any order.

    >>> import numpy as np
    >>> from une_jax.miniature.factors import NAMES
    >>> row = np.array([[n in ("Male", "Smiling", "Eyeglasses") for n in NAMES]])
    >>> write(row, np.random.default_rng(0))
    ['a photo of an old man with brown hair and a beard, wearing glasses, smiling']
    """
    told = rng.random(attributes.shape) < mention
    faces = np.stack([attributes.astype(bool), told], axis=-1).tolist()
    phrases = [
        _phrases(dict(zip(NAMES, map(tuple, face), strict=True))) for face in faces
    ]
    if style == "tags":
        return [_tags(p, rng.permutation) for p in phrases]
    return [_sentence(p) for p in phrases]


class _Phrases(NamedTuple):
    """What a caption says of a face, in parts."""

    person: str
    features: list[str]
    worn: list[str]
    doing: list[str]


def _phrases(face: dict[str, tuple[bool, bool]]) -> _Phrases:
    def shown(name: str) -> bool:
        present, told = face[name]
        return bool(present and told)

    male, male_told = face["Male"]
    young, young_told = face["Young"]
    person = ("man" if male else "woman") if male_told else "person"
    words = [person]
    if shown("Chubby"):
        words.insert(0, "chubby")
    if young_told:
        words.insert(0, "young" if young else "old")

    colours = [colour for name, colour in _HAIR if face[name][0]]
    features = []
    if all(face[name][1] for name, _ in _HAIR):
        features.append(f"{colours[-1] if colours else 'brown'} hair")
    bearded, beard_told = not face["No_Beard"][0], face["No_Beard"][1]
    if bearded and beard_told:
        features.append("a beard")
    return _Phrases(
        person=" ".join(words),
        features=features + [words for name, words in _WITH if shown(name)],
        worn=[words for name, words in _WEARING if shown(name)],
        doing=[words for name, words in _DOING if shown(name)],
    )


def _sentence(p: _Phrases) -> str:
    article = "an" if p.person[0] in "aeiou" else "a"
    text = f"a photo of {article} {p.person}"
    if p.features:
        text += f" with {_list(p.features)}"
    if p.worn:
        text += f", wearing {_list(p.worn)}"
    return ", ".join([text, *p.doing])


def _tags(p: _Phrases, permute: Callable[[int], np.ndarray]) -> str:
    tags = [p.person, *p.features, *p.worn, *p.doing]
    return ", ".join(tags[i].removeprefix("a ") for i in permute(len(tags)))


def _list(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
