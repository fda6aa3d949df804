"""The tape: gradients are there on a clean exit, and only then; other people's kernels and tapes; gradcheck."""

import numpy as np
import pytest
import taichi as ti
from contract import contract
from taichi.lang import impl

import taichi_dr as dr
from taichi_dr.arrays import unrecorded, zero
from taichi_dr.tape import operator

Numbers = ti.types.ndarray(dtype=float, ndim=1, needs_grad=False)
NumbersWithGrad = ti.types.ndarray(dtype=float, ndim=1, needs_grad=True)
ScalarWithGrad = ti.types.ndarray(dtype=float, ndim=0, needs_grad=True)


@ti.kernel
def cube_kernel(x: Numbers, out: Numbers):
    for i in x:
        out[i] = x[i] ** 3


@ti.kernel
def cube_adjoint_kernel(x: Numbers, out_grad: Numbers, x_grad: Numbers):
    for i in x:
        x_grad[i] += 3.0 * x[i] * x[i] * out_grad[i]


@operator
def cube(x, out):
    """out = x^3, with kernels of its own inside."""
    cube_kernel(x, out)


@cube.adjoint
def _cube_adjoint(x, out):
    cube_adjoint_kernel(x, out.grad, x.grad)


@ti.kernel
def users_kernel(x: NumbersWithGrad, out: NumbersWithGrad):
    for i in x:
        out[i] = ti.sin(x[i]) * x[i]


@ti.kernel
def users_sum(x: NumbersWithGrad, loss: ScalarWithGrad):
    for i in x:
        loss[None] += x[i] * x[i]


def numbers(*values):
    return dr.array(np.array(values, float), vectors=False)


def cubes(x):
    out = numbers(*np.zeros(x.shape[0]))
    cube(x, out)
    return out


W = np.array([0.5, -1.0, 2.0, 3.0, 0.25])
X = np.array([1.0, 2.0, -1.0, 0.5, 3.0])


@pytest.fixture
def taichis_own_gradients(arch, f32):
    if arch in ("vulkan", "metal"):
        pytest.skip(f"Taichi's own autodiff of a kernel gives zeros for arrays on {arch}")


# --- Gradients --------------------------------------------------------------------------------------------------


def test_gradients_are_there_on_exit(f32):
    x, loss = numbers(*X), dr.scalar(7.0)
    with dr.Tape(loss):
        contract(cubes(x), W, loss)
        assert not dr.read(x.grad).any()
    assert np.isclose(loss[None], (W * X**3).sum())  # the 7 is gone
    assert np.allclose(dr.read(x.grad), W * 3 * X**2, rtol=1e-6)


def test_one_operator_twice_in_a_tape(f32):
    x, loss = numbers(*X), dr.scalar()
    with dr.Tape(loss):
        contract(cubes(cubes(x)), W, loss)
    assert np.allclose(dr.read(x.grad), W * 9 * X**8, rtol=1e-5)


def test_an_array_that_two_operators_take_gets_both_gradients(f32):
    x, loss = numbers(*X), dr.scalar()
    with dr.Tape(loss):
        contract(cubes(x), W, loss)
        contract(x, 2 * W, loss)
        contract(cubes(x), -3 * W, loss)
    assert np.allclose(dr.read(x.grad), -2 * W * 3 * X**2 + 2 * W, rtol=1e-5)


def test_a_second_tape_starts_from_zero(f32):
    x, loss, out = numbers(*X), dr.scalar(), numbers(*X)
    for _ in range(3):
        with dr.Tape(loss):
            cube(x, out)
            contract(out, W, loss)
    assert np.allclose(dr.read(x.grad), W * 3 * X**2, rtol=1e-6) and np.isclose(loss[None], (W * X**3).sum())


def test_gradients_left_behind_as_nan_are_cleared(f32):
    x, loss = numbers(*X), dr.scalar()
    dr.write(x.grad, np.full(5, np.nan))
    with dr.Tape(loss):
        contract(cubes(x), W, loss)
    assert np.allclose(dr.read(x.grad), W * 3 * X**2, rtol=1e-6)


def test_without_clear_gradients_accumulate(f32):
    x, loss = numbers(*X), dr.scalar()
    for k in range(3):
        with dr.Tape(loss, clear=False):
            contract(cubes(x), (k + 1) * W, loss)
    assert np.allclose(dr.read(x.grad), 6 * W * 3 * X**2, rtol=1e-5)


