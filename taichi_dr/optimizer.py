"""What all optimizers have: groups of arrays with their settings, what is remembered of each array, and the state of both."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import taichi as ti

from .arrays import Array, allocate, read, unrecorded, write, zero


class Optimizer:
    """Groups of arrays with their settings, and what the optimizer remembers of each array.

    Attributes:
        groups: one dict per group: "params", a tuple of arrays, and the settings, which may be changed between steps
            (lr also to 0, which holds the group's arrays where they are).
        steps: how many steps have been made.
    """

    moments: tuple[str, ...] = ()  # names of the arrays kept for each parameter
    shared: tuple[str, ...] = ()  # names of settings that are one for all groups

    def __init__(self, params: Sequence[Any], defaults: dict[str, Any]) -> None:
        self.steps = 0
        self.groups = _groups(params, defaults)
        for k, group in enumerate(self.groups):
            _check_settings(k, group)
            if group["lr"] == 0:
                raise ValueError(f"groups[{k}]: expected a positive lr, got 0")
        with unrecorded():
            self._moments = [[{name: _zeros_like(x) for name in self.moments} for x in group["params"]] for group in self.groups]

    def step(self) -> None:
        """Move every array once; an element whose gradient is not finite, a vector as a whole, stays as it is."""
        self._check()
        self.steps += 1
        with unrecorded():
            for group, moments in zip(self.groups, self._moments, strict=True):
                for x, kept in zip(group["params"], moments, strict=True):
                    self._move(x, kept, group)

    def _check(self) -> None:
        """Raise a ValueError where a setting was changed to one out of range."""
        for k, group in enumerate(self.groups):
            _check_settings(k, group)

    def zero_grad(self) -> None:
        """Set the gradients of all arrays to zero; a `Tape` does it by itself."""
        for group in self.groups:
            for x in group["params"]:
                zero(x.grad)

    def state_dict(self) -> dict[str, Any]:
        """What a later run needs to go on as if there had been no break, beside the arrays themselves.

        A flat dict of numbers, NumPy arrays and one word: `numpy.savez(path, **optimizer.state_dict())` writes it,
        and `optimizer.load_state_dict(numpy.load(path))` takes it back.
        """
        state: dict[str, Any] = {"kind": type(self).__name__, "steps": self.steps}
        for k, (group, moments) in enumerate(zip(self.groups, self._moments, strict=True)):
            state |= {f"groups.{k}.{name}": np.array(value) if name == "betas" else value for name, value in group.items() if name != "params"}
            state |= {f"groups.{k}.params.{n}.{name}": read(x) for n, kept in enumerate(moments) for name, x in kept.items()}
        return state | self._memory()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of the same optimizer over arrays of the same shapes.

        Raises:
            ValueError: a state of another kind of optimizer, of other groups or of arrays of other shapes; then nothing has changed.
        """
        own = self.state_dict()
        if str(state.get("kind")) != own["kind"]:
            raise ValueError(f"state: expected one of {own['kind']}, got {state.get('kind')}; load it into the optimizer that it came from")
        if set(state) != set(own):
            odd = ", ".join(sorted(set(state) ^ set(own))[:4])
            raise ValueError(f"state: expected the same groups and arrays as here, but only one of the two has {odd}")
        for key, value in own.items():
            if np.shape(state[key]) != np.shape(value):
                raise ValueError(f"state: expected shape {np.shape(value)} for {key}, got {np.shape(state[key])}")
        settings = []
        for k, group in enumerate(self.groups):
            stored = {name: state[f"groups.{k}.{name}"] for name in group if name != "params"}
            settings.append({name: tuple(map(float, value)) if np.shape(value) else float(value) for name, value in stored.items()})
            _check_settings(k, settings[-1])
        self.steps = int(state["steps"])
        for k, (group, moments) in enumerate(zip(self.groups, self._moments, strict=True)):
            group.update(settings[k])
            for n, kept in enumerate(moments):
                for name, x in kept.items():
                    write(x, np.asarray(state[f"groups.{k}.params.{n}.{name}"]))
        self._remember(state)

    def _memory(self) -> dict[str, Any]:
        """What is remembered beside the moments, for `state_dict`; shapes stay as they are."""
        return {}

    def _remember(self, state: Mapping[str, Any]) -> None:
        """Take back what `_memory` gave."""

    def _move(self, x: Array, kept: dict[str, Array], group: dict[str, Any]) -> None:
        raise NotImplementedError


# --- Checks ------------------------------------------------------------------------------------------------------


def _groups(params: Any, defaults: dict[str, Any]) -> list[dict[str, Any]]:
    """Complete groups from arrays or groups, every array checked."""
    if isinstance(params, (ti.Ndarray, dict)) or not hasattr(params, "__iter__"):
        raise ValueError(f"params: expected a list of arrays or of groups, got {type(params).__name__}; put it in a list: [x]")
    params = list(params)
    if any(isinstance(p, dict) for p in params) and not all(isinstance(p, dict) for p in params):
        raise ValueError("params: expected either arrays or groups, got both; put the arrays in a group: {'params': [...]}")
    grouped = params if params and isinstance(params[0], dict) else [{"params": params}]
    groups: list[dict[str, Any]] = []
    seen: dict[int, str] = {}
    for k, group in enumerate(grouped):
        unknown = [name for name in group if name != "params" and name not in defaults]
        if unknown:
            raise ValueError(f"groups[{k}]: unknown name {unknown[0]!r}; known are params, {', '.join(defaults)}")
        arrays = group.get("params", ())
        arrays = (arrays,) if isinstance(arrays, ti.Ndarray) else tuple(arrays)
        if not arrays:
            raise ValueError("params: expected at least one array, got none")
        for n, x in enumerate(arrays):
            place = f"params[{n}]" + (f" of groups[{k}]" if len(grouped) > 1 else "")
            if not isinstance(x, ti.Ndarray) or x.grad is None:
                came = "one without" if isinstance(x, ti.Ndarray) else type(x).__name__
                raise ValueError(f"{place}: expected a Taichi array with a gradient, got {came}; make it with dr.array of floats")
            if len(x.element_shape) > 1:
                raise ValueError(f"{place}: expected an array of numbers or vectors, got elements of shape {tuple(x.element_shape)}")
            if id(x) in seen:
                raise ValueError(f"{place}: the same array as {seen[id(x)]}; give every array once")
            seen[id(x)] = place
        groups.append({**defaults, **group, "params": arrays})
    return groups


def _check_settings(k: int, group: dict[str, Any]) -> None:
    """Raise a ValueError for a setting out of range."""
    for name, value in group.items():
        if name == "params":
            continue
        numbers = tuple(value) if name == "betas" and isinstance(value, Sequence) else (value,)
        if name == "betas" and len(numbers) != 2:
            raise ValueError(f"groups[{k}]: expected two betas, got {value!r}")
        for number in numbers:
            is_number = isinstance(number, (int, float, np.number)) and math.isfinite(number)
            if name == "lr" and not (is_number and number >= 0):
                raise ValueError(f"groups[{k}]: expected a positive, finite lr, got {number!r}")
            if name == "eps" and not (is_number and number > 0):
                raise ValueError(f"groups[{k}]: expected a positive, finite eps, got {number!r}")
            if name in ("betas", "momentum") and not (is_number and 0 <= number < 1):
                raise ValueError(f"groups[{k}]: expected {name} in [0, 1), got {value!r}")


def _zeros_like(x: Array) -> Array:
    element = ti.types.vector(x.element_shape[0], x.dtype) if x.element_shape else x.dtype
    out = allocate(element, x.shape, needs_grad=False)
    zero(out)
    return out
