"""Isotropic remeshing: the surface, its topology and what it carries stay; the edges get the length asked for."""

import collections

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taichi_dr as dr
from taichi_dr.closest import Surface

ANY_INPUT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def shape(mesh):
    return trimesh.Trimesh(dr.read(mesh.vertices)[0].astype(float), dr.read(mesh.faces), process=False)


def boundary_loops(faces):
    """How many boundary edges, and how many closed curves they form; each vertex on them must have two."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    keys, counts = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    edges = keys[counts == 1]
    if not len(edges):
        return 0, 0
    assert (np.unique(edges, return_counts=True)[1] == 2).all()
    return len(edges), len(trimesh.graph.connected_components(edges, nodes=np.unique(edges)))


def is_manifold(faces):
    """Every edge has one or two faces, in opposite directions, and every vertex one fan of faces."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    if len(np.unique(directed, axis=0)) < len(directed) or (directed[:, 0] == directed[:, 1]).any():
        return False
    onward = collections.defaultdict(dict)
    for a, b, c in faces.tolist():
        onward[a][b], onward[b][c], onward[c][a] = c, a, b
    for ways in onward.values():
        starts = set(ways) - set(ways.values())
        at, seen = next(iter(starts or ways)), 0
        while at in ways and seen < len(ways):
            at, seen = ways[at], seen + 1
        if len(starts) > 1 or seen != len(ways):
            return False
    return True


SHAPES = {
    "sphere": lambda: dr.shapes.icosphere(3),
    "torus": lambda: dr.Mesh(dr.shapes.torus().vertices, dr.shapes.torus().faces),
    "plane": lambda: dr.shapes.plane(2.0, 12),
    "cube": lambda: dr.shapes.cube(1.0, 6),
    "tetrahedron": lambda: dr.Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]), np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])),
    "cylinder": lambda: dr.Mesh(dr.shapes.cylinder().vertices, dr.shapes.cylinder().faces),
    "open cylinder": lambda: dr.Mesh(dr.shapes.cylinder(segments=(24, 6)).vertices, dr.read(dr.shapes.cylinder(segments=(24, 6)).faces)[:-48]),
}


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("name", SHAPES)
def test_topology_stays(f64, name, factor):
    mesh = SHAPES[name]()
    before = shape(mesh)
    new, weights = dr.remesh(mesh, factor * before.edges_unique_length.mean())
    after, faces = shape(new), dr.read(new.faces)
    assert is_manifold(faces) and len(np.unique(faces)) == len(after.vertices)
    assert after.euler_number == trimesh.Trimesh(before.vertices, before.faces).euler_number
    assert after.is_watertight == before.is_watertight and after.is_winding_consistent
    assert boundary_loops(faces)[1] == boundary_loops(before.faces)[1]
    assert weights.shape == (len(after.vertices), len(before.vertices))
    assert len(dr.self_intersections(new)) == 0
    assert name == "tetrahedron" or len(dr.flipped_faces(new)) == 0  # whose faces, if it is flat, have only others around them
    assert (after.area_faces > 0).all()


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.5])
@pytest.mark.parametrize("name", ["ellipsoid", "torus", "plane"])
def test_edges_get_the_length(f64, name, factor):
    if name == "ellipsoid":
        sphere = dr.shapes.icosphere(4)
        mesh = sphere.with_vertices(dr.array(dr.read(sphere.vertices) * [1.0, 0.6, 0.4]))
    else:
        mesh = {"torus": dr.shapes.torus, "plane": lambda: dr.shapes.plane(2.0, 25)}[name]()
        mesh = dr.Mesh(mesh.vertices, mesh.faces)
    before = shape(mesh)
    length = factor * before.edges_unique_length.mean()
    after = shape(dr.remesh(mesh, length).mesh)
    lengths = after.edges_unique_length
    # Half squares have two lengths of edges, of which at 0.8 one is long and halved, and the other stays.
    assert abs(lengths.mean() / length - 1) < (0.11 if name == "plane" else 0.05) and lengths.std() < 0.2 * length
    assert lengths.max() < 1.8 * length and lengths.min() > 0.4 * length
    assert np.degrees(after.face_angles.min()) > 20
    if name == "plane":
        assert np.isclose(after.area, before.area, rtol=1e-12)
    else:
        # What chords of this length cut off where the radius of curvature is 0.4, and a little more.
        assert abs(after.volume / before.volume - 1) < (length / 0.4) ** 2 / 4


