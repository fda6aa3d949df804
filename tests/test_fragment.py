"""Functions of one fragment: values against NumPy, and adjoints against Taichi's own autodiff of the same functions."""

import numpy as np
import pytest
import taichi as ti

import taichi_dr as dr
from taichi_dr.arrays import vec2, vec3
from taichi_dr.raster import triangle
from taichi_dr.raster.fragment import (
    AFFINE,
    BARYCENTRIC,
    EUCLIDEAN,
    HARD,
    PARALLEL,
    PERSPECTIVE,
    exp,
    fragment_adjoint,
    logit,
    sigmoid,
    surface,
    texel_index,
)

SIGMA = 0.3

Float1 = ti.types.ndarray(dtype=float, ndim=1)
Float1Grad = ti.types.ndarray(dtype=float, ndim=1, needs_grad=True)
Vec2 = ti.types.ndarray(dtype=vec2, ndim=1)
Vec3 = ti.types.ndarray(dtype=vec3, ndim=1)
Vec3Grad = ti.types.ndarray(dtype=vec3, ndim=1, needs_grad=True)
IVec2 = ti.types.ndarray(dtype=ti.math.ivec2, ndim=1)


def pairs(rng, count=400):
    """Points (N, 2) and triangles: three corners (N, 3), x, y and depth; about half of the points are inside."""
    corners = np.concatenate([rng.uniform(-1, 1, (3, 4 * count, 2)), rng.uniform(1, 4, (3, 4 * count, 1))], axis=-1)
    a, b, c = corners[..., :2]
    areas = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    corners = corners[:, np.abs(areas) > 0.1][:, :count]
    weights = np.where(rng.random((count, 1)) < 0.5, rng.dirichlet(np.ones(3), count), rng.uniform(-1, 1.5, (count, 3)))
    weights /= weights.sum(axis=1, keepdims=True) + np.where(np.abs(weights.sum(axis=1, keepdims=True)) < 0.2, 1, 0)
    return np.einsum("nk,knc->nc", weights, corners[..., :2]), corners


def rows(values):
    """An array of one entry per row, whatever the length of a row."""
    return dr.array(np.asarray(values, float), vectors=np.ndim(values) > 1)


# --- Values -----------------------------------------------------------------------------------------------------


@ti.kernel
def surface_kernel(
    points: Vec2, a: Vec3, b: Vec3, c: Vec3, w_out: Vec3, clipped_out: Vec3, weights_out: Vec3, offset_out: Vec2, nearest_out: Vec3, depth_out: Float1
):  # fmt: skip
    for n in points:
        w = triangle.barycentrics(points[n], a[n].xy, b[n].xy, c[n].xy)
        w_out[n], clipped_out[n] = w, triangle.clip_weights(w)
        depth_out[n], weights_out[n] = surface(w, 1.0 / vec3(a[n].z, b[n].z, c[n].z), 1)
        inverses = triangle.inverse_squares(a[n].xy, b[n].xy, c[n].xy)
        offset_out[n], nearest_out[n] = triangle.boundary_offset(points[n], a[n].xy, b[n].xy, c[n].xy, inverses)


