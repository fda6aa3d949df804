"""Texture coordinates of meshes that have none: charts that do not overlap, and a texture that shows the colors."""

import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from photographs import around, colored

import taichi_dr as dr
from taichi_dr.unwrap import unwrap

pytest.importorskip("xatlas")

BODIES = {
    "sphere": lambda: dr.shapes.icosphere(2),
    "torus": lambda: dr.shapes.torus(0.7, 0.3, (24, 12)),
    "cube": lambda: dr.shapes.cube(1.2, 4),
    "open plane": lambda: dr.shapes.plane(1.5, 4),
    "cylinder": lambda: dr.shapes.cylinder(0.6, 1.2, (24, 3)),
}


def twice_areas(corners):
    """(F,), signed."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def covered(corners, size):
    """How many faces have each texel's center within, (size, size); on a border of none."""
    count = np.zeros((size, size), int)
    for triangle, area in zip(corners * size, twice_areas(corners * size), strict=True):
        if area == 0:
            continue
        low, high = np.floor(triangle.min(axis=0)).astype(int), np.ceil(triangle.max(axis=0)).astype(int)
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        inside = np.ones(x.shape, bool)
        for k in range(3):
            (ax, ay), (bx, by) = triangle[k], triangle[(k + 1) % 3]
            inside &= ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area > 1e-4
        count[low[1] : high[1], low[0] : high[0]] += inside
    return count


def checked(mesh, size):
    """Unwrapped; what must hold of any mesh."""
    out = unwrap(mesh, size)
    uv, uv_faces, faces = dr.read(out.uv)[0], dr.read(out.uv_faces), dr.read(mesh.faces)
    assert dr.read(out.vertices).tobytes() == dr.read(mesh.vertices).tobytes()
    assert dr.read(out.faces).tobytes() == faces.tobytes() and out.faces.shape == mesh.faces.shape
    assert dr.read(out.objects).tobytes() == dr.read(mesh.objects).tobytes()
    assert out.texture.shape == (1, size, size) and uv_faces.shape == faces.shape
    assert np.isfinite(uv).all() and np.isfinite(dr.read(out.texture)).all()
    # At least half a texel from the border, so that no view mixes in what is at the other side.
    assert uv.min() >= 0.999 / size and uv.max() <= 1 - 0.999 / size
    points = dr.read(mesh.vertices)[0].astype(np.float64)[faces]
    in_space = np.linalg.norm(np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]), axis=1)
    in_uv = np.abs(twice_areas(uv[uv_faces]))
    extent = np.ptp(points.reshape(-1, 3), axis=0).max()
    assert (in_uv[in_space > 1e-9 * extent**2] > 0).all()
    assert covered(uv[uv_faces], 512).max() == 1
    return out


@pytest.mark.parametrize("size", [16, 128])
@pytest.mark.parametrize("body", BODIES)
def test_charts_do_not_overlap(f32, body, size):
    checked(colored(BODIES[body]()), size)


@pytest.mark.parametrize("body", BODIES)
def test_the_texture_shows_the_colors(f32, body):
    """Also along the borders of charts."""
    mesh, camera = colored(BODIES[body]()), around(6, 96)
    renderer = dr.DeferredRenderer(antialias=1, edges=None, mipmaps=False, near=0.1)
    expected, image = dr.read(renderer(mesh, camera)), dr.read(renderer(unwrap(mesh, 256), camera))
    error = np.abs(image - expected).max(axis=-1)[expected[..., 3] > 0]
    assert error.mean() < 1e-3 and np.quantile(error, 0.999) < 0.03 and error.max() < 0.15


def test_outside_of_charts_is_the_nearest_color(f32):
    """Against a search through all texels."""
    out = unwrap(colored(dr.shapes.cube(1.0, 2)), 64)
    texture, corners = dr.read(out.texture)[0], dr.read(out.uv)[0][dr.read(out.uv_faces)]
    inside = covered(corners, 64) > 0
    places = np.argwhere(inside)
    for i, j in np.argwhere(~inside)[::40]:
        distances = ((places - (i, j)) ** 2).sum(axis=1)
        nearest = texture[tuple(places[distances <= distances.min()].T)]
        # The center of a texel on a border of a face may count for it or not.
        assert np.abs(nearest - texture[i, j]).max(axis=-1).min() < 0.05