def test_arrays_without_a_gradient_take_part(f32):
    x, loss = numbers(*X), dr.scalar()
    faces = dr.array([[0, 1, 2]])
    screen = dr.array([[[-0.5, -0.5, 2.0], [0.5, -0.5, 2.0], [0.0, 0.5, 2.0]]])
    screen.grad = None
    with dr.Tape(loss):
        contract(cubes(x), W, loss)
        contract(dr.soft_rasterize(screen, faces, dr.array(np.ones((1, 3, 3))), size=4), np.ones((1, 4, 4, 4)), loss)
    assert np.allclose(dr.read(x.grad), W * 3 * X**2, rtol=1e-6)


# --- Misuse -----------------------------------------------------------------------------------------------------


def test_after_an_exception_nothing_runs_backward(f32):
    x, loss = numbers(*X), dr.scalar()
    dr.write(x.grad, np.full(5, 4.0))
    with pytest.raises(KeyError, match="out of the body"):
        with dr.Tape(loss):
            contract(cubes(x), W, loss)
            raise KeyError("out of the body")
    assert impl.get_runtime().target_tape is None and (dr.read(x.grad) == 4).all()
    with dr.Tape(loss):
        contract(cubes(x), W, loss)
    assert np.allclose(dr.read(x.grad), W * 3 * X**2, rtol=1e-6)


def test_an_exception_inside_an_operator_does_not_stop_the_recording_for_good(f32):
    @operator
    def fails(x):
        raise KeyError("inside")

    x, loss = numbers(*X), dr.scalar()
    with dr.Tape(loss):
        with pytest.raises(KeyError):
            fails(x)
        contract(cubes(x), W, loss)
    assert np.allclose(dr.read(x.grad), W * 3 * X**2, rtol=1e-6)


def test_no_tape_in_a_tape(f32):
    x, loss, other = numbers(*X), dr.scalar(), dr.scalar()
    with pytest.raises(RuntimeError, match="a tape is open already"):
        with dr.Tape(loss):
            with dr.Tape(other):
                pass
    with pytest.raises(RuntimeError, match="a tape is open already"):
        with ti.ad.Tape(loss):
            with dr.Tape(other):
                pass
    with dr.Tape(loss):
        contract(cubes(x), W, loss)
    assert np.abs(dr.read(x.grad)).max() > 0


def test_a_tape_serves_once(f32):
    x, loss = numbers(*X), dr.scalar()
    tape = dr.Tape(loss)
    with tape:
        contract(cubes(x), W, loss)
    with pytest.raises(RuntimeError, match="this tape has been used; make a new one"):
        with tape:
            pass
    assert impl.get_runtime().target_tape is None


@pytest.mark.parametrize("make", [lambda: None, lambda: 1.0, lambda: np.zeros(()), lambda: dr.array(3), lambda: dr.array([1.0, 2.0, 3.0]),
                                  lambda: numbers(1, 2), lambda: dr.shapes.cube()])  # fmt: skip
def test_a_loss_is_a_scalar_with_a_gradient(make, f32):
    with pytest.raises(ValueError, match=r"loss: expected a Taichi scalar with a gradient, got .*; make it with dr.scalar\(\)"):
        dr.Tape(make())


# --- What is recorded -------------------------------------------------------------------------------------------


def test_kernels_inside_operators_reads_and_writes_are_not_recorded(f32):
    x, other, loss = numbers(*X), numbers(*X), dr.scalar()
    with dr.Tape(loss) as tape:
        out = cubes(x)  # makes an array
        dr.read(out)
        dr.write(other, X + 1)
        zero(other)
        with unrecorded():
            cube(x, other)
        assert [call.__name__ for call, _ in tape.calls] == ["cube"]
        contract(out, W, loss)
    assert np.allclose(dr.read(x.grad), W * 3 * X**2, rtol=1e-6)
    assert not dr.read(other.grad).any()


def test_a_whole_render_is_recorded_by_operators_only(f32):
    loss = dr.scalar()
    with dr.Tape(loss) as tape:
        image = dr.SoftRenderer(antialias=2)(dr.shapes.cube(), dr.Camera.look_at((1.0, 2.0, 3.0), size=4), dr.DirectionalLight())
        dr.losses.mse(image, dr.array(np.zeros((1, 4, 4, 4))), loss)
        assert all(isinstance(call, type(cube)) for call, _ in tape.calls), tape.calls


