"""Schedules: a factor over a fit, as a function of how much of it is done, from 0 in the first step to 1 in the last.

Any function of one number serves as well. A checkpoint tells them apart by the values that they take.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MOST_VALUES = 2000  # of a fit's steps, by which schedules are compared
DIGITS = 9  # in which values must agree, of the largest: the last bits differ from one machine's exp to another's


class Schedule:
    """A function of `done` in [0, 1] with a text that tells it from others."""

    def __init__(self, text: str, function: Callable[[float], float]) -> None:
        self._text, self._function = text, function

    def __call__(self, done: float) -> float:
        return self._function(done)

    def __repr__(self) -> str:
        return self._text


def constant(value: float = 1.0) -> Schedule:
    """`value` all the time."""
    return Schedule(f"constant({value:g})", lambda done: value)


def exponential(end: float = 0.1) -> Schedule:
    """From 1 to `end`, every step by the same factor.

    f = end^done
    """
    if not end > 0:
        raise ValueError(f"end: expected a positive number, got {end!r}; for zero at the end take linear() or cosine()")
    return Schedule(f"exponential({end:g})", lambda done: end**done)


def linear(end: float = 0.0) -> Schedule:
    """From 1 to `end` along a line."""
    return Schedule(f"linear({end:g})", lambda done: 1 + (end - 1) * done)


def cosine(end: float = 0.0) -> Schedule:
    """From 1 to `end` along half a wave: slow, fast, slow.

        f = end + (1 - end) (1 + cos(pi done)) / 2

    Source: Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017, equation 5.
    """
    return Schedule(f"cosine({end:g})", lambda done: end + (1 - end) * (1 + math.cos(math.pi * done)) / 2)


def steps(at: Sequence[float] = (0.5, 0.75), factor: float = 0.1) -> Schedule:
    """1, and from each of the moments `at` on `factor` times as much as before.

    Raises:
        ValueError: moments outside of [0, 1].
    """
    moments = tuple(sorted(float(x) for x in at))
    if not all(0 <= x <= 1 for x in moments):
        raise ValueError(f"at: expected moments in [0, 1], shares of the fit, got {at!r}")
    return Schedule(f"steps({list(moments)}, {factor:g})", lambda done: factor ** sum(done >= x for x in moments))


def warmup(share: float = 0.05, then: Callable[[float], float] | None = None) -> Schedule:
    """From 0 along a line for the first `share` of the fit, then another schedule over the rest of it.

    Args:
        share: in (0, 1).
        then: what follows; `constant()` where left out.

    Raises:
        ValueError: a share outside of (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"share: expected a number between 0 and 1, got {share!r}")
    rest = then or constant()
    return Schedule(f"warmup({share:g}, {text(rest)})", lambda done: done / share if done < share else rest((done - share) / (1 - share)))


def text(schedule: Callable[[float], float]) -> str:
    """What a schedule is called: a function of the user's own by its name."""
    return repr(schedule) if isinstance(schedule, Schedule) else getattr(schedule, "__qualname__", type(schedule).__name__)


def described(schedule: Callable[[float], float], steps: int, argument: str = "schedule") -> dict[str, Any]:
    """What a checkpoint keeps of a schedule: its name, its first and last value, and a hash of those that it takes in a fit.

    Raises:
        ValueError: one that gives something else than numbers.
    """
    done = [k / max(1, steps - 1) for k in range(steps)]
    values = []
    for x in done if steps <= MOST_VALUES else [done[round(k)] for k in np.linspace(0, steps - 1, MOST_VALUES)]:
        value = schedule(x)
        try:
            values.append(float(value))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{argument}: expected a function that gives a number for {x:.4g}, which is how much is done, got {value!r}") from error
    largest = max((abs(x) for x in values if math.isfinite(x)), default=0.0) or 1.0
    rounded = np.round(np.array(values) / largest, DIGITS) + 0.0  # no -0
    content = f"{largest:.{DIGITS}g}".encode() + rounded.astype("<f8").tobytes()
    return {"text": text(schedule), "first": values[0], "last": values[-1], "values": hashlib.sha256(content).hexdigest()[:24]}
