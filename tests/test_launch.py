"""Launches: what was compiled for arrays of some types serves others of these types, and no others; Taichi may start anew in between."""

import numpy as np
import pytest
import taichi as ti

import taichi_dr as dr
from taichi_dr.launch import kernel

Numbers = ti.types.ndarray(needs_grad=False)


@kernel
def scaled(x: Numbers, out: Numbers, n: int, factor: float, twice: ti.template()):
    for k in range(n):
        out[k] = factor * x[k]
        if ti.static(twice):
            out[k] = 2.0 * out[k]


def run(values, n, factor, twice):
    x, out = dr.array(values), dr.array(np.zeros_like(values))
    scaled(x, out, n, factor, twice)
    return dr.read(out)


def test_of_each_kind_of_argument_its_own(f32, rng):
    for _ in range(3):  # compiled, then remembered
        for shape in ((7,), (9,), (5, 3), (6, 2)):
            values = rng.normal(size=shape)
            for twice in (False, True):
                n, factor = int(rng.integers(1, shape[0])), float(rng.normal())
                expected = np.where(np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)) < n, (1 + twice) * factor * values, 0)
                np.testing.assert_allclose(run(values, n, factor, twice), expected, rtol=1e-5, atol=1e-6)
    assert scaled._compiled and len(scaled._compiled) == 6  # numbers, vec2, vec3; each with `twice` and without


def test_taichi_starts_anew(arch, f32):
    before = run(np.ones(5), 5, 3.0, False)
    ti.reset()
    dr.init(arch)
    assert np.array_equal(run(np.ones(5), 5, 3.0, False), before) and len(scaled._compiled) == 1


def test_errors_are_those_of_taichi(f32):
    run(np.ones(5), 5, 3.0, False)
    x = dr.array(np.ones(5))
    with pytest.raises(Exception, match="`twice .* missing"):
        scaled(x, x, 5, 3.0)
    with pytest.raises(Exception, match="Too many arguments"):
        scaled(x, x, 5, 3.0, False, 7)
    with pytest.raises(TypeError):
        scaled(x, x, 5, "three", False)


def test_arrays_of_numpy_are_compared_each_time(f32):
    x, out = np.ones(5, np.float32), np.zeros(5, np.float32)
    for _ in range(2):
        scaled(x, out, 5, 3.0, False)
        assert (out == 3).all()


def test_a_tape_records_it(f32):
    """Outside of an operator a kernel is a step of Taichi's own tape."""
    x, loss = dr.array(np.ones(5)), dr.scalar()
    scaled(x, x, 5, 1.0, False)
    with ti.ad.Tape(loss) as tape:
        scaled(x, x, 5, 1.0, False)
        assert len(tape.calls) == 1
        tape.calls.clear()
