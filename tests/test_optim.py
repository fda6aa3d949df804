"""Optimizers: against NumPy, resumed, in groups, with gradients that are not finite, and with bad settings."""

import json

import numpy as np
import pytest
import reference_losses as reference
import taichi as ti
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taichi_dr import losses, optim
from taichi_dr.arrays import array, read, scalar, write
from taichi_dr.tape import Tape, operator

SHAPES = ((), (1,), (7,), (3,), (5, 4), (2, 9, 3), (2, 3, 4, 4), (2, 3, 3, 5, 3))
FAST = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBERS = st.integers(0, 2**31)


def follow(optimizer, x, gradients):
    for g in gradients:
        write(x.grad, g)
        optimizer.step()


def values(rng, shape):
    return rng.standard_normal(shape).astype(np.float32)


@FAST
@given(seed=NUMBERS, shape=st.sampled_from(SHAPES), lr=st.floats(1e-4, 1), beta1=st.floats(0, 0.99), beta2=st.floats(0.1, 0.9999))
def test_adam_matches_the_paper(seed, shape, lr, beta1, beta2, f32):
    rng = np.random.default_rng(seed)
    x, gradients = values(rng, shape), values(rng, (6, *shape))
    moving, expected = array(x), reference.Adam(x, lr, (beta1, beta2), 1e-8)
    follow(optim.Adam([moving], lr, (beta1, beta2)), moving, gradients)
    for g in gradients.astype(np.float64):
        expected.step(g)
    np.testing.assert_allclose(read(moving), expected.x, rtol=1e-4, atol=1e-4 * lr)


@FAST
@given(seed=NUMBERS, shape=st.sampled_from(SHAPES), lr=st.floats(1e-4, 1), beta1=st.floats(0, 0.99), beta2=st.floats(0.1, 0.9999))
def test_adam_uniform_matches_the_paper(seed, shape, lr, beta1, beta2, f32):
    rng = np.random.default_rng(seed)
    x, gradients = values(rng, shape), values(rng, (6, *shape))
    moving, expected = array(x), reference.AdamUniform(x, lr, (beta1, beta2), 1e-8)
    follow(optim.AdamUniform([moving], lr, (beta1, beta2)), moving, gradients)
    for g in gradients.astype(np.float64):
        expected.step(g)
    np.testing.assert_allclose(read(moving), expected.x, rtol=1e-4, atol=1e-4 * lr)


def test_adam_uniform_keeps_the_shape_of_a_gradient(f32, rng):
    x, g = array(np.zeros((2, 700, 3))), rng.standard_normal((2, 700, 3))
    follow(optim.AdamUniform([x], lr=0.25), x, [g])
    np.testing.assert_allclose(read(x), -0.25 * g / np.abs(g).max(), rtol=1e-4, atol=1e-7)


@FAST
@given(seed=NUMBERS, shape=st.sampled_from(SHAPES), lr=st.floats(1e-4, 1), momentum=st.floats(0, 0.99))
def test_sgd_matches_the_formula(seed, shape, lr, momentum, f32):
    rng = np.random.default_rng(seed)
    x, gradients = values(rng, shape), values(rng, (6, *shape))
    moving, expected = array(x), reference.SGD(x, lr, momentum)
    follow(optim.SGD([moving], lr, momentum), moving, gradients)
    for g in gradients.astype(np.float64):
        expected.step(g)
    np.testing.assert_allclose(read(moving), expected.x, rtol=1e-4, atol=1e-4 * lr)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamUniform, optim.SGD])
def test_double_precision(kind, f64, rng):
    x, gradients = rng.standard_normal((5, 3)), rng.standard_normal((20, 5, 3))
    moving = array(x)
    settings = {"momentum": 0.9} if kind is optim.SGD else {"betas": (0.9, 0.999), "eps": 1e-8}
    expected = getattr(reference, kind.__name__)(x, 0.1, *settings.values())
    follow(kind([{"params": [moving], **settings}], 0.1), moving, gradients)
    for g in gradients:
        expected.step(g)
    np.testing.assert_allclose(read(moving), expected.x, rtol=1e-10)


