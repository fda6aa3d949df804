"""What the vertices have, at the fragments: a = w_0 a_0 + w_1 a_1 + w_2 a_2."""

from typing import Any

import numpy as np
import taichi as ti
from taichi.lang import impl

from ..arrays import ELEMENTS, Array, Faces, Ints, Points, array, empty, split, vec3, work_item
from ..launch import kernel
from ..tape import operator
from .fragments import Fragments, room
from .gather import gather_corners

Values = ti.types.ndarray(ndim=2, needs_grad=False)  # (B, V) or (1, N), numbers or vectors


def interpolate(values: Array, faces: Array, fragments: Fragments) -> Array:
    """Attributes of the vertices at the fragments.

        a = w_0 a_0 + w_1 a_1 + w_2 a_2

    Args:
        values: per vertex, (B, V) of numbers, vec2, vec3 or vec4; one row serves every view.
        faces: indices into `values`, (F,) of ivec3: the mesh's faces, or `uv_faces`.
        fragments: of `soft_fragments`.

    Returns:
        (1, N), elements as of `values`.

    Differentiable in `values` and in the weights of the fragments.

    Raises:
        ValueError: elements that are no floats or vectors of them, other faces than the fragments have.
    """
    out = empty(ELEMENTS[expect_values(values, faces, fragments.size[0], fragments.face_count)], fragments.weights.shape, needs_grad=True)
    _interpolate(values, faces, fragments.weights, fragments, out)
    return out


def expect_values(values: Array, faces: Array, batch: int, face_count: int) -> int:
    """Raise a ValueError unless there are values of vertices for what was rasterized; how many components they have."""
    components = values.element_shape[0] if values.element_shape else 1
    if len(values.shape) != 2 or components not in ELEMENTS:
        raise ValueError(f"values: expected (B, V) of numbers, vec2, vec3 or vec4, got shape {tuple(values.shape)} of {tuple(values.element_shape)}")
    if faces.shape[0] != face_count:
        raise ValueError(f"faces: expected one per face that was rasterized, {face_count}, got {faces.shape[0]}")
    if values.shape[0] not in (1, batch):
        raise ValueError(f"values: expected 1 or {batch} rows, one per view, got {values.shape[0]}")
    return components


def per_face(values: Array, fragments: Fragments) -> Array:
    """Attributes of the faces at the fragments, (1, N), from (B, F) of numbers or vectors. Differentiable in `values`."""
    return interpolate(values, own_indices(fragments.face_count), fragments)  # a face is a triangle whose corners agree


_own: dict[int, tuple[Any, Array]] = {}


def own_indices(face_count: int) -> Array:
    """(F,) of ivec3 that name face f three times: values per face as values per vertex; the same array for the same number."""
    owner, indices = _own.get(face_count, (None, None))
    if owner is not impl.get_runtime():
        indices = array(np.repeat(np.arange(face_count)[:, None], 3, axis=1), np.int32)
        _own[face_count] = impl.get_runtime(), indices
    assert indices is not None
    return indices


@kernel
def _interpolate_kernel(values: Values, faces: Faces, weights: Points, face_of: Ints, views: Ints, out: Values):
    for n in range(out.shape[1]):
        b, face, w = views[n] % values.shape[0], faces[face_of[n]], weights[0, n]
        out[0, n] = w.x * values[b, face.x] + w.y * values[b, face.y] + w.z * values[b, face.z]


@operator
def _interpolate(values: Array, faces: Array, weights: Array, fragments: Fragments, out: Array) -> None:
    _interpolate_kernel(values, faces, weights, fragments.faces, fragments.views, out)


@ti.func
def inner(a, b, components: ti.template()):
    """a . b, also of numbers."""
    value = 0.0
    if ti.static(components == 1):
        value = a * b
    else:
        value = a.dot(b)
    return value


@kernel
def _weights_adjoint_kernel(
    values: Values, faces: Faces, face_of: Ints, views: Ints, weights_grad: Points, out_grad: Values, components: ti.template()
):  # fmt: skip
    for n in range(out_grad.shape[1]):
        grad = out_grad[0, n]
        if inner(grad, grad, components) > 0.0:  # padding may name a vertex that is not finite
            b, face = views[n] % values.shape[0], faces[face_of[n]]
            weights_grad[0, n] += vec3(
                inner(values[b, face.x], grad, components), inner(values[b, face.y], grad, components), inner(values[b, face.z], grad, components)
            )


@kernel
def _values_adjoint_kernel(weights: Points, offsets: Ints, corner_grads: Values, out_grad: Values, steps: int, pad: int, threads: int, pairs: int):
    """A thread takes a pair of face and tile, and sums over its fragments."""
    for q in range(steps):
        n = work_item(q, pad, threads, pairs)
        if n >= 0:
            a_grad, b_grad, c_grad = ti.zero(out_grad[0, 0]), ti.zero(out_grad[0, 0]), ti.zero(out_grad[0, 0])
            for m in range(offsets[n], offsets[n + 1]):
                a_grad += weights[0, m].x * out_grad[0, m]
                b_grad += weights[0, m].y * out_grad[0, m]
                c_grad += weights[0, m].z * out_grad[0, m]
            corner_grads[n, 0], corner_grads[n, 1], corner_grads[n, 2] = a_grad, b_grad, c_grad


@_interpolate.adjoint
def _interpolate_adjoint(values: Array, faces: Array, weights: Array, fragments: Fragments, out: Array) -> None:
    components, pairs = values.element_shape[0] if values.element_shape else 1, fragments.tiles.pairs
    _weights_adjoint_kernel(values, faces, fragments.faces, fragments.views, weights.grad, out.grad, components)
    if values.grad is not None:
        corner_grads = empty(ELEMENTS[components], (room(pairs), 3))
        _values_adjoint_kernel(weights, fragments.offsets, corner_grads, out.grad, *split(pairs), pairs)
        gather_corners(fragments.tiles.face_offsets, faces, fragments.size[0], (corner_grads, values.grad))
