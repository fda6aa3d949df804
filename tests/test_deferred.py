"""Deferred rendering: the pictures of the soft renderer's hard modes, gradients through shading and edges, clipping, errors."""

import numpy as np
import pytest
from contract import assert_gradients
from test_render import AT, EYE, UP, lit_by, wedge
from test_shaded import mapped_wedge, textured_wedge

import taichi_dr as dr

HARD = {"distance": "hard", "rgb": "hard", "alpha": "hard", "near": 0.5, "far": 10.0}


def view(size=(12, 16), **options):
    return dr.Camera.look_at(EYE, AT, UP, fov=50.0, size=size, **options)


def meshes(rng):
    return {"colors": wedge(rng), "texture": textured_wedge(rng), "normal_map": mapped_wedge(rng, rng.uniform(0.3, 0.8, (4, 4, 3)))}


@pytest.mark.parametrize("paint", ["colors", "texture", "normal_map"])
@pytest.mark.parametrize("orthographic", [False, True])
def test_pictures_are_those_of_the_hard_modes(paint, orthographic, f32, rng):
    mesh, camera, lights = meshes(rng)[paint], view((30, 41), orthographic=orthographic), lit_by()
    material = dr.Material(0.9, 0.3, 8.0)
    wanted = ["image", "alpha", "depth", "normal", "position", "face_id", "object_id", *(["uv"] if mesh.uv is not None else [])]
    options = {"outputs": wanted, "attributes": {"heat": dr.array(rng.uniform(0, 1, (1, 5, 6)))}, "material": material}
    ours = dr.DeferredRenderer(antialias=1, edges=None, near=0.5, far=10.0)(mesh, camera, lights, **options)
    expected = dr.SoftRenderer(shading="phong", **HARD)(mesh, camera, lights, **options)
    same = dr.read(ours["face_id"]) == dr.read(expected["face_id"])
    assert same.mean() > 0.98 and (dr.read(ours["face_id"]) >= 0).mean() > 0.1
    for name in expected:
        one, other = dr.read(ours[name])[same], dr.read(expected[name])[same]
        assert np.abs(one - other).max() < 2e-4, name


@pytest.mark.parametrize("shape", [dr.shapes.cube, dr.shapes.torus, lambda: dr.shapes.icosphere(4)], ids=["cube", "torus", "sphere"])
def test_edges_and_samples_soften_the_silhouette(shape, f32):
    """Also where faces are smaller than pixels: the sphere has 5,120."""
    mesh, camera = shape(), dr.Camera.orbit(3.5, 25, 20, fov=50, size=40)
    fine = dr.read(dr.DeferredRenderer(antialias=16, edges=None)(mesh, camera))[0, ..., 3]
    errors = {}
    for edges in (None, "antialias"):
        for samples in (1, 2):
            errors[edges, samples] = np.abs(dr.read(dr.DeferredRenderer(antialias=samples, edges=edges)(mesh, camera))[0, ..., 3] - fine).mean()
    assert errors["antialias", 1] < 0.4 * errors[None, 1] and errors["antialias", 2] < 0.4 * errors[None, 2]


@pytest.mark.parametrize("edges", [None, "antialias"])
@pytest.mark.parametrize("paint", ["colors", "texture", "normal_map"])
def test_gradients(paint, edges, f64, rng):
    """Which face is seen, and which edge crosses, stays."""
    mesh, camera, lights = meshes(rng)[paint], view(), lit_by()
    material = dr.Material((0.9, 0.8, 0.7), (0.3, 0.2, 0.4), 6.0)
    renderer = dr.DeferredRenderer(antialias=2, edges=edges, near=0.5, far=10.0, mipmaps=False, background=dr.array([0.1, 0.2, 0.3]))
    params = {
        "vertices": mesh.vertices, "eye": camera.eye, "at": camera.at, "direction": lights[1].direction, "position": lights[2].position,
        "ambient": lights[0].intensity, "specular": material.specular,
    }  # fmt: skip
    params |= {"texture": {"texture": mesh.texture, "uv": mesh.uv}}.get(paint, {"colors": mesh.colors})
    params |= {"normal_map": mesh.normal_map} if paint == "normal_map" else {}
    params |= {"background": renderer.background}
    assert_gradients(lambda: renderer(mesh, camera, lights, material=material), params, rng, step=1e-7)


@pytest.mark.parametrize("name", ["depth", "normal", "position", "uv", "alpha", "object_mask"])
def test_gradients_of_outputs(name, f64, rng):
    mesh, camera, renderer = textured_wedge(rng), view(), dr.DeferredRenderer(near=0.5, far=10.0)

    def picture():
        out = renderer(mesh, camera, outputs=[name])[name]
        return out[0] if name == "object_mask" else out

    assert_gradients(picture, {"vertices": mesh.vertices, "eye": camera.eye}, rng, step=1e-8)