def test_first_step_of_adam_is_lr_long(f32, rng):
    x = array(np.zeros((50, 3)))
    write(x.grad, rng.standard_normal((50, 3)) * 10.0 ** rng.integers(-3, 4, (50, 3)))
    optim.Adam([x], lr=0.25).step()
    np.testing.assert_allclose(np.abs(read(x)), 0.25, rtol=1e-4)


@pytest.mark.parametrize(
    "make",
    [lambda p: optim.Adam(p, 0.1), lambda p: optim.AdamUniform(p, 0.1), lambda p: optim.SGD(p, 1.0, 0.9), lambda p: optim.LBFGS(p)],
    ids=["Adam", "AdamUniform", "SGD", "LBFGS"],
)
def test_a_quadratic_is_solved(make, f32, rng):
    x, goal, loss = array(np.zeros((1, 4, 3))), array(rng.standard_normal((1, 4, 3))), scalar()
    optimizer = make([x])
    for _ in range(300):
        with Tape(loss):
            losses.mse(x, goal, loss)
        optimizer.step()
    np.testing.assert_allclose(read(x), read(goal), atol=1e-3)


def test_groups_have_their_own_settings(f32):
    a, b, c = (array(np.zeros(5)) for _ in range(3))
    optimizer = optim.SGD([{"params": [a, b], "lr": 1.0}, {"params": c}], lr=0.5)
    for x in (a, b, c):
        write(x.grad, np.ones(5))
    optimizer.step()
    assert [read(x)[0] for x in (a, b, c)] == [-1, -1, -0.5]
    optimizer.groups[0]["lr"] = 0.25
    optimizer.groups[1]["lr"] = 0
    optimizer.step()
    assert [read(x)[0] for x in (a, b, c)] == [-1.25, -1.25, -0.5]
    optimizer.zero_grad()
    assert not any(read(x.grad).any() for x in (a, b, c))
    optimizer.groups[0]["lr"] = -1
    with pytest.raises(ValueError, match=r"groups\[0\]: expected a positive, finite lr, got -1"):
        optimizer.step()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("make", [lambda p: optim.Adam(p, 0.1), lambda p: optim.SGD(p, 0.1, 0.9)], ids=["Adam", "SGD"])
