"""Every cause that `diagnose` knows, made to happen in a small scene through the real renderer; and no finding where nothing is wrong."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taichi_dr as dr

MANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SIZE = 24
SOFT = {"sigma": 8e-3, "gamma": 1e-2, "near": 0.5, "far": 10.0}  # an edge of about one pixel


def ball(center=(0, 0, 0), radius=0.8, **options):
    sphere = dr.shapes.icosphere(1)
    vertices = dr.read(sphere.vertices)[0] * radius + center
    colors = options.pop("colors", 0.5 + 0.3 * dr.read(sphere.vertices)[0])
    return dr.Mesh(vertices, dr.read(sphere.faces), colors, **options)


def front(**options):
    return dr.Camera.look_at((0, 0, 3), fov=60, size=SIZE, **options)


def views(*azimuths):
    return dr.Camera.orbit(3, 10, list(azimuths), size=SIZE)


def renderer(**options):
    return dr.SoftRenderer(**{**SOFT, **options})


def step(mesh, camera, r, target, loss_of=dr.losses.mse, weight=1.0, lights=None, more=None):
    """One step of a fit: the tape."""
    loss = dr.scalar()
    with dr.Tape(loss) as tape:
        loss_of(r(mesh, camera, lights), target, loss, weight)
        if more is not None:
            more(loss)
    return tape


def found(mesh, camera, r=None, goal=None, params=None, **options):
    """What is diagnosed after a step towards the picture of `goal`."""
    r = renderer() if r is None else r
    target = renderer()(ball(radius=0.6) if goal is None else goal, camera)
    step(mesh, camera, r, target, **options)
    return dr.diagnose(mesh, camera, r, target=target, params=params)


def only(diagnosis, code, *words):
    """The text of the only finding, which has the code and the words."""
    assert [finding.code for finding in diagnosis.messages] == [code], str(diagnosis)
    text = diagnosis.messages[0].text
    assert all(word in text for word in words), text
    assert str(diagnosis) == f"[{code}] {text}"
    return text


# --- Nothing wrong ------------------------------------------------------------------------------------------------


def test_nothing_wrong_is_an_answer(f32):
    diagnosis = found(ball(), views(0, 100))
    assert diagnosis.messages == [] and diagnosis.codes == set() and str(diagnosis) == "nothing wrong found"


@MANY
@given(
    st.integers(0, 2**31),
    st.floats(0.02, 50),
    st.floats(0.3, 1.2),
    st.floats(15, 75),
    st.floats(0.6, 3),
    st.sampled_from(["mse", "l1", "silhouette_iou"]),
)
def test_healthy_scenes_have_no_findings(f32, seed, unit, radius, fov, pixels, loss):
    """Objects of any size, somewhere near the middle, dented, seen from anywhere, in two views; all of it optimized."""
    rng = np.random.default_rng(seed)
    sphere = dr.shapes.icosphere(1)
    shape = dr.read(sphere.vertices)[0] * rng.uniform(0.6, 1, (42, 1))
    place = rng.uniform(-10, 10, 3)
    far = radius / np.tan(np.radians(fov / 2)) * rng.uniform(1.2, 2)
    camera = dr.Camera.orbit(unit * (far + radius), rng.uniform(-60, 60), rng.uniform(0, 360, 2), at=unit * place, fov=fov, size=(SIZE, 30))
    r = dr.SoftRenderer(sigma=(pixels * 2 / SIZE) ** 2, gamma=1e-2, near=0.05 * unit * far, far=unit * 10 * (far + radius))
    faces, colors = dr.read(sphere.faces), rng.uniform(0, 1, (42, 3))
    mesh = dr.Mesh(unit * (radius * shape + place), faces, colors)
    shift = rng.uniform(-0.5, 0.5, 3) * radius
    target = r(dr.Mesh(unit * (radius * sphere_like(rng, shape) + place + shift), faces, rng.uniform(0, 1, (42, 3))), camera)
    sun = dr.DirectionalLight(rng.standard_normal(3) + 1e-3, 0.6)
    tape = step(mesh, camera, r, target, getattr(dr.losses, loss), lights=[dr.AmbientLight(0.3), sun])
    params = {"vertices": mesh.vertices, "eye": camera.eye, "at": camera.at, "fov": camera.fov}
    if loss != "silhouette_iou":
        params |= {"colors": mesh.colors, "light": sun.intensity}
    for known in (None, tape):
        diagnosis = dr.diagnose(mesh, camera, r, target=target, params=params, tape=known)
        assert diagnosis.messages == [], str(diagnosis)
    assert not dr.diagnose(mesh, camera, r, params=dr.optim.Adam([mesh.vertices], lr=0.01 * unit * radius)).messages


def sphere_like(rng, shape):
    return shape * rng.uniform(0.9, 1.1, (42, 1))


@pytest.mark.parametrize("shading", ["flat", "phong"])
def test_a_healthy_texture_has_no_findings(f32, rng, shading):
    sphere = dr.shapes.icosphere(1)
    vertices, faces = dr.read(sphere.vertices)[0], dr.read(sphere.faces)
    mesh = dr.Mesh(vertices, faces, uv=0.5 + 0.4 * vertices[:, :2], texture=rng.uniform(0, 1, (8, 8, 3)))
    camera, r = front(), renderer(shading=shading)
    target = renderer()(ball(radius=0.6), camera)
    lights = [dr.AmbientLight(0.4), dr.PointLight((1, 1, 3))]
    tape = step(mesh, camera, r, target, lights=lights)
    params = {"texture": mesh.texture, "uv": mesh.uv, "light": lights[1].position, "eye": camera.eye}
    assert str(dr.diagnose(mesh, camera, r, target=target, params=params, tape=tape)) == "nothing wrong found"


def test_a_fit_that_is_done_has_no_findings(f32):
    mesh, camera, r = ball(), front(), renderer()
    target = r(mesh, camera)
    tape = step(mesh, camera, r, target)
    assert not dr.diagnose(mesh, camera, r, target=target, tape=tape).messages
    only(dr.diagnose(mesh, camera, r, target=target), "zero-gradient", "not 0 already")


def test_a_look_changes_nothing(f32):
    """Not the gradients, not what is recorded on an open tape."""
    mesh, camera, r, loss = ball(), front(), renderer(), dr.scalar()
    target = r(ball(radius=0.6), camera)
    grads = []
    for look in (False, True):
        with dr.Tape(loss) as tape:
            image = r(mesh, camera)
            if look:
                dr.diagnose(mesh, camera, r, target=target)
            dr.losses.mse(image, target, loss)
        if look:
            dr.diagnose(mesh, camera, r, target=target, tape=tape)
        grads.append((len(tape.calls), dr.read(mesh.vertices.grad), dr.read(camera.eye.grad)))
    assert grads[0][0] == grads[1][0] and all(np.array_equal(a, b) for a, b in zip(grads[0][1:], grads[1][1:], strict=True))


# --- Where the object is ------------------------------------------------------------------------------------------


def test_an_object_outside_of_the_image(f32):
    diagnosis = found(ball((4, 0, 0)), front())
    only(diagnosis, "outside-image", "in the view", "x 1.68 to 3.24", "spans +-1 and +-1", "(4, 0, 0)", "`at`")
    only(found(ball((0, 0, 2.2), 0.1), views(0, 90), renderer(sigma=2e-3)), "outside-image", "in view 1 of 2")


def test_an_object_behind_the_camera_or_beyond_near_and_far(f32):
    only(found(ball((0, 0, 6)), front()), "clipped", "behind the camera in the view", "depths -3.8 to -2.2", "at=(0, 0, 6)")
    only(found(ball(), front(), renderer(near=5.0)), "clipped", "nearer than near = 5", "depths 2.2 to 3.8", "use near=1.1")
    only(found(ball(), front(), renderer(far=2.0)), "clipped", "farther than far = 2", "use far=7.6")
    only(found(ball(), views(0, 90), renderer(far=2.0)), "clipped", "in all 2 views", "numbers of view 0")


def test_an_object_none_of_whose_faces_is_drawn(f32):
    away = dr.Mesh([[-1, -1, 0], [0, 1, 0], [1, -1, 0]], [[0, 1, 2]])
    only(found(away, front(), renderer(cull="back")), "not-drawn", 'cull = "back"')
    flat = dr.Mesh([[-1, 0, 0], [0, 0, 0], [1, 0, 0]], [[0, 1, 2]])
    only(found(flat, front()), "not-drawn", "1 have no area on the screen")


def test_an_object_that_does_not_overlap_its_target(f32):
    left, right = ball((-0.9, 0, 0), 0.4), ball((0.9, 0, 0), 0.4)
    for loss in (dr.losses.mse, dr.losses.silhouette_iou):
        text = only(found(left, front(), goal=right, loss_of=loss), "no-overlap", "in the view", "silhouette_iou", "blurred", "coarse to fine")
        assert "column 5, " in text and "column 18, " in text
    camera = front()
    mask = dr.read(renderer()(right, camera))[..., 3]
    only(dr.diagnose(left, camera, renderer(), target=mask, params={}), "no-overlap")
    assert not dr.diagnose(left, camera, renderer(), target=mask[..., None].repeat(3, axis=-1), params={}).messages  # colors do not say where


def test_targets_that_say_nothing(f32):
    camera, empty = front(), np.zeros((1, SIZE, SIZE, 4))
    only(dr.diagnose(ball(), camera, renderer(), target=empty, params={}), "target-empty", "alpha is 0 everywhere")
    bad = dr.read(renderer()(ball(), camera))
    bad[0, 3, 5, 1] = np.nan
    only(dr.diagnose(ball(), camera, renderer(), target=dr.array(bad), params={}), "target-not-finite", "view 0, row 3, column 5; 1 in all")


# --- Settings -----------------------------------------------------------------------------------------------------


def test_sigma_under_half_a_pixel(f32):
    text = only(
        found(ball(), front(), renderer(sigma=1e-5)), "small-sigma", "sqrt(sigma) = 0.0032", "0.038 pixels", "0.083 of 24", "use sigma=6.9e-03"
    )
    assert (2 / SIZE) ** 2 == pytest.approx(float(text.split("use sigma=")[1].split(",")[0]), rel=0.02)
    only(found(ball(), front(), renderer(sigma=2e-4, antialias=2)), "small-sigma", "0.042 of 24", "with antialias=2", "use sigma=1.7e-03")
    assert not found(ball(), front(), renderer(sigma=5e-4, antialias=2)).messages
    mesh = ball()
    assert not found(mesh, front(), renderer(sigma=1e-5), params=[mesh.colors]).messages  # colors need no edges


def test_hard_modes(f32):
    grey = ball(colors=np.full((42, 3), 0.5))
    iou = {"loss_of": dr.losses.silhouette_iou}
    only(found(grey, front(), renderer(alpha="hard"), **iou), "hard-alpha", "silhouette_iou, has no gradient", 'use alpha="prod"')
    only(found(ball(), front(), renderer(distance="hard")), "hard-distance", "coverage is a step", 'use distance="euclidean"')
    both = found(grey, front(), renderer(alpha="hard", rgb="hard"))
    assert [finding.code for finding in both.messages] == ["hard-rgb", "hard-alpha"] and 'use rgb="softmax"' in str(both)
    mesh = ball()
    assert not found(mesh, front(), renderer(alpha="hard", rgb="hard"), params={"colors": mesh.colors}).messages


def test_singular_cameras(f32):
    at_eye = front()
    dr.write(at_eye.at, dr.read(at_eye.eye))
    assert "camera-singular" in found(ball(), at_eye).codes and "the eye is where `at` is, (0, 0, 3)" in str(found(ball(), at_eye))
    rolled = front()
    dr.write(rolled.up, np.array([[0, 0, -2.0]]))
    only(found(ball(), rolled), "camera-singular", "up = (0, 0, -2) is along the view (0, 0, -3)")


# --- Numbers that are not finite -----------------------------------------------------------------------------------


def test_vertices_that_are_not_finite(f32):
    mesh = ball()
    values = dr.read(mesh.vertices)
    values[0, [7, 9]] = [[np.nan, 0, 0], [0, np.inf, 0]]
    dr.write(mesh.vertices, values)
    only(found(mesh, views(0, 90)), "vertices-not-finite", "mesh.vertices", "view 0, vertex 7 (one for all views)", "(nan, 0, 0)", "2 of 42")
    batch = dr.Mesh(np.stack([dr.read(ball().vertices)[0], values[0]]), dr.read(mesh.faces))
    only(found(batch, views(0, 90)), "vertices-not-finite", "view 1, vertex 7,")
    dr.write(mesh.vertices, np.full((1, 42, 3), np.nan))
    only(found(mesh, front()), "vertices-not-finite", "vertex 0", "42 of 42")


def test_other_values_that_are_not_finite(f32, rng):
    mesh, camera = ball(), front()
    dr.write(camera.eye, np.array([[0, np.nan, 3.0]]))
    assert "camera.eye: the first that is not finite is at view 0, (0, nan, 3)" in str(found(mesh, camera, goal=ball()))
    mesh, light = ball(), dr.AmbientLight(dr.array([0.2, np.inf, 0.1]))
    diagnosis = found(mesh, front(), lights=[light], params={"lamp": light.intensity, "vertices": mesh.vertices})
    assert "[values-not-finite] lamp: the first" in str(diagnosis)
    texture = rng.uniform(0, 1, (4, 6, 3))
    texture[2, 5] = np.nan
    textured = dr.Mesh([[-1, -1, 0], [1, -1, 0], [0, 1, 0]], [[0, 1, 2]], uv=[[0, 0], [1, 0], [0, 1]], texture=texture)
    only(dr.diagnose(textured, front(), renderer(), params={}), "values-not-finite", "mesh.texture", "view 0, row 2, column 5", "1 of 24")


def test_a_gradient_that_is_not_finite(f32):
    mesh, camera = ball(), front()
    diagnosis = found(mesh, camera, weight=1e38, params={"shape": mesh.vertices, "eye": camera.eye}, more=lambda loss: overflow(mesh, loss))
    text = next(finding.text for finding in diagnosis.messages if finding.code == "gradient-not-finite")
    bad = np.flatnonzero(~np.isfinite(dr.read(mesh.vertices.grad)[0]).all(axis=1))
    assert f"shape: the first gradient that is not finite is at view 0, vertex {bad[0]}, " in text and f"{len(bad)} in all" in text


def overflow(mesh, loss):
    dr.losses.laplacian(mesh, loss, 3e38)


# --- Gradients that explode ----------------------------------------------------------------------------------------


def test_a_weight_that_is_too_large(f32):
    text = only(found(ball(), front(), weight=1e6), "exploding", "mesh.vertices", "divide the weights of the losses")
    assert "large for an array of size 2.8" in text


def test_a_vertex_next_to_the_camera_plane(f32):
    mesh = dr.shapes.icosphere(2)
    vertices = 0.8 * dr.read(mesh.vertices)[0]
    k = int(vertices[:, 2].argmax())
    vertices[k] = (0.0005, 0.0002, 2.999)
    mesh = dr.Mesh(vertices, dr.read(mesh.faces), 0.5 + 0.5 * vertices.clip(-1, 1))
    text = only(
        found(mesh, front(), renderer(near=1e-4)), "exploding", f"vertex {k},", "times most of the others", "next to the camera plane, depth 0.001"
    )
    assert "move the eye back" in text


def test_a_sliver_under_a_regularizer(f32):
    mesh = dr.shapes.icosphere(2)
    vertices, faces = 0.8 * dr.read(mesh.vertices)[0], dr.read(mesh.faces)
    a, b, c = faces[vertices[faces].mean(axis=1)[:, 2].argmax()]
    vertices[a] = (vertices[b] + vertices[c]) / 2 * (1 + 1e-6)
    mesh = dr.Mesh(vertices, faces)
    text = only(found(mesh, front(), more=lambda loss: dr.losses.flatten(mesh, loss)), "exploding", "a sliver in view 0", "flatten", "edge_length")
    assert f"vertex {a}," in text or f"vertex {b}," in text or f"vertex {c}," in text


def test_a_learning_rate_that_turns_faces_over(f32):
    mesh = ball()
    only(found(mesh, front(), params=dr.optim.Adam([mesh.vertices], lr=0.9)), "learning-rate", "lr = 0.9", "edges are 0.47", "use lr=0.05")
    assert not found(mesh, front(), params=dr.optim.SGD([mesh.vertices, mesh.colors], lr=0.9)).messages
    assert "learning-rate" in found(mesh, front(), params=dr.optim.SGD([mesh.vertices], lr=1e3)).codes


# --- Arrays that nobody reads --------------------------------------------------------------------------------------


def test_an_array_that_took_no_part(f32):
    mesh, camera, r = ball(), front(), renderer()
    copy, offsets = ball().vertices, dr.array(np.zeros((1, 42)), vectors=False)
    target = r(ball(radius=0.6), camera)
    tape = step(mesh, camera, r, target)
    params = {"copy": copy, "offsets": offsets, "vertices": mesh.vertices}
    for known, words in ((tape, "took no part in the tape, so its gradient is zero"), (None, "it took no part in the tape, or is not seen")):
        diagnosis = dr.diagnose(mesh, camera, r, target=target, params=params, tape=known)
        assert [finding.code for finding in diagnosis.messages] == ["unused", "unused"] and str(diagnosis).count(words) == 2
        assert "copy: it" in str(diagnosis) and "mesh.vertices is another array of that shape" in str(diagnosis)
        assert "NumPy and dr.read cut the way back" in diagnosis.messages[1].text
    mesh = ball(uv=np.zeros((42, 2)))
    only(found(mesh, camera, params=[mesh.uv]), "unused", "mesh.uv: the mesh has no texture")


def test_a_gradient_of_zero_that_nothing_explains(f32):
    mesh, camera, r = ball(), front(), renderer()
    target = r(ball(radius=0.6), camera)
    only(dr.diagnose(mesh, camera, r, target=target), "zero-gradient", "inside of the tape")
    tape = step(mesh, camera, r, target, dr.losses.silhouette_iou)
    only(dr.diagnose(mesh, camera, r, target=target, params={"paint": mesh.colors}, tape=tape), "zero-gradient", "paint: its gradient is zero")


def test_numbers_where_a_gradient_was_wanted(f32):
    light = dr.AmbientLight(0.5)
    params = {"brightness": 0.5, "lamp": light, "start": np.zeros(3), "ids": dr.array([1, 2, 3])}
    diagnosis = found(ball(), front(), params=params)
    assert [finding.code for finding in diagnosis.messages] == ["not-an-array"] * 4
    for words in (
        "brightness: expected a Taichi array with a gradient, got float",
        "got AmbientLight",
        "lamp.intensity",
        "got ndarray",
        "got an array of i32",
    ):
        assert words in str(diagnosis)


# --- How it is called -----------------------------------------------------------------------------------------------


def test_params_by_name_in_a_list_alone_or_of_an_optimizer(f32):
    mesh, camera = ball((4, 0, 0)), front()
    adam = dr.optim.Adam([{"params": [mesh.vertices], "lr": 0.01}, {"params": [mesh.colors]}])
    for params in (None, mesh.vertices, [mesh.vertices, camera.eye], (mesh.colors,), {"x": mesh.vertices}, adam, {}):
        only(found(mesh, camera, params=params), "outside-image")


def test_poses_lenses_and_backgrounds_have_names(f32):
    pose = dr.Pose(dr.array([0.0, 0, 0]), dr.array([0.0, 0, np.nan]))
    camera = dr.Camera.from_pose(pose, focal=20, size=SIZE, distortion=dr.BrownConrady(radial=dr.array([0, np.nan, 0])))
    diagnosis = dr.diagnose(ball(), camera, renderer(background=dr.array([0, np.nan, 0])), params=[pose.rotation])
    for name in ("camera.pose.translation", "camera.distortion.radial", "renderer.background"):
        assert f"[values-not-finite] {name}: " in str(diagnosis)


def test_bad_arguments(f32):
    mesh, camera, r = ball(), front(), renderer()
    cases = [
        ((camera, mesh, r), {}, "mesh: expected a Mesh, got Camera"),
        ((mesh, camera, r(mesh, camera)), {}, "renderer: expected a SoftRenderer"),
        ((mesh, camera, r), {"target": np.zeros((SIZE, SIZE, 4))}, r"target: expected \(1, 24, 24\) of vec4 or numbers, got shape \(24, 24, 4\)"),
        ((mesh, camera, r), {"target": np.zeros((1, 8, 8, 4))}, "target: expected"),
        ((mesh, camera, r), {"params": "vertices"}, "params: expected arrays by name, a list of them, or an optimizer, got str"),
        ((mesh, camera, r), {"params": 3}, "params: expected"),
        ((mesh, camera, r), {"tape": dr.scalar()}, "tape: expected a dr.Tape"),
        ((mesh, camera, renderer(sigma=-1)), {}, "sigma: expected a positive number"),
    ]
    for args, options, message in cases:
        with pytest.raises(ValueError, match=message):
            dr.diagnose(*args, **options)