def test_angles_get_better(f64, shared):
    mesh = dr.Mesh.load(shared / "data" / "spot" / "spot_triangulated.obj", texture="vertex")
    before, after = dr.mesh_quality(mesh), dr.mesh_quality(dr.remesh(mesh).mesh)
    assert after.watertight and before.smallest_angle < 15 and after.smallest_angle > 18
    assert abs(after.mean_edge / before.mean_edge - 1) < 0.03 and abs(after.volume / before.volume - 1) < 0.01
    assert after.shortest_edge > 4 * before.shortest_edge and after.self_intersections == after.flipped_faces == 0


def test_a_linear_color_on_a_plane_is_carried_exactly(f64, rng):
    mesh = dr.shapes.plane(2.0, 10)
    x = dr.read(mesh.vertices)[0]
    matrix, offset = rng.normal(size=(3, 3)), rng.normal(size=3)
    new, weights = dr.remesh(dr.Mesh(x, mesh.faces, x @ matrix + offset), 0.13)
    y = dr.read(new.vertices)[0]
    np.testing.assert_allclose(y[:, 1], 0, atol=1e-15)
    np.testing.assert_allclose(dr.read(new.colors)[0], y @ matrix + offset, atol=1e-12)
    np.testing.assert_allclose(weights @ x, y, atol=1e-12)
    assert abs(shape(new).area - 4) < 1e-12


def test_weights_are_barycentrics_of_the_old_surface(f64):
    mesh = SHAPES["torus"]()
    x = dr.read(mesh.vertices)[0]
    new, weights = dr.remesh(mesh, 0.2)
    assert (weights.data > 0).all() and np.diff(weights.indptr).max() <= 3
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-14)
    # Vertices that no step has brought back to the surface are in the middle of an edge, not far away.
    y = dr.read(new.vertices)[0]
    assert np.linalg.norm(weights @ x - y, axis=1).max() < 0.01
    moments = np.random.default_rng(0).random((len(x), 5))
    assert (weights @ moments).shape == (len(y), 5)


def test_uv_without_seams_texture_and_objects(f64, rng):
    mesh = dr.shapes.plane(2.0, 8)
    texture = dr.array(rng.random((1, 4, 5, 3)))
    objects = (dr.read(mesh.vertices)[0][dr.read(mesh.faces)].mean(axis=1)[:, 0] > 0).astype(int) * 3
    new = dr.remesh(dr.Mesh(mesh.vertices, mesh.faces, uv=mesh.uv, texture=texture, objects=objects), 0.17).mesh
    y = dr.read(new.vertices)[0]
    np.testing.assert_allclose(dr.read(new.uv)[0], y[:, [0, 2]] / 2 + 0.5, atol=1e-12)
    assert new.texture is texture and new.colors is None
    corners = y[dr.read(new.faces)][:, :, 0]
    right = dr.read(new.objects) == 3
    assert set(dr.read(new.objects)) == {0, 3}
    assert corners[right].min() > -1e-12 and corners[~right].max() < 1e-12  # the border has stayed


def test_creases(f64):
    mesh = SHAPES["cube"]()
    kept = dr.mesh_quality(dr.remesh(mesh, 0.1, crease_angle=30).mesh)
    rounded = dr.mesh_quality(dr.remesh(mesh, 0.1).mesh)
    assert abs(kept.volume - 1) < 1e-12 and 0.95 < rounded.volume < 1 + 1e-12
    assert kept.watertight and kept.smallest_angle > 25


def test_a_boundary_stays(f64):
    """Corners of a square stay, and vertices of a circle stay on its polygon."""
    new = dr.read(dr.remesh(dr.shapes.plane(2.0, 6), 0.5).mesh.vertices)[0]
    for corner in ([-1, 0, -1], [-1, 0, 1], [1, 0, -1], [1, 0, 1]):
        assert (new == corner).all(axis=1).any()
    mesh = SHAPES["open cylinder"]()
    after = shape(dr.remesh(mesh, 0.2).mesh)
    rims = after.vertices[np.unique(after.edges_sorted[trimesh.grouping.group_rows(after.edges_sorted, require_count=1)])]
    angle = np.pi / 24
    assert np.allclose(np.abs(rims[:, 1]), 1) and np.allclose(np.linalg.norm(rims[:, [0, 2]], axis=1), 1, atol=1 - np.cos(angle))


