"""Environment maps: images of radiance in latitude and longitude, from arrays, Radiance .hdr and OpenEXR .exr files."""

import re
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".hdr", ".pic", ".exr")
RUN_WIDTHS = range(8, 32768)  # the widths whose scanlines Radiance packs channel by channel


def read_environment(environment: Any) -> np.ndarray:
    """(H, W, 3): linear radiance of a map, checked.

    Args:
        environment: (H, W) or (H, W, 3) numbers, or the path of a file, .hdr or .exr.

    Raises:
        ValueError: another shape, values that are not finite, a file that cannot be read.
    """
    if isinstance(environment, (str, Path)):
        return read_radiance(environment)
    try:
        values = np.asarray(environment, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"environment: expected (H, W, 3) numbers or a path, got {type(environment).__name__}") from error
    if values.ndim == 2:
        values = np.repeat(values[:, :, None], 3, axis=2)
    if values.ndim != 3 or values.shape[2] != 3 or values.size == 0:
        raise ValueError(f"environment: expected (H, W) or (H, W, 3) numbers of radiance, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("environment: expected finite radiance, got some that is not; replace it, as with np.nan_to_num")
    return values


def read_radiance(path: str | Path) -> np.ndarray:
    """(H, W, 3): linear radiance of an image file, .hdr or .exr; gray gives three equal channels, alpha is left out.

    Raises:
        ValueError: a file of another kind, one that is missing or damaged, or values that are not finite.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: expected a file of radiance, .hdr or .exr, got {path.suffix or 'no suffix'!r}; save it as one of these")
    if not path.is_file():
        raise ValueError(f"{path}: expected a file, found none")
    values = _read_exr(path) if path.suffix.lower() == ".exr" else _read_hdr(path)
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: expected finite radiance, got some that is not; clamp it and save the file anew")
    return values


def _read_exr(path: Path) -> np.ndarray:
    try:
        import OpenEXR  # here, since only this format needs it
    except ImportError as error:
        raise ImportError(f"{path}: reading .exr files takes the package OpenEXR: pip install taichi_dr[exr]") from error

    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = {name: np.array(channel.pixels, np.float64) for name, channel in file.channels().items()}
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected an OpenEXR image, got one that cannot be read: {error}") from error
    names = "RGB" if channels.keys() >= set("RGB") else "Y" * 3
    if not channels.keys() >= set(names) or channels[names[0]].ndim != 2:
        raise ValueError(f"{path}: expected the channels R, G, B, or Y, got {', '.join(sorted(channels)) or 'none'}")
    shapes = {channels[name].shape for name in names}
    if len(shapes) != 1:
        raise ValueError(f"{path}: expected channels of one size, got {sorted(shapes)}; save it without subsampling")
    return np.stack([channels[name] for name in names], axis=-1)


# --- Radiance .hdr ------------------------------------------------------------------------------------------------


def _read_hdr(path: Path) -> np.ndarray:
    """Radiance's picture format: a header of text, then scanlines of RGBE, 8-bit mantissas with an exponent in common."""
    data = path.read_bytes()
    header, resolution, start = _split_header(path, data)
    if b"FORMAT=32-bit_rle_rgbe" not in header:
        raise ValueError(f"{path}: expected FORMAT=32-bit_rle_rgbe, got another in the header; save it as RGB")
    match = re.fullmatch(rb"-Y (\d+) \+X (\d+)", resolution)
    height, width = (int(n) for n in match.groups()) if match else (0, 0)
    if height < 1 or width < 1:
        raise ValueError(f"{path}: expected the resolution as -Y height +X width, got {resolution[:40].decode(errors='replace')!r}; save it upright")
    if (len(data) - start) * 128 < height * width:  # no run is longer; do not allocate what the file cannot hold
        raise ValueError(f"{path}: expected {height} scanlines of {width} pixels, the file ends at byte {len(data)}")
    rgbe = _scanlines(path, data, start, height, width)
    scale = np.where(rgbe[..., 3:] > 0, np.ldexp(1.0, rgbe[..., 3:].astype(np.int32) - 136), 0.0)
    return rgbe[..., :3] * (scale / _exposure(path, header))


def _exposure(path: Path, header: list[bytes]) -> float:
    """What the radiance in the file has been multiplied by."""
    product = 1.0
    for number in (line[9:] for line in header if line.startswith(b"EXPOSURE=")):
        try:
            product *= float(number)
        except ValueError:
            product = 0.0
        if not 0 < product < np.inf:
            raise ValueError(f"{path}: expected a positive EXPOSURE in the header, got {number[:40].decode(errors='replace')!r}")
    return product


def _split_header(path: Path, data: bytes) -> tuple[list[bytes], bytes, int]:
    """The lines of the header, the line of the resolution, and where the pixels start."""
    end = data.find(b"\n\n")
    stop = data.find(b"\n", end + 2)
    if not data.startswith(b"#?") or end < 0 or stop < 0:
        raise ValueError(f"{path}: expected a Radiance picture, which starts with #?RADIANCE and a header; the file is another, or cut off")
    return data[:end].split(b"\n"), data[end + 2 : stop], stop + 1


def _scanlines(path: Path, data: bytes, start: int, height: int, width: int) -> np.ndarray:
    """(H, W, 4) bytes: flat, or each scanline packed in runs, channel by channel."""
    source = np.frombuffer(data, np.uint8)
    out = np.empty((height, width, 4), np.uint8)
    marker = bytes((2, 2, width >> 8, width & 255)) if width in RUN_WIDTHS else None
    for row in range(height):
        if marker is not None and data[start : start + 4] == marker:
            start += 4
            for channel in range(4):
                start = _unpack(path, source, start, out[row, :, channel], row)
        elif start + 4 * width <= len(source):
            out[row] = source[start : start + 4 * width].reshape(width, 4)
            start += 4 * width
            if ((out[row, :, :3] == 1).all(axis=1)).any():
                raise ValueError(f"{path}: expected flat or packed scanlines, got the oldest packing at row {row}; save it anew")
        else:
            raise ValueError(f"{path}: expected {height} scanlines of {width} pixels, the file ends in scanline {row}")
    return out


def _unpack(path: Path, source: np.ndarray, start: int, out: np.ndarray, row: int) -> int:
    """Fill one channel of one scanline; a count above 128 repeats the byte that follows. Returns where the next one starts."""
    filled = 0
    while filled < len(out):
        count = int(source[start]) if start < len(source) else 0
        is_run = count > 128
        count -= 128 if is_run else 0
        used = 1 if is_run else count
        if count == 0 or filled + count > len(out) or start + 1 + used > len(source):
            raise ValueError(f"{path}: expected runs that fill scanline {row}, got one that does not at byte {start}; the file is damaged or cut off")
        out[filled : filled + count] = source[start + 1] if is_run else source[start + 1 : start + 1 + count]
        filled += count
        start += 1 + used
    return start
