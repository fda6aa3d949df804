"""Smoothing: against the formula vertex by vertex; noise goes, with taubin the volume stays; boundaries stay."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taichi_dr as dr

ANY_INPUT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def reference(x, faces, factors):
    """Each vertex in turn, by a loop over its neighbors."""
    sides = [tuple(sorted(side)) for face in faces.tolist() for side in zip(face, face[1:] + face[:1], strict=True)]
    neighbors = {v: sorted({w for side in sides for w in side if v in side and w != v}) for v in range(len(x))}
    stays = {v for side in sides if sides.count(side) != 2 for v in side}
    for factor in factors:
        moved = x.copy()
        for v, around in neighbors.items():
            if around and v not in stays:
                moved[v] = x[v] + factor * (x[around].mean(axis=0) - x[v])
        x = moved
    return x


@pytest.mark.parametrize("method", ["taubin", "laplacian"])
@pytest.mark.parametrize("name", ["icosphere", "plane", "two parts"])
def test_against_each_vertex(f64, method, name, rng):
    if name == "two parts":
        one = dr.shapes.icosphere(1)
        x, f = dr.read(one.vertices)[0], dr.read(one.faces)
        x, f = np.concatenate([x, x + 3, [[9.0, 9, 9]]]), np.concatenate([f, f[3:] + len(x)])
    else:
        mesh = dr.shapes.icosphere(2) if name == "icosphere" else dr.shapes.plane(2.0, 6)
        x, f = dr.read(mesh.vertices)[0], dr.read(mesh.faces)
    x = x + 0.1 * rng.normal(size=x.shape)
    got = dr.read(dr.smooth(dr.Mesh(x, f), 3, method, strength=0.6, pass_band=0.2).vertices)[0]
    factors = [0.6, 1 / (0.2 - 1 / 0.6)] * 3 if method == "taubin" else [0.6] * 3
    np.testing.assert_allclose(got, reference(x, f, factors), atol=1e-13)


def test_taubin_keeps_the_volume_and_laplacian_does_not(f64, rng):
    sphere = dr.shapes.icosphere(4)
    x = dr.read(sphere.vertices)[0]
    noisy = sphere.with_vertices(dr.array(x[None] * (1 + 0.02 * rng.normal(size=(1, len(x), 1)))))

    def roughness(mesh):
        return np.linalg.norm(dr.read(mesh.vertices)[0], axis=1).std()

    before = dr.mesh_quality(noisy)
    taubin, laplacian = dr.smooth(noisy, 20), dr.smooth(noisy, 20, "laplacian")
    assert roughness(taubin) < 0.35 * roughness(noisy)
    assert abs(dr.mesh_quality(taubin).volume / before.volume - 1) < 0.005
    assert dr.mesh_quality(laplacian).volume / before.volume < 0.98


def test_boundary_colors_and_batches(f64, rng):
    plane = dr.shapes.plane(2.0, 8)
    x = dr.read(plane.vertices)[0]
    rim = (np.abs(x[:, [0, 2]]) > 0.99).any(axis=1)
    both = np.stack([x, x]) + rng.normal(size=(2, 1, 1)) + 0.1 * rng.normal(size=(2, *x.shape))
    mesh = dr.Mesh(both, plane.faces, rng.random((1, len(x), 3)))
    new = dr.smooth(mesh, 7)
    y = dr.read(new.vertices)
    np.testing.assert_array_equal(y[:, rim], both[:, rim])
    assert (y[:, ~rim] != both[:, ~rim]).all() and new.colors is mesh.colors and new.faces is mesh.faces
    for k in range(2):
        np.testing.assert_allclose(dr.read(dr.smooth(dr.Mesh(both[k], plane.faces), 7).vertices)[0], y[k], atol=1e-14)
    np.testing.assert_array_equal(dr.read(mesh.vertices), both)  # the mesh given is not changed
    np.testing.assert_array_equal(dr.read(dr.smooth(mesh, 0).vertices), both)


@ANY_INPUT
@given(st.integers(0, 2**32 - 1), st.integers(3, 12), st.integers(1, 30), st.sampled_from(["taubin", "laplacian"]))
def test_any_mesh(f64, seed, count, faces, method):
    rng = np.random.default_rng(seed)
    x, f = rng.random((count, 3)), rng.integers(0, count, (faces, 3))
    got = dr.read(dr.smooth(dr.Mesh(x, f), 5, method).vertices)[0]
    assert np.isfinite(got).all()
    unused = np.setdiff1d(np.arange(count), f)
    np.testing.assert_array_equal(got[unused], x[unused])
    if method == "laplacian":
        assert got.min() >= x.min() - 1e-12 and got.max() <= x.max() + 1e-12


@pytest.mark.parametrize(
    "change, message",
    [
        ({"iterations": -1}, "iterations: expected a whole number of at least 0, got -1"), ({"iterations": 2.5}, "iterations"),
        ({"method": "humphrey"}, "method: expected 'taubin' or 'laplacian', got 'humphrey'"),
        ({"strength": 0}, "strength: expected a number above 0, at most 1, got 0"), ({"strength": 1.5}, "strength"),
        ({"strength": np.nan}, "strength: expected a finite number"),
        ({"pass_band": 2.0}, "pass_band: expected a number between 0 and 1 / strength = 2, got 2"), ({"pass_band": 0}, "pass_band"),
        ({"mesh": "bunny"}, "mesh: expected a dr.Mesh, got str"),
    ],
)  # fmt: skip
def test_bad_arguments(change, message, f64):
    with pytest.raises(ValueError, match=message):
        dr.smooth(**{"mesh": dr.shapes.icosphere(1), **change})
