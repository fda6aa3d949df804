"""Subdivision: the midpoint scheme keeps the shape, Loop's the one of trimesh; colors and texture coordinates go along."""

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

import taichi_dr as dr

ANY_INPUT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def numbers(mesh):
    return dr.read(mesh.vertices)[0], dr.read(mesh.faces)


def expect_same_faces(one, other):
    """The same corners of faces, whatever the numbers of vertices and faces, and which corner comes first."""
    turned = [np.concatenate([np.roll(x[f], k, axis=1).reshape(-1, 9) for k in range(3)]) for x, f in (one, other)]
    distances, partners = cKDTree(turned[1]).query(turned[0])
    assert len(turned[0]) == len(turned[1]) == len(np.unique(partners)) and distances.max() < 1e-12


@pytest.mark.parametrize("name", ["icosphere", "torus", "cube", "plane"])
def test_midpoint_keeps_the_shape(f64, name, rng):
    mesh = getattr(dr.shapes, name)()
    x, f = numbers(mesh)
    colors = rng.random(x.shape)
    new, weights = dr.subdivide(dr.Mesh(x, f, colors), 2)
    y, g = numbers(new)
    before, after = trimesh.Trimesh(x, f, process=False), trimesh.Trimesh(y, g, process=False)
    assert len(g) == 16 * len(f) and after.euler_number == before.euler_number and after.is_watertight == before.is_watertight
    np.testing.assert_allclose(after.area, before.area, atol=1e-12)
    if before.is_watertight:
        np.testing.assert_allclose(after.volume, before.volume, atol=1e-12)
    np.testing.assert_allclose(after.face_normals, np.repeat(before.face_normals, 16, axis=0), atol=1e-6)
    np.testing.assert_array_equal(y[: len(x)], x)
    np.testing.assert_allclose(weights @ x, y, atol=1e-14)
    np.testing.assert_allclose(dr.read(new.colors)[0], weights @ colors, atol=1e-14)
    reference = trimesh.remesh.subdivide(*trimesh.remesh.subdivide(x, f))
    expect_same_faces((y, g), reference)


@pytest.mark.parametrize("name", ["icosphere", "torus", "cube", "spot"])
def test_loop_against_trimesh(f64, name, shared):
    mesh = dr.Mesh.load(shared / "data" / "spot" / "spot_triangulated.obj", None) if name == "spot" else getattr(dr.shapes, name)()
    x, f = numbers(mesh)
    new, weights = dr.subdivide(mesh, 1 if name == "spot" else 2, "loop")
    y, g = numbers(new)
    reference = trimesh.remesh.subdivide_loop(x, f, 1 if name == "spot" else 2)
    expect_same_faces((y, g), reference)
    assert (weights.data > 0).all() and np.allclose(weights.sum(axis=1), 1)


def test_loop_on_a_boundary(f64):
    """The boundary is a cubic B-spline of the boundary, whatever is inside; a linear color stays linear."""
    x, f = numbers(dr.shapes.plane(2.0, 4))
    bumpy = x.copy()
    inside = (np.abs(x[:, [0, 2]]) < 0.99).all(axis=1)
    bumpy[inside, 1] = 1.0
    new, _ = dr.subdivide(dr.Mesh(bumpy, f, x), 1, "loop")
    y = dr.read(new.vertices)[0]
    edges = np.sort(trimesh.Trimesh(x, f, process=False).edges, axis=1)
    rim = edges[trimesh.grouping.group_rows(edges, require_count=1)]
    for v in np.flatnonzero(~inside):
        ends = rim[(rim == v).any(axis=1)]
        around = ends[ends != v]
        np.testing.assert_allclose(y[v], 3 / 4 * x[v] + x[around].sum(axis=0) / 8, atol=1e-15)
    for a, b in rim:
        assert np.isclose(y[len(x) :], (x[a] + x[b]) / 2, atol=1e-15).all(axis=1).any()
    np.testing.assert_allclose(dr.read(new.colors)[0][:, [0, 2]], y[:, [0, 2]], atol=1e-14)


