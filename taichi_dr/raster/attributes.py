"""What the vertices have, as pictures of the visible surface, of any number of channels."""

import taichi as ti

from .. import runtime
from ..arrays import ELEMENTS, Array, Faces, Ints, Picture, Points, empty, split, vec2, vec3, work_item, zero
from ..launch import kernel
from ..tape import operator
from . import triangle
from .channels import join_fours, take_four
from .composite import Names, composite
from .fragments import Contributions, Fragments, room
from .gather import gather_corners
from .interpolate import Values, expect_values, inner
from .interpolate import interpolate as at_fragments
from .tiles import Boxes, corners, pair_at, pair_pixels, pixel_center, split_pairs
from .visible import Visible, corner_nearness, place, place_adjoint


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
    components = expect_values(values, faces, visible.face_ids.shape[0], visible.faces.shape[0])
    out = empty(ELEMENTS[components], visible.face_ids.shape, needs_grad=True)
    _show(values, faces, visible.screen, visible, out)
    return out


@kernel
def _show_kernel(
    values: Values, value_faces: Faces, screen: Points, faces: Faces, boxes: Boxes, pair_faces: Ints, tile_offsets: Ints, members: Ints,
    face_ids: Names, out: Picture, steps: int, pad: int, threads: int, tile_height: int, tile_width: int, rows: int, columns: int,
    half: float, zero: float, interpolation: ti.template(),
):  # fmt: skip
    """For CPUs: a thread takes a tile."""
    for q in range(steps):
        k = work_item(q, pad, threads, out.shape[0] * rows * columns)
        if k >= 0:
            height, width = out.shape[1], out.shape[2]
            b, top, left = k // (rows * columns), k // columns % rows * tile_height, k % columns * tile_width
            for m in range(tile_offsets[k], tile_offsets[k + 1]):
                f, box = pair_faces[members[m]] % faces.shape[0], boxes[pair_faces[members[m]]]
                v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                nearness = corner_nearness(v0, v1, v2, zero, interpolation)
                a0, a1, a2 = corners(values, value_faces, b % values.shape[0], f)
                for i in range(ti.max(box[0], top), ti.min(box[1], top + tile_height)):
                    for j in range(ti.max(box[2], left), ti.min(box[3], left + tile_width)):
                        if face_ids[b, i, j] == f:
                            at = place(triangle.barycentrics(pixel_center(i, j, height, width, half), v0.xy, v1.xy, v2.xy), nearness)
                            out[b, i, j] = at.x * a0 + at.y * a1 + at.z * a2


@kernel
def _show_pixels_kernel(
    values: Values, value_faces: Faces, screen: Points, faces: Faces, face_ids: Names, out: Picture,
    half: float, zero: float, interpolation: ti.template(),
):  # fmt: skip
    """For GPUs: a thread takes a pixel."""
    for b, i, j in out:
        f, value = face_ids[b, i, j], ti.zero(out[b, i, j])
        if f >= 0:
            v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
            w = triangle.barycentrics(pixel_center(i, j, out.shape[1], out.shape[2], half), v0.xy, v1.xy, v2.xy)
            at = place(w, corner_nearness(v0, v1, v2, zero, interpolation))
            a0, a1, a2 = corners(values, value_faces, b % values.shape[0], f)
            value = at.x * a0 + at.y * a1 + at.z * a2
        out[b, i, j] = value


@operator
def _show(values: Array, faces: Array, screen: Array, seen: Visible, out: Array) -> None:
    t, half = seen.tiles, 1 / min(out.shape[1:])
    if runtime.device().arch == "cpu":
        zero(out)
        _show_kernel(
            values, faces, screen, seen.faces, t.boxes, t.pair_faces, t.tile_offsets, t.members, seen.face_ids, out,
            *split(out.shape[0] * t.rows * t.columns), *t.tile, t.rows, t.columns, half, 0.0, seen.interpolation,
        )  # fmt: skip
    else:
        _show_pixels_kernel(values, faces, screen, seen.faces, seen.face_ids, out, half, 0.0, seen.interpolation)


