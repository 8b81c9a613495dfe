"""Image files to upright RGB squares, in the convention of the UNE authors.

Folder -> sorted keys -> decode -> centre crop -> float in [-1, 1]. Files come from
strangers: size is read before pixels, formats are allow-listed, and whatever Pillow
trips over becomes one `UneError` that names the file. Other collections than folders
are in `une_jax.sources`.
"""

import contextlib
import hashlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8
from PIL import Image, UnidentifiedImageError

from une_jax.errors import UneError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30  # of one file: MAX_PIXELS of 16-bit RGB, uncompressed, and more

# EXIF orientation (EXIF 2.32, tag 0x0112) -> the transpose that undoes it.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def list_images(folder: str | os.PathLike[str]) -> list[str]:
    """Keys of all images below `folder`, in the row order of a NoiseZoo.

    A key is the file's posix path relative to `folder`. Keys are sorted by code point.
    Hidden files and folders are skipped; linked files count, linked folders are not
    entered.

    Raises:
        UneError: as of `walk_images`, or there are no images.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (2, 2)).save(f"{folder}/b.PNG")
    ...     Image.new("RGB", (2, 2)).save(f"{folder}/a.jpg")
    ...     list_images(folder)
    ['a.jpg', 'b.PNG']
    """
    keys = sorted(walk_images(folder))
    if not keys:
        raise UneError(f"no images in {folder}; it should hold {', '.join(EXTENSIONS)}")
    return keys


def walk_images(folder: str | os.PathLike[str]) -> Iterator[str]:
    """The keys of `list_images` one by one and unsorted, of a folder of any size.

    Raises:
        UneError: `folder` is missing, no folder or unreadable, or a name cannot be
            stored (not UTF-8, or with a line break).
    """
    if not os.path.exists(folder):
        raise UneError(f"image folder {folder} does not exist; check the path")
    if not os.path.isdir(folder):
        raise UneError(f"{folder} is not a folder; give the folder of the images")

    def unreadable(error: OSError) -> None:
        raise UneError(f"cannot list {error.filename}: {error.strerror}") from error

    for root, subfolders, names in os.walk(folder, onerror=unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        below = os.path.relpath(root, folder).replace(os.sep, "/")
        for name in names:
            if name.startswith(".") or not name.lower().endswith(EXTENSIONS):
                continue
            key = name if below == "." else f"{below}/{name}"
            try:
                key.encode()
            except UnicodeEncodeError as error:
                raise UneError(f"{key!r}: the name is not UTF-8; rename it") from error
            if "\n" in key or "\r" in key:
                raise UneError(f"{key!r}: the name has a line break; rename it")
            yield key


class _QuietPillow:
    """Silences Pillow's warnings; what it warns of, `decode` refuses or repairs.

    `warnings.catch_warnings` alone breaks when threads interleave, and images are
    decoded in threads: the first one in sets the filter, the last one out restores it.
    """

    def __init__(self):
        self.lock, self.inside, self.saved = threading.Lock(), 0, None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.saved = warnings.catch_warnings()
                self.saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if self.inside == 0 and self.saved is not None:
                    self.saved.__exit__(None, None, None)


_quiet_pillow = _QuietPillow()


def decode(
    file: str | os.PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """The file as an upright 8-bit RGB Pillow image.

    EXIF rotation is applied; transparency is composited on white; grey, palette and
    CMYK are converted (no colour profiles); 16-bit grey is scaled, not clipped. Of an
    animation it is the first frame. Safe to call from several threads.

    Args:
        file: a JPEG, PNG, WebP, BMP or TIFF file, whatever its name says: its path, or
            the bytes that are in it.
        max_pixels: refuse larger images from the header, before decoding. Pillow's own
            limit of 179 million stays above it.

    Raises:
        UneError: the file is missing, empty, truncated, too large, no image or of a
            sample format without a fixed range (32-bit). It names the cause, and the
            path if it was given one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (5, 3), 7).save(f"{folder}/grey.png")
    ...     image = decode(f"{folder}/grey.png")
    >>> image.mode, image.size, image.getpixel((0, 0))
    ('RGB', (5, 3), (7, 7, 7))
    """
    if isinstance(file, bytes):
        return _decode(io.BytesIO(file), len(file), max_pixels)
    try:
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode):
            raise UneError("not a regular file")
        return _decode(file, status.st_size, max_pixels)
    except FileNotFoundError as error:
        raise UneError(f"{file}: no such file") from error
    except UneError as error:
        raise UneError(f"{file}: {error}") from error.__cause__
    except (OSError, ValueError) as error:
        raise UneError(f"{file}: cannot decode: {error}") from error


def _decode(
    file: str | os.PathLike[str] | io.BytesIO, size: int, max_pixels: int
) -> Image.Image:
    if size == 0:
        raise UneError("empty file (0 bytes); fetch it again")
    try:
        with _quiet_pillow(), Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise UneError(
                    f"{width} x {height} is more than the {max_pixels:,} pixels "
                    "allowed; shrink the image"
                )
            image.load()
            # After load: TIFFs have turned themselves by then and say so in EXIF.
            turn = UPRIGHT.get(image.getexif().get(0x0112, 1))
            upright = image if turn is None else image.transpose(turn)
            return _rgb(upright, bits=_grey_bits(image))
    except (UneError, FileNotFoundError):
        raise
    except Exception as error:  # Decoders of hostile bytes raise nearly anything.
        cause = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError) and isinstance(file, io.BytesIO):
            cause = "cannot identify image file"  # Pillow's text has a memory address.
        raise UneError(f"cannot decode: {cause}") from error