def test_loop_tends_to_a_smooth_surface(f64):
    """An octahedron: after five levels neighboring faces almost agree, and by symmetry it is still round."""
    x = np.concatenate([np.eye(3), -np.eye(3)])
    faces = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])
    y, g = numbers(dr.subdivide(dr.Mesh(x, faces), 5, "loop").mesh)
    smooth = trimesh.Trimesh(y, g, process=False)
    assert smooth.is_watertight and np.degrees(smooth.face_adjacency_angles.max()) < 8
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("scheme", ["midpoint", "loop"])
def test_texture_coordinates_keep_their_seams(f64, scheme, rng):
    torus = dr.shapes.torus(segments=(8, 6))
    texture, normal_map = dr.array(rng.random((1, 4, 4, 3))), dr.array(rng.random((1, 4, 4, 3)))
    objects = rng.integers(0, 3, torus.faces.shape[0])
    mesh = dr.Mesh(torus.vertices, torus.faces, uv=torus.uv, uv_faces=torus.uv_faces, texture=texture, normal_map=normal_map, objects=objects)
    new = dr.subdivide(mesh, 2, scheme).mesh
    assert new.texture is texture and new.normal_map is normal_map and new.colors is None
    np.testing.assert_array_equal(dr.read(new.objects), np.repeat(objects, 16))
    before = dr.read(torus.uv)[0][dr.read(torus.uv_faces)]
    after = dr.read(new.uv)[0][dr.read(new.uv_faces)].reshape(len(before), 16, 3, 2)

    def areas(corners):
        u, v = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    np.testing.assert_allclose(areas(after), np.repeat(areas(before)[:, None], 16, axis=1) / 16, atol=1e-12)
    assert (after.min(axis=(1, 2)) >= before.min(axis=1) - 1e-12).all() and (after.max(axis=(1, 2)) <= before.max(axis=1) + 1e-12).all()


def test_batches_and_no_level(f64, rng):
    x, f = numbers(dr.shapes.icosphere(1))
    both, colors = np.stack([x, 2 * x]), rng.random((1, len(x), 3))
    new = dr.subdivide(dr.Mesh(both, f, colors), 1, "loop").mesh
    y = dr.read(new.vertices)
    np.testing.assert_allclose(y[1], 2 * y[0], atol=1e-14)
    assert tuple(new.colors.shape) == (1, 162)
    same, weights = dr.subdivide(dr.Mesh(x, f), 0)
    np.testing.assert_array_equal(dr.read(same.faces), f)
    assert (weights.toarray() == np.eye(len(x))).all() and not same.colored


@ANY_INPUT
@given(st.integers(0, 2**32 - 1), st.sampled_from(["midpoint", "loop"]), st.integers(3, 12), st.integers(1, 30))
def test_any_mesh(f64, seed, scheme, count, faces):
    """Edges of many faces, faces that name a vertex twice, vertices of no face: weights are those of means, and all stays finite."""
    rng = np.random.default_rng(seed)
    x, f = rng.random((count, 3)), rng.integers(0, count, (faces, 3))
    new, weights = dr.subdivide(dr.Mesh(x, f), 2, scheme)
    y, g = numbers(new)
    assert len(g) == 16 * faces and np.isfinite(y).all() and (weights.data > 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(weights @ x, y, atol=1e-12)
    unused = np.setdiff1d(np.arange(count), f)
    np.testing.assert_array_equal(y[unused], x[unused])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"levels": -1}, "levels: expected a whole number of at least 0, got -1"), ({"levels": 1.0}, "levels"),
        ({"levels": 12}, r"levels: expected at most 50000000 faces, got 80 \* 4\^12"), ({"levels": 10**9}, "levels"),
        ({"scheme": "butterfly"}, "scheme: expected 'midpoint' or 'loop', got 'butterfly'"), ({"mesh": 3}, "mesh: expected a dr.Mesh"),
    ],
)  # fmt: skip
def test_bad_arguments(change, message, f64):
    with pytest.raises(ValueError, match=message):
        dr.subdivide(**{"mesh": dr.shapes.icosphere(1), **change})


def test_texels_are_refused(f64):
    x, f = numbers(dr.shapes.icosphere(0))
    with pytest.raises(ValueError, match="expected vertex colors or a texture, got texels"):
        dr.subdivide(dr.Mesh(x, f, texels=np.zeros((20, 2, 2, 3))))
