"""Pictures in the noise of a generator: rows of a zoo, and images that are uploaded."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from une_jax import image_metrics, images, shells
from une_jax.app.memo import Memo
from une_jax.errors import UneError
from une_jax.report.originals import MAX_PIXELS, Originals
from une_jax.zoo import Zoo

MAX_BYTES = 20 * 2**20  # of an upload
PICTURES, UPLOADS, PAGES = 64, 16, 16  # how many are kept
THUMBNAIL = 96

Pixels = UInt8[np.ndarray, "h w 3"]


@runtime_checkable
class Coder(Protocol):
    """A generator as the app uses it: pictures to noise, and back while something is
    moved."""

    @property
    def size(self) -> int: ...

    @property
    def decodes_from(self) -> tuple[str, ...]: ...

    def prepare(self, image: Image.Image) -> np.ndarray: ...

    def compute(
        self, pixels: np.ndarray, rows: np.ndarray, prompts: Sequence[str] | None = None
    ) -> Any:
        """(b, h, w, 3) uint8 -> something with ``arrays``, rows of each view."""
        ...

    def edit(
        self,
        origin: Mapping[str, np.ndarray],
        moves: np.ndarray,
        amounts: np.ndarray,
        *,
        control: shells.Control = "off",
        prompts: Sequence[str] | None = None,
    ) -> np.ndarray:
        """n rows, moves (m, d), amounts (n, s, m) -> uint8 (n, s, h, w, 3)."""
        ...

    def edit_inside(
        self,
        origin: Mapping[str, np.ndarray],
        moves: np.ndarray,
        amounts: np.ndarray,
        *,
        prompts: Sequence[str] | None = None,
    ) -> np.ndarray:
        """The same with the noise left alone and h moved, by moves (m, t, i, j, c)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture in the noise of one view.

    Attributes:
        id: ("row", 7) or ("upload", its sha256).
        title: what it is called on the page.
        pixels: as the generator takes it; None where there is only its noise.
        origin: one row of each view that decoding needs.
        back: what the untouched noise gives back.
        prompts: its own prompt, where images of the zoo have each their own.
        psnr: of ``back`` to ``pixels``, in dB; NaN without pixels.
    """

    id: tuple[str, int | str]
    title: str
    pixels: Pixels | None
    origin: dict[str, np.ndarray]
    back: Pixels
    prompts: list[str] | None
    psnr: float


class Pictures:
    """Gives pictures of any generator view; those that were asked for lately are kept.

    Args:
        zoo: whose rows they are.
        coders: loads the model of a generator view, when that is first asked for.
        originals: the zoo's images, where they are at hand.

    Raises:
        UneError: there is no generator view.
    """

    def __init__(
        self,
        zoo: Zoo,
        coders: Mapping[str, Callable[[], Coder]],
        originals: Originals | None = None,
    ):
        if not coders:
            raise UneError(f"{zoo.path} has no generator view to edit in")
        self.zoo, self.views, self.originals = zoo, tuple(coders), originals
        self.lock = threading.RLock()
        """Devices, and what is kept, are used by one thread at a time."""
        self._load, self._coders = coders, Memo[Coder](len(coders))
        self._pictures, self._uploads = Memo[Picture](PICTURES), Memo[bytes](UPLOADS)
        self._pages = Memo[np.ndarray](PAGES)

    def coder(self, view: str) -> Coder:
        """The view's model, loaded the first time.

        Raises:
            UneError: there is no such view, or its model is not found.
        """
        if view not in self.views:
            raise UneError(f"no generator view {view!r}; there is {', '.join(self.views)}")  # fmt: skip
        with self.lock:
            return self._coders.get(view, self._load[view])

    def own_prompts(self, view: str) -> bool:
        """Whether each image has its own prompt there, so that an upload needs one."""
        return self.zoo[view].view.settings.get("prompt", "") is None

    def row(self, view: str, row: int) -> Picture:
        """The zoo's ok row ``row``, from the noise that is stored.

        Raises:
            UneError: there is no such row or view.
        """
        coder, count = self.coder(view), self.zoo.rows.num_rows
        if not 0 <= row < count:
            raise UneError(f"there is no row {row}; the zoo's are 0 to {count - 1}")

        def make() -> Picture:
            image = self._original(row)
            return self._picture(
                view,
                id=("row", row),
                title=self.zoo.rows.column("key")[row].as_py(),
                pixels=None if image is None else coder.prepare(image),
                origin={v: self.zoo[v][[row]] for v in coder.decodes_from},
                prompts=self._prompts(view, [row]),
            )

        with self.lock:
            return self._pictures.get((view, "row", row), make)

    def admit(self, data: bytes) -> str:
        """Takes an uploaded file's bytes; gives what ``upload`` knows it by.

        Raises:
            UneError: too many bytes or pixels, or no image.
        """
        if len(data) > MAX_BYTES:
            raise UneError(
                f"{len(data) / 2**20:.0f} MB is more than the {MAX_BYTES >> 20} MB allowed; "
                "shrink the image"
            )
        try:
            images.decode(data, max_pixels=MAX_PIXELS)
        except UneError as error:
            raise UneError(
                f"that file does not open as an image ({error}); give a JPEG, PNG, WebP, "
                "BMP or TIFF"
            ) from error
        name = hashlib.sha256(data).hexdigest()
        with self.lock:
            self._uploads.get(name, lambda: data)
        return name

    def upload(self, view: str, name: str, prompt: str = "") -> Picture:
        """An admitted image, inverted in a view.

        Raises:
            UneError: it is not kept any more, or has a prompt where all share one.
        """
        coder, own = self.coder(view), self.own_prompts(view)
        if prompt and not own:
            raise UneError(f"view {view!r} has one prompt for all images")

        def make() -> Picture:
            data = self._uploads.get(name, bytes)
            pixels = coder.prepare(images.decode(data, max_pixels=MAX_PIXELS))
            prompts = [prompt] if own else None
            out = coder.compute(pixels[None], np.zeros(1, int), prompts)
            return self._picture(
                view,
                id=("upload", name),
                title="your picture",
                pixels=pixels,
                origin={v: out.arrays[v] for v in coder.decodes_from},
                prompts=prompts,
            )

        with self.lock:
            key = (view, "upload", name, prompt)
            if key not in self._pictures and name not in self._uploads:
                raise UneError("the uploaded image is not kept any more: upload it again")  # fmt: skip
            return self._pictures.get(key, make)

    def look(self, view: str, row: int) -> Pixels:
        """A row's picture to look at: the original where it is, else from the noise."""
        picture = self.row(view, row)
        return picture.back if picture.pixels is None else picture.pixels

    def thumbnails(
        self, view: str, rows: Sequence[int]
    ) -> UInt8[np.ndarray, "n s s 3"]:
        """Small pictures of rows: the originals where they are, else from the noise."""

        def make() -> np.ndarray:
            found = [self._original(row) for row in rows]
            missing = [r for r, image in zip(rows, found, strict=True) if image is None]
            decoded = iter(self._plain(view, missing) if missing else ())
            return np.stack([_small(image or next(decoded)) for image in found])

        with self.lock:
            return self._pages.get((view, tuple(rows)), make)

    def _original(self, row: int) -> Image.Image | None:
        if self.originals is None:
            return None
        try:
            return self.originals.image(row)
        except UneError:
            return None

    def _plain(self, view: str, rows: list[int]) -> list[Image.Image]:
        """Rows decoded from their stored noise."""
        origin = {v: self.zoo[v][rows] for v in self.coder(view).decodes_from}
        decoded = self._back(view, origin, self._prompts(view, rows))
        return [Image.fromarray(pixels) for pixels in decoded]

    def _prompts(self, view: str, rows: Sequence[int]) -> list[str] | None:
        if not self.own_prompts(view):
            return None
        return [self.zoo.rows.column("prompt")[row].as_py() for row in rows]

    def _picture(
        self,
        view: str,
        *,
        id: tuple[str, int | str],
        title: str,
        pixels: Pixels | None,
        origin: dict[str, np.ndarray],
        prompts: list[str] | None,
    ) -> Picture:
        back, psnr = self._back(view, origin, prompts)[0], float("nan")
        if pixels is not None:
            a, b = (np.asarray(x, np.float32)[None] / 255 for x in (back, pixels))
            psnr = float(image_metrics.psnr(a, b)[0])
        return Picture(
            id=id,
            title=title,
            pixels=pixels,
            origin=origin,
            back=back,
            prompts=prompts,
            psnr=psnr,
        )

    def _back(
        self,
        view: str,
        origin: Mapping[str, np.ndarray],
        prompts: Sequence[str] | None,
    ) -> np.ndarray:
        """Rows as their own noise gives them back, (n, h, w, 3)."""
        still = np.zeros((1, int(np.prod(self.zoo[view].view.shape))), np.float32)
        none = np.zeros((len(origin[view]), 1, 1), np.float32)
        return self.coder(view).edit(origin, still, none, prompts=prompts)[:, 0]


def _small(image: Image.Image) -> np.ndarray:
    return images.centre_crop(image, THUMBNAIL)
