"""The fit: against a loop by hand, and each of the things that it does around one."""

import math
import signal
import warnings

import numpy as np
import pytest
import taichi as ti
from scipy import sparse

import taichi_dr as dr
from taichi_dr import gradients, optim
from taichi_dr.fit_parameter import OPTIMIZERS
from taichi_dr.history import History
from taichi_dr.launch import kernel
from taichi_dr.lbfgs import LBFGS
from taichi_dr.tape import operator

KINDS = [name for name, kind in OPTIMIZERS.items() if hasattr(optim, kind)]
FIRST_ORDER = [name for name in KINDS if name != "lbfgs"]


def problem(rng, shape=(1, 7, 3)):
    """An array to move, and a loss that is least where it is at a goal."""
    x, goal = dr.array(rng.normal(size=shape)), dr.array(rng.normal(size=shape))
    return x, lambda step: dr.losses.mse(x, goal, step.loss), goal


def fit(parameters, objective, steps, **settings):
    return dr.fit(parameters, objective, steps, progress=False, **settings)


def test_is_the_loop_by_hand(f32, rng):
    x, objective, goal = problem(rng)
    y, loss, losses = dr.array(dr.read(x)), dr.scalar(), []
    adam = dr.optim.Adam([y], lr=0.1)
    for k in range(20):
        adam.groups[0]["lr"] = 0.1 * 0.01 ** (k / 19)
        with dr.Tape(loss):
            dr.losses.mse(y, goal, loss)
        adam.step()
        losses.append(float(dr.read(loss)))
    result = fit({"x": x}, objective, 20, lr=0.1, schedule=dr.schedules.exponential(0.01))
    np.testing.assert_array_equal(dr.read(x), dr.read(y))
    np.testing.assert_array_equal(result.history.loss, losses)
    assert (result.ended, result.interrupted, len(result.history)) == ("steps", False, 20)
    assert result.parameters == {"x": x}


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_gets_there(kind, f32, rng):
    x, objective, _ = problem(rng)
    lr = {"sgd": 5.0, "lbfgs": 1.0}.get(kind, 0.1)
    losses = fit({"x": x}, objective, 200, lr=lr, optimizer=kind, schedule=dr.schedules.cosine(0.01)).history.loss
    assert losses[-1] < 1e-4 * losses[0]


def test_lbfgs_takes_the_step_of_newton_unasked(f32, rng):
    x, objective, _ = problem(rng)
    history = fit({"x": x}, objective, 3, optimizer="lbfgs").history
    assert history["lr.x"].tolist() == [1.0] * 3 and history.loss[-1] < 1e-4 * history.loss[0]


def test_parameters_have_settings_of_their_own(f32):
    arrays = {name: dr.array(np.zeros(5)) for name in ("plain", "fast", "held", "momentum", "bound")}
    goal = dr.array(np.full(5, 100.0))

    def objective(step):
        for x in arrays.values():
            dr.losses.l1(x, goal, step.loss, 5.0)  # a gradient of -1 each

    parameters = arrays | {
        "fast": dr.Parameter(arrays["fast"], 0.5),
        "held": dr.Parameter(arrays["held"], schedule=lambda done: 0.0 if done < 0.5 else 1.0),
        "momentum": dr.Parameter(arrays["momentum"], momentum=0.5),
        "bound": dr.Parameter(arrays["bound"], bounds=(None, 0.25)),
    }
    history = fit(parameters, objective, 4, lr=0.1, optimizer="sgd").history
    values = {name: float(dr.read(x)[0]) for name, x in arrays.items()}
    expected = {"plain": 0.4, "fast": 2.0, "held": 0.2, "momentum": 0.1 * (1 + 1.5 + 1.75 + 1.875), "bound": 0.25}
    assert values == pytest.approx(expected, rel=1e-6)
    assert history["lr.held"].tolist() == [0, 0, 0.1, 0.1] and history["lr.fast"].tolist() == [0.5] * 4


@pytest.mark.parametrize("shape", [(4,), (2, 5), (5, 3), (2, 3, 4)])
def test_bounds_of_any_array_and_nan_stays(shape, f32, rng):
    values = 3 * rng.normal(size=shape).astype(np.float32)
    values.flat[0] = np.nan
    x = dr.array(values)
    gradients.keep_within(x, -1.0, 0.5)
    np.testing.assert_array_equal(dr.read(x), values.clip(-1, 0.5))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (1000,), (300, 2), (5, 4), (2, 900, 3), (2, 3, 4, 4), (2, 3, 3, 5, 3)])
