"""The whole renderer in three scenes: every gradient that it has against central differences, and in float32 on every device.

A scene gives pictures by name and parameters by name. What one picture says about one parameter is one number each:
<weights, picture>, with weights of its own.
"""

import numpy as np
import pytest
import taichi as ti
from contract import contract
from test_render import wedge

import taichi_dr as dr
from taichi_dr import runtime

SIZE = 16
SOFT = {"sigma": 1e-2, "gamma": 1e-2, "near": 0.5, "far": 8.0}
EYE, AT, UP = (1.1, 1.4, 2.3), (0.1, -0.1, 0.05), (0.2, 1.0, 0.1)


def arrays_of(prefix, x):
    return {f"{prefix}.{name}": y for name, y in vars(x).items() if isinstance(y, ti.Ndarray)}


LIGHTS = ("ambient", "directional", "point", "attenuated point", "spot", "harmonics")


def lit_by(rng, names=LIGHTS, batch=()):
    """Lights around a camera that looks from (1, 1, 2), and their fields by name."""
    color = lambda: rng.uniform(0.1, 0.4, (*batch, 3))  # noqa: E731
    near = lambda *at: np.add(at, rng.uniform(-0.2, 0.2, (*batch, 3)))  # noqa: E731
    cone = {"exponent": rng.uniform(1, 2, batch), "inner": rng.uniform(15, 20, batch), "outer": rng.uniform(50, 60, batch)}
    lights = {
        "ambient": dr.AmbientLight(color()),
        "directional": dr.DirectionalLight(near(0.5, 0.7, 1.0), color()),
        "point": dr.PointLight(near(2.0, 0.5, 1.5), color()),
        "attenuated point": dr.PointLight(near(0.3, 1.2, 1.5), color(), attenuation=True),
        "spot": dr.SpotLight(near(1.2, 1.6, 1.4), near(-1.2, -1.5, -1.3), 3 * color(), attenuation=True, **cone),
        "harmonics": dr.SphericalHarmonicsLight(rng.uniform(-0.3, 0.3, (*batch, 9, 3))),
    }
    params = {}
    for name in names:
        params |= arrays_of(name, lights[name])
    return [lights[name] for name in names], params


def motions(eyes):
    """(B, 4, 4): world to camera, from eyes that look at AT."""
    out = np.tile(np.eye(4), (len(eyes), 1, 1))
    for matrix, eye in zip(out, np.array(eyes), strict=True):
        forward = np.subtract(AT, eye) / np.linalg.norm(np.subtract(AT, eye))
        right = np.cross(forward, UP) / np.linalg.norm(np.cross(forward, UP))
        matrix[:3, :3] = right, np.cross(forward, right), forward
        matrix[:3, 3] = -matrix[:3, :3] @ eye
    return out


def textured_wedge(rng, batch):
    """Of two objects, with a seam around every face and so few texels that a pixel is smaller than one: level 0, wherever things move."""
    shape = wedge(rng, batch=batch)
    uv, texture = rng.uniform(0.2, 0.5, (batch, 18, 2)), rng.uniform(0.2, 1, (batch, 3, 4, 3))
    return dr.Mesh(shape.vertices, shape.faces, uv=uv, uv_faces=np.arange(18).reshape(6, 3), texture=texture, objects=np.repeat([0, 1], 3))


def textured(rng, mipmaps=True):
    """A texture under Phong shading, a camera that looks at it, and all other outputs."""
    mesh = textured_wedge(rng, 1)
    camera = dr.Camera.look_at(EYE, AT, UP, fov=50.0, size=SIZE)
    lights, params = lit_by(rng)
    material = dr.Material((0.9, 0.8, 0.7), (0.4, 0.5, 0.3), 4.0, "phong")
    background = dr.array([0.2, 0.5, 0.3])
    renderer = dr.SoftRenderer(shading="phong", mipmaps=mipmaps, background=background, **SOFT)
    extra = {"attribute of 5": dr.array(rng.standard_normal((1, 5, 5)), vectors=False), "attribute of vec2": dr.array(rng.standard_normal((1, 5, 2)))}
    outputs = ["image", "alpha", "depth", "normal", "position", "uv", "object_mask"]

    def pictures():
        out = renderer(mesh, camera, lights, material=material, outputs=outputs, attributes=extra)
        out["object 0"], out["object 1"] = out.pop("object_mask")
        return out

    params |= {name: getattr(mesh, name) for name in ("vertices", "uv", "texture")} | arrays_of("camera", camera) | arrays_of("material", material)
    return pictures, params | extra | {"background": background}


def flat(rng):
    """Two views, with poses and a mesh, texture, lights and background each: flat Blinn-Phong shading of both sides, Brown-Conrady lenses."""
    mesh = textured_wedge(rng, 2)
    lens = dr.BrownConrady(-0.2, 0.06, 0.01, -0.015, -0.01)
    camera = dr.Camera.from_pose(
        dr.Pose.from_matrix(motions([EYE, (1.9, 0.8, 1.5)])), focal=(17, 19), principal=(8.4, 7.5), size=SIZE, distortion=lens
    )
    lights, params = lit_by(rng, ("attenuated point", "harmonics"), (2,))
    material = dr.Material((0.9, 0.8, 0.7), (0.4, 0.5, 0.3), 6.0, "blinn-phong")
    background = dr.array(rng.uniform(0, 1, (2, 3)))
    renderer = dr.SoftRenderer(shading="flat", two_sided=True, background=background, **SOFT)

    def pictures():
        return renderer(mesh, camera, lights, material=material, outputs=["image", "normal"])

    params |= {name: getattr(mesh, name) for name in ("vertices", "uv", "texture")} | {"background": background}
    return pictures, params | camera_arrays(camera) | arrays_of("material", material)