@pytest.mark.parametrize(("scale", "center"), [(1e-6, 0), (1e-3, 0), (1e3, 0), (1e6, 0), (1.0, 100.0), (1e-3, 1.0)])
def test_meshes_of_any_size_and_place(f32, scale, center):
    mesh = colored(dr.shapes.torus(0.7, 0.3, (24, 12)), scale, (center, -center, center))
    checked(mesh, 64)


def test_many_objects_are_kept(f32):
    torus = dr.shapes.torus(0.7, 0.3, (12, 8))
    faces = dr.read(torus.faces)
    checked(dr.Mesh(dr.read(torus.vertices)[0], faces, dr.read(torus.colors), objects=np.arange(len(faces)) % 3), 64)


TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]), np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
ODD = {
    "vertex without faces": ([[9, 9, 9]], []),
    "the same corner twice": ([], [[0, 0, 1]]),
    "corners in a line": ([[0.5, 0, 0]], [[0, 4, 1]]),
    "vertices at one place": ([[0, 0, 0]], [[0, 4, 1]]),
    "three faces on an edge": ([[1, 1, 1]], [[0, 1, 4]]),
    "the same face twice": ([], [[0, 2, 1]]),
    "and the other way round": ([], [[1, 2, 0]]),
    "two pieces that touch": ([[-1, 0, 0], [0, -1, 0], [0, 0, -1]], [[0, 4, 5], [0, 5, 6], [0, 6, 4], [4, 6, 5]]),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_meshes(f32, what):
    points, faces = (np.concatenate([a, np.array(b, a.dtype).reshape(-1, 3)]) for a, b in zip(TETRAHEDRON, ODD[what], strict=True))
    mesh = dr.Mesh(points, faces, np.linspace(0.1, 0.9, len(points))[:, None].repeat(3, axis=1))
    out = checked(mesh, 64)
    assert dr.read(out.texture).min() > 0.09 and dr.read(out.texture).max() < 0.91


def test_no_face_with_area(f32):
    for faces in ([[0, 0, 1]], [[0, 1, 2]]):
        mesh = dr.Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), np.array(faces), np.full((3, 3), 0.5))
        with pytest.raises(ValueError, match="mesh: expected a face with area, got none"):
            unwrap(mesh, 64)


def digest():
    out = unwrap(colored(dr.shapes.torus(0.7, 0.3)), 64)
    return hashlib.sha256(b"".join(dr.read(x).tobytes() for x in (out.uv, out.uv_faces, out.texture))).hexdigest()


def test_bitwise_repeatable(f32):
    """Here, and from one process to the next."""
    here = [digest(), digest()]
    folder = pathlib.Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder.parent), str(folder), os.environ.get("PYTHONPATH", "")])}
    program = f"import taichi_dr as dr, test_unwrap\ndr.init({dr.device().arch!r})\nprint(test_unwrap.digest())"
    there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout.split()[-1]
    assert {*here, there} == {here[0]}


def test_saved_and_loaded(f32, tmp_path):
    mesh = unwrap(colored(dr.shapes.cube(1.0, 3)), 64)
    mesh.save(tmp_path / "mesh.obj")
    again = dr.Mesh.load(tmp_path / "mesh.obj", texture="uv")
    camera, renderer = around(4, 48), dr.DeferredRenderer(antialias=1, edges=None, near=0.1)
    np.testing.assert_allclose(dr.read(renderer(again, camera)), dr.read(renderer(mesh, camera)), atol=0.01)


def test_xatlas_missing(f32, monkeypatch):
    monkeypatch.setitem(sys.modules, "xatlas", None)
    with pytest.raises(ImportError, match=r'unwrap: xatlas is not installed, .*; pip install "taichi_dr\[uv\]"'):
        unwrap(colored(dr.shapes.icosphere(0)))


@pytest.mark.parametrize("size", [15, 8193, 64.0, True, "64", None, -1])
def test_bad_size(f32, size):
    with pytest.raises(ValueError, match="size: expected a whole number of texels from 16 to 8192, got"):
        unwrap(colored(dr.shapes.icosphere(0)), size)


def test_bad_meshes(f32):
    sphere = dr.shapes.icosphere(0)
    points, faces = dr.read(sphere.vertices), dr.read(sphere.faces)
    with pytest.raises(ValueError, match="mesh: expected one with a color per vertex"):
        unwrap(unwrap(sphere, 16), 16)
    with pytest.raises(ValueError, match="batch"):
        unwrap(dr.Mesh(points.repeat(2, axis=0), faces), 16)
    points[0, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        unwrap(dr.Mesh(points, faces), 16)
    assert unwrap(sphere, np.int32(16)).texture.shape == (1, 16, 16)
