"""Shapes: closed, turned outward, of the size that the formulas say."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import taichi_dr as dr
from taichi_dr import shapes

CLOSED = {
    "icosphere": (lambda k, r: shapes._icosphere(k % 4, r), 2),
    "uv_sphere": (lambda k, r: shapes._uv_sphere(r, (k + 3, k + 2)), 2),
    "cylinder": (lambda k, r: shapes._cylinder(r, 2 * r, (k + 3, k + 1)), 2),
    "cube": (lambda k, r: shapes._cube(r, k + 1), 2),
    "torus": (lambda k, r: shapes._torus(r, 0.4 * r, (k + 3, 2 * k + 3)), 0),
}


def directed_edges(faces):
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def volume(vertices, faces):
    """By the divergence theorem: positive where faces are counter-clockwise from outside."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.einsum("ij,ij->", a, np.cross(b, c)) / 6


@pytest.mark.parametrize("name", CLOSED)
@given(k=st.integers(0, 6), r=st.floats(0.1, 10))
@settings(max_examples=15, deadline=None)
def test_closed_shapes_are_closed_and_face_outward(name, k, r):
    make, euler = CLOSED[name]
    vertices, faces = make(k, r)
    assert vertices.dtype == np.float64 and faces.dtype == np.int32
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))
    edges = directed_edges(faces)
    there = np.unique(edges, axis=0)
    assert len(there) == len(edges), "a directed edge is in two faces"
    assert np.array_equal(there, np.unique(edges[:, ::-1], axis=0)), "an edge has a face on one side only"
    assert len(vertices) - len(edges) // 2 + len(faces) == euler
    assert volume(vertices, faces) > 0
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 1e-5 * r * r
    assert len(np.unique(vertices.round(9), axis=0)) == len(vertices), "a vertex is there twice"


@pytest.mark.parametrize("name", ["icosphere", "uv_sphere", "cube"])
@given(k=st.integers(0, 6), r=st.floats(0.1, 10))
@settings(max_examples=10, deadline=None)
def test_every_face_of_a_convex_shape_faces_outward(name, k, r):
    vertices, faces = CLOSED[name][0](k, r)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c) > 0).all()


def test_volumes():
    for vertices_faces, exact in (
        (shapes._icosphere(5, 2.0), 4 / 3 * np.pi * 8),
        (shapes._uv_sphere(2.0, (96, 96)), 4 / 3 * np.pi * 8),
        (shapes._cylinder(0.5, 3.0, (96, 2)), np.pi * 0.25 * 3),
        (shapes._torus(1.0, 0.4, (96, 96)), 2 * np.pi**2 * 0.16),
    ):
        assert abs(volume(*vertices_faces) / exact - 1) < 3e-3
    assert abs(volume(*shapes._cube(3.0, 4)) - 27) < 1e-9


@pytest.mark.parametrize("n", range(4))
def test_icosphere_is_round(n):
    vertices, faces = shapes._icosphere(n, 1.5)
    assert vertices.shape == (10 * 4**n + 2, 3) and faces.shape == (20 * 4**n, 3)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 1.5)
    lengths = np.linalg.norm(np.subtract(*vertices[directed_edges(faces).T]), axis=1)
    assert lengths.max() / lengths.min() < 1.3


def test_a_fine_icosphere_is_quick_to_build():
    start = time.perf_counter()
    _, faces = shapes._icosphere(7, 1.0)
    assert len(faces) == 327_680 and time.perf_counter() - start < 3


