"""What the vertices have, as pictures of the visible surface, of any number of channels."""

import taichi as ti

from ..arrays import ELEMENTS, Array, Faces, Ints, Picture, Points, empty, split, vec3, work_item, zero
from ..launch import kernel
from ..tape import operator
from .channels import join_fours, take_four
from .composite import composite
from .fragments import Fragments, room
from .gather import gather_corners
from .interpolate import Values, expect_values, inner
from .interpolate import interpolate as at_fragments
from .visible import Visible


def interpolate(values: Array, faces: Array, visible: Visible | Fragments) -> Array:
    """Attributes of the vertices, at every pixel of the surface that is seen there.

        a = w_0 a_0 + w_1 a_1 + w_2 a_2

    with w the place on the face in space, so that attributes are right in perspective.

    Args:
        values: per vertex, (B, V) of numbers, vec2, vec3 or vec4, or (B, V, C) of numbers; one row serves every view.
        faces: indices into `values`, (F,) of ivec3: the mesh's faces, or `uv_faces`.
        visible: of `rasterize`.

    Returns:
        (B, H, W), elements as of `values`, or (B, H, W, C); zero where no face is.

    Differentiable in `values`, and in what was rasterized.

    Raises:
        ValueError: elements that are no floats or vectors of them, other faces than were rasterized, batches that do not agree.
    """
    if not isinstance(values, ti.Ndarray):
        raise ValueError(f"values: expected a Taichi array, (B, V) or (B, V, C), got {type(values).__name__}; make it with dr.array(...)")
    if len(values.shape) != 3:
        return _picture(values, faces, visible)
    parts = [take_four(values, first) for first in range(0, values.shape[2], 4)]
    return join_fours([_picture(part, faces, visible) for part in parts], values.shape[2])


def _picture(values: Array, faces: Array, visible: Visible | Fragments) -> Array:
    if not isinstance(visible, Visible):
        return composite(at_fragments(values, faces, visible), visible)
    fragments = visible.fragments
    components = expect_values(values, faces, fragments)
    out = empty(ELEMENTS[components], fragments.size, needs_grad=True)
    _show(values, faces, fragments.weights, fragments, out)
    return out


@kernel
def _show_kernel(values: Values, faces: Faces, weights: Points, face_of: Ints, views: Ints, pixels: Ints, out: Picture):
    """A pixel shows one fragment at most, and all of it."""
    for m in range(weights.shape[1]):
        if pixels[m] >= 0:
            b, face, w, height, width = views[m] % values.shape[0], faces[face_of[m]], weights[0, m], out.shape[1], out.shape[2]
            value = w.x * values[b, face.x] + w.y * values[b, face.y] + w.z * values[b, face.z]
            out[views[m], pixels[m] // width % height, pixels[m] % width] = value


@operator
def _show(values: Array, faces: Array, weights: Array, fragments: Fragments, out: Array) -> None:
    zero(out)
    _show_kernel(values, faces, weights, fragments.faces, fragments.views, fragments.pixels, out)


@kernel
def _show_adjoint_kernel(
    values: Values, faces: Faces, weights: Points, pair_faces: Ints, offsets: Ints, pixels: Ints, weights_grad: Points, corner_grads: Values,
    out_grad: Picture, steps: int, pad: int, threads: int, pairs: int, components: ti.template(),
):  # fmt: skip
    """A thread takes a pair of face and tile, and sums over its pixels."""
    for q in range(steps):
        n = work_item(q, pad, threads, pairs)
        if n >= 0:
            view, face, height, width = pair_faces[n] // faces.shape[0], faces[pair_faces[n] % faces.shape[0]], out_grad.shape[1], out_grad.shape[2]
            b, total = view % values.shape[0], ti.zero(out_grad[0, 0, 0])
            x_grad, y_grad, z_grad = total, total, total
            for m in range(offsets[n], offsets[n + 1]):
                grad, w = out_grad[view, pixels[m] // width % height, pixels[m] % width], weights[0, m]
                if inner(grad, grad, components) > 0.0:  # nobody asks about a vertex that is not finite
                    weights_grad[0, m] += vec3(
                        inner(values[b, face.x], grad, components),
                        inner(values[b, face.y], grad, components),
                        inner(values[b, face.z], grad, components),
                    )
                    x_grad += w.x * grad
                    y_grad += w.y * grad
                    z_grad += w.z * grad
            corner_grads[n, 0], corner_grads[n, 1], corner_grads[n, 2] = x_grad, y_grad, z_grad


@_show.adjoint
def _show_adjoint(values: Array, faces: Array, weights: Array, fragments: Fragments, out: Array) -> None:
    components, tiles = values.element_shape[0] if values.element_shape else 1, fragments.tiles
    corner_grads = empty(ELEMENTS[components], (room(tiles.pairs), 3))
    _show_adjoint_kernel(
        values, faces, weights, tiles.pair_faces, fragments.offsets, fragments.pixels, weights.grad, corner_grads, out.grad,
        *split(tiles.pairs), tiles.pairs, components,
    )  # fmt: skip
    if values.grad is not None:
        gather_corners(tiles.face_offsets, faces, fragments.size[0], (corner_grads, values.grad))
