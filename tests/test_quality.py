"""Flipped faces and the figures of a mesh: known shapes, folds, against trimesh."""

import numpy as np
import pytest
import trimesh

import taichi_dr as dr


def moved(mesh, vertices):
    return mesh.with_vertices(dr.array(np.asarray(vertices)[None]))


def sharp_shapes():
    cube, sphere = dr.shapes.cube(1.0, 6), dr.shapes.icosphere(3)
    x = dr.read(cube.vertices)[0]
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    return {
        "cube": cube,
        "coarse cube": dr.shapes.cube(),
        "thin plate": moved(cube, x * [1, 1e-4, 1]),
        "coarse thin plate": moved(dr.shapes.cube(), dr.read(dr.shapes.cube().vertices)[0] * [1, 1e-4, 1]),
        "needle": moved(cube, x * [1e-3, 1, 1e-3]),
        "lens": moved(sphere, dr.read(sphere.vertices)[0] * [1, 1e-3, 1]),
        "cylinder": dr.shapes.cylinder(),
        "tetrahedron": dr.Mesh(tetrahedron, [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]),
        "two sheets without rim": dr.Mesh(square, [[0, 1, 2], [0, 2, 3], [0, 2, 1], [0, 3, 2]]),
        "a face": dr.Mesh(square[:3], [[0, 1, 2]]),
        "turned inside out": dr.Mesh(sphere.vertices, dr.read(sphere.faces)[:, ::-1].copy()),
    }


@pytest.mark.parametrize("k", range(11))
def test_sharp_edges_are_not_flipped(f64, k):
    name, mesh = list(sharp_shapes().items())[k]
    assert len(dr.flipped_faces(mesh)) == 0, name


def test_a_vertex_drawn_over_the_opposite_side(f64, rng):
    sphere = dr.shapes.icosphere(3)
    x, f = dr.read(sphere.vertices)[0], dr.read(sphere.faces)
    for v in rng.permutation(len(x))[:20]:
        star = f[(f == v).any(axis=1)]
        opposite = star[0][star[0] != v]
        y = x.copy()
        y[v] += 1.6 * (x[opposite].mean(axis=0) - x[v])
        mesh = moved(sphere, y)
        flipped = dr.flipped_faces(mesh)
        assert len(flipped) >= 1
        np.testing.assert_array_equal(flipped, dr.flipped_faces(mesh, sphere))
        np.testing.assert_array_equal(
            flipped, np.flatnonzero(np.einsum("ij,ij->i", trimesh.Trimesh(y, f, process=False).face_normals, x[f[:, 0]]) < 0)
        )


def test_a_reference_tells_any_turn(f64):
    sphere = dr.shapes.icosphere(2)
    assert len(dr.flipped_faces(sphere, sphere)) == 0
    x, f = dr.read(sphere.vertices)[0], dr.read(sphere.faces)
    normals = trimesh.Trimesh(x, f, process=False).face_normals
    turned = [-1, 1, -1]  # by 180 degrees around y
    expected = np.flatnonzero((normals * normals * turned).sum(axis=1) < 0)
    assert 100 < len(expected) < 320
    np.testing.assert_array_equal(dr.flipped_faces(moved(sphere, x * turned), sphere), expected)
    with pytest.raises(ValueError, match="reference: expected the mesh's faces, got others, 80 for 320"):
        dr.flipped_faces(sphere, dr.shapes.icosphere(1))


def test_against_each_face_and_those_around_it(f64, rng):
    """The mean, written out face by face, on meshes of noise with faces that have no area."""
    sphere = dr.shapes.icosphere(2)
    total = 0
    for _ in range(10):
        x, f = dr.read(sphere.vertices)[0] + 0.12 * rng.normal(size=(162, 3)), dr.read(sphere.faces)
        x[f[5, 0]] = x[f[5, 1]]
        normals = np.cross(x[f[:, 1]] - x[f[:, 0]], x[f[:, 2]] - x[f[:, 0]])
        lengths = np.linalg.norm(normals, axis=1)
        normals[lengths > 0] /= lengths[lengths > 0, None]
        expected = []
        for k in range(len(f)):
            around = [normals[k] @ normals[g] for v in f[k] for g in np.flatnonzero((f == v).any(axis=1)) if g != k and lengths[g] > 0]
            if lengths[k] > 0 and around and np.mean(around) < -0.5:
                expected.append(k)
        np.testing.assert_array_equal(dr.flipped_faces(moved(sphere, x)), expected)
        total += len(expected)
    assert total > 10


@pytest.mark.parametrize("name", ["icosphere", "torus", "cube", "plane", "cylinder"])
def test_figures(f64, name, rng):
    mesh = getattr(dr.shapes, name)()
    x = dr.read(mesh.vertices)[0] + 1e-3 * rng.normal(size=dr.read(mesh.vertices)[0].shape) + [100, -50, 3]
    mesh, other = moved(mesh, x), trimesh.Trimesh(x, dr.read(mesh.faces), process=False)
    got, lengths = dr.mesh_quality(mesh), other.edges_unique_length
    assert (got.vertices, got.faces, got.watertight) == (len(x), len(other.faces), other.is_watertight)
    np.testing.assert_allclose([got.shortest_edge, got.mean_edge, got.longest_edge], [lengths.min(), lengths.mean(), lengths.max()])
    assert abs(got.smallest_angle - np.degrees(other.face_angles.min())) < 1e-6
    if got.watertight:
        np.testing.assert_allclose(got.volume, other.volume, rtol=1e-6)
    assert got.self_intersections == got.flipped_faces == 0


def test_hostile_meshes(f64):
    point = dr.mesh_quality(dr.Mesh(np.zeros((3, 3)), [[0, 1, 2]]))
    assert point.longest_edge == point.volume == point.smallest_angle == 0 and not point.watertight
    one = dr.mesh_quality(dr.Mesh(np.ones((1, 3)), [[0, 0, 0]]))
    assert np.isnan(one.mean_edge) and not one.watertight and one.flipped_faces == 0
    sphere = dr.shapes.icosphere(1)
    faces = dr.read(sphere.faces)
    assert not dr.mesh_quality(dr.Mesh(sphere.vertices, faces[1:])).watertight
    assert not dr.mesh_quality(dr.Mesh(sphere.vertices, np.concatenate([faces, faces[:1]]))).watertight
    turned = np.concatenate([faces[1:], faces[:1, ::-1]])
    assert not dr.mesh_quality(dr.Mesh(sphere.vertices, turned)).watertight
    x = dr.read(sphere.vertices)[0]
    for call in (dr.mesh_quality, dr.flipped_faces):
        with pytest.raises(ValueError, match="mesh: expected one mesh, got a batch of 2"):
            call(dr.Mesh(np.stack([x, x]), faces))
        with pytest.raises(ValueError, match="mesh: expected finite vertices"):
            call(dr.Mesh(x * np.nan, faces))
