"""Normals of vertices and faces, tangents along a texture, normals from a normal map, and the middles of faces.

The cross product of two edges of a face is its normal, as long as twice its area. Gradients are stored per corner of a
face and gathered per vertex in a fixed order. What is wrong with one vertex stays with its faces.
"""

import numpy as np
import taichi as ti

from .arrays import Array, Faces, Ints, Points, batch_size, empty, expect, grad_of, is_finite, is_finite_number, read, vec2, vec3
from .launch import kernel
from .mesh import Incidence, corner_incidence
from .sums import gather, slot_total
from .tape import operator
from .vectors import unit, unit_adjoint

Coordinates = ti.types.ndarray(dtype=vec2, ndim=2, needs_grad=False)  # (B, T): places in a texture


def expect_mesh(vertices: Array, faces: Array) -> None:
    """Raise a ValueError unless these are vertices and faces."""
    expect("vertices", vertices, 3, 2, "(B, V) of vec3")
    expect("faces", faces, 3, 1, "(F,) of ivec3", integers=True)


def _corner_incidence(vertices: Array, faces: Array, name: str = "faces") -> Incidence:
    """Which corners of which faces each vertex is; a face index out of range is found here, before any kernel sees it."""
    count = vertices.shape[1]
    try:
        corners = corner_incidence(faces, count)
    except ValueError:  # a negative index
        corners = None
    if corners is None or corners.offsets.shape[0] != count + 1:
        indices = read(faces)
        bad = int(np.flatnonzero(((indices < 0) | (indices >= count)).any(axis=1))[0])
        raise ValueError(f"{name}: expected indices from 0 to {count - 1}, got {indices[bad].tolist()} in face {bad}; fix or drop that face")
    return corners


# --- Cross products ---------------------------------------------------------------------------------------------


@ti.func
def _corners(x: ti.template(), faces: ti.template(), b: int, f: int):
    """What `x`, (B, V), holds for the three vertices of a face."""
    face = faces[f]
    return x[b, face.x], x[b, face.y], x[b, face.z]


@ti.func
def _cross(vertices: ti.template(), faces: ti.template(), b: int, f: int):
    """The face's normal, as long as twice its area; zero unless it is finite."""
    x, y, z = _corners(vertices, faces, b, f)
    cross = (y - x).cross(z - x)
    return ti.select(is_finite(cross), cross, vec3(0.0))


@ti.func
def _cross_adjoint(vertices: ti.template(), faces: ti.template(), b: int, f: int, cross_grad, corner_grads: ti.template()):
    """Gradients of the three corners: the edge opposite turns about each."""
    x, y, z = _corners(vertices, faces, b, f)
    x_grad, y_grad, z_grad = vec3(0.0), vec3(0.0), vec3(0.0)
    if any(cross_grad != 0.0) and is_finite((y - x).cross(z - x)):
        x_grad, y_grad, z_grad = (y - z).cross(cross_grad), (z - x).cross(cross_grad), (x - y).cross(cross_grad)
    corner_grads[b, 3 * f], corner_grads[b, 3 * f + 1], corner_grads[b, 3 * f + 2] = x_grad, y_grad, z_grad


# --- Of vertices ------------------------------------------------------------------------------------------------


def vertex_normals(vertices: Array, faces: Array) -> Array:
    """Unit normals of vertices, those of the faces around weighted by area.

        n_v = N / |N|,   N = sum of (b - a) x (c - a) over the faces (a, b, c) at v

    Args:
        vertices: positions, (B, V) of vec3.
        faces: vertex indices, (F,) of ivec3, counter-clockwise from outside. Not to be changed in place.

    Returns:
        (B, V) of vec3, zero where a vertex has no face with an area.

    Differentiable in `vertices`. Faces with a vertex that is not finite are left out; where N is zero, so is the gradient.

    Raises:
        ValueError: wrong shapes or types, a face index out of range.
    """
    expect_mesh(vertices, faces)
    sums = empty(vec3, vertices.shape)
    normals = empty(vec3, vertices.shape, needs_grad=True)
    _vertex_normals(vertices, faces, _corner_incidence(vertices, faces), sums, normals)
    return normals


