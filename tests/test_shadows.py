"""Shadows: where rays say they are, no acne, no leaks; gradients of each operator, of whole pictures, and against rays; fits; bad input."""

import itertools

import numpy as np
import pytest
import reference_shadows as reference
from contract import assert_gradients, gradients

import taichi_dr as dr
from taichi_dr.camera import camera_frame
from taichi_dr.light_camera import bounding_sphere, light_camera
from taichi_dr.light_places import light_places
from taichi_dr.moments import Receiver, depth_moments, set_visibility
from taichi_dr.raster.blur import blur
from taichi_dr.shading import shade_points
from taichi_dr.shadows import visibility

ABOVE = np.array([0.5, 1.0, 0.3])
LIGHTS = {
    "directional": lambda: dr.DirectionalLight(ABOVE, 0.7),
    "point outside": lambda: dr.PointLight(6 * ABOVE, 0.7),
    "point among": lambda: dr.PointLight((0.7, 1.9, 0.4), 0.7),
    "spot": lambda: dr.SpotLight((0.7, 1.9, 0.4), (-0.7, -1.9, -0.4), 0.7, outer=50),
}
RECEIVER = Receiver(1.1, (0.01, 0.02), 1.0, 0.5, 0.1)


def joined(*meshes):
    """One mesh of several."""
    vertices, faces, first = [], [], 0
    for mesh in meshes:
        vertices.append(dr.read(mesh.vertices)[0])
        faces.append(dr.read(mesh.faces) + first)
        first += len(vertices[-1])
    return dr.Mesh(np.concatenate(vertices), np.concatenate(faces))


def moved(mesh, shift):
    return dr.Mesh(dr.read(mesh.vertices)[0] + np.array(shift), dr.read(mesh.faces))


def over_plane(shape, height=0.8, size=4.0):
    return joined(moved(shape, (0, height, 0)), dr.shapes.plane(size))


def triangles(mesh):
    return dr.read(mesh.vertices)[0].astype(np.float64)[dr.read(mesh.faces)]


def ray(light):
    """The light as the reference has it."""
    if hasattr(light, "position"):
        return {"position": dr.read(light.position).astype(np.float64)}
    return {"direction": dr.read(light.direction).astype(np.float64)}


def seen(mesh, light, points, **maps):
    """(N,): visibility at points (N, 3)."""
    views = dr.array(np.zeros(len(points), np.int32), vectors=False)
    return dr.read(visibility(mesh, light, dr.array(points[None]), views, dr.ShadowMaps(**maps)))[0]


