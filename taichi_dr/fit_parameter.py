"""What a fit moves: an array with settings of its own, and the optimizer that they make."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import taichi as ti

from . import optim, schedules
from .arrays import Array, checked_number
from .fit_carry import full_shape

OPTIMIZERS = {"adam": "Adam", "sgd": "SGD", "adam_uniform": "AdamUniform", "lbfgs": "LBFGS"}  # names in optim.py
LENGTH, NEWTONS = 1e-2, {"lbfgs": 1.0}  # of a step where no lr is given: of most, and of those that know how the loss bends
JOINT = ("lbfgs",)  # one optimizer over all parameters; of the others each parameter has its own
UNBOUNDED = 3e38  # finite, as fast math has no infinity


class Parameter:
    """An array that a fit moves, with settings of its own; what is left out is as the fit has it.

    Args:
        array: of floats, with a gradient: `mesh.vertices`, or from `dr.array`.
        lr: step length, as of the optimizer.
        optimizer: "adam", "sgd", "adam_uniform" or "lbfgs".
        schedule: of the step length, a function of how much is done, as in `dr.schedules`.
        bounds: (least, most) that elements are kept in after every step; None for no bound.
        clip: the gradient's largest norm; a longer one is shortened, but not for "lbfgs".
        settings: more settings of the optimizer by name, such as betas or momentum.
    """

    def __init__(
        self,
        array: Array,
        lr: float | None = None,
        *,
        optimizer: str | None = None,
        schedule: Callable[[float], float] | None = None,
        bounds: tuple[float | None, float | None] | None = None,
        clip: float | None = None,
        **settings: Any,
    ) -> None:
        self.array, self.lr, self.optimizer, self.schedule, self.settings = array, lr, optimizer, schedule, settings
        self.bounds, self.clip = _checked_bounds(bounds), checked_clip(clip)

    def __repr__(self) -> str:
        own = {"lr": self.lr, "optimizer": self.optimizer, "schedule": self.schedule and schedules.text(self.schedule), "bounds": self.bounds}
        own |= {"clip": self.clip} | self.settings
        shape = full_shape(self.array) if isinstance(self.array, ti.Ndarray) else type(self.array).__name__
        return f"Parameter({', '.join([str(shape), *(f'{key}={value!r}' for key, value in own.items() if value is not None)])})"

    def completed(self, name: str, lr: float | None, optimizer: str, schedule: Callable[[float], float]) -> "Parameter":
        out = self.on(name, self.array)
        out.optimizer, out.schedule = self.optimizer or optimizer, self.schedule or schedule
        given = lr if self.lr is None else self.lr
        out.lr = NEWTONS.get(out.optimizer, LENGTH) if given is None else given
        return out

    def on(self, name: str, array: Any) -> "Parameter":
        if not isinstance(array, ti.Ndarray) or array.grad is None:
            came = "one without" if isinstance(array, ti.Ndarray) else type(array).__name__
            raise ValueError(f"parameters[{name!r}]: expected a Taichi array with a gradient, got {came}; make it with dr.array of floats")
        out = copy.copy(self)
        out.array = array
        return out


def optimizer_of(parameters: Mapping[str, Parameter]) -> Any:
    """One over all of these, each in a group of its own."""
    chosen = next(iter(parameters.values())).optimizer or ""
    kind = getattr(optim, OPTIMIZERS.get(chosen, ""), None)
    if kind is None:
        known = ", ".join(name for name, kind in OPTIMIZERS.items() if hasattr(optim, kind))
        raise ValueError(f"optimizer: expected one of {known}, got {chosen!r}")
    shared: dict[str, Any] = {}
    for name, p in parameters.items():
        for key in p.settings.keys() & set(kind.shared):
            if shared.setdefault(key, p.settings[key]) != p.settings[key]:
                raise ValueError(
                    f"parameters[{name!r}]: expected {key} {shared[key]!r}, as another has it, got {p.settings[key]!r}; "
                    f"{chosen} is one for all its parameters, so give {key} once"
                )
    own = [{key: value for key, value in p.settings.items() if key not in kind.shared} for p in parameters.values()]
    groups = [{"params": [p.array], "lr": p.lr, **settings} for p, settings in zip(parameters.values(), own, strict=True)]
    try:
        return kind(groups, **shared)
    except ValueError as error:
        note(error, f"of parameters {', '.join(map(repr, parameters))}")
        raise


def owner_of(name: str, p: Parameter) -> str:
    return f"all.{p.optimizer}" if p.optimizer in JOINT else f"one.{name}"


def is_joint(owner: str) -> bool:
    return owner.startswith("all.")


def note(error: BaseException, text: str) -> None:
    if hasattr(error, "add_note"):
        error.add_note(text)
    elif error.args and isinstance(error.args[0], str):  # Python 3.10
        error.args = (f"{error.args[0]} ({text})", *error.args[1:])


# --- Checks -----------------------------------------------------------------------------------------------------------


def checked_clip(clip: Any) -> float | None:
    if clip is None:
        return None
    if not checked_number("clip", clip) > 0:
        raise ValueError(f"clip: expected a positive number, the largest norm of a gradient, or None, got {clip!r}")
    return float(clip)


def _checked_bounds(bounds: Any) -> tuple[float, float] | None:
    if bounds is None:
        return None
    try:
        least, most = bounds
    except (TypeError, ValueError) as error:
        raise ValueError(f"bounds: expected (least, most), got {bounds!r}") from error
    low, high = -UNBOUNDED if least is None else checked_number("bounds", least), UNBOUNDED if most is None else checked_number("bounds", most)
    if low > high:
        raise ValueError(f"bounds: expected the least before the most, got {bounds!r}")
    return low, high
