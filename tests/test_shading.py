"""Shading of surface points: every light and material against NumPy, gradients in all that can move, and what is missing."""

import numpy as np
import pytest
import reference_shading as reference
from contract import assert_gradients, gradients

from taichi_dr.arrays import array, read
from taichi_dr.lights import AmbientLight, DirectionalLight, PointLight, SphericalHarmonicsLight, SpotLight
from taichi_dr.materials import Material
from taichi_dr.shading import shade_points

KINDS = {"ambient": AmbientLight, "directional": DirectionalLight, "point": PointLight, "spot": SpotLight, "harmonics": SphericalHarmonicsLight}
MODELS = ["phong", "blinn-phong"]
THREE = ["directional", "spot", "harmonics"]  # what lights differ in, for less to compile


def lamps(rng, batch, kinds=KINDS):
    """Values of lights, two of each kind; fields of vec3 are (3,) or, with a batch, (B, 3)."""
    b = (batch,) if batch > 1 else ()
    color = lambda: rng.uniform(0.2, 0.9, (*b, 3))  # noqa: E731
    above = lambda: rng.uniform(-1, 1, (*b, 3)) + (0, 0, 3)  # noqa: E731
    of_kind = {
        "ambient": lambda: {"intensity": color()},
        "directional": lambda: {"direction": rng.uniform(-1, 1, (*b, 3)) + (0, 0, 1.5), "intensity": color()},
        "point": lambda: {"position": above(), "intensity": color()},
        "spot": lambda: {
            "position": above(), "direction": rng.uniform(-0.3, 0.3, (*b, 3)) - (0, 0, 2), "intensity": color(),
            "exponent": rng.uniform(0.5, 4, b), "inner": rng.uniform(2, 8, b), "outer": rng.uniform(50, 70, b),
        },
        "harmonics": lambda: {"coefficients": rng.standard_normal((*b, 9, 3))},
    }  # fmt: skip
    lights = [{"kind": kind, **of_kind[kind]()} for kind in kinds for _ in range(2)]
    for k, light in enumerate(lights):
        if light["kind"] in ("point", "spot"):
            light["attenuation"] = k % 2 == 1
    return lights


def make(lights):
    return [KINDS[light["kind"]](**{name: x for name, x in light.items() if name != "kind"}) for light in lights]


def of_view(light, b):
    """The fields of one view; an array has an axis for views where it has one more than the field of one view."""
    axes = {"coefficients": 2, "exponent": 0, "inner": 0, "outer": 0}
    return {name: x[b % len(x)] if np.ndim(x) > axes.get(name, 1) and name not in ("kind", "attenuation") else x for name, x in light.items()}


def points(rng, rows, count):
    """Albedo, unit normals about +z, and positions about the origin."""
    shape = (rows, count, 3)
    normals = reference.unit(rng.uniform(-0.5, 0.5, shape) + (0, 0, 1))
    return rng.uniform(0.1, 1, shape), normals, rng.uniform(-0.5, 0.5, shape)


def surfaces(rng, batch, model):
    b = (batch,) if batch > 1 else ()
    return rng.uniform(0.3, 1, (*b, 3)), rng.uniform(0.3, 1, (*b, 3)), rng.uniform(2, 9, b), model


def frames(rng, batch):
    """(B, 5, 3), of which only the eyes count."""
    frame = rng.standard_normal((batch, 5, 3))
    frame[:, 3] = rng.uniform(-1, 1, (batch, 3)) + (0, 0, 2.5)
    return frame


def expected(paint, normals, positions, lights, material=None, frame=None, two_sided=False, batch=1, physical=False):
    def one(b):
        surface = None
        if material is not None:
            diffuse, specular, shininess, model = material
            surface = (
                diffuse[b % len(diffuse)] if np.ndim(diffuse) > 1 else diffuse,
                specular[b % len(specular)] if np.ndim(specular) > 1 else specular,
                shininess[b % len(shininess)] if np.ndim(shininess) > 0 else shininess,
                model,
            )
        eye = None if frame is None else frame[b % len(frame), 3]
        args = (x[b % len(x)] for x in (paint, normals, positions))
        return reference.shade(*args, [of_view(light, b) for light in lights], surface, eye, two_sided, physical)

    return np.stack([one(b) for b in range(batch)])


