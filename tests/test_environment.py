"""Files of radiance: .hdr in all its packings and .exr, what is read from them, and files that are damaged."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taichi_dr.environment import read_environment, read_radiance


def rgbe(values):
    """(H, W, 4) bytes nearest below, as Ward packs them."""
    largest = values.max(axis=-1)
    _, exponents = np.frexp(largest)
    bright = largest > 1e-30
    scale = np.where(bright, np.ldexp(256.0, -exponents), 0.0)
    return np.concatenate([values * scale[..., None], np.where(bright, exponents + 128, 0)[..., None]], axis=-1).astype(np.uint8)


def packed(line):
    """A scanline of (W, 4) bytes in runs, channel by channel: runs of 3 and more as runs, the rest as they are."""
    out = bytes((2, 2, len(line) >> 8, len(line) & 255))
    for channel in line.T:
        start = 0
        while start < len(channel):
            run = 1
            while start + run < len(channel) and run < 127 and channel[start + run] == channel[start]:
                run += 1
            out += bytes((128 + run, channel[start])) if run > 2 else bytes((1, channel[start])) * 1
            start += run if run > 2 else 1
    return out


def picture(pixels, pack=True, header=b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", resolution=None):
    height, width = pixels.shape[:2]
    body = b"".join(packed(line) if pack else line.tobytes() for line in pixels)
    return header + b"\n" + (resolution or f"-Y {height} +X {width}\n".encode()) + body


def scene(rng, height=12, width=300):
    values = np.exp(rng.uniform(-8, 8, (height, width, 3)))
    values[:, : width // 2] = values[:, :1]  # runs
    values[-1, 4] = 0
    return values


@pytest.fixture
def save(tmp_path):
    def write(data, name="map.hdr"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@pytest.mark.parametrize("pack", [False, True])
def test_hdr_files(rng, save, pack):
    values = scene(rng)
    read = read_radiance(save(picture(rgbe(values), pack)))
    assert read.shape == values.shape
    assert (abs(read - values) <= values.max(axis=-1, keepdims=True) / 128).all() and (read[-1, 4] == 0).all()


def test_the_value_of_a_pixel(save):
    """0.5 mantissa times 2^1 is 1: bytes (128, 64, 0, 129)."""
    read = read_radiance(save(picture(np.array([[[128, 64, 0, 129]]], np.uint8), pack=False)))
    np.testing.assert_array_equal(read, [[[1.0, 0.5, 0.0]]])


def test_exposure_is_taken_out(save):
    header = b"#?RADIANCE\n# made by hand\nEXPOSURE=4\nFORMAT=32-bit_rle_rgbe\nEXPOSURE= 0.5\n"
    read = read_radiance(save(picture(np.array([[[128, 128, 128, 129]]], np.uint8), pack=False, header=header)))
    np.testing.assert_array_equal(read, [[[0.5, 0.5, 0.5]]])


@pytest.mark.parametrize("channels", ["RGB", "RGBA", "Y"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exr_files(rng, tmp_path, channels, dtype):
    exr = pytest.importorskip("OpenEXR")
    values = rng.uniform(0, 10, (5, 9, len(channels))).astype(dtype)
    pixels = {name: np.ascontiguousarray(values[..., k]) for k, name in enumerate(channels)}
    exr.File({"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}, pixels).write(str(tmp_path / "map.exr"))
    want = values[..., :3] if len(channels) >= 3 else np.repeat(values, 3, axis=2)
    np.testing.assert_array_equal(read_radiance(tmp_path / "map.exr"), want)


def test_the_sky_of_the_shared_data(shared):
    pytest.importorskip("OpenEXR")
    sky = read_radiance(shared / "data/envmap/sunsky.exr")
    assert sky.shape == (32, 64, 3) and (sky >= 0).all() and sky.max() > 1


def test_arrays(rng):
    values = rng.uniform(size=(4, 8))
    assert read_environment(values).shape == (4, 8, 3)
    np.testing.assert_array_equal(read_environment(values)[..., 1], values)


DAMAGED = {
    "nothing": b"",
    "no picture": b"P6 3 3 255 ",
    "no end of the header": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n",
    "other format": b"#?RADIANCE\nFORMAT=32-bit_rle_xyze\n\n-Y 1 +X 1\n\1\1\1\1",
    "upside down": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n+Y 1 +X 1\n\1\1\1\1",
    "huge": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 99999 +X 99999\n\1\1\1\1",
    "flat, cut off": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 2 +X 1\n\x80\x80\x80\x80",
    "oldest packing": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 2\n\1\1\1\3\4\4\4\4",
    "runs too long": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 8\n\2\2\0\x08" + b"\x89\1" * 4,
    "count of zero": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 8\n\2\2\0\x08" + b"\0" * 40,
    "bad exposure": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\nEXPOSURE=bright\n\n-Y 1 +X 1\n\x80\x80\x80\x80",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_hdr_files_are_refused(save, data):
    with pytest.raises(ValueError, match="map.hdr: expected"):
        read_radiance(save(data))


def test_a_cut_off_file_is_refused_wherever_it_ends(rng, save):
    whole = picture(rgbe(scene(rng, 2, 40)))
    for end in range(0, len(whole), 7):
        with pytest.raises(ValueError, match="map.hdr: expected"):
            read_radiance(save(whole[:end]))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_changed_bytes_never_crash(tmp_path_factory, data):
    whole = bytearray(picture(rgbe(scene(np.random.default_rng(0), 2, 40))))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.hdr"
    path.write_bytes(bytes(whole))
    try:
        assert np.isfinite(read_radiance(path)).all()
    except ValueError as error:
        assert "changed.hdr" in str(error)


def test_damaged_exr_files_are_refused(save):
    pytest.importorskip("OpenEXR")
    for data in (b"", b"no picture", bytes.fromhex("762f310102000000") + b"\0" * 50):
        with pytest.raises(ValueError, match="map.exr: expected an OpenEXR image"):
            read_radiance(save(data, "map.exr"))


BAD = [
    ("sky.png", "sky.png: expected a file of radiance, .hdr or .exr, got '.png'"),
    ("missing.hdr", "missing.hdr: expected a file, found none"),
    (np.ones((2, 3, 4)), r"environment: expected \(H, W\) or \(H, W, 3\).* got shape \(2, 3, 4\)"),
    (np.array([[1, np.nan]]), "environment: expected finite radiance"),
    ([["a"]], "environment: expected .* numbers or a path, got list"),
]


@pytest.mark.parametrize("bad, message", BAD)
def test_bad_environments_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        read_environment(bad)
