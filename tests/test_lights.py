"""Lights: what they are made from, normals, and lit colors against NumPy, with gradients in all that can move."""

from types import SimpleNamespace

import numpy as np
import pytest
import reference
import reference_shading
from contract import assert_gradients, gradients

import taichi_dr as dr
from taichi_dr.arrays import array, read
from taichi_dr.camera import Camera
from taichi_dr.lights import AmbientLight, DirectionalLight, PointLight
from taichi_dr.materials import Material
from taichi_dr.normals import face_normals, face_tangents, perturb_normals, vertex_normals
from taichi_dr.shading import shade

OCTAHEDRON = np.array([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)], float)
FACES = np.array([(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)])
KINDS = {"ambient": AmbientLight, "directional": DirectionalLight, "point": PointLight}


def octahedra(rng, batch):
    """(B, 6, 3): dented and moved."""
    return OCTAHEDRON + rng.uniform(-0.2, 0.2, (batch, 6, 3))


def lamps(rng, batch):
    """Values of an ambient, a directional and a point light, as (kind, fields...); fields are (3,) or, with a batch, (B, 3)."""
    shape = (batch, 3) if batch > 1 else (3,)
    positive = [rng.uniform(0.2, 0.9, shape) for _ in range(3)]
    direction, position = rng.standard_normal(shape), 3 * rng.standard_normal(shape)
    return [("ambient", positive[0]), ("directional", direction, positive[1]), ("point", position, positive[2])]


def make(lights):
    return [KINDS[kind](*fields) for kind, *fields in lights]


def arrays_of(light):
    """The fields that an optimizer can move."""
    return {name: x for name, x in vars(light).items() if not isinstance(x, bool)}


def of_view(lights, b):
    return [(kind, *(x[b] if np.ndim(x) > 1 else x for x in fields)) for kind, *fields in lights]


def mesh_of(vertices, colors=None, texels=None, faces=FACES):
    colors, texels = (None if x is None else array(x) for x in (colors, texels))
    return SimpleNamespace(vertices=array(vertices), faces=array(faces), colors=colors, texels=texels)


def expected(vertices, paint, lights, textured):
    """Lit colors or texels of every view, from the reference."""
    paint = paint[None] if textured and paint.ndim == 4 else paint
    views = max(len(vertices), len(paint), *(len(x) for _, *fields in lights for x in fields if np.ndim(x) > 1), 1)
    shade_one = reference.shade_texels if textured else reference.shade_vertices
    return np.stack([shade_one(vertices[b % len(vertices)], FACES, paint[b % len(paint)], of_view(lights, b)) for b in range(views)])


# --- Normals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("operator", [vertex_normals, face_normals])
def test_normals_match_the_formula(f32, rng, operator, batch):
    vertices = octahedra(rng, batch)
    normals = read(operator(array(vertices), array(FACES)))
    np.testing.assert_allclose(normals, [getattr(reference, operator.__name__)(v, FACES) for v in vertices], atol=1e-6)


def test_normals_of_the_octahedron_point_outward(f32):
    vertices, faces = array(OCTAHEDRON[None]), array(FACES)
    np.testing.assert_allclose(read(vertex_normals(vertices, faces))[0], OCTAHEDRON, atol=1e-6)
    np.testing.assert_allclose(read(face_normals(vertices, faces))[0], OCTAHEDRON[FACES].sum(axis=1) / 3**0.5, atol=1e-6)


@pytest.mark.parametrize("operator", [vertex_normals, face_normals])
def test_normals_of_a_tiny_mesh(f32, rng, operator):
    """Products of edges of 1e-12 are below what float32 squares."""
    vertices = octahedra(rng, 1)
    tiny = read(operator(array(1e-12 * vertices), array(FACES)))
    np.testing.assert_allclose(tiny, read(operator(array(vertices), array(FACES))), atol=1e-5)