def assert_all_gradients(shown, params, rng):
    """Angles in degrees and exponents do so little that a difference of 1e-5 drowns in rounding."""
    steps = {"inner": 1e-3, "outer": 1e-3, "exponent": 1e-4, "shininess": 1e-4}
    for step in (1e-5, 1e-4, 1e-3):
        some = {name: x for name, x in params.items() if steps.get(name.split(".")[-1], 1e-5) == step}
        assert_gradients(shown, some, rng, directions=2, step=step)


def light_arrays(lights):
    return {f"{k}.{type(x).__name__}.{name}": a for k, x in enumerate(lights) for name, a in vars(x).items() if not isinstance(a, bool)}


# --- Values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_each_light_matches_the_formula(f32, rng, kind):
    lights, (paint, normals, positions) = lamps(rng, 1, [kind]), points(rng, 1, 40)
    lit = read(shade_points(array(paint), array(normals), array(positions), make(lights)))
    np.testing.assert_allclose(lit, expected(paint, normals, positions, lights), atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rows, light_batch, eyes", [(1, 1, 1), (3, 1, 1), (1, 3, 1), (1, 1, 3), (3, 3, 3)])
def test_all_lights_with_highlights(f32, rng, model, rows, light_batch, eyes):
    lights, (paint, normals, positions) = lamps(rng, light_batch), points(rng, rows, 20)
    material, frame = surfaces(rng, light_batch, model), frames(rng, eyes)
    lit = shade_points(*map(array, (paint, normals, positions)), make(lights), material=Material(*material), frame=array(frame))
    batch = max(rows, light_batch, eyes)
    np.testing.assert_allclose(read(lit), expected(paint, normals, positions, lights, material, frame, batch=batch), atol=1e-5, rtol=2e-6)


def test_physical_units(f32, rng):
    """A unit of light from one direction is scattered over a hemisphere; that from everywhere, and highlights, stay."""
    lights, (paint, normals, positions) = lamps(rng, 1), points(rng, 1, 40)
    material, frame = surfaces(rng, 1, "phong"), frames(rng, 1)
    given = [array(x) for x in (paint, normals, positions)]
    lit = read(shade_points(*given, make(lights), material=Material(*material), frame=array(frame), lambert="physical"))
    want = expected(paint, normals, positions, lights, material, frame, physical=True)
    np.testing.assert_allclose(lit, want, atol=1e-5, rtol=2e-6)
    assert abs(want - expected(paint, normals, positions, lights, material, frame)).max() > 0.1
    sun = DirectionalLight((0, 0, 1), 2.0)
    facing = shade_points(array([[[0.5, 0.6, 0.7]]]), array([[[0.0, 0, 1]]]), None, [AmbientLight(0.3), sun], lambert="physical")
    np.testing.assert_allclose(read(facing)[0, 0], np.array([0.5, 0.6, 0.7]) * (0.3 + 2 / np.pi), rtol=1e-6)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "ambient"])
def test_two_sided_points_show_their_back(f32, rng, kind):
    lights, (paint, normals, positions) = lamps(rng, 1, [kind]), points(rng, 1, 30)
    frame, material = frames(rng, 1), surfaces(rng, 1, "phong")
    turned = normals * np.where(rng.uniform(size=(1, 30, 1)) < 0.5, -1, 1)
    given = [array(x) for x in (paint, turned, positions)]
    lit = read(shade_points(*given, make(lights), material=Material(*material), frame=array(frame), two_sided=True))
    want = expected(paint, turned, positions, lights, material, frame, two_sided=True)
    np.testing.assert_allclose(lit, want, atol=1e-5)
    assert abs(want - expected(paint, turned, positions, lights, material, frame)).max() > 0.01


