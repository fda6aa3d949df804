"""Clipping in the renderer: cut faces against a NumPy clipper and against rays, gradients through the cuts, and what must not change."""

import numpy as np
import pytest
import reference_clip as reference
from contract import assert_gradients, gradients
from reference_soft import soft_rasterize as reference_image
from test_render import AT, EYE, UP, lit_by, wedge

import taichi_dr as dr

NEAR, FAR = 2.55, 3.15  # planes that cut the wedge and the ground
SMOOTH = {"sigma": 1e-2, "gamma": 1e-1, "near": NEAR, "far": FAR}
HARD = {"distance": "hard", "rgb": "hard", "alpha": "hard"}
CORNERS = np.array([[-40.0, -0.7, -40.0], [40.0, -0.7, -40.0], [40.0, -0.7, 40.0], [-40.0, -0.7, 40.0]])


def scene(rng, paint="colors", batch=1):
    """The wedge on a ground that reaches far behind the camera; every plane between them cuts some face, and some face twice."""
    small = wedge(rng, batch=batch)
    vertices = np.concatenate([dr.read(small.vertices), np.broadcast_to(0.1 * CORNERS * (1, 10, 1), (batch, 4, 3))], axis=1)
    faces = np.concatenate([dr.read(small.faces), [[5, 7, 6], [5, 8, 7]]])
    objects, indices = np.array([0] * 6 + [1] * 2), np.arange(24).reshape(8, 3)
    if paint == "texels":
        return dr.Mesh(vertices, faces, texels=rng.uniform(0, 1, (8, 3, 3, 3)), objects=objects)
    if paint == "texture":
        return dr.Mesh(vertices, faces, uv=rng.uniform(0.1, 0.9, (24, 2)), uv_faces=indices, texture=rng.uniform(0, 1, (3, 4, 3)), objects=objects)
    return dr.Mesh(vertices, faces, rng.uniform(0, 1, (batch, 9, 3)), objects=objects)


def view(size=(6, 8), **options):
    return dr.Camera.look_at(EYE, AT, UP, fov=50.0, size=size, **options)


def seen_by(mesh):
    return (dr.read(mesh.vertices)[0] - EYE) @ reference.axes(EYE, AT, UP).T


# --- Values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ["prod", "sum"])
@pytest.mark.parametrize("orthographic", [False, True], ids=["perspective", "orthographic"])
def test_the_image_is_that_of_a_mesh_cut_before(orthographic, alpha, f64, rng):
    """Cut in NumPy and drawn by the reference, soft edges included; the cuts are corners of the faces like others."""
    mesh, camera = scene(rng), view((20, 26), orthographic=orthographic)
    seen, faces, colors, _ = reference.clip_mesh(seen_by(mesh), dr.read(mesh.faces), dr.read(mesh.colors)[0], NEAR, FAR)
    scale = 1 / np.tan(np.radians(25.0)) / (np.linalg.norm(np.subtract(AT, EYE)) if orthographic else seen[:, 2:])
    screen = np.c_[scale * seen[:, :2], seen[:, 2]]
    settings = {"sigma": 1e-3, "gamma": 1e-2, "near": NEAR * (1 - 1e-12), "far": FAR * (1 + 1e-12), "alpha": alpha}
    expected = reference_image(screen, faces, colors, (20, 26), perspective_correct=True, orthographic=orthographic, **settings)
    if alpha == "sum":
        expected[..., 3] *= len(faces) / 8
    ours = dr.read(dr.SoftRenderer(perspective_correct=True, **(settings | {"near": NEAR, "far": FAR}))(mesh, camera))[0]
    assert len(faces) > 8 and np.abs(ours - expected).max() < 1e-6 and expected[..., 3].max() > 0.9 / (8 if alpha == "sum" else 1)


