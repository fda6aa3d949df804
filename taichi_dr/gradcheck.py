"""Checking gradients: central differences of any loss against what the tape gives."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from . import runtime
from .arrays import Array, read, scalar, write
from .tape import Tape


class GradientCheck(NamedTuple):
    """How well the gradient of one array agrees with differences, along random directions."""

    error: float  # largest |by_tape - by_differences|, relative to the largest |by_differences|
    by_tape: np.ndarray  # directional derivatives, one per direction
    by_differences: np.ndarray


def gradcheck(
    f: Callable[[Array], None], params: Sequence[Array], *, directions: int = 4, step: float | None = None, seed: int = 0
) -> list[GradientCheck]:
    """Compare the tape's gradient of a loss with central differences along random directions.

        <grad f, d>  against  (f(x + h d) - f(x - h d)) / (2 h)

    Use `dr.init(precision="f64")` for agreement to 1e-6 and better; in float32 expect about 1e-2. Across a discrete
    choice (a pixel that leaves a face's reach, a hard mode) differences see a jump and the tape does not.

    Args:
        f: adds the loss to the scalar it is given, as in the body of a tape.
        params: arrays with gradients; they hold the same values again afterwards.
        directions: random unit directions per array.
        step: h; by default 1e-5 in float64 and 1e-3 in float32.
        seed: of the directions.

    Returns:
        One `GradientCheck` per array, in order.

    Raises:
        ValueError: an array without a gradient.
    """
    for k, x in enumerate(params):
        if getattr(x, "grad", None) is None:
            raise ValueError(f"params: expected arrays with gradients, got one without at index {k}; make it with dr.array of floats")
    h = step or (1e-5 if runtime.device().precision == "f64" else 1e-3)
    loss = scalar()
    with Tape(loss):
        f(loss)
    grads = [read(x.grad).astype(np.float64) for x in params]

    def value() -> float:
        write(loss, np.zeros(()))
        f(loss)
        return float(read(loss))

    random = np.random.default_rng(seed)
    checks = []
    for x, grad in zip(params, grads, strict=True):
        start = read(x)
        by_tape, by_differences = [], []
        for _ in range(directions):
            d = random.standard_normal(start.shape)
            d /= np.linalg.norm(d)
            by_tape.append(float((grad * d).sum()))
            write(x, start + h * d)
            above = value()
            write(x, start - h * d)
            by_differences.append((above - value()) / (2 * h))
        write(x, start)
        tape, differences = np.array(by_tape), np.array(by_differences)
        scale = np.abs(differences).max()
        checks.append(GradientCheck(float(np.abs(tape - differences).max() / max(scale, 1e-300)), tape, differences))
    return checks