def test_points_of_several_views_in_one_row(f32, rng):
    """As the points of each view alone, whatever their order."""
    lights, (paint, normals, positions) = lamps(rng, 3, THREE), points(rng, 1, 50)
    material, frame, views = surfaces(rng, 3, "phong"), frames(rng, 3), rng.integers(0, 3, 50)
    given = [array(x) for x in (paint, normals, positions)]
    lit = read(shade_points(*given, make(lights), material=Material(*material), frame=array(frame), views=array(views)))
    want = expected(paint, normals, positions, lights, material, frame, batch=3)
    assert lit.shape == (1, 50, 3)
    np.testing.assert_allclose(lit[0], want[views, np.arange(50)], atol=1e-5, rtol=2e-6)


def test_no_lights_leave_the_colors_as_they_are(f32):
    albedo = array(np.ones((1, 4, 3)))
    assert shade_points(albedo, None, None, None) is albedo and shade_points(albedo, None, None, []) is albedo


def test_points_without_a_normal_get_ambient_light_only(f32, rng):
    paint, _, positions = points(rng, 1, 5)
    lights, material = lamps(rng, 1, ["ambient", "directional", "point", "spot"]), surfaces(rng, 1, "blinn-phong")
    given = [array(x) for x in (paint, np.zeros((1, 5, 3)), positions)]
    lit = read(shade_points(*given, make(lights), material=Material(*material), frame=array(frames(rng, 1))))
    np.testing.assert_allclose(lit, paint * material[0] * sum(light["intensity"] for light in lights[:2]), atol=1e-6)
    coefficients = rng.standard_normal((9, 3))
    lit = read(shade_points(*given, SphericalHarmonicsLight(coefficients)))
    np.testing.assert_allclose(lit, paint * coefficients[0] * 0.28209479, atol=1e-6)


def test_light_falls_off_with_the_square_of_the_distance(f32):
    up = [array([[(0, 0, 1)] * 3], float), array([[(0, 0, 0), (0, 0, -1), (0, 0, -3)]], float)]
    lit = read(shade_points(array(np.ones((1, 3, 3))), *up, PointLight((0, 0, 1), 1.0, attenuation=True)))
    np.testing.assert_allclose(lit[0, :, 0], [1, 1 / 4, 1 / 16], rtol=1e-6)


def test_a_spot_light_stays_in_its_cone(f32):
    angles = np.radians([0, 19, 25, 31, 60, 170])
    positions = np.stack([np.sin(angles), 0 * angles, -np.cos(angles)], axis=1)[None]
    lit = read(shade_points(*map(array, (np.ones((1, 6, 3)), -positions, positions)), SpotLight((0, 0, 0), (0, 0, -1), 1.0)))
    t = (np.cos(angles[2]) - np.cos(np.radians(30))) / (np.cos(np.radians(20)) - np.cos(np.radians(30)))
    rounding = 1.5 * np.finfo(np.float32).eps / (np.cos(np.radians(20)) - np.cos(np.radians(30)))  # of the cosine, in a cone this narrow
    np.testing.assert_allclose(lit[0, :, 0], [1, 1, t * t * (3 - 2 * t), 0, 0, 0], atol=rounding)


@pytest.mark.parametrize("model", MODELS)
def test_shininess_zero_and_a_cosine_of_zero_are_finite(f32, model):
    """A light straight above, the eye in the direction that sees no mirror image at all, and one that sees it fully."""
    normals, positions = array([[(0, 0, 1.0)] * 2]), array([[(0, 0, 0.0), (0, 0, -4.0)]])
    frame = np.zeros((1, 5, 3))
    frame[0, 3] = (5, 0, 0)
    for shininess in (0.0, 1e-7, 1.0, 300.0):
        material = Material(0.0, 1.0, array(np.float64(shininess)), model)
        light = DirectionalLight((0, 0, 1), 1.0)
        params = [normals, positions, light.direction, light.intensity, material.specular, material.shininess]
        shown = lambda m=material, x=light: shade_points(array(np.ones((1, 2, 3))), normals, positions, x, material=m, frame=array(frame))  # noqa: E731
        lit = read(shown())
        assert np.isfinite(lit).all() and (shininess > 1e-3 or lit.max() > 0.99)
        assert all(np.isfinite(g).all() for g in gradients(shown, params, np.ones((1, 2, 3))))


# --- Gradients ----------------------------------------------------------------------------------------------------