def test_an_element_without_a_finite_gradient_waits(make, bad, f32, rng):
    gradients = rng.standard_normal((5, 6, 3))
    with_bad = gradients.copy()
    with_bad[2, 4, 1] = bad
    results = []
    for gs in (gradients, with_bad):
        x = array(np.zeros((6, 3)))
        optimizer = make([x])
        follow(optimizer, x, gs[:2])
        before, kept = read(x), optimizer.state_dict()
        follow(optimizer, x, gs[2:3])
        results.append((before, kept, read(x), optimizer.state_dict()))
        follow(optimizer, x, gs[3:])
        assert np.isfinite(read(x)).all()
    before, kept, after, state = results[1]
    np.testing.assert_array_equal(after[4], before[4])
    for name in kept:
        if "params" in name:
            np.testing.assert_array_equal(state[name][4], kept[name][4])
    np.testing.assert_array_equal(np.delete(after, 4, 0), np.delete(results[0][2], 4, 0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("kind", [optim.AdamUniform, optim.LBFGS])
def test_an_element_with_a_bad_gradient_waits_and_harms_no_other(kind, bad, f32, rng):
    x, gradients = array(np.zeros((6, 3))), rng.standard_normal((5, 6, 3))
    gradients[2, 4, 1] = bad
    optimizer = kind([x], 0.1)
    follow(optimizer, x, gradients[:2])
    before = read(x)
    follow(optimizer, x, gradients[2:3])
    if bad != 1e30 or kind is optim.AdamUniform:  # whose square is beyond float32; L-BFGS is in double precision
        np.testing.assert_array_equal(read(x)[4], before[4])
        assert (np.delete(read(x), 4, 0) != np.delete(before, 4, 0)).all()
    follow(optimizer, x, gradients[3:])
    assert np.isfinite(read(x)).all()


def test_adam_is_not_stopped_by_a_huge_gradient(f32):
    x = array(np.zeros(5))
    optimizer = optim.Adam([x], 0.1)
    follow(optimizer, x, [np.full(5, 1e30), np.ones(5)])  # its square is beyond float32
    assert (read(x) < -0.01).all()


MAKERS = {
    "AdamUniform": lambda a, b: optim.AdamUniform([{"params": [a], "lr": 0.03, "betas": (0.8, 0.99)}, {"params": [b]}], 0.01),
    "LBFGS": lambda a, b: optim.LBFGS([{"params": [a], "lr": 0.03}, {"params": [b]}], 0.01, history=2),
    "Adam": lambda a, b: optim.Adam([{"params": [a], "lr": 0.03, "betas": (0.8, 0.99)}, {"params": [b]}], 0.01),
    "SGD": lambda a, b: optim.SGD([{"params": [a], "lr": 0.03, "momentum": 0.8}, {"params": [b]}], 0.01, 0.5),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_a_resumed_run_is_bitwise_the_same(make, f32, rng, tmp_path):
    start = values(rng, (6, 3)), values(rng, ())
    gradients = [(values(rng, (6, 3)), values(rng, ())) for _ in range(7)]

    def run(arrays, optimizer, steps):
        for gs in steps:
            for x, g in zip(arrays, gs, strict=True):
                write(x.grad, g)
            optimizer.step()

    whole = [array(x) for x in start]
    optimizer = make(*whole)
    run(whole, optimizer, gradients)

    first = [array(x) for x in start]
    broken = make(*first)
    run(first, broken, gradients[:3])
    np.savez(tmp_path / "state.npz", **broken.state_dict())
    second = [array(read(x)) for x in first]
    resumed = make(*second)
    resumed.groups[0]["lr"] = 0.5  # the stored one counts
    with np.load(tmp_path / "state.npz") as state:
        resumed.load_state_dict(state)
    run(second, resumed, gradients[3:])
    for x, y in zip(whole, second, strict=True):
        np.testing.assert_array_equal(read(x), read(y))
    assert resumed.steps == 7 and resumed.groups[0]["lr"] == 0.03

    as_text = json.dumps({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in optimizer.state_dict().items()})
    resumed.load_state_dict(json.loads(as_text))
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(resumed.state_dict()[name], value)


# --- L-BFGS ------------------------------------------------------------------------------------------------------


@operator
def rosenbrock(x, loss):
    """loss += sum_k 100 (x_(k+1) - x_k^2)^2 + (1 - x_k)^2, in NumPy."""
    v = read(x)
    write(loss, read(loss) + (100 * (v[1:] - v[:-1] ** 2) ** 2 + (1 - v[:-1]) ** 2).sum())


@rosenbrock.adjoint
def _rosenbrock_adjoint(x, loss):
    v, g = read(x), read(x.grad)
    d = v[1:] - v[:-1] ** 2
    g[1:] += 200 * d
    g[:-1] += -400 * d * v[:-1] - 2 * (1 - v[:-1])
    write(x.grad, g)


def valley(x, loss):
    def closure():
        with Tape(loss):
            rosenbrock(x, loss)
        closure.calls += 1
        return loss

    closure.calls = 0
    return closure


def test_lbfgs_with_a_search_goes_down_a_curved_valley(f64):
    """In 157 evaluations; SciPy's, which does not evaluate again at the start of a step, needs 90."""
    x, loss = array(np.full(10, -1.2)), scalar()
    optimizer, closure, seen = optim.LBFGS([x]), valley(x, loss), []
    while closure.calls < 200:
        seen.append(optimizer.step(closure))
    assert (np.diff(seen) <= 0).all() and seen[0] > 1e3
    assert float(read(loss)) < 1e-15 and np.abs(read(x) - 1).max() < 1e-6
    assert not np.isnan(read(x.grad)).any()


def test_lbfgs_solves_a_quadratic_in_its_dimension(f64, rng):
    """With exact curvature from 6 pairs, the loss of 6 unknowns falls to rounding."""
    a = rng.standard_normal((6, 6))
    a, x = a @ a.T + np.eye(6), array(rng.standard_normal(6))
    optimizer, loss = optim.LBFGS([x]), array(0.0)

    def closure():
        v = read(x)
        write(x.grad, a @ v)
        write(loss, np.asarray(0.5 * v @ a @ v))
        return loss

    for _ in range(30):
        optimizer.step(closure)
    assert np.abs(read(x)).max() < 1e-7


def test_the_two_loops_are_the_dense_formula(f64, rng):
    """H <- (I - s y^T / s.y) H (I - y s^T / s.y) + s s^T / s.y, from H = s.y / y.y I of the last pair."""
    x, optimizer = array(rng.standard_normal(5)), None
    a = np.diag([1.0, 2.0, 5.0, 10.0, 30.0])
    optimizer = optim.LBFGS([x], history=3)
    places = []
    for _ in range(6):
        places.append(read(x))
        follow(optimizer, x, [a @ read(x)])
    pairs = [(q - p, a @ (q - p)) for p, q in zip(places[:-1], places[1:], strict=True)][-3:]
    s, y = pairs[-1]
    H = (s @ y) / (y @ y) * np.eye(5)
    for s, y in pairs:
        V = np.eye(5) - np.outer(y, s) / (s @ y)
        H = V.T @ H @ V + np.outer(s, s) / (s @ y)
    np.testing.assert_allclose(read(x) - places[-1], -H @ a @ places[-1], rtol=1e-8)


def test_a_search_steps_back_from_where_the_loss_is_not_finite(f64):
    x, loss = array(np.array([1.0] * 5)), array(0.0)

    def closure():  # -log, infinite beyond 0
        v = read(x)
        with np.errstate(invalid="ignore", divide="ignore"):
            write(x.grad, np.where(v < 2, 1 / (2 - v) - 3 / v, np.nan))
            write(loss, np.asarray((-np.log(2 - v) - 3 * np.log(v)).sum()))
        return float(read(loss))

    optimizer = optim.LBFGS([x], lr=100.0)
    for _ in range(30):
        optimizer.step(closure)
    np.testing.assert_allclose(read(x), 1.5, atol=1e-5)


def test_a_resumed_search_is_bitwise_the_same(f64):
    def start():
        x, loss = array(np.full(10, -1.2)), scalar()
        return x, optim.LBFGS([x], history=4), valley(x, loss)

    x, optimizer, closure = start()
    for _ in range(12):
        optimizer.step(closure)
    first, broken, closure = start()
    for _ in range(7):
        broken.step(closure)
    second, resumed, closure = start()
    write(second, read(first))
    resumed.load_state_dict(broken.state_dict())
    for _ in range(5):
        resumed.step(closure)
    np.testing.assert_array_equal(read(second), read(x))
    with pytest.raises(ValueError, match=r"state: expected shape \(10, 10\) for shifts, got \(4, 10\)"):
        optim.LBFGS([second]).load_state_dict(broken.state_dict())


def test_lbfgs_holds_a_group_of_rate_zero(f64):
    a, b, loss = array(np.full(5, -1.2)), array(np.full(5, 3.0)), scalar()

    def closure():
        with Tape(loss):
            rosenbrock(a, loss)
            rosenbrock(b, loss)
        return loss

    optimizer = optim.LBFGS([{"params": [a]}, {"params": [b]}])
    optimizer.groups[1]["lr"] = 0
    for _ in range(50):
        optimizer.step(closure)
    assert (read(b) == 3).all() and np.abs(read(a) - 1).max() < 1e-4


def test_states_that_do_not_fit(f32):
    def adam(*shapes):
        return optim.Adam([array(np.ones(shape)) for shape in shapes])

    optimizer = adam((5,), (6, 3))
    own = optimizer.state_dict()
    with pytest.raises(ValueError, match="state: expected one of Adam, got SGD"):
        optimizer.load_state_dict(optim.SGD([array(np.ones(5))]).state_dict())
    with pytest.raises(ValueError, match="state: expected the same groups and arrays as here, .*groups.0.params.1.mean"):
        optimizer.load_state_dict(adam((5,)).state_dict())
    with pytest.raises(ValueError, match=r"state: expected shape \(6, 3\) for groups.0.params.1.mean, got \(7, 3\)"):
        optimizer.load_state_dict(adam((5,), (7, 3)).state_dict())
    with pytest.raises(ValueError, match="expected a positive, finite lr, got nan"):
        optimizer.load_state_dict({**own, "steps": 5, "groups.0.lr": np.nan})
    with pytest.raises(ValueError, match="state: expected one of Adam, got None"):
        optimizer.load_state_dict({})
    assert optimizer.steps == 0


def test_a_step_inside_a_tape_is_not_recorded(f32):
    x, goal, loss = array(np.zeros((2, 5))), array(np.ones((2, 5))), scalar()
    optimizer = optim.SGD([x])
    with Tape(loss):
        losses.mse(x, goal, loss)
        optimizer.step()
    assert np.isfinite(read(x.grad)).all() and read(x.grad).any()


def test_bad_arguments(f32):
    x, y = array(np.zeros(5)), array(np.zeros(5))
    constant = ti.ndarray(ti.f32, 5)
    cases = [
        (lambda: optim.Adam([]), "params: expected at least one array, got none"),
        (lambda: optim.Adam([{"params": []}]), "params: expected at least one array, got none"),
        (lambda: optim.Adam(x), r"params: expected a list of arrays or of groups, got .*; put it in a list"),
        (lambda: optim.Adam({"params": [x]}), "params: expected a list of arrays or of groups, got dict"),
        (lambda: optim.Adam(None), "params: expected a list of arrays"),
        (lambda: optim.Adam([constant]), r"params\[0\]: expected a Taichi array with a gradient, got one without"),
        (lambda: optim.Adam([x, np.zeros(5)]), r"params\[1\]: expected a Taichi array with a gradient, got ndarray"),
        (lambda: optim.Adam([x, y, x]), r"params\[2\]: the same array as params\[0\]"),
        (lambda: optim.Adam([{"params": [x]}, {"params": [y, x]}]), r"params\[1\] of groups\[1\]: the same array as params\[0\] of groups\[0\]"),
        (lambda: optim.Adam([{"params": [x]}, y]), "params: expected either arrays or groups, got both"),
        (lambda: optim.Adam([{"params": [x], "rate": 1}]), r"groups\[0\]: unknown name 'rate'; known are params, lr, betas, eps"),
        (lambda: optim.SGD([{"params": [x], "betas": (0, 0)}]), "unknown name 'betas'; known are params, lr, momentum"),
        *[(lambda lr=lr: optim.Adam([x], lr), "expected a positive") for lr in (0, -1, np.nan, np.inf, "fast", None)],
        *[(lambda b=b: optim.Adam([x], betas=b), r"betas") for b in ((1, 0.5), (0.5, 1.0), (-0.1, 0.5), (np.nan, 0.5), (0.9,), 0.9)],
        *[(lambda m=m: optim.SGD([x], momentum=m), r"expected momentum in \[0, 1\)") for m in (1, -0.1, np.nan)],
        *[(lambda h=h: optim.LBFGS([x], history=h), "history: expected a whole number of at least 1") for h in (0, 2.5, None)],
        (lambda: optim.LBFGS([x], evaluations=1), "evaluations: expected a whole number of at least 2"),
        (lambda: optim.LBFGS([x]).step(lambda: None), "closure: expected it to return the loss"),
        (lambda: optim.AdamUniform([{"params": [x], "momentum": 0}]), "unknown name 'momentum'; known are params, lr, betas, eps"),
        *[(lambda e=e: optim.Adam([x], eps=e), "expected a positive, finite eps") for e in (0, -1e-8, np.nan)],
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message):
            make()
