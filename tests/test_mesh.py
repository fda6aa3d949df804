"""Meshes: what may be given, files and back, which vertices, edges and faces touch each other."""

import itertools

import numpy as np
import pytest
import taichi as ti
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taichi_dr as dr
from taichi_dr import mesh as topology

ANY_INPUT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
TETRAHEDRON_FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def values(x):
    return dr.read(x)


# --- Construction -----------------------------------------------------------------------------------------------


def test_from_numbers(f32, rng):
    colors = rng.random((4, 3))
    mesh = dr.Mesh(TETRAHEDRON.tolist(), TETRAHEDRON_FACES, colors)
    assert tuple(mesh.vertices.shape) == tuple(mesh.colors.shape) == (1, 4) and tuple(mesh.faces.shape) == (4,)
    assert np.array_equal(values(mesh.vertices)[0], TETRAHEDRON) and np.array_equal(values(mesh.faces), TETRAHEDRON_FACES)
    assert np.allclose(values(mesh.colors)[0], colors) and mesh.texels is None
    assert mesh.vertices.grad is not None and mesh.colors.grad is not None


def test_grey_where_there_are_no_colors(f32):
    mesh = dr.Mesh(np.stack([TETRAHEDRON, -TETRAHEDRON]), TETRAHEDRON_FACES)
    assert tuple(mesh.vertices.shape) == (2, 4) and tuple(mesh.colors.shape) == (1, 4)
    assert (values(mesh.colors) == 0.5).all()


def test_taichi_arrays_are_taken_as_they_are(f32):
    vertices, faces, colors = dr.array(TETRAHEDRON[None]), dr.array(TETRAHEDRON_FACES), dr.array(np.ones((1, 4, 3)))
    mesh = dr.Mesh(vertices, faces, colors)
    assert mesh.vertices is vertices and mesh.faces is faces and mesh.colors is colors
    texels = dr.array(np.ones((4, 2, 2, 3)))
    mesh = dr.Mesh(vertices, faces, texels=texels)
    assert mesh.texels is texels and mesh.colors is None


def test_texels_and_batches(f32, rng):
    assert tuple(dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES, texels=rng.random((4, 5, 5, 3))).texels.shape) == (4, 5, 5)
    for batches in ((3, 1), (1, 3), (3, 3)):
        mesh = dr.Mesh(rng.random((batches[0], 4, 3)), TETRAHEDRON_FACES, rng.random((batches[1], 4, 3)))
        assert (mesh.vertices.shape[0], mesh.colors.shape[0]) == batches
    assert tuple(dr.Mesh(TETRAHEDRON[:3].astype(int), np.array([[0, 1, 2]], np.uint8)).vertices.shape) == (1, 3)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vertices": np.zeros((4, 2))}, r"vertices: expected numbers of shape \(V, 3\) or \(B, V, 3\), at least one, got shape \(4, 2\)"),
        ({"vertices": np.zeros(3)}, "vertices"), ({"vertices": np.zeros((1, 1, 4, 3))}, "vertices"), ({"vertices": np.zeros((0, 3))}, "vertices"),
        ({"faces": np.zeros((0, 3), int)}, "faces: expected whole numbers .* at least one face"),
        ({"faces": TETRAHEDRON_FACES * 1.0}, "faces.*float64"),
        ({"faces": [[0, 1, 2, 3]]}, r"faces: .*got shape \(1, 4\)"), ({"faces": [0, 1, 2]}, "faces"),
        ({"faces": [[0, 1, 2], [1, 2, 4]]}, r"faces: expected indices from 0 to 3, got \[1, 2, 4\] in face 1; fix or drop"),
        ({"faces": [[0, 1, -1]]}, r"got \[0, 1, -1\] in face 0"), ({"faces": np.array([[0, 1, 2**32]])}, "got .*4294967296.* in face 0"),
        ({"colors": np.zeros((5, 3))}, "colors: expected one per vertex, 4, got 5"), ({"colors": np.zeros((4, 4))}, "colors"),
        ({"vertices": np.zeros((2, 4, 3)), "colors": np.zeros((3, 4, 3))}, "expected a batch of 1 or 3, got 2"),
        ({"texels": np.zeros((3, 2, 2, 3))}, "texels: expected 4 faces of R x R texels"),
        ({"texels": np.zeros((4, 2, 3, 3))}, "texels: expected 4 faces"),
        ({"texels": np.zeros((4, 2, 2))}, r"texels: expected numbers of shape \(F, R, R, 3\)"),
        ({"texels": np.zeros((4, 2, 2, 4))}, "texels"),
        ({"colors": np.zeros((4, 3)), "texels": np.zeros((4, 2, 2, 3))}, "colors and texels: expected one of the two"),
    ],
)  # fmt: skip
def test_bad_numbers(change, message, f32):
    with pytest.raises(ValueError, match=message):
        dr.Mesh(**{"vertices": TETRAHEDRON, "faces": TETRAHEDRON_FACES, **change})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vertices": TETRAHEDRON}, r"vertices: expected \(B, V\) of vec3, got shape \(4,\)"),
        ({"vertices": np.zeros((1, 4, 3), int)}, "vertices: expected f32 elements"),
        ({"vertices": np.zeros((1, 4, 2))}, "vertices"),
        ({"faces": TETRAHEDRON_FACES + 1}, "faces: expected indices from 0 to 3"),
        ({"faces": TETRAHEDRON_FACES * 1.0}, "faces"),
        ({"colors": np.zeros((1, 5, 3))}, "colors: expected one per vertex"),
        ({"texels": np.zeros((4, 2, 3, 3))}, "texels"),
        ({"texels": np.zeros((2, 4, 2, 2, 3))}, "texels"),
    ],
)
def test_bad_arrays(change, message, f32):
    with pytest.raises(ValueError, match=message):
        arrays = {"vertices": TETRAHEDRON[None], "faces": TETRAHEDRON_FACES, **change}
        dr.Mesh(**{name: dr.array(x) for name, x in arrays.items()})