def test_gradients_in_single_precision(f32, rng):
    """Every device against differences of the reference."""
    values, lights = list(points(rng, 1, 12)), lamps(rng, 1)
    material, frame = surfaces(rng, 1, "phong"), frames(rng, 1)
    made, surface, eyes = make(lights), Material(*material), array(frame)
    given = [array(x) for x in values]
    arrays = light_arrays(made)
    cotangent = rng.standard_normal((1, 12, 3))
    params = [*given, surface.diffuse, surface.specular, surface.shininess, eyes, *arrays.values()]
    grads = gradients(lambda: shade_points(*given, made, material=surface, frame=eyes), params, cotangent)
    names = [[name for name, x in vars(light).items() if not isinstance(x, bool)] for light in made]
    numbers = [*values, *material[:3], frame, *(light[name] for k, light in enumerate(lights) for name in names[k])]

    def loss(numbers):
        fields, lamps = iter(numbers[7:]), []
        for k, light in enumerate(lights):
            lamps.append(light | {name: next(fields) for name in names[k]})
        return (cotangent * expected(*numbers[:3], lamps, (*numbers[3:6], "phong"), numbers[6])).sum()

    for k, grad in enumerate(grads):
        d = rng.standard_normal(np.shape(numbers[k]))
        ends = [loss([x + h * d if i == k else x for i, x in enumerate(numbers)]) for h in (1e-6, -1e-6)]
        slope = (ends[0] - ends[1]) / 2e-6
        assert abs((grad * d).sum() - slope) < 1e-3 * max(1.0, abs(slope)), k