# --- Where shadows are --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("shape", ["sphere", "square"])
def test_shadows_are_where_rays_say(shape, light, f32):
    """Within a texel; nothing leaks into the umbra, and all beside the shadow is lit."""
    mesh = over_plane(dr.shapes.icosphere(2, 0.5) if shape == "sphere" else dr.shapes.plane(1.0))
    source, n = LIGHTS[light](), 120
    x, z = np.meshgrid(np.linspace(-1.9, 1.9, n), np.linspace(-1.9, 1.9, n))
    points = np.stack([x, 1e-5 + 0 * x, z], axis=-1).reshape(-1, 3)
    ours, steps = seen(mesh, source, points), (-1.0, 0.0, 1.0)
    sphere = bounding_sphere(mesh.vertices)
    pictures = light_camera(source, sphere, 1, 512, dr.ShadowMaps().border)
    # The width of a texel on the plane, of light that arrives aslant: not less than what the depth of the plane makes of it.
    away = 1.0 if light == "directional" else np.linalg.norm(ray(source)["position"] - points, axis=1)[:, None]
    texel = sphere.radius * (pictures.texel[0] + pictures.texel[1] * away / sphere.radius) * 1.5
    truth, cast = reference.lit(points, triangles(mesh), **ray(source)), []
    for reach in (1, 5):
        around = [(i, 0, j) for i, j in itertools.product(steps, steps)]
        cast.append(np.array([reference.lit(points + reach * texel * np.array(step), triangles(mesh), **ray(source)) for step in around]))
    assert 0.03 < 1 - truth.mean() < 0.5
    same = (cast[0] == truth).all(axis=0)
    assert same.mean() > 0.95 and ((ours > 0.5) == truth)[same].all()
    clear = same & (cast[1] == truth).all(axis=0)
    assert clear.mean() > 0.7 and ours[clear & ~truth].max() < 0.05 and ours[clear & truth].min() > 0.98
    assert abs(ours.mean() - truth.mean()) < 0.04 * (1 - truth.mean())


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("shape", ["sphere", "cube", "torus", "plane"])
def test_lit_surfaces_have_no_acne(shape, light, f32):
    mesh = {
        "sphere": lambda: dr.shapes.icosphere(3), "cube": lambda: dr.shapes.cube(1.4), "torus": lambda: dr.shapes.torus(0.8, 0.3),
        "plane": lambda: dr.shapes.plane(3.0),
    }[shape]()  # fmt: skip
    source, corners = LIGHTS[light](), triangles(mesh)
    shares = np.random.default_rng(0).dirichlet(np.ones(3), (len(corners), 20 if len(corners) < 100 else 2))
    points = np.einsum("fkc,fcx->fkx", shares, corners).reshape(-1, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.repeat(normals / np.linalg.norm(normals, axis=1, keepdims=True), shares.shape[1], axis=0)
    toward = np.broadcast_to(ABOVE, points.shape) if light == "directional" else ray(source)["position"] - points
    cosines = (toward * normals).sum(axis=1) / np.linalg.norm(toward, axis=1)
    lit = reference.lit(points + 1e-4 * normals, corners, **ray(source)) & (cosines > 0.2)
    if light == "spot":
        lit &= toward @ ray(source)["position"] / np.linalg.norm(toward, axis=1) / np.linalg.norm(ray(source)["position"]) > np.cos(np.radians(50))
    ours = seen(mesh, source, points)
    assert lit.sum() > 20 and ours[lit].min() > 0.98


def test_a_light_among_the_faces_sees_all_around(f32):
    """A room with a light in it, a post in the way, and the seams between its six pictures."""
    room = dr.shapes.cube(4.0)
    mesh = joined(dr.Mesh(dr.read(room.vertices)[0], dr.read(room.faces)[:, ::-1].copy()), moved(dr.shapes.cube(0.4), (0.9, 0.8, 0.1)))
    source, rng = dr.PointLight((0.1, -0.05, 0.02), 1.0), np.random.default_rng(3)
    points = rng.uniform(-1, 1, (4000, 3))
    points *= 1.999 / np.abs(points).max(axis=1, keepdims=True)
    ours, truth = seen(mesh, source, points), reference.lit(points, triangles(mesh), **ray(source))
    assert 0.005 < 1 - truth.mean() < 0.2 and ((ours > 0.5) != truth).mean() < 0.003 and ours[truth].mean() > 0.995


def test_each_light_has_its_own_shadow(f32):
    """In the order of the table; a light that casts none, and those from everywhere, shine through."""
    mesh, point = over_plane(dr.shapes.icosphere(2, 0.5)), np.array([[-0.4, 0.0, -0.24], [1.5, 0.0, 1.5]])
    through = dr.DirectionalLight(ABOVE, 0.5, shadow=False)
    lights = [dr.AmbientLight(0.1), dr.PointLight((0.8, 4.0, 0.48)), through, LIGHTS["directional"]()]
    views = dr.array(np.zeros(2, np.int32), vectors=False)
    ours = dr.read(visibility(mesh, lights, dr.array(point[None]), views, dr.ShadowMaps()))
    np.testing.assert_allclose(ours, [[1, 1], [0, 1], [0, 1]], atol=0.02)  # the directional lights come first
    assert visibility(mesh, [dr.AmbientLight(0.1), through], dr.array(point[None]), views, dr.ShadowMaps()) is None


def test_views_have_their_own_lights_and_meshes(f32):
    """Of a batch of meshes and lights each picture is as of its own alone."""
    sphere, camera = dr.shapes.icosphere(2, 0.5), dr.Camera.look_at((1, 2, 3), (0, 0.3, 0), fov=50, size=32)
    single = [over_plane(sphere, height) for height in (0.7, 1.0)]
    both = dr.Mesh(np.concatenate([dr.read(mesh.vertices) for mesh in single]), single[0].faces)
    renderer, places = dr.DeferredRenderer(shadows=True), [(0.5, 1.6, 0.3), (-0.4, 1.7, 0.2)]
    together = dr.read(renderer(both, camera, dr.PointLight(places)))
    for k in range(2):
        alone = dr.read(renderer(single[k], camera, dr.PointLight(places[k])))[0]
        assert np.abs(together[k] - alone).mean() < 1e-3 and np.abs(together[k] - together[1 - k]).mean() > 5e-3


# --- Operators ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 14), (3, 2)])
def test_blur(size, f64, rng):
    picture = rng.standard_normal((2, *size, 3))
    given = dr.array(picture)
    for row, out in zip(picture, dr.read(blur(given, 1.3)), strict=True):
        np.testing.assert_allclose(out, reference.blurred(row, 1.3), atol=1e-12)
    assert blur(given, 0.0) is given
    assert_gradients(lambda: blur(given, 1.3), {"picture": given}, rng)


def test_moments_and_visibility(f64, rng):
    """Lit and half lit, the least variance, behind nothing, and beyond the cut."""
    depths = dr.array(rng.uniform(1, 3, (1, 20)), vectors=False)
    z = (dr.read(depths)[0] - 2) / 1.5
    np.testing.assert_allclose(dr.read(depth_moments(depths, 2.0, 1.5))[0], np.stack([z, z**2, 1 + 0 * z], axis=1))
    assert_gradients(lambda: depth_moments(depths, 2.0, 1.5), {"depths": depths}, rng)
    mean, share = rng.uniform(0, 0.5, 300), rng.uniform(0.3, 1, 300)
    variance = np.where(np.arange(300) % 3 == 0, 1e-7, rng.uniform(1e-3, 0.05, 300))
    moments = np.stack([share * mean, share * (mean**2 + variance), share], axis=1)
    moments[::3] = np.stack([mean, mean**2 + variance, 1 + 0 * mean], axis=1)[::3]
    d = mean + np.where(np.arange(300) % 3 == 0, rng.uniform(0.01, 0.05, 300), rng.uniform(-0.1, 0.8, 300))
    given, places = dr.array(moments[None]), dr.array(d[None], vectors=False)

    def out():
        found = dr.array(np.zeros((2, 300)), vectors=False)
        set_visibility(given, places, RECEIVER, found, 1)
        return found

    ours = dr.read(out())
    np.testing.assert_allclose(ours[1], reference.visibility(moments, d, *RECEIVER), atol=1e-12)
    assert not ours[0].any() and (ours[1] == 1).any() and (ours[1] == 0).any() and ((ours[1] > 0) & (ours[1] < 1)).sum() > 100
    assert_gradients(out, {"moments": given, "depths": places}, rng, step=1e-7)


@pytest.mark.parametrize("light", LIGHTS)
def test_places_in_pictures(light, f64, rng):
    mesh, source = over_plane(dr.shapes.icosphere(1, 0.5)), LIGHTS[light]()
    pictures = light_camera(source, bounding_sphere(mesh.vertices), 1, 64, 3)
    assert pictures.sides == (6 if light == "point among" else 1)
    points, views = dr.array(rng.uniform(-1, 1, (1, 30, 3)) * (1.5, 0.5, 1.5)), dr.array(np.zeros(30, np.int32), vectors=False)
    options = {"orthographic": light == "directional", "middle": pictures.middle, "radius": pictures.radius}

    def out(which):
        return light_places(points, views, frame, pictures.sides, **options)[which]

    frame = camera_frame(pictures.camera)
    uv, depths, rows = (dr.read(out(k)) for k in range(3))
    screen = dr.read(dr.project(dr.array(np.repeat(dr.read(points), pictures.sides, axis=0)), pictures.camera))[rows, np.arange(30)]
    np.testing.assert_allclose(uv[0], 0.5 + 0.5 * screen[:, :2] * (1, -1), atol=1e-12)
    np.testing.assert_allclose(depths[0], (screen[:, 2] - pictures.middle) / pictures.radius, atol=1e-12)
    assert (uv > 0).all() and (uv < 1).all()
    for which in range(2):
        assert_gradients(lambda k=which: out(k), {"positions": points, "frame": frame}, rng, step=1e-7)
    place = source.direction if light == "directional" else source.position
    fresh = lambda: camera_frame(light_camera(source, bounding_sphere(mesh.vertices), 1, 64, 3).camera)  # noqa: E731
    assert_gradients(fresh, {"place": place}, rng, step=1e-6)


@pytest.mark.parametrize("model", ["phong", None])
def test_shading_counts_what_is_visible(model, f64, rng):
    lights = [
        dr.PointLight((0.5, 1, 2), 0.4),
        dr.AmbientLight(0.2),
        dr.SpotLight((1, 0, 3), (-1, 0, -3), outer=60),
        dr.DirectionalLight((0.1, 0.2, 1)),
    ]
    albedo, positions = dr.array(rng.uniform(0, 1, (1, 50, 3))), dr.array(rng.uniform(-0.5, 0.5, (1, 50, 3)))
    normals = dr.array(rng.uniform(-0.2, 0.2, (1, 50, 3)) + (0, 0, 1))
    shares = dr.array(rng.uniform(0, 1, (3, 50)), vectors=False)
    options = {} if model is None else {"material": dr.Material(0.9, 0.4, 5.0, model), "frame": dr.array(np.tile([0.5, 0.2, 4.0], (1, 8, 1)))}
    lit = lambda some, **more: shade_points(albedo, normals, positions, some, **options, **more)  # noqa: E731
    expected = dr.read(lit(lights[1]))
    for k, light in enumerate((lights[3], lights[0], lights[2])):
        expected = expected + dr.read(shares)[k][None, :, None] * dr.read(lit(light))
    np.testing.assert_allclose(dr.read(lit(lights, visibility=shares)), expected, atol=1e-12)
    params = {"albedo": albedo, "normals": normals, "positions": positions, "visibility": shares, "direction": lights[3].direction}
    params |= {"position": lights[0].position, "intensity": lights[2].intensity}
    assert_gradients(lambda: lit(lights, visibility=shares), params, rng)
    with pytest.raises(ValueError, match="visibility: expected a row per light"):
        lit(lights, visibility=dr.array(np.zeros((2, 50)), vectors=False))


# --- Gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("light", LIGHTS)
def test_gradients_of_a_picture(light, f64, rng):
    """All that is not a choice, by central differences: through occluder and receiver, the light's pictures, and the camera."""
    mesh = over_plane(dr.shapes.icosphere(1, 0.5), size=3.0)
    corners = dr.read(mesh.vertices)
    mesh = mesh.with_vertices(dr.array(corners + rng.uniform(-0.05, 0.05, corners.shape)))
    source, camera = LIGHTS[light](), dr.Camera.look_at((1.1, 2.4, 2.3), (0, 0.2, 0), fov=50.0, size=(12, 16))
    renderer = dr.DeferredRenderer(shadows=dr.ShadowMaps(resolution=64, blur=1.2), near=0.5, far=10.0)
    params = {"vertices": mesh.vertices, "light": source.direction if light == "directional" else source.position, "eye": camera.eye}
    assert_gradients(lambda: renderer(mesh, camera, [dr.AmbientLight(0.2), source], material=dr.Material(0.9, 0.3, 6.0)), params, rng, step=1e-7)


def floor_camera(size):
    """Looks down on a part of the floor from beneath what casts the shadow."""
    return dr.Camera.look_at((-0.9, 0.8, 0.0), (-0.9, 0.0, 0.0), (0, 0, -1), fov=100, size=size)


def floor_points(size):
    """(size^2, 3): where its pixels' centers are."""
    reach = 0.8 * np.tan(np.radians(50.0)) * (2 * np.arange(size) + 1 - size) / size
    x, z = np.meshgrid(-0.9 + reach, reach)
    return np.stack([x, 0 * x, z], axis=-1).reshape(-1, 3)


FLOOR = dr.shapes.plane
HUNG = (0.05, 1.2, 0.03)  # where the square that casts the shadow is


def hung_square(shift=(0.0, 0.0, 0.0)):
    tilted = dr.read(dr.shapes.plane(0.7).vertices)[0].astype(np.float64) @ np.array([[1, 0.2, 0.1], [-0.2, 1, 0], [-0.1, 0, 1.0]])
    return tilted + HUNG + shift


def floor_mesh(shift=None):
    floor, square = FLOOR(6.0), dr.shapes.plane(0.7)
    corners = np.concatenate([hung_square() if shift is None else hung_square(shift), dr.read(floor.vertices)[0]])
    return dr.Mesh(corners, np.concatenate([dr.read(square.faces), dr.read(floor.faces) + 4]), np.ones((8, 3)))


def cast_picture(size, kind, place, shift=(0.0, 0.0, 0.0), samples=4):
    """(size, size): ambient and one light on the floor, in NumPy, by rays."""
    points = floor_points(size * samples)
    toward = np.broadcast_to(place, points.shape) if kind == "direction" else place - points
    cosine = np.maximum(toward[:, 1], 0) / np.linalg.norm(toward, axis=1)
    corners = hung_square(shift)[dr.read(dr.shapes.plane(0.7).faces)]
    light = 0.3 + 0.7 * cosine * reference.lit(points, corners, **{kind: np.asarray(place, np.float64)})
    return light.reshape(size, samples, size, samples).mean(axis=(1, 3))


PLACES = {"direction": np.array([0.75, 0.9, 0.1]), "position": np.array([1.2, 2.6, 0.2])}


def lamp(kind, place):
    return dr.DirectionalLight(place, 0.7) if kind == "direction" else dr.PointLight(place, 0.7)


@pytest.mark.parametrize("kind", PLACES)
def test_gradients_agree_with_rays(kind, f32):
    """Of the mean of a picture times smooth weights, in the light and in the place of what casts the shadow, against moved rays."""
    size, h, place = 96, 0.03, PLACES[kind]
    x, z = floor_points(size)[:, 0].reshape(size, size), floor_points(size)[:, 2].reshape(size, size)
    for weights in (x + 0.9, z, np.cos(2 * x) + 0.5 * z):
        loss, light, shift = (lambda image, w=weights: (w * image).mean()), lamp(kind, place), np.zeros(3)
        mesh = floor_mesh()
        params = [light.direction if kind == "direction" else light.position, mesh.vertices]
        renderer = dr.DeferredRenderer(shadows=True, near=0.05)
        cotangent = np.zeros((1, size, size, 4))
        cotangent[0, ..., 0] = weights / size**2
        by_light, by_vertices = gradients(lambda m=mesh, p=light, r=renderer: r(m, floor_camera(size), [dr.AmbientLight(0.3), p]), params, cotangent)
        by_shift = by_vertices[0, :4].sum(axis=0)
        rays = [[loss(cast_picture(size, kind, place + s * h * axis, shift)) for s in (1, -1)] for axis in np.eye(3)]
        moves = [[loss(cast_picture(size, kind, place, s * h * axis)) for s in (1, -1)] for axis in np.eye(3)]
        for ours, ends in ((by_light, rays), (by_shift, moves)):
            truth = np.array([(above - below) / (2 * h) for above, below in ends])
            cosine = ours @ truth / np.linalg.norm(ours) / np.linalg.norm(truth)
            assert cosine > 0.97 and 0.8 < np.linalg.norm(ours) / np.linalg.norm(truth) < 1.25, (ours, truth)


def test_two_runs_agree_bitwise(f32):
    mesh, light, camera = over_plane(dr.shapes.icosphere(2, 0.5)), LIGHTS["point among"](), dr.Camera.look_at((1, 2, 3), (0, 0.3, 0), size=40)
    run = lambda: gradients(lambda: dr.DeferredRenderer(shadows=True)(mesh, camera, light), [mesh.vertices, light.position], np.ones((1, 40, 40, 4)))  # noqa: E731
    assert all(np.array_equal(one, other) and one.any() for one, other in zip(run(), run(), strict=True))


# --- Fits ---------------------------------------------------------------------------------------------------------


def fit(renderer, mesh_of, lights, params, target, steps, lr):
    loss, adam = dr.scalar(), dr.optim.Adam(params, lr=lr)
    for _ in range(steps):
        with dr.Tape(loss):
            dr.losses.mse(renderer(mesh_of(), floor_camera(48), lights), target, loss)
        adam.step()
    return float(dr.read(loss))


def rgba(picture):
    image = np.ones((1, *picture.shape, 4))
    image[0, ..., :3] = picture[..., None]
    return dr.array(image)


def test_a_light_is_found_by_its_shadow(f32):
    """The target is cast by rays."""
    light, mesh = lamp("direction", (0.6, 1.0, 0.35)), floor_mesh()
    target = rgba(cast_picture(48, "direction", PLACES["direction"]))
    renderer = dr.DeferredRenderer(shadows=dr.ShadowMaps(resolution=256, blur=2.0), near=0.05)
    for steps, lr in ((40, 0.03), (20, 0.01)):
        fit(renderer, lambda: mesh, [dr.AmbientLight(0.3), light], [light.direction], target, steps, lr)
    found = dr.read(light.direction)
    cosine = found @ PLACES["direction"] / np.linalg.norm(found) / np.linalg.norm(PLACES["direction"])
    assert np.degrees(np.arccos(min(1.0, cosine))) < 0.5


def test_a_thing_out_of_view_is_found_by_its_shadow(f32):
    """At a known height, since along the light nothing tells where it is."""
    light, shift = lamp("position", PLACES["position"]), np.array([0.2, 0.0, -0.25])
    mesh, target = floor_mesh(), rgba(cast_picture(48, "position", PLACES["position"], shift))
    start = dr.read(mesh.vertices)
    renderer = dr.DeferredRenderer(shadows=dr.ShadowMaps(resolution=256, blur=2.0), near=0.05)
    moving, loss = dr.array(np.zeros(3)), dr.scalar()
    adam = dr.optim.Adam([moving], lr=0.03)
    for _ in range(40):
        here = mesh.with_vertices(dr.array(np.concatenate([start[:, :4] + dr.read(moving), start[:, 4:]], axis=1)))
        with dr.Tape(loss):
            dr.losses.mse(renderer(here, floor_camera(48), [dr.AmbientLight(0.3), light]), target, loss)
        dr.write(moving.grad, dr.read(here.vertices.grad)[0, :4].sum(axis=0) * (1, 0, 1))
        adam.step()
    assert np.abs(dr.read(moving) - shift)[[0, 2]].max() < 0.02


# --- Odd input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(0, 0.8, 0), (0, 0, 0), (0.2, -1, 0.1), (0.5, 0.8, 0), (np.nan, 1, 0), (1e8, 1e8, 0), (0, 1.3, 0)])
def test_lights_anywhere_are_finite(place, f32):
    """In the middle of the sphere, on the plane, below it, on the sphere, nowhere, far away."""
    mesh, camera = over_plane(dr.shapes.icosphere(2, 0.5)), dr.Camera.look_at((1, 2, 3), (0, 0.3, 0), size=24)
    at = [dr.array(np.array(place, np.float64)) for _ in range(3)]
    for light in (dr.PointLight(at[0]), dr.SpotLight(at[1], dr.array([0.0, 0.0, 0.0])), dr.DirectionalLight(at[2])):
        params = [mesh.vertices, *(x for name, x in vars(light).items() if name in ("position", "direction"))]
        renderer = dr.DeferredRenderer(shadows=dr.ShadowMaps(resolution=64))
        assert np.isfinite(dr.read(renderer(mesh, camera, light))).all()
        found = gradients(lambda r=renderer, x=light: r(mesh, camera, x, material=dr.Material(1.0, 0.5)), params, np.ones((1, 24, 24, 4)))
        assert all(np.isfinite(grad).all() for grad in found)


def test_broken_meshes_are_finite(f32):
    """All vertices in one place, none that is finite, some that are not."""
    whole = over_plane(dr.shapes.icosphere(1, 0.5))
    corners = dr.read(whole.vertices)[0]
    for vertices in (0 * corners, np.nan * corners, np.where(np.arange(len(corners))[:, None] == 5, np.nan, corners)):
        mesh, light = dr.Mesh(dr.array(vertices[None]), whole.faces), dr.DirectionalLight(ABOVE)
        camera, renderer = dr.Camera.look_at((1, 2, 3), (0, 0.3, 0), size=24), dr.DeferredRenderer(shadows=True).quiet()
        image = dr.read(renderer(mesh, camera, light))
        grads = gradients(lambda r=renderer, m=mesh, c=camera, x=light: r(m, c, x), [mesh.vertices, light.direction], np.ones(image.shape))
        assert np.isfinite(image).all() and all(np.isfinite(grad).all() for grad in grads)


def test_without_shadows_all_is_as_before(f32):
    mesh, camera = over_plane(dr.shapes.icosphere(2, 0.5)), dr.Camera.look_at((1, 2, 3), (0, 0.3, 0), size=24)
    image = lambda **options: dr.read(dr.DeferredRenderer(**options)(mesh, camera, LIGHTS["directional"]()))  # noqa: E731
    assert np.array_equal(image(), image(shadows=False)) and not np.array_equal(image(), image(shadows=True))


def test_bad_input(f32):
    with pytest.raises(ValueError, match=r"shadows: expected True, False or dr.ShadowMaps\(...\), got 512"):
        dr.DeferredRenderer(shadows=512)
    for options, message in (
        ({"resolution": 8}, "resolution: expected a whole number of at least 16, got 8"),
        ({"blur": -1.0}, "blur: expected a finite number of at least 0, got -1.0"),
        ({"blur": 9.0, "resolution": 32}, "blur: expected a reach, 2.5 times it, of at most 2 texels, got blur 9.0"),
        ({"bleeding": 1.0}, "bleeding: expected a number from 0 to less than 1, got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            dr.ShadowMaps(**options)