@kernel
def _vertex_normals_kernel(vertices: Points, faces: Faces, offsets: Ints, slots: Ints, crosses: Points, sums: Points, normals: Points):
    for k in range(crosses.shape[0] * crosses.shape[1]):
        b, f = k // crosses.shape[1], k % crosses.shape[1]
        crosses[b, f] = _cross(vertices, faces, b, f)
    for k in range(sums.shape[0] * sums.shape[1]):
        b, v = k // sums.shape[1], k % sums.shape[1]
        total = slot_total(crosses, offsets, slots, b, v, 3)
        n, _ = unit(total, 0.0)
        sums[b, v], normals[b, v] = total, n


@operator
def _vertex_normals(vertices: Array, faces: Array, corners: Incidence, sums: Array, normals: Array) -> None:
    crosses = empty(vec3, (vertices.shape[0], faces.shape[0]))
    _vertex_normals_kernel(vertices, faces, corners.offsets, corners.slots, crosses, sums, normals)


@kernel
def _vertex_normals_adjoint_kernel(vertices: Points, faces: Faces, sums: Points, normals_grad: Points, sums_grad: Points, corner_grads: Points):
    for k in range(sums.shape[0] * sums.shape[1]):
        b, v = k // sums.shape[1], k % sums.shape[1]
        n, length = unit(sums[b, v], 0.0)
        sums_grad[b, v] = unit_adjoint(n, length, normals_grad[b, v])
    for k in range(sums.shape[0] * faces.shape[0]):
        b, f = k // faces.shape[0], k % faces.shape[0]
        x_grad, y_grad, z_grad = _corners(sums_grad, faces, b, f)
        _cross_adjoint(vertices, faces, b, f, x_grad + y_grad + z_grad, corner_grads)


@_vertex_normals.adjoint
def _vertex_normals_adjoint(vertices: Array, faces: Array, corners: Incidence, sums: Array, normals: Array) -> None:
    if vertices.grad is not None:
        corner_grads = empty(vec3, (vertices.shape[0], 3 * faces.shape[0]))
        _vertex_normals_adjoint_kernel(vertices, faces, sums, normals.grad, empty(vec3, vertices.shape), corner_grads)
        gather(corner_grads, corners.offsets, corners.slots, vertices.grad)


# --- Of faces ---------------------------------------------------------------------------------------------------


def face_normals(vertices: Array, faces: Array) -> Array:
    """Unit normals of faces.

        n_f = N / |N|,   N = (b - a) x (c - a)

    Args:
        vertices: positions, (B, V) of vec3.
        faces: vertex indices, (F,) of ivec3, counter-clockwise from outside. Not to be changed in place.

    Returns:
        (B, F) of vec3, zero where a face has no area or a vertex that is not finite.

    Differentiable in `vertices`; not where the normal is zero.

    Raises:
        ValueError: wrong shapes or types, a face index out of range.
    """
    expect_mesh(vertices, faces)
    normals = empty(vec3, (vertices.shape[0], faces.shape[0]), needs_grad=True)
    _face_normals(vertices, faces, _corner_incidence(vertices, faces), normals)
    return normals


@kernel
def _face_normals_kernel(vertices: Points, faces: Faces, normals: Points):
    for k in range(normals.shape[0] * normals.shape[1]):
        b, f = k // normals.shape[1], k % normals.shape[1]
        normals[b, f], _ = unit(_cross(vertices, faces, b, f), 0.0)


@operator
def _face_normals(vertices: Array, faces: Array, corners: Incidence, normals: Array) -> None:
    _face_normals_kernel(vertices, faces, normals)


@kernel
def _face_normals_adjoint_kernel(vertices: Points, faces: Faces, normals_grad: Points, corner_grads: Points):
    for k in range(normals_grad.shape[0] * normals_grad.shape[1]):
        b, f = k // normals_grad.shape[1], k % normals_grad.shape[1]
        n, length = unit(_cross(vertices, faces, b, f), 0.0)
        _cross_adjoint(vertices, faces, b, f, unit_adjoint(n, length, normals_grad[b, f]), corner_grads)


@_face_normals.adjoint
def _face_normals_adjoint(vertices: Array, faces: Array, corners: Incidence, normals: Array) -> None:
    if vertices.grad is not None:
        corner_grads = empty(vec3, (vertices.shape[0], 3 * faces.shape[0]))
        _face_normals_adjoint_kernel(vertices, faces, normals.grad, corner_grads)
        gather(corner_grads, corners.offsets, corners.slots, vertices.grad)


# --- Tangents of faces ------------------------------------------------------------------------------------------