@pytest.mark.parametrize("near, far", [(NEAR, FAR), (0.01, 20.0), (2.9, 2.95)])
@pytest.mark.parametrize("orthographic", [False, True], ids=["perspective", "orthographic"])
def test_pictures_are_what_rays_meet(orthographic, near, far, f32, rng):
    """Every output, at pixels whose ray is not near an edge."""
    mesh, size = scene(rng, "texture"), (40, 52)
    half = np.tan(np.radians(25.0)) * np.linalg.norm(np.subtract(AT, EYE)) if orthographic else None
    faces, seen, vertices, uv = dr.read(mesh.faces), seen_by(mesh), dr.read(mesh.vertices)[0], dr.read(mesh.uv)[0]
    names, depth, weights = reference.cast(seen, faces, size, 50.0, near, far, half)
    heat = rng.uniform(0, 1, (1, 9, 6))
    camera = view(size, orthographic=orthographic)
    wanted = ["alpha", "face_id", "object_id", "depth", "position", "uv", "normal", "object_mask"]
    renderer = dr.SoftRenderer(near=near, far=far, shading="flat", **HARD)
    ours = renderer(mesh, camera, outputs=wanted, attributes={"heat": dr.array(heat, vectors=False)})
    masks = [dr.read(mask)[0] for mask in ours.pop("object_mask")]
    ours = {name: dr.read(picture)[0] for name, picture in ours.items()}
    sure = ours["face_id"] == names  # rounding may say otherwise on an edge
    assert sure.mean() > 0.995 and (names >= 0).sum() > 30
    hit = sure & (names >= 0)
    assert np.array_equal(ours["alpha"][sure], (names >= 0)[sure].astype(float))
    assert np.array_equal(ours["object_id"][sure], np.where(names >= 0, dr.read(mesh.objects)[names], -1)[sure])
    assert np.abs(masks[1] - (names >= 6))[sure].max() < 1e-5

    def at_hits(values, indices):
        return np.einsum("nk,nkc->nc", weights[hit], values[indices[names[hit]]])

    a, b, c = vertices[faces].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    assert np.abs(ours["depth"][hit] - depth[hit]).max() < 1e-4 * far
    assert np.abs(ours["position"][hit] - at_hits(vertices, faces)).max() < 1e-4 * far
    assert np.abs(ours["uv"][hit] - at_hits(uv, dr.read(mesh.uv_faces))).max() < 1e-4
    assert np.abs(ours["heat"][hit] - at_hits(heat[0], faces)).max() < 1e-4
    assert np.abs(ours["normal"][hit] - normals[names[hit]]).max() < 1e-4


def test_texels_of_a_cut_face_stay_where_they_are(f32, rng):
    mesh, size, resolution = scene(rng, "texels"), (60, 60), 3
    names, _, weights = reference.cast(seen_by(mesh), dr.read(mesh.faces), size, 50.0, NEAR, FAR)
    ours = dr.read(dr.SoftRenderer(near=NEAR, far=FAR, perspective_correct=True, **HARD)(mesh, view(size)))[0, ..., :3]
    column, row = (np.minimum((weights[..., k] * resolution).astype(int), resolution - 1) for k in (0, 1))
    upper = (row + column < resolution - 1) & ((weights[..., 0] + weights[..., 1]) * resolution - column - row > 1)
    row, column = np.where(upper, resolution - 1 - row, row), np.where(upper, resolution - 1 - column, column)
    expected = np.where(names[..., None] >= 0, dr.read(mesh.texels)[names, row, column], 0)
    assert (np.abs(ours - expected).max(axis=-1) < 1e-6).mean() > 0.99 and (names >= 6).sum() > 100 and (names < 6).sum() > 100


def test_a_ground_under_the_camera(f32):
    """Three kilometers of it, two faces: sharp up to the horizon, which is where the far plane cuts."""
    ground = dr.Mesh(CORNERS * (40, 1, 40), [[0, 2, 1], [0, 3, 2]], uv=CORNERS[:, ::2], texture=np.random.default_rng(0).random((8, 8, 3)))
    eye, at, size = (0.3, 1.0, 0.2), (0.0, 0.8, -3.0), (48, 64)
    camera, renderer = dr.Camera.look_at(eye, at, fov=60.0, size=size), dr.SoftRenderer(near=0.1, far=100.0, **HARD)
    out = renderer(ground, camera, outputs=["position", "alpha", "depth"])
    out = {name: dr.read(picture)[0] for name, picture in out.items()}
    seen = (dr.read(ground.vertices)[0] - eye) @ reference.axes(eye, at, (0, 1, 0)).T
    names, depth, _ = reference.cast(seen, dr.read(ground.faces), size, 60.0, 0.1, 100.0)
    assert np.array_equal(out["alpha"], (names >= 0).astype(float)) and 0.4 < out["alpha"].mean() < 0.6
    assert np.abs(out["depth"] / depth - 1)[names >= 0].max() < 1e-3
    assert np.abs(out["position"][names >= 0][:, 1] + 0.7).max() < 1e-3


