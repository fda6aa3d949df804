"""Self-intersections: against every pair of a soup in exact arithmetic, shapes with known crossings, nothing where faces only touch."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taichi_dr as dr

ANY_INPUT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def determinant(a, b, c, d):
    """det(b - a, c - a, d - a), exactly."""
    u, v, w = ([x - y for x, y in zip(p, a, strict=True)] for p in (b, c, d))
    return u[0] * (v[1] * w[2] - v[2] * w[1]) - u[1] * (v[0] * w[2] - v[2] * w[0]) + u[2] * (v[0] * w[1] - v[1] * w[0])


def goes_through(a, b, triangle):
    """Whether the segment has its ends on both sides of the triangle's plane and meets it inside."""
    p, q, r = triangle
    if determinant(p, q, r, a) * determinant(p, q, r, b) >= 0:
        return False
    passes = [determinant(a, b, *side) for side in ((p, q), (q, r), (r, p))]
    return min(passes) > 0 or max(passes) < 0


def has_area(a, b, c):
    u, v = ([x - y for x, y in zip(p, a, strict=True)] for p in (b, c))
    return any(u[i] * v[j] != u[j] * v[i] for i, j in ((0, 1), (1, 2), (2, 0)))


def crossing_pairs(vertices, faces):
    points = [[Fraction(float(x)) for x in p] for p in vertices]
    whole = [(k, f) for k, f in enumerate(faces.tolist()) if has_area(*(points[v] for v in f))]
    low, high = vertices[faces].min(axis=1), vertices[faces].max(axis=1)
    found = []
    for (i, f), (j, g) in itertools.combinations(whole, 2):
        shared = sum(v == w for v in f for w in g)
        if shared > 1 or (low[i] > high[j]).any() or (low[j] > high[i]).any():
            continue
        one, other = [points[v] for v in f], [points[v] for v in g]
        sides = itertools.chain(((s, other) for s in itertools.combinations(one, 2)), ((s, one) for s in itertools.combinations(other, 2)))
        if any(goes_through(*side, triangle) for side, triangle in sides):
            found.append((i, j))
    return np.array(found, int).reshape(-1, 2)


@pytest.mark.parametrize("size", [0.2, 1.0])
def test_random_soups(f64, rng, size):
    for _ in range(4):
        corners = rng.random((30, 1, 3)) + size * rng.normal(size=(30, 3, 3))
        vertices, faces = corners.reshape(-1, 3), np.arange(90).reshape(-1, 3)
        expected = crossing_pairs(vertices, faces)
        assert len(expected) > 1
        np.testing.assert_array_equal(dr.self_intersections(dr.Mesh(vertices, faces)), expected)


def test_faces_that_share_vertices(f64, rng):
    """Few vertices, many faces: pairs that share one vertex cross too, those that share an edge never."""
    for _ in range(4):
        vertices, faces = rng.random((9, 3)), np.array([rng.permutation(9)[:3] for _ in range(40)])
        expected = crossing_pairs(vertices, faces)
        sharing = [len(set(faces[i]) & set(faces[j])) for i, j in expected]
        assert sharing.count(1) > 5 and max(sharing) == 1
        np.testing.assert_array_equal(dr.self_intersections(dr.Mesh(vertices, faces)), expected)


