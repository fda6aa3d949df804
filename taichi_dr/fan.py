"""What a mesh has at the corners that clipping makes: attributes of its vertices and texels of its faces, on the fans of cut faces.

A fan has five corners, each a sum of the three corners of its face, and three pieces:

    a = w_0 a_0 + w_1 a_1 + w_2 a_2
"""

from typing import NamedTuple

import taichi as ti

from .arrays import Array, Faces, Ints, Points, Texels, vec3
from .launch import kernel
from .mesh import Incidence
from .raster.fragment import texel_index
from .raster.fragments import Fragments
from .raster.interpolate import Values, inner
from .tape import operator

Table = ti.types.ndarray(dtype=ti.i32, ndim=2, needs_grad=False)  # (B, N)

CORNERS, PIECES = 5, 3  # of a fan


class Plan(NamedTuple):
    """Which faces are cut in which view."""

    count: int  # of fans, those of no face included
    owners: Array  # (B, count): the face of a fan, -1 for none
    fans: Array  # (B, F): the fan of a face, -1 for none


@ti.func
def face_corners(x: ti.template(), faces: ti.template(), b: int, f: int):
    return x[b, faces[f].x], x[b, faces[f].y], x[b, faces[f].z]


# --- What the vertices have, at the new corners -----------------------------------------------------------------------