def test_barycentrics_depth_and_distance(f32, rng):
    points, corners = pairs(rng)
    points, corners = points.astype(np.float32).astype(float), corners.astype(np.float32).astype(float)
    count = len(points)
    outs = [rows(np.zeros((count, n))) for n in (3, 3, 3, 2, 3)] + [rows(np.zeros(count))]
    surface_kernel(rows(points), *(rows(x) for x in corners), *outs)
    w, clipped, weights, offset, nearest, depth = (dr.read(x) for x in outs)

    ends = np.concatenate([corners[..., :2], np.ones((3, count, 1))], axis=-1)
    expected = np.linalg.solve(ends.transpose(1, 2, 0), np.concatenate([points, np.ones((count, 1))], axis=1)[..., None])[..., 0]
    np.testing.assert_allclose(w, expected, atol=2e-5)
    np.testing.assert_allclose(w.sum(axis=1), 1, atol=1e-5)

    near = np.clip(expected, 0, 1)
    near /= near.sum(axis=1, keepdims=True)
    z = corners[..., 2].T
    np.testing.assert_allclose(clipped, near, atol=2e-5)
    np.testing.assert_allclose(depth, 1 / (near / z).sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(weights, near / z / (near / z).sum(axis=1, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose((weights * z).sum(axis=1), depth, rtol=1e-5)

    squares = np.stack([segment_distance(points, corners[k, :, :2], corners[(k + 1) % 3, :, :2]) for k in range(3)])
    np.testing.assert_allclose((offset**2).sum(axis=1), squares.min(axis=0), rtol=1e-4, atol=1e-6)
    on_boundary = np.einsum("nk,knc->nc", nearest, corners[..., :2])  # the weights name the same point as the offset does
    np.testing.assert_allclose(points - on_boundary, offset, atol=1e-5)
    np.testing.assert_allclose(nearest.sum(axis=1), 1, atol=1e-6)
    assert (nearest.min(axis=1) == 0).all()


def segment_distance(p, a, b):
    """Squared distance of points to segments, all (N, 2)."""
    t = (((p - a) * (b - a)).sum(axis=1) / ((b - a) ** 2).sum(axis=1)).clip(0, 1)[:, None]
    return ((p - a - t * (b - a)) ** 2).sum(axis=1)


@ti.kernel
def exp_kernel(x: Float1, out: Float1, D: Float1, not_D: Float1):
    for n in x:
        out[n] = exp(ti.min(x[n], 0.0))
        D[n], not_D[n] = sigmoid(x[n])


def exp_and_sigmoid(x):
    arrays = [rows(x), *(rows(np.zeros(len(x))) for _ in range(3))]
    exp_kernel(*arrays)
    return [dr.read(y) for y in arrays[1:]]


def test_exp(arch, f32):
    x = np.concatenate([np.linspace(-87, 0, 200_001), -np.logspace(-30, 1.9, 2001)]).astype(np.float32)
    value, _, _ = exp_and_sigmoid(x)
    error = np.abs(value / np.exp(x.astype(float)) - 1)
    assert error.max() < (2e-7 if arch == "cpu" else 2e-5), x[error.argmax()]
    assert exp_and_sigmoid(np.zeros(1))[0][0] == 1
    beyond = exp_and_sigmoid(np.array([-88.0, -1e3, -1e30, -3e38]))[0]
    assert (beyond >= 0).all() and (beyond < 2e-38).all()


def test_both_halves_of_the_sigmoid_are_precise(arch, f32):
    x = np.concatenate([np.linspace(-86, 86, 40_001), np.logspace(-20, 0, 101), -np.logspace(-20, 0, 101), [0.0]]).astype(np.float32)
    _, D, not_D = exp_and_sigmoid(x)
    tolerance = 4e-7 if arch == "cpu" else 4e-5
    np.testing.assert_allclose(D, 1 / (1 + np.exp(-x.astype(float))), rtol=tolerance)
    np.testing.assert_allclose(not_D, 1 / (1 + np.exp(x.astype(float))), rtol=tolerance)
    _, D, not_D = exp_and_sigmoid(np.array([1e30, -1e30]))
    assert np.allclose(D, [1, 0], atol=2e-38) and np.allclose(not_D, [0, 1], atol=2e-38)


# --- Texels -----------------------------------------------------------------------------------------------------


@ti.kernel
def texel_kernel(weights: Vec3, out: IVec2, resolution: int):
    for n in weights:
        row, column = texel_index(weights[n], resolution)
        out[n] = ti.math.ivec2(row, column)


def texel_indices(weights, resolution):
    out = dr.array(np.zeros((len(weights), 2), int))
    texel_kernel(rows(weights), out, resolution)
    return dr.read(out)


def softras_index(weights, resolution):
    """Row and column where SoftRas looks a texel up, `forward_sample_texture`, and how far the choice of triangle is from a tie."""
    x, y = (weights[:, 0] * resolution).astype(int), (weights[:, 1] * resolution).astype(int)
    excess = (weights[:, 0] + weights[:, 1]) * resolution - x - y - 1
    lower = np.stack([y, x], axis=1)
    return np.where(excess[:, None] <= 0, lower, resolution - 1 - lower), np.abs(excess)


@pytest.mark.parametrize("resolution", [1, 2, 3, 5, 16, 100])
def test_texels_are_where_softras_looks_them_up(resolution, f32, rng):
    weights = rng.dirichlet(np.ones(3), 5000).astype(np.float32).astype(float)
    expected, distance = softras_index(weights, resolution)
    cells = weights[:, :2] * resolution
    clear = (distance > 1e-4) & (np.abs(cells - np.rint(cells)) > 1e-4).all(axis=1)
    assert clear.mean() > 0.9
    found = texel_indices(weights, resolution)
    assert np.array_equal(found[clear], expected[clear])
    assert len(np.unique(found, axis=0)) == resolution**2 or resolution == 100  # every texel is somewhere


@pytest.mark.parametrize("resolution", [1, 2, 3, 5, 7, 100])
def test_texels_at_corners_and_edges_are_in_range(resolution, f32, rng):
    t = np.concatenate([np.linspace(0, 1, 201), np.arange(resolution + 1) / resolution, rng.random(500)])
    zero = np.zeros_like(t)
    edges = np.concatenate([np.stack(e, axis=1) for e in ((t, 1 - t, zero), (t, zero, 1 - t), (zero, t, 1 - t))])
    rounded = np.concatenate([edges, np.nextafter(np.float32(edges), np.float32(2)), np.nextafter(np.float32(edges), np.float32(-1)).clip(0)])
    found = texel_indices(rounded, resolution)
    assert found.min() >= 0 and found.max() <= resolution - 1
    corners = texel_indices(np.eye(3), resolution)
    assert np.array_equal(corners, np.array([[0, resolution - 1], [resolution - 1, 0], [0, 0]]))


def test_exp_and_sigmoid_in_float64(f64):
    x = np.linspace(-80, 80, 2001)
    value, D, not_D = exp_and_sigmoid(x)
    np.testing.assert_allclose(value, np.exp(np.minimum(x, 0)), rtol=1e-14)
    np.testing.assert_allclose(D, 1 / (1 + np.exp(-x)), rtol=1e-14)
    np.testing.assert_allclose(not_D, 1 / (1 + np.exp(x)), rtol=1e-14)


# --- Adjoints ---------------------------------------------------------------------------------------------------


@ti.kernel
def pairs_kernel(
    a: Vec3Grad, b: Vec3Grad, c: Vec3Grad, c0: Vec3Grad, c1: Vec3Grad, c2: Vec3Grad, points: Vec2, by_x: Float1, by_depth: Float1, by_color: Vec3,
    out: Float1Grad, per_sigma: float, distance: ti.template(), interpolation: ti.template(),
):  # fmt: skip
    for n in a:
        w = triangle.barycentrics(points[n], a[n].xy, b[n].xy, c[n].xy)
        inverses = triangle.inverse_squares(a[n].xy, b[n].xy, c[n].xy)
        x, _offset, _nearest = logit(points[n], a[n].xy, b[n].xy, c[n].xy, inverses, w, per_sigma, distance)
        depths = vec3(a[n].z, b[n].z, c[n].z)
        if ti.static(interpolation != PARALLEL):
            depths = 1.0 / depths
        depth, weights = surface(w, depths, interpolation)
        color = weights.x * c0[n] + weights.y * c1[n] + weights.z * c2[n]
        out[n] = by_x[n] * x + by_depth[n] * depth + by_color[n].dot(color)


@ti.kernel
def pairs_adjoint_kernel(
    a: Vec3, b: Vec3, c: Vec3, c0: Vec3, c1: Vec3, c2: Vec3, points: Vec2, by_x: Float1, by_depth: Float1, by_color: Vec3,
    a_out: Vec3, b_out: Vec3, c_out: Vec3, c0_out: Vec3, c1_out: Vec3, c2_out: Vec3,
    per_sigma: float, distance: ti.template(), interpolation: ti.template(),
):  # fmt: skip
    for n in a:
        depths = vec3(a[n].z, b[n].z, c[n].z)
        if ti.static(interpolation != PARALLEL):
            depths = 1.0 / depths
        w = triangle.barycentrics(points[n], a[n].xy, b[n].xy, c[n].xy)
        inverses = triangle.inverse_squares(a[n].xy, b[n].xy, c[n].xy)
        _x, offset, nearest = logit(points[n], a[n].xy, b[n].xy, c[n].xy, inverses, w, per_sigma, distance)
        _depth, weights = surface(w, depths, interpolation)
        a_grad, b_grad, c_grad, z_grad = fragment_adjoint(
            a[n].xy, b[n].xy, c[n].xy, depths, c0[n], c1[n], c2[n], w, offset, nearest, by_x[n], by_depth[n], by_color[n],
            per_sigma, distance, interpolation, False,
        )  # fmt: skip
        a_out[n], b_out[n], c_out[n] = vec3(a_grad, z_grad.x), vec3(b_grad, z_grad.y), vec3(c_grad, z_grad.z)
        c0_out[n], c1_out[n], c2_out[n] = weights.x * by_color[n], weights.y * by_color[n], weights.z * by_color[n]


@pytest.mark.parametrize("interpolation", [AFFINE, PERSPECTIVE, PARALLEL])
@pytest.mark.parametrize("distance", [EUCLIDEAN, BARYCENTRIC, HARD])
def test_adjoints_equal_taichis_own(distance, interpolation, f64, rng):
    points, corners = pairs(rng)
    count = len(points)
    inputs = [rows(x) for x in (*corners, *rng.uniform(0, 1, (3, count, 3)))]
    upstream = [rows(points), rows(rng.standard_normal(count)), rows(rng.standard_normal(count)), rows(rng.standard_normal((count, 3)))]
    if distance == HARD:
        dr.write(upstream[1], np.zeros(count))  # the logit is a choice
    outs = [rows(np.zeros((count, 3))) for _ in inputs]
    pairs_adjoint_kernel(*inputs, *upstream, *outs, 1 / SIGMA, distance, interpolation)
    out = rows(np.zeros(count))
    pairs_kernel(*inputs, *upstream, out, 1 / SIGMA, distance, interpolation)
    dr.write(out.grad, np.ones(count))
    pairs_kernel.grad(*inputs, *upstream, out, 1 / SIGMA, distance, interpolation)
    ours, theirs = (np.concatenate([dr.read(x) for x in arrays], axis=1) for arrays in (outs, [x.grad for x in inputs]))
    inside = np.array([np.linalg.solve(np.vstack([corners[:, n, :2].T, np.ones(3)]), [*points[n], 1]).min() > 0 for n in range(count)])
    assert 0.2 < inside.mean() < 0.8 and (np.abs(theirs).max(axis=1) > 0).all()
    error = np.abs(ours - theirs).max(axis=1) / np.abs(theirs).max(axis=1)
    assert error.max() < 1e-9, (error.argmax(), ours[error.argmax()], theirs[error.argmax()])
