"""Clipping: what a camera sees of a mesh between its near and its far plane.

A face that crosses a plane is cut there, between `see` and `to_screen` of the camera, and its new corners are

    p = a + t (b - a),   t = (plane - z_a) / (z_b - z_a)

Between two planes at most a pentagon is left of a triangle: a fan of three triangles over five corners. So a view in which K
faces are cut has 5 K corners and 3 K faces more than the mesh, some of them without area, and the faces are the same in all
views; which of the mesh's faces a fan belongs to differs from view to view. Corners that are cut away have depth 0, where
nothing is drawn. Every new corner is a sum of the three corners of its face, and what the vertices have goes the same way:

    p = w_0 p_0 + w_1 p_1 + w_2 p_2,   a = w_0 a_0 + w_1 a_1 + w_2 a_2

Source: Sutherland and Hodgman, "Reentrant polygon clipping", 1974.
"""

import weakref
from typing import NamedTuple

import numpy as np
import taichi as ti
from taichi.lang import impl

from .arrays import (
    ELEMENTS,
    Array,
    Faces,
    Ints,
    Picture,
    Points,
    array,
    batch_size,
    empty,
    is_finite,
    is_finite_number,
    read,
    unrecorded,
    vec3,
    vec4,
    write,
)
from .camera import Camera, camera_frame, see, to_screen
from .fan import CORNERS, PIECES, Plan, Table, extend, face_corners, fan_texels
from .launch import kernel
from .mesh import Incidence, corner_incidence
from .raster.fragments import Fragments
from .sums import strips
from .tape import operator

INSIDE, CUT, NEARER, FARTHER, BROKEN = range(5)  # where a face is
ROUNDINGS = 16  # by which the depth between corners that are on a plane may leave it


class Sight(NamedTuple):
    """How many vertices are where, per view: (B,) each."""

    outside: np.ndarray  # nearer than near or beyond far; those that are not finite are in no face that is drawn
    shown: np.ndarray  # between the planes and on the picture


def sight(screen: Array, size: tuple[int, int], near: float, far: float) -> Sight:
    """Where the vertices are that a camera projected: what tells that nothing is to be clipped."""
    length, count = strips(screen.shape[1])
    found = empty(int, 2 * screen.shape[0] * count)
    side = min(size)
    with unrecorded():
        _sight_kernel(screen, near, far, size[1] / side, size[0] / side, length, count, found)
    return Sight(*read(found).reshape(2, screen.shape[0], count).sum(axis=2))


@kernel
def _sight_kernel(screen: Points, near: float, far: float, across: float, upward: float, length: int, strips: int, found: Ints):
    for q in range(screen.shape[0] * strips):
        b, strip = q // strips, q % strips
        outside, shown = 0, 0
        for v in range(strip * length, ti.min((strip + 1) * length, screen.shape[1])):
            p = screen[b, v]
            between = (near <= p.z) & (p.z <= far)
            outside += ti.select(is_finite_number(p.z) and not between, 1, 0)
            shown += ti.select(between & (ti.abs(p.x) <= across) & (ti.abs(p.y) <= upward), 1, 0)
        found[q], found[screen.shape[0] * strips + q] = outside, shown


# --- Which faces are cut, in integers --------------------------------------------------------------------------------


class Census(NamedTuple):
    """How many faces are where, per view: (B,) each."""

    cut: np.ndarray
    nearer: np.ndarray
    farther: np.ndarray
    broken: np.ndarray  # with a corner that is not finite


@ti.func
def _place(seen: ti.template(), faces: ti.template(), b: int, f: int, near: float, far: float):
    p, q, r = face_corners(seen, faces, b, f)
    nearest, farthest = ti.min(p.z, q.z, r.z), ti.max(p.z, q.z, r.z)
    place = CUT
    if not (is_finite(p) and is_finite(q) and is_finite(r)):
        place = BROKEN
    elif near <= nearest and farthest <= far:
        place = INSIDE
    elif farthest < near:
        place = NEARER
    elif nearest > far:
        place = FARTHER
    return place