@kernel
def _extend_kernel(values: Values, faces: Faces, owners: Table, weights: Points, out: Values):
    for k in range(out.shape[0] * values.shape[1]):
        b, v = k // values.shape[1], k % values.shape[1]
        out[b, v] = values[b % values.shape[0], v]
    for k in range(out.shape[0] * weights.shape[1]):
        b, i = k // weights.shape[1], k % weights.shape[1]
        view, value = b % weights.shape[0], ti.zero(values[0, 0])
        w, f = weights[view, i], owners[view, i // CORNERS]
        if f >= 0 and any(w != 0.0):
            p, q, r = face_corners(values, faces, b % values.shape[0], f)
            value = w.x * p + w.y * q + w.z * r
        out[b, values.shape[1] + i] = value


@operator
def extend(values: Array, faces: Array, incidence: Incidence, plan: Plan, weights: Array, out: Array) -> None:
    _extend_kernel(values, faces, plan.owners, weights, out)


@kernel
def _extend_weights_adjoint_kernel(values: Values, faces: Faces, owners: Table, weights_grad: Points, out_grad: Values, components: ti.template()):
    for k in range(weights_grad.shape[0] * weights_grad.shape[1]):
        view, i = k // weights_grad.shape[1], k % weights_grad.shape[1]
        f = owners[view, i // CORNERS]
        for turn in range(out_grad.shape[0] // weights_grad.shape[0]):
            b = view + turn * weights_grad.shape[0]
            grad = out_grad[b, values.shape[1] + i]
            if f >= 0 and inner(grad, grad, components) > 0.0:  # a corner that is not there may have values that are not finite
                p, q, r = face_corners(values, faces, b % values.shape[0], f)
                weights_grad[view, i] += vec3(inner(p, grad, components), inner(q, grad, components), inner(r, grad, components))


@kernel
def _extend_values_adjoint_kernel(values_grad: Values, weights: Points, fans: Table, offsets: Ints, slots: Ints, out_grad: Values):
    """Per vertex, over the views that share it and over its faces in their order."""
    for k in range(values_grad.shape[0] * values_grad.shape[1]):
        row, v = k // values_grad.shape[1], k % values_grad.shape[1]
        total = ti.zero(values_grad[0, 0])
        for turn in range(out_grad.shape[0] // values_grad.shape[0]):
            b = row + turn * values_grad.shape[0]
            view = b % weights.shape[0]
            total += out_grad[b, v]
            for s in range(offsets[v], offsets[v + 1]):
                fan = fans[view, slots[s] // 3]
                if fan >= 0:
                    for i in range(CORNERS):
                        total += weights[view, CORNERS * fan + i][slots[s] % 3] * out_grad[b, values_grad.shape[1] + CORNERS * fan + i]
        values_grad[row, v] += total


@extend.adjoint
def _extend_adjoint(values: Array, faces: Array, incidence: Incidence, plan: Plan, weights: Array, out: Array) -> None:
    components = values.element_shape[0] if values.element_shape else 1
    _extend_weights_adjoint_kernel(values, faces, plan.owners, weights.grad, out.grad, components)
    if values.grad is not None:
        _extend_values_adjoint_kernel(values.grad, weights, plan.fans, incidence.offsets, incidence.slots, out.grad)


# --- Texels of cut faces ----------------------------------------------------------------------------------------------


@ti.func
def _fan_texel(owners: ti.template(), weights: ti.template(), b: int, f: int, w, face_count: int, resolution: int):
    """The face of the mesh, and row and column of the texel, of a fragment with weights w on face or piece f."""
    face = f
    if f >= face_count:
        fan, piece = (f - face_count) // PIECES, (f - face_count) % PIECES
        first = CORNERS * fan
        face = owners[b, fan]
        w = w.x * weights[b, first] + w.y * weights[b, first + piece + 1] + w.z * weights[b, first + piece + 2]
    row, column = texel_index(ti.math.clamp(w, 0.0, 1.0), resolution)
    return face, row, column


@kernel
def _texels_kernel(texels: Texels, owners: Table, weights: Points, at: Points, face_of: Ints, views: Ints, out: Points):
    for n in range(out.shape[1]):
        if ti.static(len(texels.shape) == 4):
            f, i, j = _fan_texel(owners, weights, views[n] % owners.shape[0], face_of[n], at[0, n], texels.shape[1], texels.shape[2])
            out[0, n] = texels[views[n] % texels.shape[0], f, i, j]
        else:
            f, i, j = _fan_texel(owners, weights, views[n] % owners.shape[0], face_of[n], at[0, n], texels.shape[0], texels.shape[1])
            out[0, n] = texels[f, i, j]


@operator
def fan_texels(texels: Array, plan: Plan, weights: Array, fragments: Fragments, out: Array) -> None:
    _texels_kernel(texels, plan.owners, weights, fragments.weights, fragments.faces, fragments.views, out)


@kernel
def _texels_adjoint_kernel(
    texels_grad: Texels, owners: Table, fans: Table, weights: Points, at: Points, face_offsets: Ints, offsets: Ints, out_grad: Points,
    rows: int, views: int, mesh_faces: int, face_count: int,
):  # fmt: skip
    """A thread takes a face of the mesh in all views that share its texels, so nobody else adds to them."""
    for k in range(rows * mesh_faces):
        row, f = k // mesh_faces, k % mesh_faces
        for turn in range(views // rows):
            b = row + turn * rows
            view = b % owners.shape[0]
            for part in range(1 + PIECES):  # the face itself, then the pieces of its fan
                name = f
                if part > 0:
                    name = ti.select(fans[view, f] >= 0, mesh_faces + PIECES * fans[view, f] + part - 1, -1)
                if name >= 0:
                    for pair in range(face_offsets[b * face_count + name], face_offsets[b * face_count + name + 1]):
                        for n in range(offsets[pair], offsets[pair + 1]):
                            if ti.static(len(texels_grad.shape) == 4):
                                _, i, j = _fan_texel(owners, weights, view, name, at[0, n], mesh_faces, texels_grad.shape[2])
                                texels_grad[row, f, i, j] = texels_grad[row, f, i, j] + out_grad[0, n]
                            else:
                                _, i, j = _fan_texel(owners, weights, view, name, at[0, n], mesh_faces, texels_grad.shape[1])
                                texels_grad[f, i, j] = texels_grad[f, i, j] + out_grad[0, n]


@fan_texels.adjoint
def _texels_adjoint(texels: Array, plan: Plan, weights: Array, fragments: Fragments, out: Array) -> None:
    if texels.grad is not None:
        rows = texels.shape[0] if len(texels.shape) == 4 else 1
        _texels_adjoint_kernel(
            texels.grad, plan.owners, plan.fans, weights, fragments.weights, fragments.tiles.face_offsets, fragments.offsets, out.grad,
            rows, fragments.size[0], texels.shape[-3], fragments.face_count,
        )  # fmt: skip