@pytest.mark.parametrize("antialias", [1, 2])
def test_the_silhouette_ends_at_the_planes(antialias, f32):
    """A long box seen along its axis: near and far decide what there is of it."""
    vertices = dr.read(dr.shapes.cube().vertices)[0]
    vertices = vertices / np.abs(vertices).max() * (0.5, 0.5, 5.0)
    mesh, camera = dr.Mesh(vertices, dr.read(dr.shapes.cube().faces)), dr.Camera.look_at((0.0, 2.0, 0.0), up=(0, 0, -1), fov=90.0, size=40)
    # Without its lid and its bottom one sees through the middle, and the walls at 0.5 / depth.
    for near, far, middle, wall in ((0.5, 1.4, 0.0, 0.0), (2.6, 9.0, 0.0, 0.0), (0.5, 9.0, 1.0, 1.0), (1.6, 2.4, 0.0, 1.0)):
        alpha = dr.read(dr.SoftRenderer(near=near, far=far, antialias=antialias, sigma=1e-6)(mesh, camera))[0, ..., 3]
        for column, expected in ((20, middle), (25, wall)):
            assert np.abs(alpha[:, column] - expected).max() < (0.3 if expected else 1e-6), (near, far, column)


def test_lens_distortion_after_the_cut(f32, rng):
    """The new corners go through the lens as others do: as of a mesh that was cut before."""
    lens = dr.BrownConrady(-0.1, 0.02, 0.01, -0.02)
    mesh, camera = scene(rng), view((30, 40), distortion=lens)
    seen, faces, colors, _ = reference.clip_mesh(seen_by(mesh), dr.read(mesh.faces), dr.read(mesh.colors)[0], NEAR, FAR)
    cut = dr.Mesh(seen @ reference.axes(EYE, AT, UP) + EYE, faces, colors)
    settings = {"sigma": 1e-4, "gamma": 1e-2}
    expected = dr.read(dr.SoftRenderer(near=NEAR - 1e-4, far=FAR + 1e-4, **settings)(cut, camera))
    ours = dr.read(dr.SoftRenderer(near=NEAR, far=FAR, **settings)(mesh, camera))
    assert np.abs(ours - expected).max() < 2e-2 and np.abs(ours - expected).mean() < 1e-4 and ours[..., 3].max() > 0.9


def test_views_and_meshes_of_a_batch_are_cut_each_for_itself(f32, rng):
    azimuths = [0.0, 100.0, 230.0]
    for paint in ("colors", "texels", "texture"):
        mesh, renderer = scene(rng, paint), dr.SoftRenderer(near=NEAR, far=FAR, sigma=1e-4)
        together = dr.read(renderer(mesh, dr.Camera.orbit(3.0, 20.0, azimuths, size=(20, 24)), lit_by()))
        for k, azimuth in enumerate(azimuths):
            alone = dr.read(renderer(mesh, dr.Camera.orbit(3.0, 20.0, azimuth, size=(20, 24)), lit_by()))
            np.testing.assert_allclose(together[k], alone[0], atol=2e-5)
    meshes, renderer = scene(rng, batch=3), dr.SoftRenderer(near=NEAR, far=FAR, sigma=1e-4)
    together = dr.read(renderer(meshes, view((20, 24))))
    for k in range(3):
        one = dr.Mesh(dr.read(meshes.vertices)[k], dr.read(meshes.faces), dr.read(meshes.colors)[k])
        np.testing.assert_allclose(together[k], dr.read(renderer(one, view((20, 24))))[0], atol=2e-5)