# --- Files ------------------------------------------------------------------------------------------------------


def shuffled(rng):
    """A mesh whose vertices and faces are in no natural order, in numbers that float32 holds."""
    mesh = dr.shapes.icosphere(1)
    vertices, faces = values(mesh.vertices)[0], values(mesh.faces)
    order = rng.permutation(len(vertices))
    return vertices[order].astype(np.float32), np.argsort(order)[rng.permutation(faces)]


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".glb", ".off"])
def test_files_keep_the_order_of_vertices_and_faces(suffix, f32, rng, tmp_path):
    vertices, faces = shuffled(rng)
    dr.Mesh(vertices, faces).save(tmp_path / f"mesh{suffix}")
    back = dr.Mesh.load(tmp_path / f"mesh{suffix}")
    assert np.array_equal(values(back.vertices)[0], vertices) and np.array_equal(values(back.faces), faces)
    assert (values(back.colors) == 0.5).all() and back.texels is None


def test_an_stl_keeps_the_triangles(f32, rng, tmp_path):
    vertices, faces = shuffled(rng)
    dr.Mesh(vertices, faces, rng.random((len(vertices), 3))).save(tmp_path / "mesh.stl")
    back = dr.Mesh.load(str(tmp_path / "mesh.stl"))
    assert np.array_equal(values(back.vertices)[0][values(back.faces)], vertices[faces]) and back.vertices.shape == (1, len(vertices))


@pytest.mark.parametrize("suffix, error", [(".obj", 1e-6), (".ply", 0.5001 / 255), (".glb", 0.5001 / 255), (".off", None)])
def test_vertex_colors_in_files(suffix, error, f32, rng, tmp_path):
    vertices, faces = shuffled(rng)
    colors = rng.random((len(vertices), 3))
    dr.Mesh(vertices, faces, colors).save(tmp_path / f"mesh{suffix}")
    back = dr.Mesh.load(tmp_path / f"mesh{suffix}")
    assert np.array_equal(values(back.faces), faces)
    if error is None:
        assert (values(back.colors) == 0.5).all()
    else:
        assert np.abs(values(back.colors)[0] - colors).max() < error


def test_texels_in_an_obj(f32, rng, tmp_path):
    vertices, faces = shuffled(rng)
    texels = rng.random((len(faces), 4, 4, 3))
    dr.Mesh(vertices, faces, texels=texels).save(tmp_path / "mesh.obj")
    back = dr.Mesh.load(tmp_path / "mesh.obj", texture_resolution=4)
    assert back.colors is None and np.array_equal(values(back.vertices)[0], vertices) and np.array_equal(values(back.faces), faces)
    assert np.abs(values(back.texels) - texels).max() < 0.51 / 255
    assert dr.Mesh.load(tmp_path / "mesh.obj", texture="vertex").colors is not None
    assert (values(dr.Mesh.load(tmp_path / "mesh.obj", texture=None).colors) == 0.5).all()


@pytest.mark.parametrize("suffix", [".ply", ".glb"])
def test_texels_become_vertex_colors_where_a_format_has_none(suffix, f32, tmp_path):
    """Corner 0 of a face is where w0 = 1, column R - 1 of row 0; corner 1 in row R - 1; corner 2 in row 0, column 0."""
    texels = np.zeros((2, 3, 3, 3))
    texels[0, 0, 2], texels[0, 2, 0], texels[0, 0, 0] = [1, 0, 0], [0, 1, 0], [0, 0, 1]
    texels[1, 0, 2], texels[1, 2, 0], texels[1, 0, 0] = [0, 0, 1], [0, 1, 0], [1, 1, 1]
    dr.Mesh(TETRAHEDRON, [[0, 1, 2], [2, 1, 3]], texels=texels).save(tmp_path / f"mesh{suffix}")
    assert np.abs(values(dr.Mesh.load(tmp_path / f"mesh{suffix}").colors)[0] - np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])).max() < 1e-6