def test_a_users_kernel_between_operators(taichis_own_gradients):
    x, between, loss = numbers(*X), numbers(*X), dr.scalar()
    for _ in range(2):
        with dr.Tape(loss):
            inside = cubes(x)
            users_kernel(inside, between)
            contract(cubes(between), W, loss)
    u = X**3
    expected = W * 3 * (np.sin(u) * u) ** 2 * (np.cos(u) * u + np.sin(u)) * 3 * X**2
    assert np.allclose(dr.read(x.grad), expected, rtol=1e-3)


def test_a_users_loss_after_operators(taichis_own_gradients):
    x, loss = numbers(*X), dr.scalar()
    for _ in range(2):
        with dr.Tape(loss):
            users_sum(cubes(x), loss)
    assert np.allclose(dr.read(x.grad), 6 * X**5, rtol=1e-5) and np.isclose(loss[None], (X**6).sum())


def test_a_plain_taichi_tape_records_operators_and_kernels(taichis_own_gradients):
    x, loss = numbers(*X), dr.scalar()
    between = numbers(*X)
    with ti.ad.Tape(loss):
        users_kernel(cubes(x), between)
        contract(between, W, loss)
    u = X**3
    assert np.allclose(dr.read(x.grad), W * (np.cos(u) * u + np.sin(u)) * 3 * X**2, rtol=1e-4)


def test_a_plain_taichi_tape_records_operators(f32):
    x, loss = numbers(*X), dr.scalar()
    with ti.ad.Tape(loss):
        contract(cubes(x), W, loss)
    assert np.allclose(dr.read(x.grad), W * 3 * X**2, rtol=1e-6)


def test_operators_run_without_a_tape(f32):
    x = numbers(*X)
    assert np.allclose(dr.read(cubes(x)), X**3) and not dr.read(x.grad).any()


# --- gradcheck --------------------------------------------------------------------------------------------------


def wrong_by(factor):
    @operator
    def square(x, out):
        dr.write(out, dr.read(x) ** 2)

    @square.adjoint
    def _square_adjoint(x, out):
        dr.write(x.grad, dr.read(x.grad) + factor * 2 * dr.read(x) * dr.read(out.grad))

    return square


def check(square, x, **options):
    def f(loss):
        out = numbers(*X)
        square(x, out)
        contract(out, W, loss)

    return dr.gradcheck(f, [x], **options)


def test_gradcheck_agrees_with_a_right_adjoint(f64):
    x = numbers(*X)
    (result,) = check(wrong_by(1.0), x)
    assert result.error < 1e-9 and result.by_tape.shape == result.by_differences.shape == (4,)
    assert np.array_equal(dr.read(x), X)
    assert len(check(wrong_by(1.0), x, directions=7)[0].by_tape) == 7


def test_gradcheck_in_float32(f32):
    assert check(wrong_by(1.0), numbers(*X))[0].error < 1e-2


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.01, -1.0])
def test_gradcheck_finds_a_wrong_adjoint(factor, f64):
    (result,) = check(wrong_by(factor), numbers(*X))
    assert np.isclose(result.error, abs(1 - factor), rtol=1e-5)


def test_gradcheck_takes_several_arrays_in_order(f64):
    x, y = numbers(*X), numbers(*-X)
    right, wrong = wrong_by(1.0), wrong_by(3.0)

    def f(loss):
        for square, array in ((right, x), (wrong, y)):
            out = numbers(*X)
            square(array, out)
            contract(out, W, loss)

    first, second = dr.gradcheck(f, [x, y])
    assert first.error < 1e-8 and np.isclose(second.error, 2, rtol=1e-5)
    assert np.array_equal(dr.read(x), X) and np.array_equal(dr.read(y), -X)


def test_gradcheck_needs_gradients(f32):
    for bad in (dr.array([1, 2]), np.zeros(3), 1.0):
        with pytest.raises(ValueError, match="params: expected arrays with gradients, got one without at index 1"):
            dr.gradcheck(lambda loss: None, [dr.array([1.0, 2.0]), bad])