def test_gradients_are_measured(shape, f32, rng):
    values = rng.normal(size=shape).astype(np.float32)
    x, loss, record = dr.array(values), dr.scalar(3.0), dr.array(np.zeros(4), vectors=False)
    gradients.square_sum(x, loss, record, 1, 3)
    np.testing.assert_allclose(dr.read(record), [0, np.square(values, dtype=np.float64).sum(), 0, 3], rtol=1e-5)
    for odd in (np.nan, np.inf, -np.inf):
        values.flat[-1] = odd
        dr.write(x, values)
        gradients.square_sum(x, loss, record, 1, 3)
        assert not np.isfinite(dr.read(record)[1])


# --- Terms and the history ----------------------------------------------------------------------------------------


def test_terms_are_summed_and_written_down(f32, rng):
    x, _, goal = problem(rng)
    zeros = dr.array(np.zeros((1, 7, 3)))
    start = dr.read(x)

    def in_terms(step):
        dr.losses.mse(x, goal, step.loss, 2.0)
        dr.losses.mse(x, zeros, step.term("small"), 0.25)
        dr.losses.mse(x, zeros, step.term("small"), 0.25)  # the same term
        if step.index % 2:
            dr.losses.l1(x, zeros, step.term("odd"), 0.1)

    def together(step):
        dr.losses.mse(x, goal, step.loss, 2.0)
        dr.losses.mse(x, zeros, step.loss, 0.5)
        if step.index % 2:
            dr.losses.l1(x, zeros, step.loss, 0.1)

    seen = []
    one = fit({"x": x}, in_terms, 6, lr=0.1, on_step=lambda step: seen.append(step.terms))
    moved = dr.read(x)
    dr.write(x, start)
    other = fit({"x": x}, together, 6, lr=0.1)
    np.testing.assert_allclose(moved, dr.read(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.history.loss, other.history.loss, rtol=1e-5)
    assert seen == [{name: one.history[f"term.{name}"][k] for name in (["small", "odd"] if k % 2 else ["small"])} for k in range(6)]
    terms = one.history.terms
    assert set(terms) == {"small", "odd"}
    np.testing.assert_array_equal(np.isnan(terms["odd"]), [True, False] * 3)
    np.testing.assert_allclose(terms["small"][0], 0.5 * np.square(start).mean(), rtol=1e-5)


def test_history_as_a_table(f32, rng, tmp_path):
    x, objective, _ = problem(rng)
    history = fit({"x": x}, objective, 5, blur=(4.0, 0.5)).history
    history.save_csv(tmp_path / "loss.csv")
    lines = (tmp_path / "loss.csv").read_text().splitlines()
    assert lines[0] == "step,loss,gradient,lr.x,blur,seconds,skipped"
    table = np.loadtxt(lines[1:], delimiter=",")
    np.testing.assert_allclose(table, np.stack([np.arange(5), *(history[name] for name in history.names)], axis=1), rtol=1e-8)
    np.testing.assert_allclose(history["blur"], 4 * (1 / 8) ** (np.arange(5) / 4))
    assert (np.diff(history["seconds"]) > 0).all() and not history["skipped"].any()
    assert "loss" in history and "l0ss" not in history and history.last("loss", 2) == history.loss[-2:].tolist()
    with pytest.raises(ValueError, match="expected one of loss, gradient"):
        history["l0ss"]
    assert len(History()) == 0 and not History().terms


def test_what_is_printed_is_short(f32):
    x = dr.array(np.full((2, 3), 2.0))
    assert str(dr.Parameter(x, 0.1, bounds=(0, 1), momentum=0.5)) == "Parameter((2, 3), lr=0.1, bounds=(0.0, 1.0), momentum=0.5)"
    texts = []

    def objective(step):
        texts.append(str(step))
        dr.losses.mean_square(x, step.term("size"))

    result = fit({"x": x}, objective, 2, lr=1.0, on_step=lambda step: texts.append(str(step)))
    assert texts == ["Step(0 of 2)", "Step(0 of 2, loss 4, term.size 4)", "Step(1 of 2)", "Step(1 of 2, loss 1, term.size 1)"]
    assert str(result) == "Result(2 steps, ended 'steps', loss 1; x (2, 3))"
    assert str(result.history) == "History(2 steps, loss 4 to 1; loss, term.size, gradient, lr.x, seconds, skipped)"
    assert str(History()) == "History(no steps)" and str(dr.fit({"x": x}, objective, 1, progress=False).history).startswith("History(1 step, loss")


# --- Schedules and blur -------------------------------------------------------------------------------------------


def test_schedules():
    done = np.linspace(0, 1, 11)
    curves = {
        dr.schedules.constant(): np.ones(11),
        dr.schedules.exponential(0.1): 0.1**done,
        dr.schedules.linear(0.5): 1 - done / 2,
        dr.schedules.cosine(0.2): 0.2 + 0.4 * (1 + np.cos(np.pi * done)),
        dr.schedules.steps((0.25, 0.75), 0.5): [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25],
        dr.schedules.warmup(0.2): np.minimum(1, done / 0.2),
        dr.schedules.warmup(0.5, dr.schedules.linear()): np.where(done < 0.5, 2 * done, 2 - 2 * done),
    }
    for schedule, expected in curves.items():
        np.testing.assert_allclose([schedule(float(x)) for x in done], expected, atol=1e-12, err_msg=repr(schedule))
    texts = list(map(dr.schedules.text, curves))
    assert len(set(texts)) == len(texts) and texts[-1] == "warmup(0.5, linear(0))"
    assert dr.schedules.text(math.sin) == "sin"
    for bad in (lambda: dr.schedules.exponential(0), lambda: dr.schedules.steps((2,)), lambda: dr.schedules.warmup(1)):
        with pytest.raises(ValueError, match="expected"):
            bad()


def test_blur_is_in_pixels(f32, rng):
    x, objective, _ = problem(rng)
    seen = []
    camera = dr.Camera.orbit(3, 0, 0, size=(48, 64))
    fit(
        {"x": x},
        lambda step: (objective(step), seen.append((step.blur, step.sigma(camera), step.sigma(48), step.sigma((96, 48))))),
        3,
        blur=(4.0, 1.0),
    )
    np.testing.assert_allclose([blur for blur, *_ in seen], [4, 2, 1])
    for blur, *sigmas in seen:
        np.testing.assert_allclose(np.sqrt(sigmas), blur * 2 / 48)
    with pytest.raises(ValueError, match=r"blur: expected one, got None; give it to the fit in pixels"):
        fit({"x": x}, lambda step: step.sigma(48), 1)


# --- Views and random numbers -------------------------------------------------------------------------------------


def views_of(rng, steps, **settings):
    x, objective, _ = problem(rng)
    seen = []
    fit({"x": x}, lambda step: (objective(step), seen.append((step.views, step.random.random()))), steps, **settings)
    return [v for v, _ in seen], [r for _, r in seen]


def test_every_epoch_takes_every_view(f32, rng):
    views, numbers = views_of(rng, 12, views=12, views_per_step=4, seed=3)
    epochs = np.reshape(views, (4, 12))
    assert (np.sort(epochs) == np.arange(12)).all() and len(np.unique(epochs, axis=0)) == 4
    assert len(set(numbers)) == 12
    again, same_numbers = views_of(rng, 12, views=12, views_per_step=4, seed=3)
    np.testing.assert_array_equal(views, again)
    assert numbers == same_numbers
    other, other_numbers = views_of(rng, 12, views=12, views_per_step=4, seed=4)
    assert (np.array(views) != other).any() and not set(numbers) & set(other_numbers)


def test_views_left_over_and_all_views(f32, rng):
    views, _ = views_of(rng, 30, views=11, views_per_step=4)
    assert all(len(set(np.concatenate(views[k : k + 2]))) == 8 for k in range(0, 30, 2))
    assert set(np.concatenate(views)) == set(range(11))
    assert [v.tolist() for v in views_of(rng, 3, views=5)[0]] == [[0, 1, 2, 3, 4]] * 3
    assert views_of(rng, 2)[0] == [None, None]


# --- Gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("together", "own"), [(2.5, None), (None, 1.5), (4.0, 1.0), (1e6, 1e6)])
def test_clipping(together, own, f32, rng):
    goals = rng.normal(size=(2, 40, 3)).astype(np.float32)
    x, y = dr.array(np.zeros((40, 3))), dr.array(np.zeros((40, 3)))
    a, b = dr.array(goals[0]), dr.array(3 * goals[1])

    def objective(step):
        dr.losses.mse(x, a, step.loss, 60.0)  # the gradient is x - a
        dr.losses.mse(y, b, step.loss, 60.0)

    history = fit({"x": x, "y": dr.Parameter(y, clip=own)}, objective, 1, optimizer="sgd", lr=1.0, clip=together).history
    moves = goals[0].astype(float), 3.0 * goals[1]
    norm = math.hypot(*map(np.linalg.norm, moves))
    moves = [m * min(1, (together or math.inf) / norm) for m in moves]
    moves[1] *= min(1, (own or math.inf) / np.linalg.norm(moves[1]))
    np.testing.assert_allclose(dr.read(x), moves[0], rtol=1e-4)
    np.testing.assert_allclose(dr.read(y), moves[1], rtol=1e-4)
    np.testing.assert_allclose(history["gradient"], norm, rtol=1e-5)


@kernel
def _spoil_kernel(x_grad: ti.types.ndarray(needs_grad=False), value: float):
    for _ in range(1):
        x_grad[0] = value


@operator
def spoil(x, loss, value):
    """Adds nothing to a loss, with a gradient that is not finite."""


@spoil.adjoint
def spoil_adjoint(x, loss, value):
    _spoil_kernel(x.grad, value)


@pytest.mark.parametrize("what", ["loss", "nan", "inf", "term"])
@pytest.mark.parametrize("kind", FIRST_ORDER)
def test_a_step_that_is_not_finite_moves_nothing(kind, what, f32, rng):
    bad = {2, 3, 6}
    x, goal, nothing = dr.array(rng.normal(size=5)), dr.array(rng.normal(size=5)), dr.array(np.full(5, np.nan))
    start = dr.read(x)
    seen = []

    def objective(step):
        dr.losses.mse(x, goal, step.loss)
        if step.index in bad and what in ("nan", "inf"):
            spoil(x, step.loss, float(what))
        elif step.index in bad:
            dr.losses.mse(x, nothing, step.loss if what == "loss" else step.term("odd"))

    with pytest.warns(RuntimeWarning, match=r"step 2 is skipped, for the (loss|gradient of 'x') is not finite") as caught:
        history = fit({"x": x}, objective, 10, optimizer=kind, lr=0.1, on_step=lambda s: seen.append((s.skipped, dr.read(x)))).history
    assert len(caught) == 1
    assert set(np.flatnonzero(history["skipped"])) == bad == {k for k, (skipped, _) in enumerate(seen) if skipped}
    assert all(np.array_equal(seen[k][1], seen[k - 1][1]) for k in bad)
    moved = dr.read(x)
    dr.write(x, start)
    fit({"x": x}, lambda step: dr.losses.mse(x, goal, step.loss), 7, optimizer=kind, lr=0.1)
    np.testing.assert_array_equal(moved, dr.read(x))


def test_too_many_skips_in_a_row(f32):
    x, nothing = dr.array(np.zeros(5)), dr.array(np.full(5, np.nan))
    with pytest.warns(RuntimeWarning, match="this is said once"), pytest.raises(FloatingPointError, match=r"step 4 is skipped.*dr\.diagnose\("):
        fit({"x": x}, lambda step: dr.losses.mse(x, nothing, step.loss), 100, most_skips=4)
    assert not dr.read(x).any()


def test_nothing_moves_by_a_gradient_of_long_ago(f32, rng):
    x, y, goal = (dr.array(rng.normal(size=5)) for _ in range(3))

    def objective(step):
        dr.losses.mse(x, goal, step.loss)
        if step.index == 0:
            dr.losses.mse(y, goal, step.loss)

    seen = []
    fit({"x": x, "y": y}, objective, 3, optimizer="sgd", on_step=lambda step: seen.append(dr.read(y)))
    assert all(np.array_equal(seen[0], later) for later in seen[1:])


def test_says_what_takes_no_part(f32, rng):
    x, objective, _ = problem(rng)
    with pytest.warns(RuntimeWarning, match="parameters: 'copy' took no part in the loss of the first step"):
        fit({"x": x, "copy": dr.array(dr.read(x))}, objective, 3)


def test_says_what_takes_no_part_after_a_replacement(f32, rng):
    """An objective that goes on with the array from before moves nothing."""
    x, objective, _ = problem(rng)
    y, other, _ = problem(rng)
    both = lambda step: (objective(step), other(step))  # noqa: E731
    new = dr.array(dr.read(x))
    with pytest.warns(RuntimeWarning, match="parameters: 'x' took no part in the loss of step 3, after it was replaced, and will not move") as caught:
        fit({"x": x, "y": y}, both, 6, on_step=lambda step: step.replace("x", new) if step.index == 2 else None)
    assert len(caught) == 1
    with pytest.warns(RuntimeWarning) as caught:  # what was idle before is not named again, but what has become so is
        held = {"x": x, "goal": dr.array(dr.read(y))}
        copies = {"x": x, "y": y, "copy": dr.array(dr.read(x))}

        def on_step(step):
            held["x"] = dr.array(dr.read(held["x"]))
            step.replace("x", held["x"])

        def drawn(step):
            dr.losses.mse(held["x"], held["goal"], step.loss)
            if step.index < 2:
                other(step)

        fit(copies, drawn, 5, on_step=on_step)
    assert [str(w.message).partition(" will")[0] for w in caught] == [
        "parameters: 'copy' took no part in the loss of the first step and",
        "parameters: 'y' took no part in the loss of step 2 and",
    ]


# --- Its end ------------------------------------------------------------------------------------------------------


def test_a_plateau_ends_it(f32, rng):
    x, objective, _ = problem(rng)
    result = fit({"x": x}, objective, 10_000, lr=0.05, patience=50, schedule=dr.schedules.constant())
    assert result.ended == "plateau" and 100 <= len(result.history) < 3000 and len(result.history) % 50 == 0
    assert result.history.loss[-1] < 1e-3


def test_no_plateau_while_it_falls(f32):
    x = dr.array(np.zeros(5))
    goal = dr.array(np.full(5, 100.0))
    assert fit({"x": x}, lambda step: dr.losses.l1(x, goal, step.loss), 200, optimizer="sgd", lr=1.0, patience=10).ended == "steps"


def test_hooks(f32, rng):
    x, objective, _ = problem(rng)
    seen = []

    def on_step(step):
        seen.append((step.index, step.output, step.values["loss"], len(step.history)))
        if step.index == 4:
            step.stop()

    result = fit({"x": x}, lambda step: (objective(step), "picture")[1], 100, on_step=on_step)
    assert result.ended == "asked" and [k for k, *_ in seen] == [0, 1, 2, 3, 4]
    assert [a for _, a, *_ in seen] == ["picture"] * 5 and [n for *_, n in seen] == [1, 2, 3, 4, 5]
    assert [value for _, _, value, _ in seen] == result.history.loss.tolist()


@pytest.mark.parametrize("where", ["objective", "on_step"])
def test_exceptions_say_the_step(where, f32, rng):
    x, objective, _ = problem(rng)

    def fails(step):
        if step.index == 3:
            raise LookupError("no such picture")

    both = {"objective": lambda step: (objective(step), fails(step) if where == "objective" else None), "on_step": None}
    if where == "on_step":
        both["on_step"] = fails
    with pytest.raises(LookupError, match="no such picture") as caught:
        fit({"x": x}, both["objective"], 5, on_step=both["on_step"])
    assert "in step 3 of the fit" in "".join(getattr(caught.value, "__notes__", [str(caught.value)]))
    fit({"x": x}, objective, 1)  # no tape is left open


class Python310(LookupError):
    """An error without add_note."""

    def __getattribute__(self, name):
        if name == "add_note":
            raise AttributeError(name)
        return super().__getattribute__(name)


def test_exceptions_say_the_step_without_notes(f32, rng):
    x, _, _ = problem(rng)

    def objective(step):
        raise Python310("no such picture")

    with pytest.raises(Python310, match=r"no such picture \(in step 0 of the fit\)"):
        fit({"x": x}, objective, 5)


@pytest.mark.parametrize("where", ["objective", "on_step"])
def test_ctrl_c_lets_the_step_end(where, f32, rng):
    x, objective, _ = problem(rng)
    press = lambda step: signal.raise_signal(signal.SIGINT) if step.index == 3 else None  # noqa: E731
    handler = signal.getsignal(signal.SIGINT)
    hooks = {"on_step": press} if where == "on_step" else {}
    result = fit({"x": x}, lambda step: (objective(step), press(step) if where == "objective" else None), 10, **hooks)
    assert (result.ended, result.interrupted, len(result.history)) == ("interrupted", True, 4)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_ends_the_step(f32, rng):
    x, objective, _ = problem(rng)

    def impatient(step):
        objective(step)
        if step.index == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("never here")

    result = fit({"x": x}, impatient, 10)
    assert result.interrupted and len(result.history) == 3
    fit({"x": x}, objective, 1)


def test_handlers_of_others_stay(f32, rng):
    x, objective, _ = problem(rng)
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        result = fit({"x": x}, lambda step: (objective(step), signal.raise_signal(signal.SIGINT)), 3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(pressed) == 3 and result.ended == "steps"


# --- Other arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("carried", [False, True])
def test_an_array_is_replaced(kind, carried, f32, rng):
    if kind == "lbfgs" and carried:
        pytest.skip("what it remembers cannot be carried")
    held = {"x": dr.array(rng.normal(size=(1, 4, 3))), "goal": dr.array(rng.normal(size=(1, 4, 3)))}
    double = lambda values: np.concatenate([values, values], axis=1)  # noqa: E731

    def on_step(step):
        if step.index == 5:
            held.update({name: dr.array(double(dr.read(x))) for name, x in held.items()})
            step.replace("x", held["x"], double if carried else None)
            assert step.parameters["x"] is held["x"]

    objective = lambda step: dr.losses.mse(step.parameters["x"], held["goal"], step.loss)  # noqa: E731
    result = fit({"x": held["x"]}, objective, 12, optimizer=kind, lr=0.05, on_step=on_step)
    assert result.parameters["x"] is held["x"]
    moved = dr.read(held["x"])
    np.testing.assert_array_equal(moved[:, :4], moved[:, 4:])
    assert np.isfinite(moved).all() and result.history.loss[-1] < result.history.loss[5] < result.history.loss[0]


def test_carried_moments_go_on_as_before(f32, rng):
    x, objective, goal = problem(rng)
    start = dr.read(x)
    fit({"x": x}, objective, 12)
    other = dr.array(start)
    held = [other]

    def on_step(step):
        held[0] = dr.array(dr.read(held[0]))
        step.replace("x", held[0], lambda values: values)

    fit({"x": other}, lambda step: dr.losses.mse(held[0], goal, step.loss), 12, on_step=on_step)
    np.testing.assert_array_equal(dr.read(held[0]), dr.read(x))


@pytest.mark.parametrize("kind", FIRST_ORDER)
@pytest.mark.parametrize("shape", [(1, 5, 3), (2, 5), (5,), (5, 3), (5, 6)])
@pytest.mark.parametrize("form", [sparse.csr_array, sparse.coo_matrix, np.asarray])
def test_moments_are_carried_by_weights(kind, shape, form, f32, rng):
    """new = weights @ old for each kind of moment."""
    axis = 1 if shape[0] < 5 else 0
    weights = rng.random((7, 5)) * (rng.random((7, 5)) < 0.5)
    along = lambda values: np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)  # noqa: E731
    x, goal = dr.array(rng.normal(size=shape)), dr.array(rng.normal(size=shape))
    new, new_goal, states = dr.array(along(dr.read(x))), dr.array(along(dr.read(goal))), []

    def on_step(step):
        if step.index == 2:
            states.append(step._run.optimizers["one.x"][1].state_dict())
            step.replace("x", new, form(weights))
            states.append(step._run.optimizers["one.x"][1].state_dict())

    objective = lambda step: dr.losses.mse(step.parameters["x"], goal if step.index < 3 else new_goal, step.loss)  # noqa: E731
    fit({"x": x}, objective, 4, optimizer=kind, on_step=on_step)
    before, after = states
    moments = [key for key in before if ".params." in key]
    assert moments and after["steps"] == 3
    for key in moments:
        assert before[key].any()
        np.testing.assert_allclose(after[key], along(before[key]), rtol=1e-5, atol=1e-9)


def test_the_weights_of_a_finer_mesh_are_taken(f32):
    coarse = dr.shapes.icosphere(1)
    held = {"mesh": dr.Mesh(coarse.vertices, coarse.faces, np.full((42, 3), 0.5))}
    goal = {42: dr.array(np.full((1, 42, 3), 0.8)), 162: dr.array(np.full((1, 162, 3), 0.8))}

    def on_step(step):
        if step.index == 3:
            held["mesh"], weights = dr.subdivide(held["mesh"])
            step.replace("colors", held["mesh"].colors, weights)

    objective = lambda step: dr.losses.mse(held["mesh"].colors, goal[held["mesh"].colors.shape[1]], step.loss)  # noqa: E731
    result = fit({"colors": held["mesh"].colors}, objective, 8, on_step=on_step)
    assert np.ptp(dr.read(result.parameters["colors"])) < 1e-6 and (np.diff(result.history.loss) < 0).all()


@pytest.mark.parametrize(
    ("carry", "message"),
    [
        (3.0, r"carry: expected the weights that dr.remesh and dr.subdivide return, .*, got float; write mesh, weights = "),
        ((None, np.ones((9, 7))), "carry: expected the weights .*, got tuple; write"),
        (
            np.ones((7, 9)),
            r"carry: expected a \(V new, V old\) matrix between the arrays of 'x', which was \(1, 7, 3\) and is \(1, 9, 3\), got one of",
        ),
        (-np.ones((9, 7)), "carry: expected a matrix without negative numbers"),
        (np.full((9, 7), np.nan), "carry: expected a matrix without negative numbers"),
        (
            lambda m: m,
            r"carry: expected a function that makes numbers of shape \(1, 9, 3\), .* of those of shape \(1, 7, 3\), got float32 \(1, 7, 3\) of",
        ),
        (lambda m: None, r"carry: expected a function .*, got object \(\) of"),
    ],
)
def test_a_carry_that_does_not_fit(carry, message, f32, rng):
    x, objective, _ = problem(rng)
    new, seen = dr.array(np.zeros((1, 9, 3))), []

    def on_step(step):
        if step.index == 1:
            with pytest.raises(ValueError, match=message):
                step.replace("x", new, carry)
            assert step.parameters == {"x": x}
            seen.append(dr.read(x))

    fit({"x": x}, objective, 3, on_step=on_step)
    assert not np.array_equal(dr.read(x), seen[0])  # it goes on as it was


def test_what_lbfgs_remembers_cannot_be_carried(f32, rng):
    x, objective, _ = problem(rng)
    with pytest.raises(ValueError, match=r"carry: expected None for lbfgs, .*, got csr_array; leave it out, and it starts anew"):
        fit({"x": x}, objective, 3, optimizer="lbfgs", on_step=lambda step: step.replace("x", x, sparse.eye_array(7, format="csr")))


def test_a_replacement_in_the_wrong_place(f32, rng):
    x, objective, _ = problem(rng)
    y = dr.array(dr.read(x))
    with pytest.raises(ValueError, match="replace: expected to be called in on_step, .*, got a call within the objective"):
        fit({"x": x}, lambda step: step.replace("x", y), 3)
    with pytest.raises(ValueError, match="array: expected one of its own for 'x', got that of 'y'"):
        fit({"x": x, "y": y}, lambda step: (objective(step), dr.losses.mean_square(y, step.loss)), 3, on_step=lambda step: step.replace("x", y))


def test_an_array_behind_the_vertices(f32, rng):
    """As with large steps: what moves is not what is drawn."""
    coordinates, vertices, goal = (dr.array(rng.normal(size=(1, 6, 3))) for _ in range(3))
    matrix = np.linalg.inv(np.eye(6) + 0.3 * rng.random((6, 6)))

    @operator
    def solve(u, x):
        dr.write(x, np.einsum("ij,bjk->bik", matrix, dr.read(u)))

    @solve.adjoint
    def _(u, x):
        dr.write(u.grad, dr.read(u.grad) + np.einsum("ji,bjk->bik", matrix, dr.read(x.grad)))

    def objective(step):
        solve(step.parameters["coordinates"], vertices)
        dr.losses.mse(vertices, goal, step.loss)

    losses = fit({"coordinates": coordinates}, objective, 300, lr=0.1, schedule=dr.schedules.cosine()).history.loss
    assert losses[-1] < 1e-4 * losses[0]


def test_a_picture_is_fitted(f32):
    sphere = dr.shapes.icosphere(1)
    mesh = dr.Mesh(0.5 * dr.read(sphere.vertices)[0], dr.read(sphere.faces), np.full((42, 3), 0.5))
    cameras = [dr.Camera.orbit(3, 20, 60 * k, fov=45, size=32) for k in range(6)]
    goal = dr.Mesh(0.8 * dr.read(sphere.vertices)[0], dr.read(sphere.faces), np.full((42, 3), (0.9, 0.3, 0.2)))
    targets = [dr.SoftRenderer(sigma=1e-6)(goal, camera) for camera in cameras]

    def objective(step):
        for k in step.views:
            image = dr.SoftRenderer(sigma=step.sigma(cameras[k]))(mesh, cameras[k])
            dr.losses.mse(image, targets[k], step.loss, 10.0)
            dr.losses.silhouette_iou(image, targets[k], step.term("silhouette"))
        dr.losses.laplacian(mesh, step.term("smooth"), 0.01)

    parameters = {"vertices": mesh.vertices, "colors": dr.Parameter(mesh.colors, 0.05, bounds=(0, 1))}
    history = fit(parameters, objective, 60, lr=0.02, schedule=dr.schedules.cosine(0.1), blur=(2.0, 0.5), views=6, views_per_step=2).history
    assert history.loss[-5:].mean() < 0.3 * history.loss[0]
    radii = np.linalg.norm(dr.read(mesh.vertices)[0], axis=1)
    assert abs(radii.mean() - 0.8) < 0.05


# --- Progress and errors ------------------------------------------------------------------------------------------


def test_progress_and_quiet(f32, rng, capsys):
    x, objective, _ = problem(rng)
    dr.fit({"x": x}, objective, 30)
    out, err = capsys.readouterr()
    assert err.startswith("\rfit:") and "30/30" in err and "loss=" in err and "it/s" in err and not out
    dr.fit({"x": x}, objective, 30, progress="texture")
    assert capsys.readouterr().err.startswith("\rtexture:")
    dr.fit({"x": x}, objective, 30, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parameters": [1]}, "parameters: expected arrays by name, got list"),
        ({"parameters": {}}, "parameters: expected arrays by name"),
        ({"parameters": {"x": 3.0}}, r"parameters\['x'\]: expected a Taichi array with a gradient, got float"),
        ({"checkpoint": "."}, "checkpoint: expected the path of a file, got the folder ."),
        ({"parameters": {"x/y": None}}, "parameters: expected names of letters"),
        ({"steps": 0}, "steps: expected a whole number of at least 1, got 0"),
        ({"steps": 2.5}, "steps: expected a whole number"),
        ({"seed": -1}, "seed: expected a whole number of at least 0"),
        ({"optimizer": "adamw"}, "optimizer: expected one of adam, sgd.*, got 'adamw'"),
        ({"lr": 0}, "expected a positive lr, got 0"),
        ({"lr": -1}, "expected a positive, finite lr, got -1"),
        ({"views": 4, "views_per_step": 5}, "views_per_step: expected at most views, 4, got 5"),
        ({"views_per_step": 5}, "views_per_step: expected at most views, None, got 5"),
        ({"views": 0}, "views: expected a whole number of at least 1"),
        ({"clip": 0}, "clip: expected a positive number"),
        ({"patience": 0}, "patience: expected a whole number of at least 1"),
        ({"blur": (0, 1)}, "blur: expected pixels"),
        ({"blur": (1, 2, 3)}, "blur: expected pixels"),
        ({"every": 0, "checkpoint": "x.npz"}, "every: expected a whole number of at least 1"),
        ({"resume": True}, "resume: expected a checkpoint to resume from, got None"),
    ],
)
def test_bad_settings(settings, message, f32, rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, objective, _ = problem(rng)
    arguments = {"parameters": {"x": x}, "steps": 3} | settings
    with pytest.raises(ValueError, match=message):
        fit(arguments.pop("parameters"), objective, arguments.pop("steps"), **arguments)


def test_an_array_under_two_names(f32, rng):
    x, objective, _ = problem(rng)
    with pytest.raises(ValueError, match="parameters: 'y' is the same array as 'x'"):
        fit({"x": x, "y": x}, objective, 1)


@pytest.mark.parametrize("bounds", [3, (1, 0), (math.nan, 1), (1, 2, 3)])
def test_bad_bounds(bounds, f32):
    with pytest.raises(ValueError, match="bounds: expected"):
        dr.Parameter(dr.array(np.zeros(3)), bounds=bounds)


def test_bad_setting_of_an_optimizer_says_whose(f32):
    with pytest.raises(ValueError, match="unknown name 'momentum'") as caught:
        fit({"x": dr.Parameter(dr.array(np.zeros(3)), momentum=0.5)}, lambda step: None, 3)
    assert "of parameters 'x'" in "".join(getattr(caught.value, "__notes__", [str(caught.value)]))


def test_settings_of_the_whole_of_lbfgs(f32, rng, monkeypatch):
    """They are one for all parameters."""
    made, init = [], LBFGS.__init__
    monkeypatch.setattr(LBFGS, "__init__", lambda self, groups, **shared: (made.append(shared), init(self, groups, **shared))[1])
    x, y = dr.array(rng.normal(size=5)), dr.array(rng.normal(size=5))

    def objective(step):
        dr.losses.mean_square(x, step.loss)
        dr.losses.mean_square(y, step.loss)

    settings = {"lr": 1.0, "optimizer": "lbfgs"}
    fit({"x": dr.Parameter(x, history=3, evaluations=7), "y": dr.Parameter(y, 0.5)}, objective, 2, **settings)
    assert made == [{"history": 3, "evaluations": 7}]
    with pytest.raises(ValueError, match=r"parameters\['y'\]: expected history 3, as another has it, got 4; lbfgs is one for all"):
        fit({"x": dr.Parameter(x, history=3), "y": dr.Parameter(y, history=4)}, objective, 2, **settings)
    with pytest.raises(ValueError, match="history: expected a whole number of at least 1, got 0"):
        fit({"x": dr.Parameter(x, history=0)}, objective, 2, **settings)


def test_bad_names_and_arrays_in_a_step(f32, rng):
    x, objective, _ = problem(rng)
    with pytest.raises(ValueError, match="term: expected names"):
        fit({"x": x}, lambda step: step.term("a/b"), 1)
    with pytest.raises(ValueError, match="name: expected one of x, got 'y'"):
        fit({"x": x}, objective, 1, on_step=lambda step: step.replace("y", x))
    with pytest.raises(ValueError, match="expected a Taichi array with a gradient"):
        fit({"x": x}, objective, 1, on_step=lambda step: step.replace("x", np.zeros(3)))


def test_loss_is_a_scalar_kernels_can_add_to(arch, f32):
    if arch in ("vulkan", "metal"):
        pytest.skip("Taichi's own adjoints of arrays are zero there")
    x = dr.array(np.arange(3.0), vectors=False)

    def objective(step):
        _add_squares(x, step.loss)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = fit({"x": x}, objective, 50, lr=0.1, optimizer="sgd").history.loss
    assert losses[0] == 5 and losses[-1] < 1e-3


@ti.kernel
def _add_squares(x: ti.types.ndarray(), loss: ti.types.ndarray()):
    for k in x:
        loss[None] += x[k] ** 2