@kernel
def _show_adjoint_kernel(
    values: Values, value_faces: Faces, screen: Points, faces: Faces, boxes: Boxes, pair_faces: Ints, pair_tiles: Ints, members: Ints,
    face_ids: Names, value_grads: Values, corner_grads: Contributions, out_grad: Picture,
    steps: int, pad: int, threads: int, pairs: int, tile_height: int, tile_width: int, rows: int, columns: int,
    half: float, zero: float, components: ti.template(), interpolation: ti.template(),
):  # fmt: skip
    """A thread takes a pair of face and tile, and sums over its pixels."""
    for q in range(steps):
        n = pair_at(q, pad, threads, pairs, members)
        if n >= 0:
            b, f, height, width = pair_faces[n] // faces.shape[0], pair_faces[n] % faces.shape[0], out_grad.shape[1], out_grad.shape[2]
            v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
            nearness = corner_nearness(v0, v1, v2, zero, interpolation)
            a0, a1, a2 = corners(values, value_faces, b % values.shape[0], f)
            i0, i1, j0, j1 = pair_pixels(boxes, pair_faces, pair_tiles, n, tile_height, tile_width, rows, columns)
            a0_grad, a1_grad, a2_grad = ti.zero(a0), ti.zero(a0), ti.zero(a0)
            v0_grad, v1_grad, v2_grad, z_grad = vec2(0.0), vec2(0.0), vec2(0.0), vec3(0.0)
            for i in range(i0, i1):
                for j in range(j0, j1):
                    if face_ids[b, i, j] == f:
                        grad = out_grad[b, i, j]
                        if inner(grad, grad, components) > 0.0:  # nobody asks about a vertex that is not finite
                            w = triangle.barycentrics(pixel_center(i, j, height, width, half), v0.xy, v1.xy, v2.xy)
                            at = place(w, nearness)
                            at_grad = vec3(inner(a0, grad, components), inner(a1, grad, components), inner(a2, grad, components))
                            w_grad, z_here = place_adjoint(w, nearness, at, at_grad, interpolation)
                            v0_here, v1_here, v2_here = triangle.barycentrics_adjoint(v0.xy, v1.xy, v2.xy, w, w_grad)
                            a0_grad, a1_grad, a2_grad = a0_grad + at.x * grad, a1_grad + at.y * grad, a2_grad + at.z * grad
                            v0_grad, v1_grad, v2_grad, z_grad = v0_grad + v0_here, v1_grad + v1_here, v2_grad + v2_here, z_grad + z_here
            value_grads[n, 0], value_grads[n, 1], value_grads[n, 2] = a0_grad, a1_grad, a2_grad
            corner_grads[n, 0], corner_grads[n, 1], corner_grads[n, 2] = vec3(v0_grad, z_grad.x), vec3(v1_grad, z_grad.y), vec3(v2_grad, z_grad.z)


@_show.adjoint
def _show_adjoint(values: Array, faces: Array, screen: Array, seen: Visible, out: Array) -> None:
    t, components = seen.tiles, values.element_shape[0] if values.element_shape else 1
    value_grads, corner_grads = empty(ELEMENTS[components], (room(t.pairs), 3)), empty(vec3, (room(t.pairs), 3))
    _show_adjoint_kernel(
        values, faces, screen, seen.faces, t.boxes, t.pair_faces, t.pair_tiles, t.members, seen.face_ids, value_grads, corner_grads,
        out.grad, *split_pairs(t.pairs), t.pairs, *t.tile, t.rows, t.columns, 1 / min(out.shape[1:]), 0.0, components, seen.interpolation,
    )  # fmt: skip
    by_value, by_corner = (value_grads, values.grad), (corner_grads, screen.grad)
    if faces is seen.faces and values.grad is not None and screen.grad is not None:
        gather_corners(t.face_offsets, faces, out.shape[0], by_value, by_corner)  # one walk over the faces of each vertex
        return
    for indices, target in ((faces, by_value), (seen.faces, by_corner)):
        if target[1] is not None:
            gather_corners(t.face_offsets, indices, out.shape[0], target)
