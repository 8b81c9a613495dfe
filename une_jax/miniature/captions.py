"""Captions of miniature faces, written from their attributes."""

import numpy as np

from une_jax.miniature.factors import NAMES

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


def write(
    attributes: np.ndarray, rng: np.random.Generator, *, mention: float = 1.0
) -> list[str]:
    """One caption a face; each present attribute is mentioned with that probability.

    >>> import numpy as np
    >>> from une_jax.miniature.factors import NAMES
    >>> row = np.array([[n in ("Male", "Smiling", "Eyeglasses") for n in NAMES]])
    >>> write(row, np.random.default_rng(0))
    ['a photo of an old man with brown hair and a beard, wearing glasses, smiling']
    """
    told = rng.random(attributes.shape) < mention
    faces = np.stack([attributes.astype(bool), told], axis=-1).tolist()
    return [_one(dict(zip(NAMES, map(tuple, face), strict=True))) for face in faces]


def _one(face: dict[str, tuple[bool, bool]]) -> str:
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
    article = "an" if words[0][0] in "aeiou" else "a"
    text = f"a photo of {article} {' '.join(words)}"

    colours = [colour for name, colour in _HAIR if face[name][0]]
    parts = []
    if all(face[name][1] for name, _ in _HAIR):
        parts.append(f"{colours[-1] if colours else 'brown'} hair")
    bearded, beard_told = not face["No_Beard"][0], face["No_Beard"][1]
    if bearded and beard_told:
        parts.append("a beard")
    parts += [words for name, words in _WITH if shown(name)]
    if parts:
        text += f" with {_list(parts)}"
    if worn := [words for name, words in _WEARING if shown(name)]:
        text += f", wearing {_list(worn)}"
    if shown("Smiling"):
        text += ", smiling"
    if shown("Mouth_Slightly_Open"):
        text += ", mouth open"
    return text


def _list(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
