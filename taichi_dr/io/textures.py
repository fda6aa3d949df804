"""The images of materials, to and from floats: every kind that Pillow reads, deep ones with all their bits."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

MAX_PIXELS = 1 << 26  # of one image, 8192 x 8192
MAX_RATIO = 10_000  # pixels per byte of a PNG or JPEG: deflate has at most 8256, of one bit each


def refuse_absurd(where: str, image: Image.Image, length: int, most: int = MAX_PIXELS) -> None:
    """Raise for an opened image, before it is decoded, that is too large to be one, or larger than its file can hold.

    Args:
        where: the file, for the message.
        image: opened, not decoded.
        length: of the file, bytes.
        most: pixels that it may have.

    Raises:
        ValueError: it is so, or a program, which Pillow would have Ghostscript run.
    """
    pixels = image.width * image.height
    if pixels > most:
        raise ValueError(f"{where}: expected at most {most} pixels, got {image.width} x {image.height}; resize the image first")
    if pixels == 0 or image.format in ("PNG", "JPEG") and pixels > MAX_RATIO * length:
        came = f"{image.width} x {image.height} pixels in {length} bytes"
        raise ValueError(f"{where}: expected an image that its file can hold, got {came}; copy it again")
    if image.format == "EPS":
        raise ValueError(f"{where}: expected an image, got PostScript, which is a program; convert it to PNG")


def read_image(source: Path | bytes, most: int = MAX_PIXELS) -> np.ndarray:
    """(H, W, 3) image in [0, 1], the first of several, without gamma change and without alpha.

    Args:
        source: a file, or the contents of one.
        most: pixels that it may have.

    Raises:
        OSError, ValueError, and what else Pillow raises: it is no image, or a damaged one.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of what is refused below
        opened = Image.open(io.BytesIO(data))
    with opened as image:
        refuse_absurd("image" if isinstance(source, bytes) else str(source), image, len(data), most)
        deep = _deep_raw_modes(image)
        if deep is None:
            return image_values(image)
    # Pillow has no deep colors: it takes the higher byte of each value if told that values are big-endian, else the lower.
    values = [_decoded(data, raw_mode).astype(np.float64) for raw_mode in deep]
    if len(values) == 1:
        values = [values[0][..., :1], values[0][..., 1:2]]
    return np.broadcast_to(values[0] * 256 + values[1], (*values[0].shape[:2], max(3, values[0].shape[2])))[..., :3] / 65535


def image_values(image: Image.Image) -> np.ndarray:
    """(H, W, 3) floats in [0, 1] of a Pillow image, without gamma change and without alpha."""
    if image.mode[:1] in ("I", "F"):  # 16-bit grey or float, which a conversion to RGB would cut off
        values = np.asarray(image)
        values = values / 65535 if values.dtype.kind in "iu" else np.nan_to_num(values.astype(np.float64))
        return np.repeat(values[..., None], 3, axis=2).clip(0, 1)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # with a transparent entry Pillow wants it in two steps
    return np.asarray(image.convert("RGB")) / 255


def eight_bit(values: np.ndarray) -> np.ndarray:
    """uint8 of values clipped to [0, 1], rounded to the nearest."""
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def write_png(path: Path, values: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 image."""
    Image.fromarray(values).save(path, format="PNG")


def _deep_raw_modes(image: Image.Image) -> tuple[str, ...] | None:
    """How the higher and the lower bytes of a PNG of 16-bit colors are to be decoded, None for other images."""
    raw_mode = image.tile[0][3] if image.format == "PNG" and len(image.tile) == 1 else None
    return {
        "RGB;16B": ("RGB;16B", "RGB;16L"),
        "RGBA;16B": ("RGBA;16B", "RGBA;16L"),
        "LA;16B": ("RGBA",) if image.mode == "RGBA" else None,  # grey and alpha of two bytes each
    }.get(raw_mode)  # type: ignore[arg-type]


def _decoded(data: bytes, raw_mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        codec, box, offset, _ = image.tile[0]
        image.tile = [(codec, box, offset, raw_mode)]
        return np.asarray(image)