@pytest.mark.parametrize("with_views", [False, True])
def test_gradients_repeat_bitwise(f32, rng, with_views):
    given, lights = [array(x) for x in points(rng, 1, 5000)], make(lamps(rng, 1 + with_views, THREE))
    material, frame, cotangent = Material(*surfaces(rng, 1, "phong")), array(frames(rng, 2)), rng.standard_normal((1 if with_views else 2, 5000, 3))
    views = array(rng.integers(0, 2, 5000)) if with_views else None
    params = [*given, frame, material.shininess, *light_arrays(lights).values()]
    shown = lambda: shade_points(*given, lights, material=material, frame=frame, views=views)  # noqa: E731
    runs = [gradients(shown, params, cotangent) for _ in range(2)]
    assert all(np.array_equal(a, b) and a.any() for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("with_views", [False, True])
def test_padding_adds_exactly_nothing(f32, rng, with_views):
    """Points that nobody asks about may hold anything."""
    values, lights, frame = points(rng, 1, 40), make(lamps(rng, 1, THREE if with_views else KINDS)), array(frames(rng, 1))
    material = Material(*surfaces(rng, 1, "phong"))
    views = np.zeros(40, int)
    cotangent = rng.standard_normal((1, 40, 3))
    cotangent[:, 25:] = 0
    results = []
    for fill in (None, np.nan, np.inf, -1e38):
        filled = [x.copy() for x in values]
        for x in filled:
            if fill is not None:
                x[:, 25:] = fill
        given, views[25:] = [array(x) for x in filled], 0 if fill is None else -1
        params = [*given, frame, material.diffuse, material.specular, material.shininess, *light_arrays(lights).values()]
        numbers = array(views.copy()) if with_views else None
        results.append(gradients(lambda g=given, v=numbers: shade_points(*g, lights, material=material, frame=frame, views=v), params, cotangent))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
    assert all((grad[:, 25:] == 0).all() and grad.any() for grad in results[0][:3])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_bad_point_spoils_nobody_else(f32, rng, bad, which):
    """Also where its color is asked about."""
    values, lights, frame = points(rng, 1, 40), make(lamps(rng, 1)), array(frames(rng, 1))
    material = Material(*surfaces(rng, 1, "phong"))
    values[which][0, 7, 1] = bad
    given, rest = [array(x) for x in values], [array(np.delete(x, 7, axis=1)) for x in values]
    shared = [frame, material.diffuse, material.specular, material.shininess, *light_arrays(lights).values()]
    cotangent = rng.standard_normal((1, 40, 3))
    all_of, without = (
        gradients(lambda g=g: shade_points(*g, lights, material=material, frame=frame), [*g, *shared], c)
        for g, c in ((given, cotangent), (rest, np.delete(cotangent, 7, axis=1)))
    )
    assert all(np.isfinite(grad).all() and grad.any() for grad in all_of[3:])
    for a, b in zip(all_of[:3], without[:3], strict=True):
        np.testing.assert_allclose(np.delete(a, 7, axis=1), b, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_fields_that_are_not_finite_count_as_nothing(f32, rng, bad):
    given, frame = [array(x) for x in points(rng, 1, 6)], array(frames(rng, 1))
    vector, number = lambda: array([bad, 1.0, 1.0]), lambda: array(np.float64(bad))  # noqa: E731
    lights = [AmbientLight(vector()), DirectionalLight(vector(), 1.0), DirectionalLight((0, 0, 1), vector()), PointLight(vector(), 1.0)]
    lights += [PointLight((0, 0, 3), vector(), attenuation=True), SpotLight(vector(), (0, 0, -1)), SpotLight((0, 0, 3), vector())]
    lights += [SphericalHarmonicsLight(array(np.full((9, 3), bad)))]
    dark = shade_points(*given, lights, material=Material(vector(), vector(), 3.0), frame=frame)
    np.testing.assert_array_equal(read(dark), np.zeros((1, 6, 3)))
    lights += [SpotLight((0, 0, 3), (0, 0, -1), 1.0, exponent=number(), inner=number(), outer=number())]
    material = Material(1.0, 1.0, number())
    grads = gradients(
        lambda: shade_points(*given, lights, material=material, frame=frame), [*given, *light_arrays(lights).values()], np.ones((1, 6, 3))
    )
    assert all(np.isfinite(g).all() for g in grads)


# --- Bad input ----------------------------------------------------------------------------------------------------


def test_bad_points_are_refused(f32, rng):
    paint, normals, positions = map(array, points(rng, 1, 4))
    sun, lamp, shiny = DirectionalLight(), PointLight(), Material(1.0, 0.5)
    cases = [
        ((read(paint), normals, positions, sun), {}, "albedo: expected a Taichi array"),
        ((paint, None, positions, sun), {}, "normals: expected a Taichi array"),
        ((paint, normals, None, lamp), {}, "positions: expected a Taichi array"),
        ((paint, array(np.ones((1, 5, 3))), positions, sun), {}, r"normals: expected one entry per point, 4, got shape \(1, 5\)"),
        ((paint, array(np.ones((2, 4, 3))), positions, DirectionalLight(np.ones((3, 3)))), {}, "expected a batch of 1 or 3"),
        ((paint, normals, positions, [sun, 0.5]), {}, "lights: expected AmbientLight.* got float at index 1"),
        ((paint, normals, positions, sun), {"material": 3}, "material: expected a Material, got int"),
        ((paint, normals, positions, sun), {"material": shiny}, "frame: expected the camera that sees the highlights"),
        ((paint, normals, positions, sun), {"lambert": "real"}, "lambert: expected one of 'softras', 'physical', got 'real'"),
        ((paint, normals, positions, sun), {"two_sided": True}, "two_sided: expected a frame"),
        ((paint, normals, positions, sun), {"material": shiny, "frame": array(np.ones((1, 3, 3)))}, "frame: expected the eye in column 3"),
        ((paint, normals, positions, sun), {"views": array([0] * 5)}, r"views: expected one entry per point, 4, got shape \(5,\)"),
        ((paint, normals, positions, sun), {"views": array(np.zeros(4), vectors=False)}, "views: expected .* elements"),
        ((array(np.ones((2, 4, 3))), normals, positions, sun), {"views": array([0] * 4, vectors=False)}, r"albedo: expected \(1, N\) beside views"),
    ]
    for args, options, message in cases:
        with pytest.raises(ValueError, match=message):
            shade_points(*args, **options)


BAD_MATERIALS = [
    (lambda: Material(model="cook"), "model: expected one of 'phong', 'blinn-phong', got 'cook'"),
    (lambda: Material(shininess=-1), "shininess: expected numbers of at least 0, got -1"),
    (lambda: Material(shininess=float("nan")), "shininess: expected finite"),
    (lambda: Material(specular=[1, 2]), "specular: expected three numbers"),
    (lambda: Material(diffuse="red"), "diffuse: expected three numbers"),
    (lambda: SpotLight(direction=(0, 0, 0)), "direction: expected a direction from the light into the scene"),
    (lambda: SpotLight(inner=40.0), "inner: expected an angle less than outer = 30.0, got 40.0"),
    (lambda: SpotLight(outer=95.0), "outer: expected degrees from 0 to 90"),
    (lambda: SpotLight(exponent=-2.0), "exponent: expected numbers of at least 0"),
    (lambda: SpotLight(intensity=float("nan")), "intensity: expected finite"),
    (lambda: SphericalHarmonicsLight(np.ones(8)), r"coefficients: expected 9 numbers, \(9, 3\) or \(B, 9, 3\), got shape \(8,\)"),
    (lambda: SphericalHarmonicsLight(array(np.ones((8, 3)))), r"coefficients: expected \(9,\) or \(B, 9\) of vec3, got shape \(8,\)"),
    (lambda: SphericalHarmonicsLight([np.nan] * 9), "coefficients: expected finite"),
    (lambda: SphericalHarmonicsLight("bright"), "coefficients: expected 9 numbers"),
]


@pytest.mark.parametrize("make_one, message", BAD_MATERIALS)
def test_bad_materials_and_lights_are_refused(f32, make_one, message):
    with pytest.raises(ValueError, match=message):
        make_one()


# --- In double precision, together, since a change of it compiles everything anew -------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_all_lights_in_double_precision(f64, rng, model):
    lights, (paint, normals, positions) = lamps(rng, 2), points(rng, 1, 60)
    material, frame = surfaces(rng, 2, model), frames(rng, 2)
    lit = shade_points(*map(array, (paint, normals, positions)), make(lights), material=Material(*material), frame=array(frame))
    np.testing.assert_allclose(read(lit), expected(paint, normals, positions, lights, material, frame, batch=2), atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rows, light_batch, eyes", [(1, 1, 1), (3, 1, 1), (1, 3, 3), (3, 3, 1)])
def test_gradients_in_everything(f64, rng, model, rows, light_batch, eyes):
    names = ("albedo", "normals", "positions")
    params = dict(zip(names, map(array, points(rng, rows, 8)), strict=True))
    lights, material, frame = make(lamps(rng, light_batch)), Material(*surfaces(rng, light_batch, model)), array(frames(rng, eyes))
    fields = {name: x for name, x in vars(material).items() if name != "model"}
    shown = lambda: shade_points(*(params[name] for name in names), lights, material=material, frame=frame)  # noqa: E731
    assert_all_gradients(shown, params | fields | {"frame": frame} | light_arrays(lights), rng)


def test_gradients_in_physical_units(f64, rng):
    params = dict(zip(("albedo", "normals", "positions"), map(array, points(rng, 1, 8)), strict=True))
    lights, material, frame = make(lamps(rng, 2)), Material(*surfaces(rng, 1, "phong")), array(frames(rng, 1))
    fields = {name: x for name, x in vars(material).items() if name != "model"}
    shown = lambda: shade_points(*params.values(), lights, material=material, frame=frame, lambert="physical")  # noqa: E731
    assert_all_gradients(shown, {**params, **fields, "frame": frame, **light_arrays(lights)}, rng)


def test_gradients_of_points_of_several_views(f64, rng):
    albedo, normals, positions = map(array, points(rng, 1, 40))
    lights, material, frame = make(lamps(rng, 3, THREE)), Material(*surfaces(rng, 1, "blinn-phong")), array(frames(rng, 3))
    views = array(rng.integers(0, 3, 40))
    fields = {name: x for name, x in vars(material).items() if name != "model"}
    params = {"albedo": albedo, "normals": normals, "positions": positions, "frame": frame} | fields | light_arrays(lights)
    shown = lambda: shade_points(albedo, normals, positions, lights, material=material, frame=frame, views=views, two_sided=True)  # noqa: E731
    assert_all_gradients(shown, params, rng)