def test_parts_stay_apart(f64):
    """Two sheets in the same place, facing the same way, keep their own colors."""
    sheet = dr.shapes.plane(2.0, 8)
    x, f = dr.read(sheet.vertices)[0], dr.read(sheet.faces)
    colors = np.concatenate([np.zeros_like(x), np.ones_like(x)])
    new = dr.remesh(dr.Mesh(np.concatenate([x, x]), np.concatenate([f, f + len(x)]), colors), 0.2).mesh
    assert set(np.unique(dr.read(new.colors)).round(12)) == {0, 1}
    assert len(trimesh.graph.connected_components(shape(new).edges)) == 2


def test_a_thin_plate_does_not_close(f64):
    cube = dr.shapes.cube(2.0, 10)
    for thickness, length, crease, loss in ((0.1, 0.1, None, 0.03), (0.1, 0.2, None, 0.3), (0.01, 0.2, 30, 1e-12)):
        mesh = cube.with_vertices(dr.array(dr.read(cube.vertices) * [1, thickness / 2, 1]))
        new = dr.mesh_quality(dr.remesh(mesh, length, crease_angle=crease).mesh)
        assert new.watertight and new.self_intersections == new.flipped_faces == 0
        assert 1 - loss <= new.volume / (4 * thickness) <= 1 + 1e-12


def test_same_result_every_time(f32):
    first, second = (dr.remesh(dr.shapes.icosphere(3), 0.1).mesh for _ in range(2))
    np.testing.assert_array_equal(dr.read(first.vertices), dr.read(second.vertices))
    np.testing.assert_array_equal(dr.read(first.faces), dr.read(second.faces))


@st.composite
def soups(draw):
    """Random faces over few vertices: edges of many faces, folds, degenerate faces, vertices of no face, equal places."""
    count = draw(st.integers(3, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["free", "grid", "flat", "line"]))
    points = rng.random((count, 3)) if kind == "free" else rng.integers(0, 3, (count, 3)).astype(float)
    points[:, {"flat": [2], "line": [1, 2]}.get(kind, [])] = 0
    return points, rng.integers(0, count, (draw(st.integers(1, 20)), 3)), draw(st.floats(0.2, 3))


@ANY_INPUT
@given(soups())
def test_any_mesh(f64, soup):
    points, faces, length = soup
    mesh = dr.Mesh(points, faces)
    proper = np.array([len(set(face)) == 3 for face in faces.tolist()])
    area = np.linalg.norm(np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]]), axis=1)
    if not (proper & (area > 0)).any():
        with pytest.raises(ValueError, match="expected a face with area"):
            dr.remesh(mesh, length)
        return
    new, weights = dr.remesh(mesh, length, iterations=3)
    vertices, new_faces = dr.read(new.vertices)[0], dr.read(new.faces)
    assert np.isfinite(vertices).all() and np.isfinite(weights.data).all()
    assert (vertices.min(axis=0) >= points.min(axis=0) - 1e-12).all() and (vertices.max(axis=0) <= points.max(axis=0) + 1e-12).all()
    assert (np.sort(new_faces, axis=1)[:, 1:] != np.sort(new_faces, axis=1)[:, :-1]).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    assert (weights.data >= 0).all()


