"""How what an optimizer remembers of an array goes along to another one, as after remeshing."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from .arrays import Array


def carrier(carry: Any, name: str, old: Array, new: Array) -> Callable[[np.ndarray], np.ndarray]:
    """What is remembered of the old elements, made into that of the new ones."""
    new_shape = full_shape(new)
    if sparse.issparse(carry) or isinstance(carry, np.ndarray):
        return _weighted(carry, name, old, new)
    if not callable(carry):
        raise ValueError(
            "carry: expected the weights that dr.remesh and dr.subdivide return, a (V new, V old) matrix, or a function of an array, "
            f"got {type(carry).__name__}; write mesh, weights = dr.remesh(...) and give weights"
        )

    def carried(moments: np.ndarray) -> np.ndarray:
        made = np.asarray(carry(moments))
        if made.shape != new_shape or made.dtype.kind not in "fiu":
            raise ValueError(
                f"carry: expected a function that makes numbers of shape {new_shape}, as the new array of {name!r} is, of those of shape "
                f"{moments.shape}, got {made.dtype} {made.shape} of it; of dr.remesh and dr.subdivide give the weights themselves"
            )
        return made

    return carried


def _weighted(weights: Any, name: str, old: Array, new: Array) -> Callable[[np.ndarray], np.ndarray]:
    """new = weights @ old along the axis of the vertices: the last that fits."""
    fitting = [
        axis for axis in range(min(len(old.shape), len(new.shape)))
        if tuple(weights.shape) == (new.shape[axis], old.shape[axis])
        and _without(axis, full_shape(old)) == _without(axis, full_shape(new))
    ]  # fmt: skip
    if not fitting:
        raise ValueError(
            f"carry: expected a (V new, V old) matrix between the arrays of {name!r}, which was {full_shape(old)} and is {full_shape(new)}, "
            f"got one of {tuple(weights.shape)}; give the weights of the dr.remesh or dr.subdivide that made the new mesh of the old one"
        )
    weights = sparse.csr_array(weights)
    if not weights.min() >= 0:
        raise ValueError("carry: expected a matrix without negative numbers, for means of squares are carried by it, got one with some")
    axis = fitting[-1]

    def carried(moments: np.ndarray) -> np.ndarray:
        first = np.moveaxis(moments, axis, 0)
        made = weights @ first.reshape(len(first), -1)
        return np.moveaxis(made.reshape(-1, *first.shape[1:]), 0, axis)

    return carried


def _without(axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def full_shape(x: Array) -> tuple[int, ...]:
    return (*x.shape, *x.element_shape)
