"""Unseen texels: the harmonic continuation against a dense solve, what it keeps, and how fast it is."""

import time

import numpy as np
import pytest
import reference_uv as reference

import taichi_dr as dr
from taichi_dr.inpaint import fill_unseen


@pytest.mark.parametrize("wrap", ["clamp", "wrap"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 2), (7, 5), (16, 16), (13, 22)])
def test_laplace_is_solved(rng, size, wrap):
    for share in (0.02, 0.5, 0.95):
        texture, seen = rng.random((*size, 3)), rng.random(size) < share
        seen[rng.integers(size[0]), rng.integers(size[1])] = True
        got = fill_unseen(texture, seen, wrap, tolerance=1e-12)
        np.testing.assert_allclose(got, reference.harmonic(texture, seen, wrap == "wrap"), atol=1e-10)
        np.testing.assert_array_equal(got[seen], texture[seen])


@pytest.mark.parametrize("wrap", ["clamp", "wrap"])
def test_a_hole_with_islands(rng, wrap):
    texture, seen = rng.normal(size=(31, 40, 2)) * 100, np.ones((31, 40), bool)
    seen[3:28, 5:] = False
    seen[10, 20] = seen[15:17, 30] = True
    expected = reference.harmonic(texture, seen, wrap == "wrap")
    np.testing.assert_allclose(fill_unseen(texture, seen, wrap, 1e-12), expected, atol=1e-8)
    assert np.abs(fill_unseen(texture, seen, wrap) - expected).max() < 1e-3 * np.ptp(texture)


def test_what_unseen_texels_hold_does_not_matter(rng):
    texture, seen = rng.random((20, 20, 3)).astype(np.float32), rng.random((20, 20)) < 0.3
    first = fill_unseen(texture, seen)
    texture[~seen] = np.nan
    second = fill_unseen(texture, seen)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, second)
    assert first.min() >= texture[seen].min() - 1e-3 and first.max() <= texture[seen].max() + 1e-3  # no new extremes


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_linear_function_is_continued_whatever_its_size(size):
    """Linear across a strip, constant along it: the borders above and below change nothing."""
    texture = np.broadcast_to(np.linspace(1, 2, 60)[None, :, None], (40, 60, 1)).astype(np.float32) * np.float32(size)
    seen = np.zeros((40, 60), bool)
    seen[:, [0, -1]] = True
    np.testing.assert_allclose(fill_unseen(texture, seen), texture, rtol=1e-3)
    assert np.abs(fill_unseen(texture, seen, "wrap") - texture).max() < 1e-3 * size


def test_batches_and_taichi_arrays(f32, rng):
    texture, seen = rng.random((2, 8, 9, 3)).astype(np.float32), rng.random((2, 8, 9)) < 0.5
    both = fill_unseen(texture, seen)
    for k in range(2):
        np.testing.assert_array_equal(both[k], fill_unseen(texture[k], seen[k]))
    np.testing.assert_array_equal(fill_unseen(dr.array(texture), dr.array(seen.astype(np.int32))), both)
    np.testing.assert_array_equal(fill_unseen(texture, seen[0])[1], fill_unseen(texture[1], seen[0]))
    weights = np.where(seen[0], 0.3, 0.0)  # a footprint
    np.testing.assert_array_equal(fill_unseen(texture[0], weights), both[0])


def test_all_seen(rng):
    texture = rng.random((4, 5, 3))
    filled = fill_unseen(texture, np.ones((4, 5), bool))
    assert filled is not texture
    np.testing.assert_array_equal(filled, texture)


TEXTURE, SEEN = np.zeros((4, 5, 3)), np.ones((4, 5), bool)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((TEXTURE, ~SEEN), "seen: expected at least one seen texel, got none"),
        ((np.stack([TEXTURE] * 2), np.stack([SEEN, ~SEEN])), "at least one seen texel"),
        ((TEXTURE, SEEN.T), r"seen: expected booleans of shape \(4, 5\), as the texture, got bool of shape \(5, 4\)"),
        ((np.stack([TEXTURE] * 2), SEEN.T), r"of shape \(4, 5\) or \(2, 4, 5\)"),
        ((TEXTURE[..., 0], SEEN), r"texture: expected floats of shape \(H, W, C\)"),
        ((TEXTURE.astype(np.uint8), SEEN), "texture: expected floats"),
        ((TEXTURE * np.nan, SEEN), "texture: expected finite values at seen texels"),
        ((TEXTURE, SEEN, "mirror"), "wrap: expected 'clamp' or 'wrap'"),
        ((TEXTURE, SEEN, "clamp", 0), "tolerance: expected a number between 0 and 1"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        fill_unseen(*arguments)


def test_a_large_hole_is_filled_quickly():
    """1.8 s on one core for 1024 x 1024; a quarter of that here, with room for a busy machine."""
    side = np.arange(512) / 512
    texture = np.stack([np.broadcast_to(np.sin(5 * side), (512, 512)), side[:, None] * side], axis=-1).astype(np.float32)
    seen = (side[:, None] - 0.5) ** 2 + (side - 0.5) ** 2 > 0.4**2
    start = time.perf_counter()
    filled = fill_unseen(texture, seen)
    assert time.perf_counter() - start < 4
    np.testing.assert_allclose(filled[..., 1], texture[..., 1], atol=1e-3)  # x y is harmonic
