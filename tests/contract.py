"""Operators tested through one number: <cotangent, output>, whose gradient is the adjoint applied to the cotangent."""

import taichi as ti

from taichi_dr import gradcheck, runtime
from taichi_dr.arrays import array, read
from taichi_dr.tape import Tape, operator


@ti.kernel
def _contract_kernel(x: ti.types.ndarray(needs_grad=False), weights: ti.types.ndarray(needs_grad=False), loss: ti.types.ndarray(needs_grad=False)):
    ti.loop_config(serialize=True)
    for I in ti.grouped(x):
        loss[None] += (x[I] * weights[I]).sum() if ti.static(hasattr(x[I], "n")) else x[I] * weights[I]


@ti.kernel
def _contract_adjoint_kernel(x_grad: ti.types.ndarray(needs_grad=False), weights: ti.types.ndarray(needs_grad=False), loss_grad: ti.types.ndarray(needs_grad=False)):
    for I in ti.grouped(x_grad):
        x_grad[I] += weights[I] * loss_grad[None]


@operator
def contract(x, weights, loss):
    """loss += <weights, x>"""
    _contract_kernel(x, weights, loss)


@contract.adjoint
def _contract_adjoint(x, weights, loss):
    _contract_adjoint_kernel(x.grad, weights, loss.grad)


def contraction(op, rng):
    """A loss <w, op()> with fixed random w for `gradcheck`."""
    held = {}

    def f(loss):
        out = op()
        if "w" not in held:
            held["w"] = array(rng.standard_normal(read(out).shape))
        contract(out, held["w"], loss)

    return f


def assert_gradients(op, params, rng, tolerance=1e-6, **options):
    """Central differences agree with the adjoint of `op` in each of `params` (name -> array), and no gradient is zero."""
    assert runtime.device().precision == "f64" or tolerance >= 1e-3
    checks = gradcheck.gradcheck(contraction(op, rng), list(params.values()), **options)
    for name, check in zip(params, checks, strict=True):
        assert abs(check.by_tape).max() > 1e-9, f"{name}: the gradient is zero"
        assert check.error < tolerance, f"{name}: relative error {check.error:.2e}, tape {check.by_tape}, differences {check.by_differences}"


def gradients(op, params, cotangent):
    """The gradients of <cotangent, op()> in each of `params`."""
    loss = array(0.0)
    weights = array(cotangent)
    with Tape(loss):
        contract(op(), weights, loss)
    return [read(x.grad) for x in params]
