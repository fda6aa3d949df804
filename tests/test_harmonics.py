"""Spherical harmonics: the basis and its constants against numerical integration, and lights of environments."""

import numpy as np
import pytest
import reference_shading as reference
from contract import assert_gradients, gradients

from taichi_dr import harmonics
from taichi_dr.arrays import array, read
from taichi_dr.environment import read_environment
from taichi_dr.lights import SphericalHarmonicsLight
from taichi_dr.shading import shade_points


def quadrature(polar=64, azimuthal=128):
    """Directions and weights that integrate polynomials on the sphere exactly (Gauss, Legendre)."""
    y, weights = np.polynomial.legendre.leggauss(polar)
    a = (np.arange(azimuthal) + 0.5) * 2 * np.pi / azimuthal
    ring = np.sqrt(1 - y**2)[:, None]
    d = np.stack(np.broadcast_arrays(ring * np.cos(a), y[:, None], ring * np.sin(a)), axis=-1)
    return d.reshape(-1, 3), np.repeat(weights * 2 * np.pi / azimuthal, azimuthal)


def shown(coefficients, normals):
    """What a white surface shows, (N, 3)."""
    count = len(normals)
    return read(shade_points(array(np.ones((1, count, 3))), array(normals[None]), None, SphericalHarmonicsLight(coefficients)))[0]


def directions(rng, count):
    return reference.unit(rng.standard_normal((count, 3)))


def test_the_basis_is_orthonormal():
    d, weights = quadrature()
    basis = harmonics.basis(d)
    np.testing.assert_allclose(np.einsum("n,nj,nk->jk", weights, basis, basis), np.eye(9), atol=1e-12)
    np.testing.assert_allclose(basis, reference.harmonics(d), atol=1e-14)


def test_constants_are_those_of_the_paper():
    constants = [harmonics.Y0, harmonics.Y1, harmonics.Y2, harmonics.Y20, harmonics.Y22]
    np.testing.assert_allclose(constants, [0.282095, 0.488603, 1.092548, 0.315392, 0.546274], atol=5e-7)


def test_smoothing_is_the_integral_over_the_cosine():
    """A_l against the integral of max(0, n . d) Y_lm(d), with n along +z, where only m = 0 is left."""
    z, weights = np.polynomial.legendre.leggauss(200)
    z, weights = (z + 1) / 2, weights / 2  # the upper half
    for l, y in enumerate((0 * z + harmonics.Y0, harmonics.Y1 * z, harmonics.Y20 * (3 * z**2 - 1))):  # noqa: E741
        at_pole = (harmonics.Y0, harmonics.Y1, 2 * harmonics.Y20)[l]
        integral = 2 * np.pi * (weights * z * y).sum()
        assert abs(integral / at_pole - np.pi * harmonics.SMOOTHED[l]) < 1e-12
    np.testing.assert_allclose(np.pi * np.array(harmonics.SMOOTHED), [np.pi, 2 * np.pi / 3, np.pi / 4])


def test_irradiance_is_the_integral_over_the_hemisphere(f32, rng):
    """Of random coefficients, against integrals of the environment that they make."""
    coefficients, normals = rng.standard_normal((9, 3)), directions(rng, 12)
    d, weights = quadrature(400, 800)
    facing = np.maximum(0, normals @ d.T) * weights
    want = facing @ (reference.harmonics(d) @ coefficients) / np.pi
    np.testing.assert_allclose(shown(coefficients, normals), want, atol=1e-4)
    np.testing.assert_allclose(harmonics.irradiance(coefficients, normals), want, atol=1e-4)


def test_a_constant_environment_shows_white_as_one(f32, rng):
    light = SphericalHarmonicsLight.from_environment(np.ones((16, 32)))
    np.testing.assert_allclose(read(light.coefficients), np.eye(9)[0][:, None] * np.full(3, np.sqrt(4 * np.pi)), atol=1e-5)
    np.testing.assert_allclose(shown(light.coefficients, directions(rng, 20)), 1.0, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 16), (15, 33), (64, 128)])
