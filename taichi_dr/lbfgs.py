"""L-BFGS: steps that know the curvature of the loss, from the last few gradients.

Our own two loops, though SciPy has the method: its state cannot be saved between two steps, and a fit that is interrupted
must go on as if there had been no break. Vectors are NumPy's, in double precision, all arrays joined to one.
"""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import taichi as ti

from .arrays import Array, read, unrecorded, write
from .optimizer import Optimizer

DECREASE, CURVATURE = 1e-4, 0.9  # of the strong Wolfe conditions, as Nocedal and Wright advise for quasi-Newton steps
LEAST_CURVATURE = 1e-10  # s . y, as a share of |s| |y|, under which a pair says nothing
LONGEST = 10.0  # of the first steps of a search, each relative to the one before


class LBFGS(Optimizer):
    """L-BFGS: steps along -H g, with H the inverse of the second derivative as the last `history` steps show it.

        x <- x - lr t H g,   H from the pairs s = x - x_before, y = g - g_before      (two loops over them)

    `step()` takes the gradients as they are, and t = 1. `step(closure)` evaluates the loss as often as it needs to find t
    with the strong Wolfe conditions, by which the loss falls in every step:

        f(t) <= f(0) + 1e-4 t f'(0),   |f'(t)| <= 0.9 |f'(0)|

    For losses that are the same function in every step: not for other views each time. The first step, without any pair, is
    at most lr long in the sum of its components' absolute values.

    Args:
        params: arrays with gradients, or groups of them: [{"params": [...], "lr": ...}, ...].
        lr: factor of the steps. Positive; 1 is Newton's.
        history: how many pairs are kept, at least 1.
        evaluations: how many times a step may call its closure, at least 2.

    An element whose gradient is not finite stays in that step; of a vector, all components; such a step leaves no pair.

    Raises:
        ValueError: no arrays, one without a gradient, the same one twice, a setting out of range or of an unknown name.

    Source: Nocedal and Wright, Numerical Optimization, 2nd edition, 2006: algorithms 7.4 (two loops), 3.5 and 3.6 (search).
    """

    shared = ("history", "evaluations")

    def __init__(self, params: Sequence[Any], lr: float = 1.0, *, history: int = 10, evaluations: int = 20) -> None:
        for name, number, least in (("history", history, 1), ("evaluations", evaluations, 2)):
            if not isinstance(number, Integral) or number < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {number!r}")
        super().__init__(params, {"lr": lr})
        self.evaluations = int(evaluations)
        count = sum(read(x).size for x in self._arrays())
        self._shifts, self._changes = np.zeros((history, count)), np.zeros((history, count))  # s and y; pair n in row n % history
        self._pairs = 0  # ever kept
        self._last = np.zeros((2, count))  # x and g of the step before
        self._has_last = 0  # 0 or 1

    def step(self, closure: Callable[[], Any] | None = None) -> float | None:  # type: ignore[override]
        """Move every array once.

        Args:
            closure: evaluates the loss in a `Tape`, from the arrays as they are, and returns it, a number or a 0-D array.
                Called several times; afterwards the arrays and their gradients are those of the last call that counted.

        Returns:
            The loss before the step, of the closure.
        """
        self._check()
        self.steps += 1
        with unrecorded():
            if closure is None:
                self._free_step()
                return None
        return self._searched_step(closure)

    def _free_step(self) -> None:
        x, (g, good) = self._values(), self._gradients()
        d, scale = self._direction(x, g, good)
        self._put(x + scale * d)

    def _searched_step(self, closure: Callable[[], Any]) -> float:
        x, f = self._values(), _number(closure())
        g, good = self._gradients()
        d, scale = self._direction(x, g, good)
        slope = float((g * d).sum())
        if not np.isfinite(f) or slope >= 0:
            return f

        def at(t: float) -> tuple[float, float]:
            """Loss and slope t of the way, infinite where the loss is not a number."""
            self._put(x + t * d)
            value = _number(closure())
            here, fine = self._gradients()
            if not np.isfinite(value) or not fine[good].all():
                return np.inf, np.inf
            return value, float((here * d).sum())

        t, last = _search(at, f, slope, scale, self.evaluations - 1)
        if t != last:
            self._put(x + t * d)
            closure()
        return f

    # --- Pairs ---

    def _direction(self, x: np.ndarray, g: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, float]:
        """-lr H g, and the length to begin with; keeps the pair of the step before."""
        if good.all():
            if self._has_last:
                self._keep(x - self._last[0], g - self._last[1])
            self._last[0], self._last[1], self._has_last = x, g, 1
        else:
            self._has_last = 0
        rates = np.concatenate([np.full(read(y).size, float(group["lr"])) for group in self.groups for y in group["params"]])
        d = -rates * np.where(good, self._curved(g), 0.0)
        if self._pairs and (g * d).sum() >= 0:  # different rates of groups may turn it; from here anew
            self._pairs = 0
            d = -rates * g
        total = np.abs(g).sum()
        return d, 1.0 if self._pairs or total == 0 else min(1.0, 1.0 / total)

    def _keep(self, s: np.ndarray, y: np.ndarray) -> None:
        if (s * y).sum() > LEAST_CURVATURE * np.sqrt((s * s).sum() * (y * y).sum()):
            row = self._pairs % len(self._shifts)
            self._shifts[row], self._changes[row] = s, y
            self._pairs += 1

    def _curved(self, g: np.ndarray) -> np.ndarray:
        """H g by two loops over the pairs: from the newest to the oldest, and back."""
        kept = len(self._shifts)
        rows = [n % kept for n in range(max(0, self._pairs - kept), self._pairs)]
        q, shares = g.copy(), {}
        for row in reversed(rows):
            s, y = self._shifts[row], self._changes[row]
            shares[row] = (s * q).sum() / (s * y).sum()
            q -= shares[row] * y
        if rows:
            s, y = self._shifts[rows[-1]], self._changes[rows[-1]]
            q *= (s * y).sum() / (y * y).sum()
        for row in rows:
            s, y = self._shifts[row], self._changes[row]
            q += (shares[row] - (y * q).sum() / (s * y).sum()) * s
        return q

    def _memory(self) -> dict[str, Any]:
        return {
            "shifts": self._shifts.copy(),
            "changes": self._changes.copy(),
            "pairs": self._pairs,
            "last": self._last.copy(),
            "has_last": self._has_last,
        }

    def _remember(self, state: Mapping[str, Any]) -> None:
        self._shifts, self._changes, self._last = (np.array(state[name], np.float64) for name in ("shifts", "changes", "last"))
        self._pairs, self._has_last = int(state["pairs"]), int(state["has_last"])

    # --- Arrays as one vector ---

    def _arrays(self) -> list[Array]:
        return [x for group in self.groups for x in group["params"]]

    def _values(self) -> np.ndarray:
        return np.concatenate([read(x).astype(np.float64).ravel() for x in self._arrays()])

    def _gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """The gradient, zero where it is not finite, and where it is."""
        gradients, good = [], []
        for x in self._arrays():
            g = read(x.grad).astype(np.float64)
            fine = np.isfinite(g)
            if x.element_shape:
                fine = np.broadcast_to(fine.all(axis=-1, keepdims=True), g.shape)
            gradients.append(np.where(fine, g, 0.0).ravel())
            good.append(fine.ravel())
        return np.concatenate(gradients), np.concatenate(good)

    def _put(self, values: np.ndarray) -> None:
        start = 0
        for x in self._arrays():
            shape = read(x).shape
            size = int(np.prod(shape))
            write(x, values[start : start + size].reshape(shape))
            start += size