@st.composite
def patches(draw):
    """Manifold meshes with boundaries and any number of parts: a bumpy sphere or torus of which faces are left out."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    base = draw(st.sampled_from(["sphere", "torus", "plane"]))
    share, noise = draw(st.sampled_from([0.0, 0.02, 0.2, 0.6])), draw(st.sampled_from([0.0, 0.02, 0.1]))
    return base, share, noise, draw(st.sampled_from([0.3, 1.0, 3.0])), rng


@ANY_INPUT
@given(patches())
def test_any_manifold_mesh_keeps_its_topology(f64, patch):
    base, share, noise, factor, rng = patch
    mesh = {"sphere": dr.shapes.icosphere(2), "torus": dr.shapes.torus(segments=(16, 8)), "plane": dr.shapes.plane(2.0, 9)}[base]
    x, faces = dr.read(mesh.vertices)[0], dr.read(mesh.faces)
    faces = faces[rng.random(len(faces)) >= share]
    x = x + noise * rng.normal(size=x.shape)
    if not len(faces):
        return
    before = trimesh.Trimesh(x, faces, process=False)
    after = shape(dr.remesh(dr.Mesh(x, faces), factor * before.edges_unique_length.mean()).mesh)
    used = np.unique(faces)
    assert len(used) - len(before.edges_unique) + len(faces) == after.euler_number
    assert is_manifold(before.faces) == is_manifold(after.faces)
    parts = [len(trimesh.graph.connected_components(t.edges, nodes=np.unique(t.faces))) for t in (before, after)]
    assert parts[0] == parts[1]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"edge_length": 0}, "edge_length: expected a positive length, got 0"),
        ({"edge_length": -1.0}, "edge_length"), ({"edge_length": np.nan}, "edge_length: expected a finite number"),
        ({"edge_length": 1e-6}, "edge_length: expected one for at most 10000000 faces"),
        ({"iterations": 0}, "iterations: expected a whole number of at least 1, got 0"), ({"iterations": 1.5}, "iterations"),
        ({"crease_angle": -1}, "crease_angle"), ({"mesh": None}, "mesh: expected a dr.Mesh, got NoneType"),
    ],
)  # fmt: skip
def test_bad_arguments(change, message, f64):
    with pytest.raises(ValueError, match=message):
        dr.remesh(**{"mesh": dr.shapes.icosphere(1), **change})


def test_bad_meshes(f64):
    sphere = dr.shapes.icosphere(1)
    x = dr.read(sphere.vertices)[0]
    with pytest.raises(ValueError, match="mesh: expected one mesh, got a batch of 2"):
        dr.remesh(dr.Mesh(np.stack([x, x]), sphere.faces))
    for bad in (np.nan, np.inf):
        y = x.copy()
        y[5, 1] = bad
        with pytest.raises(ValueError, match="mesh: expected finite vertices, got .* as vertex 5"):
            dr.remesh(dr.Mesh(y, sphere.faces))
    with pytest.raises(ValueError, match="expected vertex colors, got texels"):
        dr.remesh(dr.Mesh(x, sphere.faces, texels=np.zeros((80, 2, 2, 3))))
    with pytest.raises(ValueError, match="without seams, got seams"):
        dr.remesh(dr.shapes.torus())
    with pytest.raises(ValueError, match="expected a face with area"):
        dr.remesh(dr.Mesh(np.zeros((3, 3)), [[0, 1, 2]]))


# --- Closest points ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["free", "mixed sizes", "needles", "segments", "points"])
def test_closest_points_against_all_faces(rng, kind):
    vertices = rng.random((40, 3))
    faces = rng.integers(0, 40, (60, 3))
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    if kind == "mixed sizes":
        vertices[:30] *= 0.01
    if kind == "needles":
        vertices[:, 1:] *= 1e-4
    if kind == "segments":
        faces[:, 2] = faces[:, 1]
    if kind == "points":
        faces[:, 1:] = faces[:, :1]
    points = rng.random((60, 3)) * 2 - 0.5
    found = Surface(vertices, faces).closest(points)
    places = (found.barycentrics[:, :, None] * vertices[faces[found.faces]]).sum(axis=1)
    np.testing.assert_allclose(np.linalg.norm(places - points, axis=1), found.distances, atol=1e-12)
    assert (found.barycentrics >= 0).all() and np.allclose(found.barycentrics.sum(axis=1), 1)
    corners = vertices[faces]
    for p, distance in zip(points, found.distances, strict=True):
        assert abs(distance - min(_distance(p, *corner) for corner in corners)) < 1e-9


def _distance(p, a, b, c):
    """From a point to a triangle: the foot on its plane if that is inside, else the nearest of its sides."""
    candidates = []
    for s, e in ((a, b), (b, c), (c, a)):
        t = np.clip((p - s) @ (e - s) / max((e - s) @ (e - s), 1e-300), 0, 1)
        candidates.append(np.linalg.norm(p - s - t * (e - s)))
    normal = np.cross(b - a, c - a)
    if normal @ normal > 0:
        inside = [np.cross(e - s, p - s) @ normal >= 0 for s, e in ((a, b), (b, c), (c, a))]
        if all(inside):
            candidates.append(abs((p - a) @ normal) / np.linalg.norm(normal))
    return min(candidates)