def face_tangents(vertices: Array, faces: Array, uv: Array, uv_faces: Array) -> tuple[Array, Array]:
    """Unit tangents and bitangents of faces: the directions on a face in which the texture runs right and up.

        T = (v_2 e_1 - v_1 e_2) / D / |.|,   B = -(u_1 e_2 - u_2 e_1) / D / |.|,   D = u_1 v_2 - u_2 v_1

    with e_k = p_k - p_0 the edges of a face at its first corner and (u_k, v_k) the same edges in the texture. Textures have v
    downward, so B = -dp/dv is up in the image: what normal maps of the OpenGL convention (green is up) call y.

    Args:
        vertices: positions, (B, V) of vec3.
        faces: vertex indices, (F,) of ivec3. Not to be changed in place.
        uv: places in the texture, v downward, (1, T) or (B, T) of vec2.
        uv_faces: indices into `uv`, (F,) of ivec3.

    Returns:
        Tangents and bitangents, (B, F) of vec3 each, zero where a face has no area in space or in the texture, or a corner that
        is not finite. They are at right angles only where the texture is not sheared.

    Differentiable in `vertices`. Not in `uv`: moving a texture turns the normals that it holds by what is not in the image.

    Raises:
        ValueError: wrong shapes or types, an index out of range, batches that do not agree.

    Source: Lengyel, "Computing tangent space basis vectors for an arbitrary mesh", 2001.
    """
    expect_mesh(vertices, faces)
    expect("uv", uv, 2, 2, "(B, T) of vec2")
    expect("uv_faces", uv_faces, 3, 1, "(F,) of ivec3", integers=True)
    if uv_faces.shape[0] != faces.shape[0]:
        raise ValueError(f"uv_faces: expected one entry per face, {faces.shape[0]}, got shape {tuple(uv_faces.shape)}")
    corners = _corner_incidence(vertices, faces)
    _corner_incidence(uv, uv_faces, "uv_faces")
    shape = (batch_size(vertices=vertices.shape[0], uv=uv.shape[0]), faces.shape[0])
    tangents, bitangents = empty(vec3, shape, needs_grad=True), empty(vec3, shape, needs_grad=True)
    _face_tangents(vertices, faces, uv, uv_faces, corners, tangents, bitangents)
    return tangents, bitangents


@ti.func
def _texture_edges(uv: ti.template(), uv_faces: ti.template(), b: int, f: int):
    """The edges of a face in the texture, (u_1, v_1) and (u_2, v_2), turned around where the face is mirrored there; zero where it has no area."""
    a, p, q = _corners(uv, uv_faces, ti.min(b, uv.shape[0] - 1), f)
    first, second = p - a, q - a
    area = first.x * second.y - second.x * first.y
    if not is_finite_number(area) or area == 0.0:
        first, second = vec2(0.0), vec2(0.0)
    sign = ti.select(area < 0.0, -1.0, 1.0)
    return sign * first, sign * second


@ti.func
def _tangents(vertices: ti.template(), faces: ti.template(), uv: ti.template(), uv_faces: ti.template(), b: int, f: int):
    """T and B of a face, each with the length that it was normalized by."""
    x, y, z = _corners(vertices, faces, ti.min(b, vertices.shape[0] - 1), f)
    first, second = _texture_edges(uv, uv_faces, b, f)
    along, along_length = unit(second.y * (y - x) - first.y * (z - x), 0.0)
    upward, upward_length = unit(second.x * (y - x) - first.x * (z - x), 0.0)
    return along, along_length, upward, upward_length


@kernel
def _face_tangents_kernel(vertices: Points, faces: Faces, uv: Coordinates, uv_faces: Faces, tangents: Points, bitangents: Points):
    for k in range(tangents.shape[0] * tangents.shape[1]):
        b, f = k // tangents.shape[1], k % tangents.shape[1]
        tangents[b, f], _, bitangents[b, f], _ = _tangents(vertices, faces, uv, uv_faces, b, f)


@operator
def _face_tangents(vertices: Array, faces: Array, uv: Array, uv_faces: Array, corners: Incidence, tangents: Array, bitangents: Array) -> None:
    _face_tangents_kernel(vertices, faces, uv, uv_faces, tangents, bitangents)