def test_what_cannot_be_saved(f32, tmp_path):
    with pytest.raises(ValueError, match="mesh: expected one mesh, got a batch of 2; save them one by one"):
        dr.Mesh(np.stack([TETRAHEDRON] * 2), TETRAHEDRON_FACES).save(tmp_path / "mesh.obj")
    with pytest.raises(ValueError, match="finite"):
        dr.Mesh(TETRAHEDRON * np.nan, TETRAHEDRON_FACES).save(tmp_path / "mesh.obj")
    with pytest.raises(ValueError, match="suffix"):
        dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES).save(tmp_path / "mesh.xyz")
    with pytest.raises(OSError, match="folder"):
        dr.Mesh(TETRAHEDRON, TETRAHEDRON_FACES).save(tmp_path / "nowhere" / "mesh.obj")
    with pytest.raises(FileNotFoundError):
        dr.Mesh.load(tmp_path / "mesh.obj")
    assert not list(tmp_path.iterdir())


# --- Use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
def test_normalized(batch, f32, rng):
    vertices = rng.uniform(5, 8, (batch, 4, 3)) * [1, 2, 3]
    mesh = dr.Mesh(vertices, TETRAHEDRON_FACES, rng.random((4, 3)))
    copy = mesh.normalized()
    low, high = (f(values(copy.vertices), axis=(0, 1)) for f in (np.min, np.max))
    assert np.allclose(low + high, 0, atol=1e-5) and np.isclose((high - low).max(), 2, rtol=1e-5)
    scale = 2 / np.ptp(vertices, axis=(0, 1)).max()
    assert np.allclose(np.diff(values(copy.vertices), axis=1), np.diff(vertices, axis=1) * scale, atol=1e-5)  # moved and scaled only
    assert np.allclose(values(mesh.vertices), vertices) and copy.faces is mesh.faces and copy.colors is mesh.colors


def test_normalized_point(f32):
    assert np.isfinite(values(dr.Mesh(np.ones((3, 3)), [[0, 1, 2]]).normalized().vertices)).all()


def test_changing_vertices_in_place_changes_the_render(f32):
    mesh, camera, renderer = dr.shapes.icosphere(1), dr.Camera.look_at((0.0, 0.0, 3.0), size=16), dr.SoftRenderer()
    before = values(renderer(mesh, camera))
    start = values(mesh.vertices)
    dr.write(mesh.vertices, start * 0.5)
    small = values(renderer(mesh, camera))
    assert small[..., 3].sum() < 0.5 * before[..., 3].sum()
    mesh.vertices = dr.array(start)  # or replaced
    assert np.array_equal(values(renderer(mesh, camera)), before)
    mesh.faces = dr.array(values(mesh.faces)[:10])
    assert 0 < values(renderer(mesh, camera))[..., 3].sum() < before[..., 3].sum()


def test_one_mesh_and_many_cameras_cost_one_mesh(f32):
    mesh, loss = dr.shapes.icosphere(1), dr.scalar()
    camera = dr.Camera.orbit(3.0, 20.0, np.arange(30) * 12.0, size=8)
    lights = [dr.AmbientLight(0.3), dr.DirectionalLight((1.0, 1.0, 1.0), 0.5)]
    assert tuple(dr.shade(mesh, lights).shape) == (1, mesh.vertices.shape[1])  # lit once
    renderer, target = dr.SoftRenderer(sigma=1e-3), dr.array(np.zeros((30, 8, 8, 4)))
    with dr.Tape(loss):
        image = renderer(mesh, camera, lights)
        dr.losses.mse(image, target, loss)
    assert tuple(image.shape) == (30, 8, 8) and tuple(mesh.vertices.shape) == (1, mesh.vertices.shape[1])
    total = values(mesh.vertices.grad)
    one_by_one = np.zeros_like(total)
    for azimuth in range(30):
        with dr.Tape(loss):
            image = renderer(mesh, dr.Camera.orbit(3.0, 20.0, azimuth * 12.0, size=8), lights)
            dr.losses.mse(image, dr.array(np.zeros((1, 8, 8, 4))), loss, 1 / 30)
        one_by_one += values(mesh.vertices.grad)
    assert np.abs(total - one_by_one).max() < 1e-4 * np.abs(total).max()


# --- Topology ---------------------------------------------------------------------------------------------------


