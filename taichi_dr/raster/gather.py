"""From pairs of face and tile to vertices: sums of what the corners of faces got, always in the same order."""

import taichi as ti

from ..arrays import Array, Ints, Points, Vectors
from ..launch import kernel
from ..mesh import corner_incidence

Contributions = ti.types.ndarray(ndim=2, needs_grad=False)  # (pairs, 3): a number or vector per corner of a pair's face
Rows = ti.types.ndarray(ndim=2, needs_grad=False)  # (B, V)


def gather_corners(face_offsets: Array, faces: Array, batch: int, *targets: tuple[Array, Array]) -> None:
    """For each (contributions, out): out[v] += the contributions to vertex v, in the order of faces, views and pairs.

    Args:
        face_offsets: of `TileLists`.
        faces: which vertices the corners are, (F,) of ivec3.
        batch: number of views; an `out` with fewer rows collects from all.
        targets: contributions (pairs, 3) and out (rows, V), with elements of one kind.
    """
    if len(targets) == 2 and targets[0][1].shape == targets[1][1].shape:
        (first, first_out), (second, second_out) = targets
        slots = corner_incidence(faces, first_out.shape[1])
        _gather_kernel(first, second, face_offsets, slots.offsets, slots.slots, first_out, second_out, batch, faces.shape[0], True)
    else:
        for values, out in targets:
            slots = corner_incidence(faces, out.shape[1])
            _gather_kernel(values, values, face_offsets, slots.offsets, slots.slots, out, out, batch, faces.shape[0], False)


@kernel
def _gather_kernel(
    first: Contributions, second: Contributions, face_offsets: Ints, vertex_offsets: Ints, vertex_corners: Ints,
    first_out: Rows, second_out: Rows, batch: int, face_count: int, both: ti.template(),
):  # fmt: skip
    for k in range(first_out.shape[0] * first_out.shape[1]):
        view, v = k // first_out.shape[1], k % first_out.shape[1]
        first_sum, second_sum = ti.zero(first_out[0, 0]), ti.zero(second_out[0, 0])
        for s in range(vertex_offsets[v], vertex_offsets[v + 1]):
            f, corner = vertex_corners[s] // 3, vertex_corners[s] % 3
            for turn in range((batch - view + first_out.shape[0] - 1) // first_out.shape[0]):  # a row shared by all views collects from all
                face = (view + turn * first_out.shape[0]) * face_count + f
                for n in range(face_offsets[face], face_offsets[face + 1]):
                    first_sum += first[n, corner]
                    if ti.static(both):
                        second_sum += second[n, corner]
        first_out[view, v] += first_sum
        if ti.static(both):
            second_out[view, v] += second_sum


def add_rows(sums: Array, out: Array) -> None:
    """Add per-row sums (B, H) of vec3 to `out`, () or (B,), in the order of rows and views."""
    _add_rows_kernel(sums, out)


@kernel
def _add_rows_kernel(sums: Points, out: Vectors):
    ti.loop_config(serialize=True)
    for k in range(sums.shape[0] * sums.shape[1]):
        b = k // sums.shape[1]
        if ti.static(len(out.shape) == 0):
            out[None] += sums[b, k % sums.shape[1]]
        else:
            out[b % out.shape[0]] += sums[b, k % sums.shape[1]]