def test_edges_pull_a_mesh_to_its_silhouette(f32):
    """A sphere too far left and too small: its gradient moves it right and makes it grow; without edges there is none."""
    sphere, camera, loss = dr.shapes.icosphere(2), dr.Camera.orbit(3.0, 0, 0, fov=50, size=48), dr.scalar()
    target = dr.DeferredRenderer()(sphere, camera)
    start = dr.read(sphere.vertices) * 0.8 - (0.2, 0, 0)
    for edges in ("antialias", "microedge", None):
        mesh = sphere.with_vertices(dr.array(start))
        with dr.Tape(loss):
            out = dr.DeferredRenderer(edges=edges)(mesh, camera, outputs=["alpha"])["alpha"]
            dr.losses.mse(out, dr.DeferredRenderer()(sphere, camera, outputs=["alpha"])["alpha"], loss)
        grad = dr.read(mesh.vertices.grad)[0]
        if edges is None:
            assert not grad.any()
        else:
            assert -grad[:, 0].sum() > 0 and -(grad * dr.read(sphere.vertices)[0]).sum() > 0
    assert dr.read(target)[..., 3].any()


@pytest.mark.parametrize("orthographic", [False, True])
def test_microedges_leave_the_picture(orthographic, f32, rng):
    """Pictures and the gradients of colors are those without edges; two views' gradients of vertices are not, and repeat."""
    mesh, lights, loss = wedge(rng), lit_by(), dr.scalar()
    camera = dr.Camera.orbit(3.0, 20, [0, 120], fov=50, size=(20, 24), orthographic=orthographic)
    pictures, grads = [], []
    for edges in (None, "microedge", "microedge"):
        with dr.Tape(loss):
            out = dr.DeferredRenderer(edges=edges)(mesh, camera, lights, outputs=["image", "alpha", "object_mask"])
            for picture in (out["image"], out["alpha"], *out["object_mask"]):
                dr.losses.mse(picture, dr.array(np.full(dr.read(picture).shape, 0.3), vectors=picture is out["image"]), loss)
        pictures.append([dr.read(x) for x in (out["image"], out["alpha"], *out["object_mask"])])
        grads.append([dr.read(x.grad) for x in (mesh.vertices, mesh.colors)])
    assert all(np.array_equal(one, other) for one, other in zip(*pictures[:2], strict=True))
    assert np.array_equal(grads[0][1], grads[1][1]) and not np.allclose(grads[0][0], grads[1][0])
    assert all(np.array_equal(one, other) for one, other in zip(*grads[1:], strict=True))


def test_faces_are_cut_at_the_planes(f32):
    corners = np.array([[-40, -1, -40], [40, -1, -40], [40, -1, 40], [-40, -1, 40.0]])
    ground, camera = dr.Mesh(corners, [[0, 2, 1], [0, 3, 2]]), dr.Camera.look_at((0, 0.5, 0), (0, 0, -3), size=32)
    out = dr.DeferredRenderer(near=0.1, antialias=1)(ground, camera, outputs=["alpha", "face_id", "position"])
    seen = dr.read(out["face_id"])[0] >= 0
    assert 0.4 < seen.mean() < 0.8 and set(np.unique(dr.read(out["face_id"]))) <= {-1, 0, 1}
    assert np.abs(dr.read(out["position"])[0][seen][:, 1] + 1).max() < 1e-3


def test_views_and_two_runs(f32, rng):
    mesh, grads = textured_wedge(rng), []
    camera, loss = dr.Camera.orbit(3.0, 20, [0, 120, 240], fov=50, size=(20, 24)), dr.scalar()
    for _ in range(2):
        with dr.Tape(loss):
            image = dr.DeferredRenderer()(mesh, camera, lit_by())
            dr.losses.mse(image, dr.array(np.zeros((3, 20, 24, 4))), loss)
        grads.append([dr.read(x.grad) for x in (mesh.vertices, mesh.texture, mesh.uv)])
    assert image.shape == (3, 20, 24) and all(np.array_equal(one, other) and one.any() for one, other in zip(*grads, strict=True))


def test_bad_input(f32, rng):
    with pytest.raises(ValueError, match="edges: expected one of 'antialias', 'microedge', None, got 'soft'"):
        dr.DeferredRenderer(edges="soft")
    with pytest.raises(ValueError, match="mesh: expected colors or a texture, got texels per face"):
        dr.DeferredRenderer()(wedge(rng, textured=True), view())
