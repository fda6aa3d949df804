"""Textures: values and gradients against NumPy, every wrap, every level, sides that are no powers of two, bad input."""

import numpy as np
import pytest
from contract import assert_gradients, gradients

import taichi_dr as dr
from taichi_dr.mipmap import add_levels, pyramid
from taichi_dr.texture import sample_texture

SIZES = [(8, 8), (7, 12), (5, 1), (1, 1), (16, 3)]


def box(image, axis):
    """Half the texels along an axis, rounded down: each the mean over the area that it covers."""
    n = image.shape[axis]
    half = max(1, n // 2)
    fine = np.repeat(image, half, axis=axis)  # n half texels of equal width
    return np.stack([part.mean(axis=axis) for part in np.split(fine, half, axis=axis)], axis=axis)


def levels_of(texture):
    levels = [texture]
    while levels[-1].shape[:2] != (1, 1):
        levels.append(box(box(levels[-1], 0), 1))
    return levels


@pytest.mark.parametrize("size", [(256, 64), (160, 96), (150, 97), (7, 12)])
def test_levels_and_what_they_give_back(size, f32, rng):
    """Large ones too, whose levels are made in other ways; the adjoint is the transpose."""
    textures = rng.uniform(0, 1, (2, *size, 3))
    built = pyramid(dr.array(textures))
    mips, cotangent = dr.read(built.mips).astype(np.float64), rng.standard_normal(dr.read(built.mips).shape)
    for row in range(2):
        expected = np.concatenate([level.reshape(-1, 3) for level in levels_of(textures[row])[1:]])
        np.testing.assert_allclose(mips[row], expected, atol=1e-6)
    texture_grad = dr.array(np.zeros(textures.shape))
    add_levels(built, dr.array(cotangent), texture_grad)
    for row in range(2):
        forward, backward = (mips[row] * cotangent[row]).sum(), (textures[row] * dr.read(texture_grad)[row]).sum()
        assert abs(forward - backward) < 1e-5 * np.abs(mips[row] * cotangent[row]).sum()


def place(k, n, wrap):
    if wrap == "wrap":
        return k % n
    if wrap == "clamp":
        return np.clip(k, 0, n - 1)
    return np.where(k % (2 * n) < n, k % (2 * n), 2 * n - 1 - k % (2 * n))


def bilinear(level, uv, wrap):
    height, width = level.shape[:2]
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    j, i = np.floor(x).astype(int), np.floor(y).astype(int)
    total = 0
    for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - di - (y - i)) * np.abs(1 - dj - (x - j))
        total = total + share[:, None] * level[place(i + di, height, wrap), place(j + dj, width, wrap)]
    return total


def expected(textures, uv, level, views, wrap):
    out = np.zeros((len(uv), 3))
    for n in range(len(uv)):
        levels = levels_of(textures[views[n] % len(textures)])
        at = np.clip(level[n], 0, len(levels) - 1)
        base = min(int(at), max(len(levels) - 2, 0))
        finer, coarser = (bilinear(levels[min(k, len(levels) - 1)], uv[n : n + 1], wrap)[0] for k in (base, base + 1))
        out[n] = finer + (at - base) * (coarser - finer)
    return out


def points(rng, count=60):
    return rng.uniform(-1.7, 2.6, (count, 2)), rng.uniform(-0.5, 5, count), rng.integers(0, 2, count)


def sample(texture, uv, level, views, wrap):
    return sample_texture(pyramid(texture), uv, level, views, wrap)