@pytest.mark.parametrize("paint", ["colors", "texels"])
def test_more_colorings_than_views(paint, f32, rng):
    """One view of one cut mesh under three lights, over three backgrounds."""
    mesh, background = scene(rng, paint), dr.array(rng.uniform(0, 1, (3, 3)))
    light = dr.DirectionalLight(rng.uniform(0.2, 1, (3, 3)))
    together = dr.read(dr.SoftRenderer(near=NEAR, far=FAR, background=background)(mesh, view((20, 24)), light))
    for k in range(3):
        alone = dr.DirectionalLight(dr.read(light.direction)[k])
        settings = {"near": NEAR, "far": FAR, "background": tuple(dr.read(background)[k])}
        np.testing.assert_allclose(together[k], dr.read(dr.SoftRenderer(**settings)(mesh, view((20, 24)), alone))[0], atol=2e-5)


# --- Gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orthographic", [False, True], ids=["perspective", "orthographic"])
@pytest.mark.parametrize("paint", ["colors", "texels", "texture"])
def test_gradients_through_the_cuts(paint, orthographic, f64, rng):
    mesh, camera = scene(rng, paint), view(orthographic=orthographic)
    renderer = dr.SoftRenderer(mipmaps=False, **SMOOTH)
    params = {"vertices": mesh.vertices, "eye": camera.eye, "at": camera.at, "up": camera.up, "fov": camera.fov}
    params |= {"colors": {"colors": mesh.colors}, "texels": {"texels": mesh.texels}, "texture": {"texture": mesh.texture, "uv": mesh.uv}}[paint]
    fov = {"fov": params.pop("fov")}  # degrees, which do so little that a small step drowns in rounding
    assert_gradients(lambda: renderer(mesh, camera), params, rng, step=1e-7)
    assert_gradients(lambda: renderer(mesh, camera), fov, rng, step=1e-6)


@pytest.mark.parametrize("shading", ["gouraud", "flat", "phong"])
def test_gradients_under_lights(shading, f64, rng):
    mesh, camera, lights = scene(rng), view(), lit_by()
    renderer = dr.SoftRenderer(shading=shading, **SMOOTH)
    params = {"vertices": mesh.vertices, "colors": mesh.colors, "eye": camera.eye, "position": lights[2].position}
    assert_gradients(lambda: renderer(mesh, camera, lights), params, rng, step=1e-7)


@pytest.mark.parametrize("name", ["depth", "normal", "position", "uv", "alpha", "object_mask"])
def test_gradients_of_outputs(name, f64, rng):
    mesh, camera = scene(rng, "texture"), view()
    renderer = dr.SoftRenderer(shading="phong", antialias=2, **SMOOTH)

    def picture():
        out = renderer(mesh, camera, outputs=[name])[name]
        return out[0] if isinstance(out, list) else out

    params = {"vertices": mesh.vertices, "eye": camera.eye} | ({"uv": mesh.uv} if name == "uv" else {})
    assert_gradients(picture, params, rng, step=1e-7)


@pytest.mark.parametrize("channels", [1, 6])
def test_gradients_of_attributes(channels, f64, rng):
    mesh, camera, renderer = scene(rng), view(), dr.SoftRenderer(**SMOOTH)
    values = dr.array(rng.standard_normal((1, 9, channels)), vectors=False)
    params = {"heat": values, "vertices": mesh.vertices, "fov": camera.fov}
    assert_gradients(lambda: renderer(mesh, camera, attributes={"heat": values})["heat"], params, rng, step=1e-7)


def test_gradients_with_a_lens_and_the_mode_sum(f64, rng):
    lens = dr.BrownConrady(-0.1, 0.02, 0.01, -0.02)
    mesh, camera, renderer = scene(rng), view(distortion=lens), dr.SoftRenderer(alpha="sum", **SMOOTH)
    params = {"vertices": mesh.vertices, "eye": camera.eye, "radial": lens.radial, "tangential": lens.tangential}
    assert_gradients(lambda: renderer(mesh, camera), params, rng, step=1e-7)
    assert_gradients(lambda: renderer(mesh, camera, outputs=["alpha"])["alpha"], {"vertices": mesh.vertices}, rng, step=1e-7)


@pytest.mark.parametrize("paint", ["colors", "texels", "texture"])
def test_gradients_of_a_batch(paint, f64, rng):
    """Three views of one mesh, each cut elsewhere; and for colors three meshes, three views."""
    camera = dr.Camera.look_at(np.add(EYE, rng.uniform(-0.3, 0.3, (3, 3))), AT, size=(6, 5))
    for batch in (1, 3) if paint == "colors" else (1,):
        mesh, renderer = scene(rng, paint, batch), dr.SoftRenderer(mipmaps=False, **SMOOTH)
        params = {"vertices": mesh.vertices, "eye": camera.eye, paint: getattr(mesh, paint)}
        assert_gradients(lambda mesh=mesh, renderer=renderer: renderer(mesh, camera), params, rng, step=1e-7)