@st.composite
def lattices(draw):
    """Triangles with corners at few whole numbers: equal places, common planes, touching sides, faces without area."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    side, count = draw(st.integers(2, 5)), draw(st.integers(3, 40))
    return rng.integers(0, side, (count, 3)), rng.integers(0, count, (draw(st.integers(1, 25)), 3)), draw(st.sampled_from([1.0, 1e-30, 3e7, 1 / 3]))


@ANY_INPUT
@given(lattices())
def test_ties_are_exact(f64, lattice):
    vertices, faces, scale = lattice
    got = dr.self_intersections(dr.Mesh(vertices * scale, faces))
    np.testing.assert_array_equal(got, crossing_pairs(vertices, faces))


def test_touching_is_not_crossing(f64):
    triangle, faces = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0]], float), np.arange(6).reshape(2, 3)

    def count(other):
        return len(dr.self_intersections(dr.Mesh(np.concatenate([triangle, other]), faces)))

    assert count(triangle + [0.5, 0.5, -1]) == 0  # above each other
    assert count(triangle + [0.5, 0.5, 0]) == 0  # in one plane
    assert count([[0.5, 0.5, 0], [1, 1, 1], [1, 0, 1]]) == 0  # a corner on a face
    assert count([[1, 0, 0], [1, -1, 1], [1, -1, -1]]) == 0  # a corner on a side
    assert count([[0, 0, 0], [2, 0, 0], [1, 0, 1]]) == 0  # a side on a side
    assert count([[0.5, 0.5, -1e-9], [1, 1, 1], [1, 0, 1]]) == 1
    assert count([[0.5, 0.5, -1], [0.6, 0.5, -1], [0.5, 0.6, 5]]) == 1


@pytest.mark.parametrize("mesh", ["icosphere", "cube", "torus", "cylinder", "uv_sphere", "plane"])
def test_shapes_do_not_cross_themselves(f32, mesh):
    arguments = {"cube": (1.0, 9), "plane": (1.0, 9)}.get(mesh, ())
    assert len(dr.self_intersections(getattr(dr.shapes, mesh)(*arguments))) == 0


def test_two_spheres(f64):
    """They meet in a circle: each crossing pair has a face of either on it."""
    sphere = dr.shapes.icosphere(3)
    x, f = dr.read(sphere.vertices)[0], dr.read(sphere.faces)
    both = np.concatenate([x, x + [0.9, 0.1, 0.05]])
    pairs = dr.self_intersections(dr.Mesh(both, np.concatenate([f, f + len(x)])))
    assert len(pairs) > 50 and (pairs[:, 0] < len(f)).all() and (pairs[:, 1] >= len(f)).all()
    middles = both[np.concatenate([f, f + len(x)])].mean(axis=1)[pairs]
    assert np.abs(np.linalg.norm(middles, axis=2) - 1).max() < 0.2
    assert len(dr.self_intersections(dr.Mesh(np.concatenate([x, x + [2.5, 0, 0]]), np.concatenate([f, f + len(x)])))) == 0


def test_a_pushed_in_vertex(f64):
    """A spike from one side of a sphere through the other."""
    sphere = dr.shapes.icosphere(1)
    x, f = dr.read(sphere.vertices)[0], dr.read(sphere.faces)
    y = x.copy()
    y[7] = -1.5 * x[7]
    pairs = dr.self_intersections(dr.Mesh(y, f))
    spike = (f == 7).any(axis=1)
    assert len(pairs) and spike[pairs].any(axis=1).all()
    np.testing.assert_array_equal(pairs, crossing_pairs(y, f))


def test_far_from_the_origin_and_tiny(f64):
    """What counts is the shape: neither its place nor its size."""
    rng = np.random.default_rng(5)
    vertices, faces = rng.random((60, 3)), rng.integers(0, 60, (50, 3))
    expected = dr.self_intersections(dr.Mesh(vertices, faces))
    for scale, offset in ((1e-150, 0), (1e150, 0), (1.0, 1e4), (1.0, -1e4)):
        np.testing.assert_array_equal(dr.self_intersections(dr.Mesh(vertices * scale + offset, faces)), expected)


def test_all_on_one_spot_costs_no_memory(f64):
    """Every box overlaps every other: the pairs come in parts."""
    rng = np.random.default_rng(3)
    vertices = np.concatenate([rng.random((1500, 3)), rng.random((1500, 3)) + [0, 0, 1e-9]])
    assert len(dr.self_intersections(dr.Mesh(vertices, np.arange(3000).reshape(-1, 3)))) > 1000


def test_bad_meshes(f64):
    sphere = dr.shapes.icosphere(0)
    x = dr.read(sphere.vertices)[0]
    with pytest.raises(ValueError, match="mesh: expected one mesh, got a batch of 2"):
        dr.self_intersections(dr.Mesh(np.stack([x, x]), sphere.faces))
    x[3, 0] = np.nan
    with pytest.raises(ValueError, match="mesh: expected finite vertices, got .* as vertex 3"):
        dr.self_intersections(dr.Mesh(x, sphere.faces))
    with pytest.raises(ValueError, match="mesh: expected a dr.Mesh, got ndarray"):
        dr.self_intersections(x)