@kernel
def _census_kernel(seen: Points, faces: Faces, near: float, far: float, length: int, strips: int, found: Ints):
    for q in range(seen.shape[0] * strips):
        b, strip = q // strips, q % strips
        places = ti.Vector([0, 0, 0, 0, 0])
        for f in range(strip * length, ti.min((strip + 1) * length, faces.shape[0])):
            place = _place(seen, faces, b, f, near, far)
            for k in ti.static(range(5)):
                places[k] += ti.select(place == k, 1, 0)
        for k in ti.static(range(1, 5)):
            found[((k - 1) * seen.shape[0] + b) * strips + strip] = places[k]


@kernel
def _plan_kernel(
    seen: Points, faces: Faces, near: float, far: float, length: int, strips: int, starts: Ints, totals: Ints, owners: Table, fans: Table
):  # fmt: skip
    for q in range(seen.shape[0] * strips):
        b, strip = q // strips, q % strips
        k = starts[q]
        for f in range(strip * length, ti.min((strip + 1) * length, faces.shape[0])):
            fans[b, f] = -1
            if _place(seen, faces, b, f, near, far) == CUT:
                owners[b, k], fans[b, f] = f, k
                k += 1
    for q in range(owners.shape[0] * owners.shape[1]):
        if q % owners.shape[1] >= totals[q // owners.shape[1]]:
            owners[q // owners.shape[1], q % owners.shape[1]] = -1


def _plan(seen: Array, faces: Array, near: float, far: float) -> tuple[Plan, Census]:
    """The faces to be cut, in ascending order."""
    (batch, _), (length, count) = seen.shape, strips(faces.shape[0])
    found = empty(int, 4 * batch * count)
    with unrecorded():
        _census_kernel(seen, faces, near, far, length, count, found)
    places = read(found).reshape(4, batch, count)
    census = Census(*places.sum(axis=2))
    most = int(census.cut.max())
    if most == 0:
        return Plan(0, empty(int, (batch, 1)), empty(int, (batch, 1))), census
    fans = 1 << (most - 1).bit_length()  # few numbers occur, and faces are the same for each of them
    starts, totals = empty(int, batch * count), empty(int, batch)
    write(starts, (places[0].cumsum(axis=1) - places[0]).reshape(-1))
    write(totals, census.cut)
    plan = Plan(fans, empty(int, (batch, fans)), empty(int, (batch, faces.shape[0])))
    with unrecorded():
        _plan_kernel(seen, faces, near, far, length, count, starts, totals, plan.owners, plan.fans)
    return plan, census


_fan_faces: "weakref.WeakKeyDictionary[Array, dict[tuple[int, int], Array]]" = weakref.WeakKeyDictionary()


def _with_fans(faces: Array, fans: int, vertex_count: int) -> Array:
    """The faces, and behind them those of the fans over corners that follow the vertices; the same array for the same numbers."""
    known = _fan_faces.setdefault(faces, {})
    if (fans, vertex_count) not in known:
        first = vertex_count + CORNERS * np.arange(fans)[:, None]
        pieces = np.stack([np.stack([first[:, 0], first[:, 0] + j + 1, first[:, 0] + j + 2], axis=1) for j in range(PIECES)], axis=1)
        known[fans, vertex_count] = array(np.concatenate([read(faces), pieces.reshape(-1, 3)]), np.int32)
    return known[fans, vertex_count]


# --- Cutting ----------------------------------------------------------------------------------------------------------


class Clipped:
    """A mesh as the views of a camera see it between near and far.

    Fields:
        screen: (B, V + 5 K) of vec3, as of `project`; differentiable in vertices and camera.
        faces: (F + 3 K,) of ivec3.
        count: K, the fans of a view; 0 where no face is cut, and then all is as the mesh has it.
        weights: (B, 5 K) of vec3, of the corners of its face for each corner of a fan; differentiable likewise.
        census: where the faces are.
        seen: (B, V) of vec3: the mesh's vertices in the axes of the views.
    """

    def __init__(self, vertices: Array, faces: Array, camera: Camera, near: float, far: float) -> None:
        frame = camera_frame(camera)
        self.seen = see(vertices, frame)
        self._plan, self.census = _plan(self.seen, faces, near, far)
        self.count, self._mesh_faces = self._plan.count, faces
        (batch, vertex_count), fans = self.seen.shape, self.count
        self.weights = empty(vec3, (batch, CORNERS * max(1, fans)), needs_grad=True)
        points = empty(vec3, (batch, vertex_count + CORNERS * fans), needs_grad=True)
        _cut(self.seen, faces, corner_incidence(faces, vertex_count), self._plan, near, far, self.weights, points)
        self.screen = to_screen(points, frame, camera)
        self.faces = _with_fans(faces, fans, vertex_count) if fans else faces

    def extended(self, values: Array, faces: Array) -> tuple[Array, Array]:
        """Attributes of the vertices, with those of the new corners behind them, and the faces that name them.

            a = w_0 a_0 + w_1 a_1 + w_2 a_2

        Args:
            values: (1, T) or (B, T) of numbers or vectors.
            faces: indices into `values`, (F,) of ivec3: the mesh's faces, or `uv_faces`.

        Returns:
            (B, T + 5 K), elements as of `values`, and (F + 3 K,) of ivec3; both as they came where no face is cut.

        Differentiable in `values` and in the weights.
        """
        if self.count == 0:
            return values, faces
        count, components = values.shape[1], values.element_shape[0] if values.element_shape else 1
        batch = batch_size(values=values.shape[0], views=self.seen.shape[0])
        out = empty(ELEMENTS[components], (batch, count + CORNERS * self.count), needs_grad=True)
        extend(values, faces, corner_incidence(faces, count), self._plan, self.weights, out)
        return out, _with_fans(faces, self.count, count)

    def mesh_faces(self, ids: np.ndarray) -> np.ndarray:
        """Which faces of the mesh (B, H, W) face numbers are; -1 stays -1."""
        count = self._mesh_faces.shape[0]
        if self.count == 0 or not (ids >= count).any():
            return ids
        owners = read(self._plan.owners)[np.arange(len(ids))[:, None, None], np.maximum(ids - count, 0) // PIECES]
        return np.where(ids >= count, owners, ids)

    def texels(self, texels: Array, fragments: Fragments) -> Array:
        """Colors of fragments by the texels of their faces; those of a fan's pieces by their place on the mesh's own face.

        Args:
            texels: (F, R, R) or (B, F, R, R) of vec3.
            fragments: of `screen` and `faces`.

        Returns:
            (1, N) of vec3.

        Differentiable in `texels`; not in the choice of the texel.
        """
        out = empty(vec3, fragments.shares.shape, needs_grad=True)
        fan_texels(texels, self._plan, self.weights, fragments, out)
        return out

    def of_the_mesh(self, picture: Array) -> Array:
        """An image or alpha of the mode "sum", a mean over faces: over the mesh's own, which are fewer. Differentiable in `picture`."""
        factor = self.faces.shape[0] / self._mesh_faces.shape[0]
        if factor == 1:
            return picture
        out = empty(vec4 if picture.element_shape else float, picture.shape, needs_grad=True)
        _scale_alpha(picture, factor, out)
        return out


def rounded_planes(near: float, far: float) -> tuple[float, float]:
    """Near and far a few roundings apart: the depth between corners that are on a plane may leave it by that much."""
    slack = ROUNDINGS * np.finfo(ti.lang.util.to_numpy_type(impl.get_runtime().default_fp)).eps
    return near * (1 - slack), far * (1 + slack)


@ti.func
def _is_between(p, near: float, far: float):
    return near <= p.z and p.z <= far and is_finite(p)


@ti.func
def _crossing(a, b, turn: ti.template(), near: float, far: float):
    """(whether the edge from a to b crosses the plane that it meets first, or second; the plane)."""
    plane = ti.select(a.z < b.z, near, far)
    if ti.static(turn == 1):
        plane = ti.select(a.z < b.z, far, near)
    return ti.min(a.z, b.z) < plane and plane < ti.max(a.z, b.z), plane


@ti.func
def _meet(a, b, plane: float):
    """(a + t (b - a), t), where the edge meets the plane; bitwise the same point from b to a, which a neighbor has."""
    turned = a.z > b.z
    low, high = ti.select(turned, b, a), ti.select(turned, a, b)
    s = (plane - low.z) / (high.z - low.z)
    point = low + s * (high - low)
    return vec3(point.x, point.y, plane), ti.select(turned, 1.0 - s, s)


@ti.func
def _meet_adjoint(a, b, plane: float, t, point_grad, t_grad):
    """Gradients of a and b; the point stays on the plane, whatever moves."""
    a_grad, b_grad = vec3(0.0), vec3(0.0)
    across = point_grad.x * (b.x - a.x) + point_grad.y * (b.y - a.y) + t_grad
    slope = across / (b.z - a.z)
    if is_finite_number(slope) and is_finite_number(t):
        a_grad = vec3((1.0 - t) * point_grad.x, (1.0 - t) * point_grad.y, -(1.0 - t) * slope)
        b_grad = vec3(t * point_grad.x, t * point_grad.y, -t * slope)
    return a_grad, b_grad


@kernel
def _cut_kernel(seen: Points, faces: Faces, owners: Table, near: float, far: float, fans: int, weights: Points, points: Points):
    for k in range(seen.shape[0] * seen.shape[1]):
        b, v = k // seen.shape[1], k % seen.shape[1]
        points[b, v] = ti.select(_is_between(seen[b, v], near, far), seen[b, v], vec3(0.0))
    for k in range(seen.shape[0] * fans):
        b, fan = k // fans, k % fans
        first = seen.shape[1] + CORNERS * fan
        for i in range(CORNERS):
            points[b, first + i], weights[b, CORNERS * fan + i] = vec3(0.0), vec3(0.0)
        if owners[b, fan] >= 0:
            p, q, r = face_corners(seen, faces, b, owners[b, fan])
            n = 0
            for e in ti.static(range(3)):
                a, c = (p, q, r)[e], (q, r, p)[e]
                if near <= a.z and a.z <= far:
                    points[b, first + n] = a
                    weights[b, CORNERS * fan + n][e] = 1.0
                    n += 1
                for turn in ti.static(range(2)):
                    crosses, plane = _crossing(a, c, turn, near, far)
                    if crosses:
                        point, t = _meet(a, c, plane)
                        if is_finite(point):
                            points[b, first + n] = point
                            weights[b, CORNERS * fan + n][e] = 1.0 - t
                            weights[b, CORNERS * fan + n][ti.static((e + 1) % 3)] = t
                        n += 1


@operator
def _cut(seen: Array, faces: Array, incidence: Incidence, plan: Plan, near: float, far: float, weights: Array, points: Array) -> None:
    _cut_kernel(seen, faces, plan.owners, near, far, plan.count, weights, points)


@kernel
def _cut_adjoint_kernel(
    seen: Points, faces: Faces, owners: Table, near: float, far: float, fans: int, weights_grad: Points, points_grad: Points, corner_grads: Points
):  # fmt: skip
    """Per fan: what each corner of the face gets."""
    for k in range(seen.shape[0] * fans):
        b, fan = k // fans, k % fans
        first = seen.shape[1] + CORNERS * fan
        grads = ti.Matrix([[0.0] * 3] * 3)
        if owners[b, fan] >= 0:
            p, q, r = face_corners(seen, faces, b, owners[b, fan])
            n = 0
            for e in ti.static(range(3)):
                a, c, other = (p, q, r)[e], (q, r, p)[e], ti.static((e + 1) % 3)
                if near <= a.z and a.z <= far:
                    for axis in ti.static(range(3)):
                        grads[e, axis] += points_grad[b, first + n][axis]
                    n += 1
                for turn in ti.static(range(2)):
                    crosses, plane = _crossing(a, c, turn, near, far)
                    if crosses:
                        _point, t = _meet(a, c, plane)
                        by_weight = weights_grad[b, CORNERS * fan + n]
                        a_grad, c_grad = _meet_adjoint(a, c, plane, t, points_grad[b, first + n], by_weight[other] - by_weight[e])
                        for axis in ti.static(range(3)):
                            grads[e, axis] += a_grad[axis]
                            grads[other, axis] += c_grad[axis]
                        n += 1
        for e in ti.static(range(3)):
            corner_grads[b, 3 * fan + e] = vec3(grads[e, 0], grads[e, 1], grads[e, 2])


@kernel
def _gather_cut_kernel(
    seen: Points, near: float, far: float, has_fans: int, fans: Table, offsets: Ints, slots: Ints, corner_grads: Points, points_grad: Points,
    seen_grad: Points,
):  # fmt: skip
    """Per vertex, over its faces in their order."""
    for k in range(seen.shape[0] * seen.shape[1]):
        b, v = k // seen.shape[1], k % seen.shape[1]
        total = ti.select(_is_between(seen[b, v], near, far), points_grad[b, v], vec3(0.0))
        if has_fans != 0:
            for s in range(offsets[v], offsets[v + 1]):
                fan = fans[b, slots[s] // 3]
                if fan >= 0:
                    total += corner_grads[b, 3 * fan + slots[s] % 3]
        seen_grad[b, v] += total


@_cut.adjoint
def _cut_adjoint(seen: Array, faces: Array, incidence: Incidence, plan: Plan, near: float, far: float, weights: Array, points: Array) -> None:
    corner_grads = empty(vec3, (seen.shape[0], 3 * max(1, plan.count)))
    _cut_adjoint_kernel(seen, faces, plan.owners, near, far, plan.count, weights.grad, points.grad, corner_grads)
    _gather_cut_kernel(
        seen, near, far, int(plan.count > 0), plan.fans, incidence.offsets, incidence.slots, corner_grads, points.grad, seen.grad
    )  # fmt: skip


# --- More pictures than views -----------------------------------------------------------------------------------------


def repeated(screen: Array, batch: int) -> Array:
    """Rows of (B, N) of vec3 over and over, (batch, N): views that several pictures share. Differentiable in `screen`."""
    if screen.shape[0] == batch:
        return screen
    out = empty(vec3, (batch, screen.shape[1]), needs_grad=True)
    _repeated(screen, out)
    return out


@kernel
def _repeated_kernel(screen: Points, out: Points):
    for b, n in ti.ndrange(out.shape[0], out.shape[1]):
        out[b, n] = screen[b % screen.shape[0], n]


@operator
def _repeated(screen: Array, out: Array) -> None:
    _repeated_kernel(screen, out)


@kernel
def _repeated_adjoint_kernel(screen_grad: Points, out_grad: Points):
    for row, n in ti.ndrange(screen_grad.shape[0], screen_grad.shape[1]):
        for turn in range(out_grad.shape[0] // screen_grad.shape[0]):
            screen_grad[row, n] += out_grad[row + turn * screen_grad.shape[0], n]


@_repeated.adjoint
def _repeated_adjoint(screen: Array, out: Array) -> None:
    _repeated_adjoint_kernel(screen.grad, out.grad)


# --- Alpha as a mean over faces ---------------------------------------------------------------------------------------


@kernel
def _scale_alpha_kernel(picture: Picture, factor: float, is_image: ti.template(), out: Picture):
    for b, i, j in ti.ndrange(out.shape[0], out.shape[1], out.shape[2]):
        value = picture[b, i, j]
        if ti.static(is_image):
            value[3] *= factor
        else:
            value *= factor
        out[b, i, j] = value


@operator
def _scale_alpha(picture: Array, factor: float, out: Array) -> None:
    _scale_alpha_kernel(picture, factor, bool(picture.element_shape), out)


@kernel
def _scale_alpha_adjoint_kernel(picture_grad: Picture, factor: float, is_image: ti.template(), out_grad: Picture):
    for b, i, j in ti.ndrange(out_grad.shape[0], out_grad.shape[1], out_grad.shape[2]):
        grad = out_grad[b, i, j]
        if ti.static(is_image):
            grad[3] *= factor
        else:
            grad *= factor
        picture_grad[b, i, j] += grad


@_scale_alpha.adjoint
def _scale_alpha_adjoint(picture: Array, factor: float, out: Array) -> None:
    _scale_alpha_adjoint_kernel(picture.grad, factor, bool(picture.element_shape), out.grad)
