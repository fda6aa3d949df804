"""Warnings of the renderer: what keeps a mesh out of a picture; each once, none where all is well."""

import warnings

import numpy as np
import pytest

import taichi_dr as dr
from taichi_dr.visibility import winding_number

GROUND = np.array([[-40, -1, -40], [40, -1, -40], [40, -1, 40], [-40, -1, 40.0]])


def arrays(mesh):
    return dr.read(mesh.vertices)[0], dr.read(mesh.faces)


@pytest.mark.parametrize("mesh", [dr.shapes.icosphere, dr.shapes.cube, dr.shapes.torus])
def test_winding_numbers_count_how_often_a_mesh_is_around_a_point(mesh, f32, rng):
    vertices, faces = arrays(mesh())
    inside = vertices[faces[0]].mean(axis=0) - 0.05 * np.cross(*(vertices[faces[0, 1:]] - vertices[faces[0, 0]]))
    assert abs(winding_number(vertices, faces, inside) - 1) < 1e-6
    assert abs(winding_number(vertices, faces[:, ::-1], inside) + 1) < 1e-6
    for point in rng.standard_normal((5, 3)):
        assert abs(winding_number(vertices, faces, 5 * point / np.linalg.norm(point))) < 1e-6


def test_winding_number_of_a_point_at_a_vertex_is_finite(f32):
    vertices, faces = arrays(dr.shapes.cube())
    assert np.isfinite(winding_number(vertices, faces, vertices[0]))
    vertices[0] = np.nan
    assert np.isfinite(winding_number(vertices, faces, np.zeros(3)))


def test_a_camera_inside_of_the_mesh(f32):
    mesh, renderer = dr.shapes.icosphere(2), dr.SoftRenderer(near=0.9)
    camera = dr.Camera.look_at([(0, 0, 3), (0, 0, 0.2)], (0, 0, -1), size=16)
    with pytest.warns(RuntimeWarning, match=r"inside of the mesh in view 1 of 2, at \(0, 0, 0.2\)"):
        renderer(mesh, camera)
    with warnings.catch_warnings():  # once
        warnings.simplefilter("error")
        renderer(mesh, camera)
        dr.SoftRenderer(near=0.9).quiet()(mesh, camera)


def test_nothing_on_the_picture(f32):
    camera = dr.Camera.orbit(3.0, 0, [0, 90, 180], size=16)
    mesh = dr.shapes.icosphere(1).with_vertices(dr.array(dr.read(dr.shapes.icosphere(1).vertices) * 0.1 + (2.8, 0, 0)))
    with pytest.warns(RuntimeWarning) as caught:
        dr.SoftRenderer(far=10.0)(mesh, camera)
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == 2
    assert any("nearer than near = 1 in view 1 of 3" in text and "use near=" in text for text in texts)
    assert any("outside of the image in views 0, 2 of 3" in text and "(2.8, 0, 0)" in text for text in texts)


@pytest.mark.parametrize(
    "mesh, camera",
    [
        (lambda: dr.Mesh(GROUND, [[0, 2, 1], [0, 3, 2]]), lambda: dr.Camera.look_at((0, 0.5, 0), (0, 0, -3), size=16)),  # no vertex on the picture
        (lambda: dr.Mesh(GROUND, [[0, 2, 1], [0, 3, 2]]), lambda: dr.Camera.look_at((0, -0.9, 0), (0, -0.95, -3), size=16)),
        (lambda: dr.Mesh(*(x if k == 0 else x[:, ::-1] for k, x in enumerate(arrays(dr.shapes.cube())))), lambda: dr.Camera.look_at(
            (0.1, 0, 0.2), (0, 0, -1), size=16)),  # a room, which looks inwards
        (dr.shapes.icosphere, lambda: dr.Camera.orbit(3.0, 20, [0, 120, 240], size=16)),
        (dr.shapes.icosphere, lambda: dr.Camera.look_at((0, 0, 1.05), (0, 0, -1), size=16)),  # cut, from outside
    ],
    ids=["ground", "on the ground", "room", "views", "close"],
)  # fmt: skip
def test_no_false_alarm(mesh, camera, f32):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alpha = dr.read(dr.SoftRenderer(near=0.1)(mesh(), camera()))[..., 3]
    assert alpha.any()