def _grey_bits(image: Image.Image) -> int:
    """Bits per sample of 16-bit-mode grey: 16, but 12 in some TIFFs."""
    return getattr(image, "tag_v2", {}).get(258, (16,))[0]


def _rgb(image: Image.Image, *, bits: int) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ValueError("32-bit samples have no fixed range; convert to 8 or 16 bit")
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.float64) * (255.0 / (2**bits - 1))
        image = Image.fromarray(np.rint(grey).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def centre_crop(image: Image.Image, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """The central square of an RGB image, resized to `size` x `size` pixels.

    Crop first, then bilinear resize with antialiasing: the UNE authors' convention
    (github.com/chentasker/UNE; the crop rounds as torchvision's CenterCrop does).

    >>> centre_crop(Image.new("RGB", (178, 218), "red"), 64).shape
    (64, 64, 3)
    """
    if image.mode != "RGB":
        raise ValueError(f"expected an RGB image, got {image.mode}; use decode()")
    side = min(image.size)
    left, top = (round((length - side) / 2) for length in image.size)
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))


def png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The image as a PNG file.

    >>> png(np.zeros((2, 2, 3), np.uint8))[1:4]
    b'PNG'
    """
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def sha256(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's bytes, in hex.

    Raises:
        UneError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UneError(f"{path}: cannot read: {error.strerror}") from error


def to_signed(image: UInt8[Array | np.ndarray, "*s"]) -> Float32[Array, "*s"]:
    """uint8 in [0, 255] to float32 in [-1, 1], the range of diffusion VAEs.

    >>> to_signed(np.array([0, 255], np.uint8)).tolist()
    [-1.0, 1.0]
    """
    return jnp.asarray(image).astype(jnp.float32) / 127.5 - 1.0


def from_signed(image: Float[Array | np.ndarray, "*s"]) -> UInt8[Array, "*s"]:
    """Float in [-1, 1] to uint8, rounded to nearest and clipped; undoes `to_signed`.

    >>> from_signed(np.array([-1.0, 0.0, 3.0], np.float32)).tolist()
    [0, 128, 255]
    """
    levels = (jnp.asarray(image).astype(jnp.float32) + 1.0) * 127.5
    return jnp.clip(jnp.round(levels), 0.0, 255.0).astype(jnp.uint8)