# --- Search along a line ----------------------------------------------------------------------------------------


def _search(at: Callable[[float], tuple[float, float]], f0: float, slope0: float, first: float, evaluations: int) -> tuple[float, float]:
    """A length t with the strong Wolfe conditions, or the best that the evaluations found, 0 where none was better; and the last one tried."""

    def falls(t: float, f: float) -> bool:
        return f <= f0 + DECREASE * t * slope0

    low, high = (0.0, f0, slope0), None  # the best so far; with `high`, a good length lies between the two
    t, last = first, 0.0
    for _ in range(evaluations):
        f, slope = at(t)
        last = t
        if not falls(t, f) or f >= low[1]:
            high = (t, f, slope)
        elif abs(slope) <= -CURVATURE * slope0:
            return t, last
        else:
            if high is None and slope < 0:
                low, t = (t, f, slope), min(LONGEST * t, max(2 * t, _minimum(low, (t, f, slope), t)))
                continue
            if slope * (high[0] - low[0] if high else 1.0) >= 0:
                high = low
            low = (t, f, slope)
        t = _minimum(low, high, None)
    return low[0], last


def _minimum(a: tuple[float, float, float], b: tuple[float, float, float], otherwise: float | None) -> float:
    """Where the cubic through two points and their slopes is least; between them, not near an end, where `otherwise` is None."""
    (ta, fa, sa), (tb, fb, sb) = a, b
    found = np.nan
    if np.isfinite(fb) and np.isfinite(sb):
        d1 = sa + sb - 3 * (fa - fb) / (ta - tb)
        square = d1 * d1 - sa * sb
        if square >= 0:
            d2 = np.sign(tb - ta) * np.sqrt(square)
            below = sb - sa + 2 * d2
            found = tb - (tb - ta) * (sb + d2 - d1) / below if below != 0 else np.nan
    if otherwise is not None:
        return float(found) if np.isfinite(found) else otherwise
    least, most = min(ta, tb), max(ta, tb)
    margin = 0.1 * (most - least)
    return float(np.clip(found, least + margin, most - margin)) if np.isfinite(found) else (ta + tb) / 2


def _number(loss: Any) -> float:
    """The value of a loss that a closure returned."""
    value = np.asarray(read(loss) if isinstance(loss, ti.Ndarray) else np.nan if loss is None else loss, np.float64)
    if loss is None or value.size != 1:
        raise ValueError(f"closure: expected it to return the loss, a number or a 0-D array, got {loss!r}")
    return float(value.reshape(()))