@pytest.mark.parametrize("paint", ["colors", "texels"])
def test_gradients_of_more_colorings_than_views(paint, f64, rng):
    mesh, camera, light = scene(rng, paint), view(), dr.DirectionalLight(rng.uniform(0.2, 1, (3, 3)))
    renderer = dr.SoftRenderer(**SMOOTH)
    params = {"vertices": mesh.vertices, "eye": camera.eye, "direction": light.direction, paint: getattr(mesh, paint)}
    assert_gradients(lambda: renderer(mesh, camera, light), params, rng, step=1e-7)


@pytest.mark.parametrize("paint", ["colors", "texels", "texture"])
def test_two_runs_agree_bitwise(paint, f32, rng):
    mesh, camera, renderer = scene(rng, paint), view((20, 20)), dr.SoftRenderer(near=NEAR, far=FAR, sigma=1e-3)
    cotangent = rng.standard_normal((1, 20, 20, 4))
    params = [mesh.vertices, getattr(mesh, paint), camera.eye]
    runs = [gradients(lambda: renderer(mesh, camera, lit_by()), params, cotangent) for _ in range(2)]
    assert all(np.array_equal(a, b) and np.abs(a).max() > 0 for a, b in zip(*runs, strict=True))


# --- What must not change, and what is not there ----------------------------------------------------------------------


@pytest.mark.parametrize("paint", ["colors", "texels", "texture"])
def test_nothing_changes_where_nothing_is_clipped(paint, f32, rng):
    """Bit for bit the picture of the rasterizer itself, whichever planes are just outside of the mesh; clipping has no say."""
    mesh, camera = scene(rng, paint), view((24, 24))
    mesh = mesh.with_vertices(dr.array(dr.read(mesh.vertices) * 0.2))
    depth = dr.read(dr.project(mesh.vertices, camera))[..., 2]
    settings = {"near": 0.99 * float(depth.min()), "far": 1.01 * float(depth.max())}
    if paint == "colors":
        screen = dr.project(mesh.vertices, camera)
        expected = dr.read(dr.soft_rasterize(screen, mesh.faces, mesh.colors, size=(24, 24), **settings))
        assert np.array_equal(dr.read(dr.SoftRenderer(**settings)(mesh, camera)), expected)
    import taichi_dr.render as render

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "Clipped", None)  # a call would raise
        image = dr.read(dr.SoftRenderer(**settings)(mesh, camera))
    assert image[..., 3].max() > 0.9


@pytest.mark.parametrize("paint", ["colors", "texels", "texture"])
@pytest.mark.parametrize("beyond", ["behind", "nearer", "farther"])
def test_a_mesh_out_of_range_leaves_the_background(beyond, paint, f32, rng):
    mesh, camera, background = scene(rng, paint), view((12, 12)), (0.1, 0.2, 0.3)
    mesh = mesh.with_vertices(dr.array(dr.read(mesh.vertices) * 0.1))
    forward = np.subtract(AT, EYE) / np.linalg.norm(np.subtract(AT, EYE))
    shift = {"behind": -10 * forward, "nearer": -2 * forward, "farther": 10 * forward}[beyond]
    mesh = mesh.with_vertices(dr.array(dr.read(mesh.vertices) + shift))
    renderer = dr.SoftRenderer(near=2.0, far=4.0, background=background)
    params = [mesh.vertices, getattr(mesh, paint), camera.eye, camera.at, camera.up, camera.fov]
    assert np.allclose(dr.read(renderer(mesh, camera)), np.float32([*background, 0]), atol=1e-7)
    grads = gradients(lambda: renderer(mesh, camera, lit_by()), params, rng.standard_normal((1, 12, 12, 4)))
    assert not any(np.any(grad) for grad in grads)


