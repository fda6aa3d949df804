"""Operators tested through one number: <cotangent, output>, whose gradient is the adjoint applied to the cotangent."""

import numpy as np

from taichi_dr import gradcheck, runtime
from taichi_dr.arrays import array, read, write
from taichi_dr.tape import Tape, operator


@operator
def contract(x, weights, loss):
    """loss += <weights, x>, in NumPy: independent of every kernel."""
    write(loss, np.asarray(read(loss) + (read(x).astype(np.float64) * weights).sum()))


@contract.adjoint
def _contract_adjoint(x, weights, loss):
    write(x.grad, read(x.grad) + weights * read(loss.grad))


def contraction(op, rng):
    """A loss <w, op()> with fixed random w for `gradcheck`."""
    held = {}

    def f(loss):
        out = op()
        if "w" not in held:
            held["w"] = rng.standard_normal(read(out).shape)
        contract(out, held["w"], loss)

    return f


def assert_gradients(op, params, rng, tolerance=1e-6, **options):
    """Central differences agree with the adjoint of `op` in each of `params` (name -> array), and no gradient is zero."""
    assert runtime.device().precision == "f64" or tolerance >= 1e-3
    checks = gradcheck(contraction(op, rng), list(params.values()), **options)
    for name, check in zip(params, checks, strict=True):
        assert abs(check.by_tape).max() > 1e-9, f"{name}: the gradient is zero"
        assert check.error < tolerance, f"{name}: relative error {check.error:.2e}, tape {check.by_tape}, differences {check.by_differences}"


def gradients(op, params, cotangent):
    """The gradients of <cotangent, op()> in each of `params`."""
    loss = array(0.0)
    with Tape(loss):
        contract(op(), np.asarray(cotangent, np.float64), loss)
    return [read(x.grad) for x in params]