def test_a_band_limited_map_gives_its_coefficients_back(rng, size):
    coefficients = rng.standard_normal((9, 3))
    radiance = reference.harmonics(reference.map_directions(*size)) @ coefficients
    np.testing.assert_allclose(harmonics.project(radiance), coefficients, atol=1e-12)
    np.testing.assert_allclose(harmonics.solid_angles(*size).sum() * size[1], 4 * np.pi, rtol=1e-12)


def test_directions_of_a_map():
    d = harmonics.directions(32, 64)
    np.testing.assert_allclose(d, reference.map_directions(32, 64), atol=1e-12)
    assert d[0, :, 1].min() > 0.99 and d[16, 32, 2] < -0.99 and d[16, 48, 0] > 0.99 and d[16, 0, 2] > 0.99


@pytest.mark.parametrize(
    "row, column, toward", [(0, 5, (0, 1, 0)), (31, 5, (0, -1, 0)), (16, 32, (0, 0, -1)), (16, 48, (1, 0, 0)), (15, 0, (0, 0, 1))]
)
def test_a_spot_in_the_map_lights_what_faces_it(f32, row, column, toward):
    radiance = np.full((32, 64), 0.01)
    radiance[row, column] = 500
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    lit = shown(SphericalHarmonicsLight.from_environment(radiance).coefficients, axes)[:, 0]
    assert (axes[lit.argmax()] == toward).all()


def test_a_smooth_sky_is_shown_within_one_percent(f32, rng):
    d = reference.map_directions(32, 64)
    radiance = (np.exp(d @ (0.5, 0.8, 0.1)) + 0.2)[..., None] * (0.5, 0.8, 1.0)
    normals = directions(rng, 200)
    want = reference.map_irradiance(radiance, normals)
    lit = shown(SphericalHarmonicsLight.from_environment(radiance).coefficients, normals)
    assert np.linalg.norm(lit - want) < 0.01 * np.linalg.norm(want)


def test_the_sky_of_the_shared_data(f32, rng, shared):
    """A sun of few pixels is the hardest case for order 2."""
    pytest.importorskip("OpenEXR")
    path = shared / "data/envmap/sunsky.exr"
    radiance, normals = read_environment(path), directions(rng, 500)
    want = reference.map_irradiance(radiance, normals)
    lit = shown(SphericalHarmonicsLight.from_environment(path).coefficients, normals)
    error = ((lit - want) ** 2).sum() / (want**2).sum()
    print("share of the energy that is lost:", error)
    assert error < 0.005


def test_an_environment_is_found_from_what_it_lights(f32, rng):
    """The gradient at the true coefficients is zero, and elsewhere leads there."""
    coefficients, normals = rng.standard_normal((9, 3)), array(directions(rng, 60)[None])
    albedo, truth = array(np.ones((1, 60, 3))), harmonics.irradiance(coefficients, read(normals))
    light = SphericalHarmonicsLight(np.zeros((9, 3)))
    steps = 2 * np.pi / np.repeat(harmonics.SMOOTHED, (1, 3, 5))[:, None] ** 2  # half the inverse of the Hessian on many normals
    for _ in range(40):
        lit = read(shade_points(albedo, normals, None, light))
        (grad,) = gradients(lambda x=light: shade_points(albedo, normals, None, x), [light.coefficients], (lit - truth) / 60)
        light = SphericalHarmonicsLight(read(light.coefficients) - steps * grad)
    np.testing.assert_allclose(read(light.coefficients), coefficients, atol=0.02)


# --- In double precision, together, since a change of it compiles everything anew -------------------------------------


def test_gradients_in_coefficients_and_normals(f64, rng):
    albedo, normals = array(rng.uniform(0, 1, (1, 20, 3))), array(directions(rng, 40).reshape(2, 20, 3))
    light = SphericalHarmonicsLight(rng.standard_normal((2, 9, 3)))
    params = {"albedo": albedo, "normals": normals, "coefficients": light.coefficients}
    assert_gradients(lambda: shade_points(albedo, normals, None, light), params, rng)