@pytest.mark.parametrize("wrap", ["wrap", "clamp", "mirror"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [1, 2])
def test_values(rows, size, wrap, f32, rng):
    textures, (uv, level, views) = rng.uniform(0, 1, (rows, *size, 3)), points(rng)
    out = sample(dr.array(textures), dr.array(uv[None]), dr.array(level[None], vectors=False), dr.array(views), wrap)
    assert np.abs(dr.read(out)[0] - expected(textures, uv.astype(np.float32), level, views, wrap)).max() < 2e-5


@pytest.mark.parametrize("wrap", ["wrap", "clamp", "mirror"])
@pytest.mark.parametrize("size", [(8, 8), (7, 12), (1, 1)])
def test_gradients(size, wrap, f64, rng):
    texture, (uv, level, views) = dr.array(rng.uniform(0, 1, (2, *size, 3))), points(rng)
    uv, level, views = dr.array(uv[None]), dr.array(level[None], vectors=False), dr.array(views)
    params = {"texture": texture} if size == (1, 1) else {"texture": texture, "uv": uv}
    assert_gradients(lambda: sample(texture, uv, level, views, wrap), params, rng, step=1e-7)


def test_gradients_in_float32(f32, rng):
    """On every device: the adjoint is linear in the texture, so <c, S t> = <S^T c, t>."""
    values, (uv, level, views) = rng.uniform(0, 1, (2, 16, 9, 3)), points(rng, 3000)
    texture, uv = dr.array(values), dr.array(uv[None])
    level, views = dr.array(level[None], vectors=False), dr.array(views)
    cotangent = rng.standard_normal((1, 3000, 3))
    grads = [gradients(lambda: sample(texture, uv, level, views, "wrap"), [texture, uv], cotangent) for _ in range(2)]
    out = dr.read(sample(texture, uv, level, views, "wrap"))
    assert abs((grads[0][0] * values).sum() - (cotangent * out).sum()) < 1e-3 * np.abs(cotangent * out).sum()
    assert np.array_equal(grads[0][0], grads[1][0]) and np.abs(grads[0][1]).max() > 0


def test_a_level_is_the_mean_of_the_one_before(f32, rng):
    values = rng.uniform(0, 1, (1, 13, 6, 3))
    built = pyramid(dr.array(values))
    levels, mips = levels_of(values[0]), dr.read(built.mips)[0]
    assert [size[:2] for size in built.sizes] == [level.shape[:2] for level in levels] == [(13, 6), (6, 3), (3, 1), (1, 1)]
    for (height, width, first), level in zip(built.sizes[1:], levels[1:], strict=True):
        assert np.abs(mips[first : first + height * width].reshape(height, width, 3) - level).max() < 1e-6
    assert np.abs(levels[-1][0, 0] - values.mean(axis=(0, 1, 2))).max() < 1e-12


def test_uv_out_of_all_bounds(f32, rng):
    texture = dr.array(rng.uniform(0, 1, (1, 4, 4, 3)))
    uv = dr.array(np.array([[[np.nan, 0.5], [np.inf, 0], [1e30, -1e30], [0.5, 0.5]]]))
    level, views = dr.array(np.array([[0.0, 0, np.inf, 1e30]]), vectors=False), dr.array(np.zeros(4, int), vectors=False)
    for wrap in ("wrap", "clamp", "mirror"):
        out = dr.read(sample(texture, uv, level, views, wrap))
        assert np.isfinite(out).all() and (out[0, :2] == 0).all() and (out[0, 2:] > 0).any()
        assert all(np.isfinite(g).all() for g in gradients(lambda w=wrap: sample(texture, uv, level, views, w), [texture, uv], np.ones((1, 4, 3))))


def test_bad_input(f32, rng):
    texture, (uv, level, views) = dr.array(rng.uniform(0, 1, (1, 4, 4, 3))), points(rng)
    uv, level, views = dr.array(uv[None]), dr.array(level[None], vectors=False), dr.array(views)
    with pytest.raises(ValueError, match="wrap: expected one of wrap, clamp, mirror, got 'repeat'"):
        sample(texture, uv, level, views, "repeat")
    with pytest.raises(ValueError, match="texture: expected"):
        pyramid(dr.array(rng.uniform(0, 1, (4, 4, 3))))
    with pytest.raises(ValueError, match="levels and views"):
        sample(texture, uv, dr.array(np.zeros((1, 3, 1))[..., 0], vectors=False), views, "wrap")