def sides(faces):
    """Every side of every face: (edge, opposite vertex), in order."""
    for face in faces.tolist():
        for k in range(3):
            yield tuple(sorted((face[k], face[(k + 1) % 3]))), face[(k + 2) % 3]


def check_topology(faces, count):
    faces, array = np.asarray(faces), dr.array(np.asarray(faces))
    expected = sorted({edge for edge, _ in sides(faces) if edge[0] < edge[1]})

    edges = topology.edges(array, count)
    assert edges.count == len(expected)
    assert values(edges.ends).tolist() == [list(edge) for edge in expected or [(0, 0)]]
    check_incidence(edges.incidence, np.array(expected, int).reshape(-1, 2), count)

    neighbors = topology.neighbors(array, count)
    assert neighbors.edges == len(expected)
    around = [sorted({a + b - v for a, b in expected if v in (a, b)}) for v in range(count)]
    check_groups(neighbors.offsets, neighbors.vertices, around)

    proper = faces[[len(set(face)) == 3 for face in faces.tolist()]]
    opposite = {}
    for edge, vertex in sides(proper):
        opposite.setdefault(edge, []).append(vertex)
    corners = [(*edge, *opposite[edge][:2]) for edge in sorted(opposite) if len(opposite[edge]) > 1]
    hinges = topology.hinges(array, count)
    assert hinges.count == len(corners)
    assert values(hinges.corners).tolist() == [list(corner) for corner in corners or [(0, 0, 0, 0)]]
    check_incidence(hinges.incidence, np.array(corners, int).reshape(-1, 4), count)

    check_incidence(topology.corner_incidence(array, count), faces, count)


def check_incidence(incidence, indices, count):
    check_groups(incidence.offsets, incidence.slots, [np.flatnonzero(indices.reshape(-1) == v).tolist() for v in range(count)])


def check_groups(offsets, members, expected):
    """`members` by `offsets` are the lists `expected`, both stored as plain numbers however few they are."""
    assert not offsets.element_shape and not members.element_shape and offsets.dtype == members.dtype == ti.i32
    starts, numbers = values(offsets), values(members)
    assert starts.shape == (len(expected) + 1,) and starts[0] == 0
    assert [numbers[a:b].tolist() for a, b in itertools.pairwise(starts)] == expected
    assert numbers.shape == (max(1, starts[-1]),)


@pytest.mark.parametrize(
    "faces, count",
    [
        ([[0, 0, 0]], 1), ([[0, 0, 0], [0, 0, 0]], 1), ([[0, 0, 1]], 2), ([[0, 1, 0], [1, 1, 0]], 2), ([[0, 1, 2]], 3), ([[2, 1, 0], [0, 1, 2]], 3),
        ([[0, 1, 2]], 4), ([[3, 3, 3]], 5), ([[0, 1, 2], [2, 1, 3]], 4), ([[0, 1, 2], [1, 0, 3], [0, 1, 4]], 6), (TETRAHEDRON_FACES, 4),
        ([[0, 1, 2], [0, 1, 2], [0, 1, 2]], 3), ([[0, 1, 2], [3, 4, 5]], 7),
    ],
)  # fmt: skip
def test_topology_of_tiny_meshes(faces, count, f32):
    check_topology(faces, count)


@ANY_INPUT
@given(count=st.integers(1, 9), faces=st.integers(1, 30), seed=st.integers(0, 2**16))
def test_topology_of_any_mesh(f32, count, faces, seed):
    check_topology(np.random.default_rng(seed).integers(0, count, (faces, 3)), count)


def test_a_closed_mesh_has_a_hinge_at_every_edge(f32):
    mesh = dr.shapes.torus(segments=(9, 7))
    vertices, faces = mesh.vertices.shape[1], mesh.faces.shape[0]
    assert topology.edges(mesh.faces, vertices).count == topology.hinges(mesh.faces, vertices).count == faces * 3 // 2


def test_topology_is_computed_once_per_array(f32):
    faces, same = dr.array(TETRAHEDRON_FACES), dr.array(TETRAHEDRON_FACES)
    for build in (topology.edges, topology.neighbors, topology.hinges, topology.corner_incidence):
        assert build(faces, 4) is build(faces, 4) and build(faces, 4) is not build(same, 4) and build(faces, 5) is not build(faces, 4)


@pytest.mark.parametrize("bad", [-1, 3, 2**31 - 1])
def test_topology_of_an_index_out_of_range(bad, f32):
    faces = dr.array([[0, 1, 2], [0, 1, bad]])
    for build in (topology.edges, topology.neighbors, topology.hinges, topology.corner_incidence):
        with pytest.raises(ValueError, match="faces: expected indices from 0 to 2, got .* in face 1; fix or drop that face"):
            build(faces, 3)