@pytest.mark.parametrize("bad", [(np.nan, 0, 0), (0, np.inf, 0), (3e38, -3e38, 3e38)], ids=str)
@pytest.mark.parametrize("paint", ["colors", "texels"])
def test_a_bad_vertex_harms_only_its_faces(paint, bad, f32, rng):
    """Among cut faces: image and gradients are those of the mesh without the faces of that vertex."""
    whole, camera = scene(rng, paint), view((20, 24))
    vertices, faces = dr.read(whole.vertices)[0], dr.read(whole.faces)
    kept = ~(faces == 8).any(axis=1)
    vertices[8] = bad
    broken = whole.with_vertices(dr.array(vertices[None]))
    texels = whole.texels is not None
    expected = dr.Mesh(
        dr.read(whole.vertices)[0], faces[kept], None if texels else dr.read(whole.colors), dr.read(whole.texels)[kept] if texels else None
    )
    renderer, cotangent = dr.SoftRenderer(near=NEAR, far=FAR, sigma=1e-3), rng.standard_normal((1, 20, 24, 4))
    if not np.isfinite(bad).all():
        np.testing.assert_allclose(dr.read(renderer(broken, camera, lit_by())), dr.read(renderer(expected, camera, lit_by())), atol=1e-5)
    results = []
    for mesh in (broken, expected):
        params = [mesh.vertices, mesh.texels if texels else mesh.colors, camera.eye, camera.fov]
        results.append(gradients(lambda mesh=mesh: renderer(mesh, camera, lit_by()), params, cotangent))
    for ours, theirs in zip(*results, strict=True):
        assert np.isfinite(ours).all()
        if not np.isfinite(bad).all():
            ours = ours[kept] if len(ours) == 8 and len(theirs) == 7 else ours
            np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


def test_a_face_that_touches_a_plane(f32):
    """A corner or an edge exactly on a plane, and a face in the plane itself: drawn once or not at all, without NaN."""
    camera, renderer = dr.Camera.look_at((0, 0, 3), size=16), dr.SoftRenderer(near=2.0, far=4.0, sigma=1e-3)
    for depths in ([2, 3, 3], [2, 2, 3], [2, 2, 2], [1, 2, 3], [1, 1, 2], [4, 4, 5], [4, 5, 3], [2, 4, 3], [1, 5, 2], [4, 4, 4]):
        corners = np.array([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
        corners[:, 2] = 3 - np.array(depths)
        mesh = dr.Mesh(corners, [[0, 1, 2]])
        image = dr.read(renderer(mesh, camera))
        assert np.isfinite(image).all()
        grads = gradients(lambda mesh=mesh: renderer(mesh, camera), [mesh.vertices, mesh.colors, camera.eye], np.ones((1, 16, 16, 4)))
        assert all(np.isfinite(grad).all() for grad in grads), depths
        outside = max(depths) <= 2 and min(depths) < 2 or min(depths) >= 4 and max(depths) > 4
        assert outside == (image[..., 3].max() < 0.5), depths


def test_a_moving_cut_is_continuous(f64, rng):
    """As a corner comes through the near plane, a hard picture changes only where the cut moves."""
    camera = dr.Camera.look_at((0, 0, 3), size=32)
    renderer = dr.SoftRenderer(near=2.0, far=4.0, sigma=1e-6)
    pictures = []
    for z in (0.999999, 1.000001):
        mesh = dr.Mesh([[-1.0, -1, z], [1, -1, 0], [0, 1, 0]], [[0, 1, 2]])
        pictures.append(dr.read(renderer(mesh, camera)))
    assert np.abs(pictures[0] - pictures[1]).max() < 1e-3


def test_a_plain_tape_and_a_fit_over_the_planes(f32, rng):
    """A mesh that moves through the near plane step by step keeps finite gradients, and its memory."""
    mesh, camera, renderer = scene(rng), view((16, 16)), dr.SoftRenderer(near=NEAR, far=FAR, sigma=1e-3)
    target, loss = dr.array(np.zeros((1, 16, 16, 4))), dr.scalar()
    start = dr.read(mesh.vertices)
    for step in range(12):
        dr.write(mesh.vertices, start + vec3_row(step))
        with dr.Tape(loss):
            dr.losses.mse(renderer(mesh, camera), target, loss)
        assert np.isfinite(dr.read(mesh.vertices.grad)).all()


def vec3_row(step):
    return np.array([0.0, 0.0, 0.3 * step - 1.5])