@kernel
def _face_tangents_adjoint_kernel(
    vertices: Points, faces: Faces, uv: Coordinates, uv_faces: Faces, tangents_grad: Points, bitangents_grad: Points, corner_grads: Points
):  # fmt: skip
    """Per face, over the views that share it."""
    for k in range(vertices.shape[0] * faces.shape[0]):
        row, f = k // faces.shape[0], k % faces.shape[0]
        y_grad, z_grad = vec3(0.0), vec3(0.0)
        for turn in range(tangents_grad.shape[0] // vertices.shape[0]):
            b = row + turn * vertices.shape[0]
            if any(tangents_grad[b, f] != 0.0) or any(bitangents_grad[b, f] != 0.0):
                first, second = _texture_edges(uv, uv_faces, b, f)
                along, along_length, upward, upward_length = _tangents(vertices, faces, uv, uv_faces, b, f)
                along_grad = unit_adjoint(along, along_length, tangents_grad[b, f])
                upward_grad = unit_adjoint(upward, upward_length, bitangents_grad[b, f])
                y_grad += second.y * along_grad + second.x * upward_grad
                z_grad -= first.y * along_grad + first.x * upward_grad
        corner_grads[row, 3 * f], corner_grads[row, 3 * f + 1], corner_grads[row, 3 * f + 2] = -y_grad - z_grad, y_grad, z_grad


@_face_tangents.adjoint
def _face_tangents_adjoint(vertices: Array, faces: Array, uv: Array, uv_faces: Array, corners: Incidence, tangents: Array, bitangents: Array) -> None:
    if vertices.grad is not None:
        corner_grads = empty(vec3, (vertices.shape[0], 3 * faces.shape[0]))
        _face_tangents_adjoint_kernel(vertices, faces, uv, uv_faces, tangents.grad, bitangents.grad, corner_grads)
        gather(corner_grads, corners.offsets, corners.slots, vertices.grad)


# --- Normals from a normal map ----------------------------------------------------------------------------------


def perturb_normals(normals: Array, tangents: Array, bitangents: Array, mapped: Array) -> Array:
    """Normals tilted as a normal map says, in the frame of the surface.

        n = N / |N|,   N = x T + y B + z n_0

    Args:
        normals: n_0, (1, N) or (B, N) of vec3.
        tangents, bitangents: T and B, likewise, as of `face_tangents`.
        mapped: (x, y, z), likewise: a sample of the normal map, taken from [0, 1] to [-1, 1], y up in the image (OpenGL). A map
            of the DirectX convention has y the other way.

    Returns:
        (B, N) of vec3, zero where N is zero or not finite.

    Differentiable in all four; not where the result is zero.

    Raises:
        ValueError: wrong shapes or types, batches or lengths that do not agree.

    Source: Blinn, "Simulation of wrinkled surfaces", 1978; Peercy et al., "Efficient bump mapping hardware", 1997.
    """
    given = {"normals": normals, "tangents": tangents, "bitangents": bitangents, "mapped": mapped}
    for name, x in given.items():
        expect(name, x, 3, 2, "(B, N) of vec3")
        if x.shape[1] != normals.shape[1]:
            raise ValueError(f"{name}: expected one entry per normal, {normals.shape[1]}, got shape {tuple(x.shape)}")
    out = empty(vec3, (batch_size(**{name: x.shape[0] for name, x in given.items()}), normals.shape[1]), needs_grad=True)
    _perturb_normals(normals, tangents, bitangents, mapped, out)
    return out


@ti.func
def _row(x: ti.template(), b: int, i: int):
    """The entry that serves view b."""
    return x[ti.min(b, x.shape[0] - 1), i]


@ti.func
def _add_row(x: ti.template(), b: int, i: int, value):
    row = ti.min(b, x.shape[0] - 1)
    x[row, i] = x[row, i] + value


@ti.func
def _tilted(normal, tangent, bitangent, m):
    """(N / |N|, |N|)."""
    return unit(m.x * tangent + m.y * bitangent + m.z * normal, 0.0)


@kernel
def _perturb_normals_kernel(normals: Points, tangents: Points, bitangents: Points, mapped: Points, out: Points):
    for k in range(out.shape[0] * out.shape[1]):
        b, i = k // out.shape[1], k % out.shape[1]
        out[b, i], _ = _tilted(_row(normals, b, i), _row(tangents, b, i), _row(bitangents, b, i), _row(mapped, b, i))


@operator
def _perturb_normals(normals: Array, tangents: Array, bitangents: Array, mapped: Array, out: Array) -> None:
    _perturb_normals_kernel(normals, tangents, bitangents, mapped, out)


@kernel
def _perturb_normals_adjoint_kernel(
    normals: Points, tangents: Points, bitangents: Points, mapped: Points, out_grad: Points,
    normals_grad: Points, tangents_grad: Points, bitangents_grad: Points, mapped_grad: Points,
):  # fmt: skip
    """A thread takes a point in all views, so nobody else adds to its entries."""
    for i in range(out_grad.shape[1]):
        for b in range(out_grad.shape[0]):
            if any(out_grad[b, i] != 0.0):
                normal, tangent, bitangent, m = _row(normals, b, i), _row(tangents, b, i), _row(bitangents, b, i), _row(mapped, b, i)
                n, length = _tilted(normal, tangent, bitangent, m)
                if length > 0.0:
                    grad = unit_adjoint(n, length, out_grad[b, i])
                    _add_row(normals_grad, b, i, m.z * grad)
                    _add_row(tangents_grad, b, i, m.x * grad)
                    _add_row(bitangents_grad, b, i, m.y * grad)
                    _add_row(mapped_grad, b, i, vec3(grad.dot(tangent), grad.dot(bitangent), grad.dot(normal)))


@_perturb_normals.adjoint
def _perturb_normals_adjoint(normals: Array, tangents: Array, bitangents: Array, mapped: Array, out: Array) -> None:
    grads = map(grad_of, (normals, tangents, bitangents, mapped))
    _perturb_normals_adjoint_kernel(normals, tangents, bitangents, mapped, out.grad, *grads)


# --- Normals as colors ------------------------------------------------------------------------------------------


def decode_normals(colors: Array) -> Array:
    """Samples of a normal map as vectors.

        m = 2 c - 1

    Args:
        colors: (B, N) of vec3 in [0, 1]; (0.5, 0.5, 1) is straight up from the surface.

    Returns:
        (B, N) of vec3, for `perturb_normals`.

    Differentiable in `colors`.

    Raises:
        ValueError: a wrong shape.
    """
    expect("colors", colors, 3, 2, "(B, N) of vec3")
    out = empty(vec3, colors.shape, needs_grad=True)
    _decode_normals(colors, out)
    return out


@kernel
def _decode_normals_kernel(colors: Points, out: Points):
    for k in range(out.shape[0] * out.shape[1]):
        b, i = k // out.shape[1], k % out.shape[1]
        out[b, i] = 2.0 * colors[b, i] - 1.0


@operator
def _decode_normals(colors: Array, out: Array) -> None:
    _decode_normals_kernel(colors, out)


@kernel
def _decode_normals_adjoint_kernel(colors_grad: Points, out_grad: Points):
    for k in range(out_grad.shape[0] * out_grad.shape[1]):
        b, i = k // out_grad.shape[1], k % out_grad.shape[1]
        colors_grad[b, i] = colors_grad[b, i] + 2.0 * out_grad[b, i]


@_decode_normals.adjoint
def _decode_normals_adjoint(colors: Array, out: Array) -> None:
    if colors.grad is not None:
        _decode_normals_adjoint_kernel(colors.grad, out.grad)


# --- Middles of faces -------------------------------------------------------------------------------------------


def face_centers(vertices: Array, faces: Array) -> Array:
    """(B, F) of vec3: the means of the corners. Differentiable in `vertices`."""
    expect_mesh(vertices, faces)
    centers = empty(vec3, (vertices.shape[0], faces.shape[0]), needs_grad=True)
    _face_centers(vertices, faces, _corner_incidence(vertices, faces), centers)
    return centers


@kernel
def _face_centers_kernel(vertices: Points, faces: Faces, centers: Points):
    for k in range(centers.shape[0] * centers.shape[1]):
        b, f = k // centers.shape[1], k % centers.shape[1]
        x, y, z = _corners(vertices, faces, b, f)
        centers[b, f] = (x + y + z) / 3.0


@operator
def _face_centers(vertices: Array, faces: Array, corners: Incidence, centers: Array) -> None:
    _face_centers_kernel(vertices, faces, centers)


@_face_centers.adjoint
def _face_centers_adjoint(vertices: Array, faces: Array, corners: Incidence, centers: Array) -> None:
    if vertices.grad is not None:
        gather(centers.grad, corners.offsets, corners.slots, vertices.grad, share=3, scale=1 / 3)