@given(size=st.floats(0.1, 10), n=st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_plane_faces_up(size, n):
    vertices, faces = shapes._plane(size, n)
    assert vertices.shape == ((n + 1) ** 2, 3) and faces.shape == (2 * n * n, 3)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    crosses = np.cross(b - a, c - a)
    assert (crosses[:, 1] > 0).all() and not crosses[:, [0, 2]].any()
    np.testing.assert_allclose(crosses[:, 1].sum() / 2, size**2)
    np.testing.assert_allclose(vertices.max(axis=0), [size / 2, 0, size / 2])


def test_cube_and_cylinder_stand_around_the_origin():
    np.testing.assert_allclose(np.ptp(shapes._cube(3.0, 2)[0], axis=0), [3, 3, 3])
    vertices, _ = shapes._cylinder(0.5, 3.0, (8, 2))
    np.testing.assert_allclose([vertices.min(axis=0), vertices.max(axis=0)], [[-0.5, -1.5, -0.5], [0.5, 1.5, 0.5]])


@pytest.mark.parametrize("shape", [shapes.icosphere, shapes.uv_sphere, shapes.cylinder, shapes.cube, shapes.torus, shapes.plane])
def test_shapes_are_meshes(f32, shape):
    mesh = shape()
    assert mesh.vertices.shape[0] == 1 and mesh.faces.shape[0] > 1 and mesh.vertices.grad is not None


# --- Texture coordinates ------------------------------------------------------------------------------------------

UNROLLED = {
    "uv_sphere": lambda: shapes.uv_sphere(1.5, (9, 7)),
    "cylinder": lambda: shapes.cylinder(0.5, 3.0, (7, 3)),
    "torus": lambda: shapes.torus(1.0, 0.4, (9, 7)),
    "plane": lambda: shapes.plane(3.0, 4),
}


def at_corners(mesh):
    """Positions (F, 3, 3) and texture coordinates (F, 3, 2)."""
    return dr.read(mesh.vertices)[0][dr.read(mesh.faces)], dr.read(mesh.uv)[0][dr.read(mesh.uv_faces)]


def uv_areas(uv):
    """Twice the signed area of each face in the texture, positive where it is seen from outside as it is there, v down."""
    (u1, v1), (u2, v2) = np.moveaxis(uv[:, 1] - uv[:, 0], -1, 0), np.moveaxis(uv[:, 2] - uv[:, 0], -1, 0)
    return u2 * v1 - u1 * v2


@pytest.mark.parametrize("name", UNROLLED)
def test_texture_coordinates_are_one_to_one_and_not_mirrored(f32, name):
    _, uv = at_corners(UNROLLED[name]())
    assert uv.min() >= 0 and uv.max() <= 1
    areas = uv_areas(uv)
    assert (areas > 1e-4).all()
    beside_poles = {"uv_sphere": 1 / 7, "cylinder": 1 / 8}.get(name, 0)  # half of the first and of the last row
    np.testing.assert_allclose(areas.sum() / 2, 1 - beside_poles, atol=1e-5)


@pytest.mark.parametrize("name", ["uv_sphere", "cylinder", "torus"])
def test_u_goes_around_the_axis_with_one_seam(f32, name):
    positions, uv = at_corners(UNROLLED[name]())
    apart = np.hypot(positions[..., 0], positions[..., 2]) > 1e-6
    around = np.arctan2(positions[..., 0], positions[..., 2])[apart] / (2 * np.pi) - uv[..., 0][apart]
    np.testing.assert_allclose(around, np.rint(around), atol=1e-6)


def test_v_goes_down(f32):
    positions, uv = at_corners(UNROLLED["uv_sphere"]())
    np.testing.assert_allclose(np.arccos(positions[..., 1] / 1.5) / np.pi, uv[..., 1], atol=1e-3)
    positions, uv = at_corners(UNROLLED["cylinder"]())  # half a unit over each disk, three down the side
    side = np.hypot(positions[..., 0], positions[..., 2]) > 0.4
    np.testing.assert_allclose(uv[..., 1][side], ((0.5 + 1.5 - positions[..., 1]) / 4)[side], atol=1e-6)
    positions, uv = at_corners(UNROLLED["torus"]())
    t = np.pi - 2 * np.pi * uv[..., 1]
    np.testing.assert_allclose(positions[..., 1], 0.4 * np.sin(t), atol=1e-6)
    np.testing.assert_allclose(np.hypot(positions[..., 0], positions[..., 2]), 1 + 0.4 * np.cos(t), atol=1e-6)
    positions, uv = at_corners(UNROLLED["plane"]())
    np.testing.assert_allclose(uv, positions[..., [0, 2]] / 3 + 0.5, atol=1e-6)


def test_a_texture_is_seen_upright(f32):
    """Its left half is on the +x side of a sphere, its upper half above; seen from +x what is left in the texture is left."""
    texture = np.zeros((16, 32, 3))
    texture[:8, :8, 0], texture[:8, 8:16, 1], texture[8:, :16, 2] = 1, 1, 1
    sphere = shapes.uv_sphere()
    mesh = dr.Mesh(sphere.vertices, sphere.faces, uv=sphere.uv, uv_faces=sphere.uv_faces, texture=texture)
    image = dr.read(dr.SoftRenderer()(mesh, dr.Camera.orbit(3.0, 0, 90, size=32)))[0]
    for (row, column), color in {(10, 10): (1, 0, 0), (10, 22): (0, 1, 0), (22, 10): (0, 0, 1), (22, 22): (0, 0, 1)}.items():
        np.testing.assert_allclose(image[row, column, :3], color, atol=0.02)


BAD_SHAPES = [
    (lambda: shapes.icosphere(-1), "subdivisions: expected a whole number of at least 0, got -1"),
    (lambda: shapes.icosphere(1.5), "subdivisions: expected a whole number"),
    (lambda: shapes.icosphere(1, radius=0), "radius: expected a positive number, got 0"),
    (lambda: shapes.cube(float("nan")), "size: expected a positive number"),
    (lambda: shapes.cube(1.0, 0), "subdivisions: expected a whole number of at least 1"),
    (lambda: shapes.plane(subdivisions=0), "subdivisions: expected a whole number of at least 1"),
    (lambda: shapes.torus(0.3, 0.4), "tube: expected less than radius = 0.3"),
    (lambda: shapes.torus(segments=8), "segments: expected two whole numbers"),
    (lambda: shapes.uv_sphere(segments=(2, 2)), r"segments\[0\]: expected a whole number of at least 3, got 2"),
    (lambda: shapes.cylinder(height="tall"), "height: expected a positive number"),
]


@pytest.mark.parametrize("make, message", BAD_SHAPES)
def test_bad_shapes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