def test_no_area_and_no_faces_give_no_normal(f32):
    vertices = array([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 0, 5]]])
    faces = array([[0, 1, 2]])
    for operator, shape in ((vertex_normals, (1, 4, 3)), (face_normals, (1, 1, 3))):
        np.testing.assert_array_equal(read(operator(vertices, faces)), np.zeros(shape))
        (grad,) = gradients(lambda operator=operator: operator(vertices, faces), [vertices], np.ones(shape))
        np.testing.assert_array_equal(grad, np.zeros((1, 4, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_vertex_spoils_no_other_normal(f32, rng, bad):
    vertices = octahedra(rng, 1)
    vertices[0, 5] = [0, bad, 0]
    given, faces, rest = array(vertices), array(FACES), array(FACES[(FACES != 5).all(axis=1)])
    normals = read(vertex_normals(given, faces))
    np.testing.assert_allclose(normals[0], reference.vertex_normals(vertices[0], FACES), atol=1e-6)
    cotangent = rng.standard_normal((1, 6, 3))
    (grad,), (by_rest,) = (gradients(lambda f=f: vertex_normals(given, f), [given], cotangent) for f in (faces, rest))
    np.testing.assert_allclose(grad, by_rest, atol=1e-6)
    assert np.isfinite(normals).all() and np.isfinite(grad).all() and (grad[0, 5] == 0).all()


# --- Tangents and normal maps -----------------------------------------------------------------------------------


def texture_places(rng):
    """uv (1, 24, 2) with a seam around each face, some mirrored."""
    return rng.uniform(0, 1, (1, 24, 2)), np.arange(24).reshape(8, 3)


@pytest.mark.parametrize("batch, uv_batch", [(1, 1), (3, 1), (1, 3)])
def test_tangents_match_the_formula(f32, rng, batch, uv_batch):
    vertices, (uv, uv_faces) = octahedra(rng, batch), texture_places(rng)
    uv = np.concatenate([uv + 0.02 * k * rng.uniform(0, 1, uv.shape) for k in range(uv_batch)])
    found = face_tangents(array(vertices), array(FACES), array(uv), array(uv_faces))
    for b in range(max(batch, uv_batch)):
        want = reference_shading.face_tangents(vertices[b % batch], FACES, uv[b % uv_batch], uv_faces)
        for x, y in zip(found, want, strict=True):
            np.testing.assert_allclose(read(x)[b], y, atol=2e-4)


def test_tangents_of_a_picture_on_the_wall(f32):
    """A square that faces +z and shows an image upright: u runs along +x, and v down."""
    vertices, faces = array([[[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]]), array([[0, 1, 2], [0, 2, 3]])
    uv = array([[[0.0, 1], [1, 1], [1, 0], [0, 0]]])
    tangents, bitangents = face_tangents(vertices, faces, uv, faces)
    np.testing.assert_allclose(read(tangents), [[(1, 0, 0)] * 2], atol=1e-6)
    np.testing.assert_allclose(read(bitangents), [[(0, 1, 0)] * 2], atol=1e-6)
    normals = face_normals(vertices, faces)
    tilted = read(perturb_normals(normals, tangents, bitangents, array([[(0.0, 0, 1), (0.6, 0.8, 0)]])))
    np.testing.assert_allclose(tilted, [[(0, 0, 1), (0.6, 0.8, 0)]], atol=1e-6)


def test_faces_without_area_have_no_tangents(f32, rng):
    """In space, in the texture, or with a corner that is not finite; the others do not notice."""
    vertices, (uv, uv_faces) = octahedra(rng, 1), texture_places(rng)
    uv[0, uv_faces[1, 2]] = uv[0, uv_faces[1, 0]]
    uv[0, uv_faces[2, 1], 0] = np.nan
    faces = FACES.copy()
    faces[3] = faces[3, 0]
    vertices[0, 5] = np.inf
    given = array(vertices)
    shown = [lambda k=k: face_tangents(given, array(faces), array(uv), array(uv_faces))[k] for k in range(2)]
    for f in shown:
        t = read(f())[0]
        assert np.isfinite(t).all() and (t[1:] == 0).all() and abs(np.linalg.norm(t[0]) - 1) < 1e-5
        (grad,) = gradients(f, [given], rng.standard_normal((1, 8, 3)))
        assert np.isfinite(grad).all() and (grad[0, [1, 3, 5]] == 0).all() and grad[0, faces[0]].any()


def test_a_normal_map_of_zeros_gives_no_normal(f32, rng):
    values = [rng.standard_normal((1, 4, 3)) for _ in range(4)]
    values[3][0, 1], values[0][0, 2] = 0, np.nan
    arrays = [array(x) for x in values]
    assert (read(perturb_normals(*arrays))[0, 1:3] == 0).all()
    for grad in gradients(lambda: perturb_normals(*arrays), arrays, np.ones((1, 4, 3))):
        assert np.isfinite(grad).all() and (grad[0, 1:3] == 0).all() and grad.any()


def test_bad_normal_maps_are_refused(f32, rng):
    normals, short, double = array(np.ones((3, 4, 3))), array(np.ones((1, 3, 3))), array(np.ones((2, 4, 3)))
    with pytest.raises(ValueError, match=r"mapped: expected one entry per normal, 4, got shape \(1, 3\)"):
        perturb_normals(normals, normals, normals, short)
    with pytest.raises(ValueError, match="tangents: expected a batch of 1 or 3, got 2"):
        perturb_normals(normals, double, normals, normals)
    vertices, (uv, uv_faces) = array(octahedra(rng, 1)), texture_places(rng)
    with pytest.raises(ValueError, match=r"uv_faces: expected one entry per face, 8, got shape \(7,\)"):
        face_tangents(vertices, array(FACES), array(uv), array(uv_faces[:7]))
    with pytest.raises(ValueError, match="uv_faces: expected indices from 0 to 23, got .* in face 7"):
        face_tangents(vertices, array(FACES), array(uv), array(uv_faces + (uv_faces == 23)))
    with pytest.raises(ValueError, match=r"uv: expected \(B, T\) of vec2"):
        face_tangents(vertices, array(FACES), vertices, array(uv_faces))


# --- Shade ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("textured", [False, True])
@pytest.mark.parametrize("views, light_batch, paint_batch", [(1, 1, 1), (3, 1, 1), (1, 3, 1), (3, 3, 3), (1, 1, 3)])
def test_shade_matches_the_formula(f32, rng, textured, views, light_batch, paint_batch):
    vertices, lights = octahedra(rng, views), lamps(rng, light_batch)
    paint = rng.uniform(0, 1, ((paint_batch,) if paint_batch > 1 or not textured else ()) + ((8, 3, 3, 3) if textured else (6, 3)))
    lit = read(shade(mesh_of(vertices, **{"texels" if textured else "colors": paint}), make(lights)))
    want = expected(vertices, paint, lights, textured)
    assert lit.shape == (want.shape[1:] if textured and len(want) == 1 else want.shape)
    np.testing.assert_allclose(lit.reshape(want.shape), want, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_light_need_not_be_in_a_list(f32, rng, kind):
    mesh = mesh_of(octahedra(rng, 1), rng.uniform(0, 1, (1, 6, 3)))
    light = KINDS[kind]()
    np.testing.assert_array_equal(read(shade(mesh, light)), read(shade(mesh, [light])))


def test_no_lights_leave_the_colors_as_they_are(f32, rng):
    mesh = mesh_of(octahedra(rng, 1), rng.uniform(0, 1, (1, 6, 3)))
    assert shade(mesh, None) is mesh.colors and shade(mesh, []) is mesh.colors


def test_light_from_above(f32):
    mesh = mesh_of(OCTAHEDRON[None], np.ones((1, 6, 3)))
    lit = read(shade(mesh, [AmbientLight(0.25), DirectionalLight((0, 7, 0), (0.5, 0, 0)), PointLight((0, 3, 0), (0, 0, 0.5))]))[0]
    np.testing.assert_allclose(lit[2], [0.75, 0.25, 0.75], atol=1e-6)
    np.testing.assert_allclose(lit[[0, 1, 3, 4, 5]], np.full((5, 3), 0.25), atol=1e-6)


def test_gradients_in_single_precision(f32, rng):
    """Every device against differences of the reference: a kernel that loses gradients on one of them shows here."""
    for textured in (False, True):
        vertices, lights = octahedra(rng, 1), lamps(rng, 2)
        paint = rng.uniform(0, 1, (8, 3, 3, 3) if textured else (1, 6, 3))
        name = "texels" if textured else "colors"
        mesh, made = mesh_of(vertices, **{name: paint}), make(lights)
        params = [mesh.vertices, getattr(mesh, name), *(x for light in made for x in arrays_of(light).values())]
        values = [vertices, paint, *(x for _, *fields in lights for x in fields)]
        cotangent = rng.standard_normal((2, *paint.shape[0 if textured else 1 :]))
        grads = gradients(lambda mesh=mesh, made=made: shade(mesh, made), params, cotangent)

        def loss(values, textured=textured, cotangent=cotangent):
            vertices, paint, *fields = values
            lights = [("ambient", fields[0]), ("directional", *fields[1:3]), ("point", *fields[3:5])]
            return (cotangent * expected(vertices, paint, lights, textured)).sum()

        for k, grad in enumerate(grads):
            d = rng.standard_normal(values[k].shape)
            ends = [loss([x + h * d if i == k else x for i, x in enumerate(values)]) for h in (1e-6, -1e-6)]
            slope = (ends[0] - ends[1]) / 2e-6
            assert abs((grad * d).sum() - slope) < 1e-3 * max(1.0, abs(slope)), (textured, k)


def test_gradients_repeat_bitwise(f32, rng):
    u, v = np.meshgrid(np.arange(60), np.arange(60), indexing="ij")
    corner = (u * 60 + v)[:-1, :-1].reshape(-1)
    faces = np.concatenate([np.stack([corner, corner + 1, corner + 61], 1), np.stack([corner, corner + 61, corner + 60], 1)])
    mesh = mesh_of(rng.standard_normal((1, 3600, 3)), rng.uniform(0, 1, (1, 3600, 3)), faces=faces)
    lights, cotangent = make(lamps(rng, 1)), rng.standard_normal((1, 3600, 3))
    params = [mesh.vertices, mesh.colors, *(x for light in lights for x in arrays_of(light).values())]
    runs = [gradients(lambda: shade(mesh, lights), params, cotangent) for _ in range(2)]
    assert all(np.array_equal(a, b) and a.any() for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("textured", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_vertex_spoils_no_light(f32, rng, textured, bad):
    """Also where the loss asks about the bad vertex itself."""
    vertices, lights = octahedra(rng, 1), [AmbientLight(), DirectionalLight((1, 2, 3)), PointLight((-1, 3, 2))]
    vertices[0, 5] = bad
    paint = {"texels": rng.uniform(0, 1, (8, 2, 2, 3))} if textured else {"colors": rng.uniform(0, 1, (1, 6, 3))}
    mesh = mesh_of(vertices, **paint)
    assert np.isfinite(read(shade(mesh, lights))).all()
    params = [mesh.vertices, *(x for light in lights for x in arrays_of(light).values())]
    grads = gradients(lambda: shade(mesh, lights), params, rng.standard_normal((8, 2, 2, 3) if textured else (1, 6, 3)))
    assert all(np.isfinite(g).all() and g.any() for g in grads)


def test_a_direction_of_length_zero_lights_nothing(f32, rng):
    mesh = mesh_of(octahedra(rng, 1), np.ones((1, 6, 3)))
    light = DirectionalLight(array([0.0, 0.0, 0.0]))
    np.testing.assert_array_equal(read(shade(mesh, light)), np.zeros((1, 6, 3)))
    for grad in gradients(lambda: shade(mesh, light), [mesh.vertices, light.direction, light.intensity], np.ones((1, 6, 3))):
        np.testing.assert_array_equal(grad, np.zeros_like(grad))


def test_the_camera_sees_the_highlights(f32, rng):
    mesh, material = mesh_of(octahedra(rng, 1), np.ones((1, 6, 3))), Material(0.0, 1.0, 3.0)
    lights, camera = [DirectionalLight((0, 0, 1), 1.0)], Camera.look_at([(0, 1, 3), (1, 2, 3)])
    frame = np.zeros((2, 5, 3))
    frame[:, 3] = read(camera.eye)
    lit = read(shade(mesh, lights, material, camera=camera))
    np.testing.assert_allclose(lit, read(shade(mesh, lights, material, frame=array(frame))), atol=1e-6)
    assert lit.any()
    params = [camera.eye, camera.at]
    by_eye, by_at = gradients(lambda: shade(mesh, lights, material, camera=camera), params, rng.standard_normal((2, 6, 3)))
    assert by_eye.all() and not by_at.any()
    with pytest.raises(ValueError, match="frame: expected the camera that sees the highlights"):
        shade(mesh, lights, material)
    matte = read(shade(mesh, lights, Material(0.5)))
    np.testing.assert_allclose(matte, 0.5 * read(shade(mesh, lights)), atol=1e-6)


def test_fields_of_lights(f32):
    assert AmbientLight(0.3).intensity.shape == () and AmbientLight([[0.1, 0.2, 0.3]]).intensity.shape == (1,)
    np.testing.assert_allclose(read(AmbientLight(0.3).intensity), [0.3] * 3, atol=1e-7)
    position = array(np.ones((2, 3)))
    light = PointLight(position, (1, 0, 0))
    assert light.position is position and light.intensity.grad is not None


BAD_LIGHTS = [
    (lambda: AmbientLight([0.1, 0.2]), r"intensity: expected three numbers or \(B, 3\) numbers, got shape \(2,\)"),
    (lambda: AmbientLight(float("inf")), r"intensity: expected finite numbers"),
    (lambda: AmbientLight("bright"), r"intensity: expected three numbers"),
    (lambda: AmbientLight(array(0.5)), r"intensity: expected \(\) or \(B,\) of vec3"),
    (lambda: DirectionalLight((0, 0, 0)), r"direction: expected a direction .* length zero"),
    (lambda: PointLight((0, float("nan"), 0)), r"position: expected finite numbers"),
]


@pytest.mark.parametrize("make_light, message", BAD_LIGHTS)
def test_bad_lights_are_refused(f32, make_light, message):
    with pytest.raises(ValueError, match=message):
        make_light()


def test_a_number_where_a_gradient_may_be_asked_for_is_refused(f32, rng):
    """Fields are arrays; what replaces one has to be, too."""
    sphere, camera, light, material = dr.shapes.icosphere(1), dr.Camera.orbit(3.0, 10, 20, size=8), DirectionalLight((0, 1, 0)), dr.Material()
    light.intensity = 0.5
    with pytest.raises(ValueError, match=r"lights\[1\].intensity: expected an array, .*, got float; change it in place with dr.write"):
        dr.SoftRenderer()(sphere, camera, [AmbientLight(), light])
    light.intensity, material.shininess = dr.array([0.5, 0.5, 0.5]), 3
    with pytest.raises(ValueError, match=r"material.shininess: expected an array, .*, got int"):
        dr.SoftRenderer()(sphere, camera, light, material=material)
    camera.fov = 40.0
    with pytest.raises(ValueError, match=r"camera.fov: expected an array, .*, got float"):
        dr.SoftRenderer()(sphere, camera, light)


def test_bad_meshes_are_refused(f32, rng):
    vertices = octahedra(rng, 2)
    with pytest.raises(ValueError, match="colors or texels to light, got neither"):
        shade(mesh_of(vertices), AmbientLight())
    with pytest.raises(ValueError, match=r"colors: expected one entry per vertex, 6, got shape \(1, 5\)"):
        shade(mesh_of(vertices, np.ones((1, 5, 3))), AmbientLight())
    with pytest.raises(ValueError, match=r"texels: expected one entry per face, 8, got shape \(6, 2, 2\)"):
        shade(mesh_of(vertices, texels=np.ones((6, 2, 2, 3))), AmbientLight())
    with pytest.raises(ValueError, match=r"lights\[0\]\.direction: expected a batch of 1 or 4, got 3"):
        shade(mesh_of(vertices, np.ones((1, 6, 3))), DirectionalLight(np.ones((3, 3)), np.ones((4, 3))))
    with pytest.raises(ValueError, match="lights: expected AmbientLight.* got float at index 1"):
        shade(mesh_of(vertices, np.ones((1, 6, 3))), [AmbientLight(), 0.5])
    for bad in (6, -1):
        for operator in (vertex_normals, face_normals):
            with pytest.raises(ValueError, match=rf"faces: expected indices from 0 to 5, got \[0, 1, {bad}\] in face 1"):
                operator(array(vertices), array([[0, 1, 2], [0, 1, bad]]))
    with pytest.raises(ValueError, match="vertices: expected a Taichi array"):
        vertex_normals(vertices, array(FACES))


# --- In double precision, together, since a change of it compiles everything anew -------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("operator", [vertex_normals, face_normals])
def test_gradients_of_normals(f64, rng, operator, batch):
    vertices, faces = array(octahedra(rng, batch)), array(FACES)
    assert_gradients(lambda: operator(vertices, faces), {"vertices": vertices}, rng)


@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_of_tangents(f64, rng, batch):
    vertices, (uv, uv_faces) = array(octahedra(rng, batch)), texture_places(rng)
    for k in range(2):
        shown = lambda k=k: face_tangents(vertices, array(FACES), array(np.repeat(uv, 2, axis=0)), array(uv_faces))[k]  # noqa: E731
        assert_gradients(shown, {"vertices": vertices}, rng)


@pytest.mark.parametrize("rows", [(1, 1, 1, 1), (3, 1, 1, 3), (3, 3, 3, 1)])
def test_perturbed_normals(f64, rng, rows):
    values = [rng.standard_normal((n, 7, 3)) for n in rows]
    arrays = [array(x) for x in values]
    names = ("normals", "tangents", "bitangents", "mapped")
    np.testing.assert_allclose(read(perturb_normals(*arrays)), reference_shading.perturb(*values), atol=1e-12)
    assert_gradients(lambda: perturb_normals(*arrays), dict(zip(names, arrays, strict=True)), rng)


# Batches of vertices, light fields and colors or texels.
@pytest.mark.parametrize("textured", [False, True])
@pytest.mark.parametrize("views, light_batch, paint_batch", [(1, 1, 1), (3, 1, 1), (1, 3, 1), (3, 3, 3)])
def test_gradients_of_shade(f64, rng, textured, views, light_batch, paint_batch):
    paint = rng.uniform(0, 1, ((paint_batch,) if paint_batch > 1 or not textured else ()) + ((8, 2, 2, 3) if textured else (6, 3)))
    mesh = mesh_of(octahedra(rng, views), **{"texels" if textured else "colors": paint})
    lights = make(lamps(rng, light_batch))
    params = {"vertices": mesh.vertices, "paint": mesh.texels if textured else mesh.colors}
    params |= {f"{type(light).__name__}.{name}": x for light in lights for name, x in arrays_of(light).items()}
    assert_gradients(lambda: shade(mesh, lights), params, rng, directions=3)


@pytest.mark.parametrize("kind", ["directional", "point"])
def test_gradients_in_light_fields_of_different_batches(f64, rng, kind):
    mesh = mesh_of(octahedra(rng, 1), rng.uniform(0, 1, (1, 6, 3)))
    light = KINDS[kind](rng.standard_normal((1, 3)) * 2, rng.uniform(0.1, 1, (3, 3)))
    params = {"vertices": mesh.vertices, **arrays_of(light)}
    assert_gradients(lambda: shade(mesh, light), params, rng)


@pytest.mark.parametrize("textured", [False, True])
@pytest.mark.parametrize("model", ["phong", "blinn-phong"])
def test_meshes_with_highlights(f64, rng, textured, model):
    """Against the reference at the vertices, or in the middle of the faces, and with gradients."""
    vertices, frame = octahedra(rng, 1), rng.standard_normal((2, 5, 3)) * 3
    paint = rng.uniform(0, 1, (8, 2, 2, 3)) if textured else rng.uniform(0, 1, (1, 6, 3))
    mesh = mesh_of(vertices, **{"texels" if textured else "colors": paint})
    lights, material, eyes = [AmbientLight(0.2), PointLight((2, 3, 1), 0.8)], Material((0.9, 0.8, 0.7), 0.6, 5.0, model), array(frame)
    point = {"kind": "point", "position": np.array([2, 3, 1]), "intensity": np.full(3, 0.8), "attenuation": False}
    lamps = [{"kind": "ambient", "intensity": np.full(3, 0.2)}, point]
    surface = np.array([0.9, 0.8, 0.7]), 0.6, 5.0, model
    lit = read(shade(mesh, lights, material, frame=eyes))
    for b in range(2):
        places = vertices[0][FACES].mean(axis=1) if textured else vertices[0]
        normals = (reference.face_normals if textured else reference.vertex_normals)(vertices[0], FACES)
        scattered = reference_shading.shade(np.ones_like(places), normals, places, lamps, (surface[0], 0.0, 5.0, model), frame[b, 3])
        mirrored = reference_shading.shade(np.zeros_like(places), normals, places, lamps, surface, frame[b, 3])
        shape = (8, 1, 1, 3) if textured else (6, 3)
        np.testing.assert_allclose(
            lit[b], paint.reshape(paint.shape[-4 if textured else -2 :]) * scattered.reshape(shape) + mirrored.reshape(shape), atol=1e-12
        )
    params = {"vertices": mesh.vertices, "paint": mesh.texels if textured else mesh.colors, "frame": eyes}
    params |= {name: x for name, x in vars(material).items() if name != "model"} | arrays_of(lights[1])
    assert_gradients(lambda: shade(mesh, lights, material, frame=eyes), params, rng, directions=2)