def gouraud(rng):
    """Lit vertices, a 6D pose and a fisheye."""
    mesh = wedge(rng)
    pose = dr.Pose.from_matrix(motions([EYE])[0], six=True)
    camera = dr.Camera.from_pose(pose, focal=(17, 19), principal=(8.4, 7.5), size=SIZE, distortion=dr.Fisheye(0.05, -0.02, 0.01, -0.004))
    lights, params = lit_by(rng, ("directional", "spot"))
    material = dr.Material((0.9, 0.8, 0.7), (0.4, 0.5, 0.3), 6.0, "blinn-phong")
    background = dr.array([0.2, 0.5, 0.3])
    renderer = dr.SoftRenderer(background=background, perspective_correct=True, **SOFT)
    params |= {"vertices": mesh.vertices, "colors": mesh.colors, "background": background}
    return lambda: {"image": renderer(mesh, camera, lights, material=material)}, params | camera_arrays(camera) | arrays_of("material", material)


def camera_arrays(camera):
    six = isinstance(camera.pose.rotation, tuple)
    rotation = {f"rotation[{k}]": x for k, x in enumerate(camera.pose.rotation)} if six else {"rotation": camera.pose.rotation}
    return rotation | {"translation": camera.pose.translation} | arrays_of("camera", camera) | arrays_of("lens", camera.distortion)


SCENES = {"textured": textured, "flat": flat, "gouraud": gouraud}


def made(name):
    """A scene, the same in every precision, and weights for its pictures."""
    rng = np.random.default_rng(7)
    pictures, params = SCENES[name](rng)
    weights = {key: rng.standard_normal(dr.read(x).shape) for key, x in pictures().items()}
    return pictures, params, weights


def gradients_by_picture(pictures, params, weights):
    grads = {}
    for key, w in weights.items():
        loss = dr.scalar()
        with dr.Tape(loss):
            contract(pictures()[key], w, loss)
        grads[key] = {name: dr.read(x.grad).astype(np.float64) for name, x in params.items()}
    return grads


def values_by_picture(pictures, weights):
    shown = pictures()
    return np.array([(dr.read(shown[key]) * w).sum() for key, w in weights.items()])


@pytest.mark.parametrize("name", SCENES)
def test_gradients_of_everything(name, f64):
    pictures, params, weights = made(name)
    grads, random = gradients_by_picture(pictures, params, weights), np.random.default_rng(3)
    errors = {}
    for param, x in params.items():
        start = dr.read(x)
        step = (1e-5 if "." in param and "camera" not in param else 1e-6) * max(1.0, np.abs(start).max())  # lights and materials are smoother
        by_tape, by_differences = [], []
        for _ in range(2):
            d = random.standard_normal(start.shape)
            d /= np.linalg.norm(d)
            ends = []
            for sign in (1, -1):
                dr.write(x, start + sign * step * d)
                ends.append(values_by_picture(pictures, weights))
            by_differences.append((ends[0] - ends[1]) / (2 * step))
            by_tape.append([(grads[key][param] * d).sum() for key in weights])
        dr.write(x, start)
        sizes = np.abs(by_differences).max(axis=0)
        for key, error, size in zip(weights, np.abs(np.subtract(by_tape, by_differences)).max(axis=0), sizes, strict=True):
            depends = key == param if param.startswith("attribute") else key == "image"
            assert size > 1e-6 or not depends, (key, param)
            errors[key, param] = error / size if size > 0 else error
    wrong = {pair: f"{error:.1e}" for pair, error in errors.items() if not error < 1e-6}
    assert not wrong, wrong


def test_the_level_of_the_texture_stays_0(f64):
    """Or the differences above would move it, which has no gradient."""
    with_levels, without = (textured(np.random.default_rng(7), mipmaps)[0]()["image"] for mipmaps in (True, False))
    np.testing.assert_allclose(dr.read(with_levels), dr.read(without), atol=1e-15)


def test_devices_agree_in_float32_with_the_cpu_in_float64(arch, request):
    """Pictures, and gradients within 1e-3 of their length."""
    if arch == "cpu":
        pytest.skip("compares other devices with the CPU, which other tests compare with NumPy")
    if runtime.device()[:2] != ("cpu", "f64"):
        runtime.init("cpu", precision="f64")
    exact, exact_grads = pictures_and_gradients()
    request.getfixturevalue("f32")  # starts anew: the arrays are dead, the numbers are not
    shown, grads = pictures_and_gradients()
    for key, picture in exact.items():
        assert np.abs(shown[key] - picture).max() < 1e-4 * max(1.0, np.abs(picture).max()), key
    errors = {key: np.linalg.norm(grads[key] - g) / np.linalg.norm(g) for key, g in exact_grads.items() if g.any()}
    wrong = {key: f"{error:.1e}" for key, error in errors.items() if not error < 1e-3}
    assert not wrong, wrong


def pictures_and_gradients():
    """NumPy arrays by scene and picture, and by scene, picture and parameter."""
    shown, grads = {}, {}
    for name in SCENES:
        scene = made(name)
        shown |= {(name, key): dr.read(x) for key, x in scene[0]().items()}
        for key, of_picture in gradients_by_picture(*scene).items():
            grads |= {(name, key, param): g for param, g in of_picture.items()}
    return shown, grads
