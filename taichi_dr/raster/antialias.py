"""Edges that move: an image of visible surfaces, blended where silhouettes pass between pixels, so that it changes with them.

A silhouette edge that crosses the line between the centers of two neighboring pixels, at d of the way from the pixel P on its
face's side to the other, Q, lets the color of its side reach that far:

    C_P <- C_P + (1/2 - d) (C_Q - C_P)    where d < 1/2
    C_Q <- C_Q + (d - 1/2) (C_P - C_Q)    where d > 1/2

and d moves with the two ends of the edge. Edges that run more across the line than along it count for the line, so each counts once.
A silhouette edge has one face, or two that lie on the same side of it on the screen. It counts where it is seen: P is nearer than
Q, and the edge belongs to what P shows rather than to what Q shows; of several edges between two pixels the nearest does.

The blend is that of the paper; there the edges are sought at the faces that pixels show, here every edge walks the lines that
it crosses, so that faces smaller than a pixel have edges too.

Source: Laine et al., "Modular primitives for high-performance differentiable rendering", ACM Transactions on Graphics, 2020, section 3.5.
"""

from typing import NamedTuple

import taichi as ti

from .. import runtime
from ..arrays import (
    ELEMENTS,
    Array,
    Faces,
    Floats,
    Ints,
    Picture,
    Points,
    add,
    copy,
    empty,
    expect,
    is_finite,
    unrecorded,
    vec2,
    vec3,
    zero,
)
from ..launch import kernel
from ..mesh import across, corner_incidence
from ..sums import gather
from ..tape import operator
from .channels import join_fours, split_fours
from .composite import Names
from .fragments import Pixels, count_offsets, room
from .interpolate import inner
from .tiles import MIN_AREA, MIN_DEPTH, floor
from .triangle import doubled_area
from .visible import Visible

Blends = ti.types.ndarray(dtype=vec2, ndim=3, needs_grad=False)  # (B, H, W): with the pixel to the right, and with that below

RIGHT, DOWN = 0, 1
MOST = 2**31 - 1  # what counts more is more than what counts less, and nothing is 0: MOST - the number of a crossing, of its depth's bits


class Crossings(NamedTuple):
    """Where silhouette edges cross the lines between pixels, face by face: face f of view b has offsets[b F + f] and the next."""

    offsets: Array  # (B F + 1,)
    count: int
    places: Array  # (N,): (axis B + b) H W + i W + j of the left or upper pixel, -1 beyond the image
    sides: Array  # (N,): of the face
    distances: Array  # (N,): d from that pixel, where the face is on its side; d - 1 < 0 from the other, where it is there
    winners: Array  # (2 B H W,): at a place MOST - c of the crossing that counts, 0 where there is none


def antialias(image: Array, screen: Array, faces: Array, visible: Visible, *, orthographic: bool = False) -> Array:
    """The image with the silhouettes of its faces blended over the pixels that they pass between.

        C_P <- C_P + (1/2 - d) (C_Q - C_P) where d < 1/2,   C_Q <- C_Q + (d - 1/2) (C_P - C_Q) where d > 1/2

    Args:
        image: (B, H, W) of numbers, vec2, vec3 or vec4, or (B, H, W, C), one color for each pixel of `visible`.
        screen, faces: what was rasterized, (B, V) of vec3 and (F,) of ivec3.
        visible: of `rasterize`, its first layer.
        orthographic: as of `rasterize`.

    Returns:
        As `image`.

    Differentiable in `image`, and in x and y of `screen`: each pixel is what the nearer side covers of it, to first order. Not in
    depth, nor in which edge counts.

    Raises:
        ValueError: an image of another size.

    Source: Laine et al., ACM Transactions on Graphics, 2020, section 3.5.
    """
    size = tuple(visible.face_ids.shape)
    if not isinstance(image, ti.Ndarray) or tuple(image.shape[:3]) != size:
        came = type(image).__name__ if not isinstance(image, ti.Ndarray) else f"shape {tuple(image.shape)}"
        raise ValueError(f"image: expected pictures of shape {size}, as was rasterized, got {came}")
    crossings = _crossings(screen, faces, visible, orthographic)
    if len(image.shape) == 4:
        return join_fours([_blended(part, screen, faces, crossings) for part in split_fours(image)], image.shape[3])
    expect("image", image, (1, 2, 3, 4), 3, "(B, H, W) of numbers or vectors")
    return _blended(image, screen, faces, crossings)


def _blended(image: Array, screen: Array, faces: Array, crossings: Crossings) -> Array:
    out = empty(ELEMENTS[image.element_shape[0] if image.element_shape else 1], image.shape, needs_grad=True)
    _antialias(image, screen, faces, crossings, None if runtime.device().arch == "cpu" else empty(vec2, image.shape), out)
    return out


# --- Where edges cross ----------------------------------------------------------------------------------------------


def _crossings(screen: Array, faces: Array, visible: Visible, orthographic: bool) -> Crossings:
    batch, height, width = visible.face_ids.shape
    sides, total, f = across(faces, screen.shape[1]), batch * faces.shape[0], visible
    offsets = empty(int, room(total + 1))
    with unrecorded():
        _count_kernel(screen, faces, sides.faces, sides.tips, offsets, total, height, width)
    count = count_offsets(offsets, total)
    places, of_side, distances, keys = empty(int, room(count)), empty(int, room(count)), empty(float, room(count)), empty(int, room(count))
    winners = empty(int, 2 * batch * height * width)
    zero(winners)
    with unrecorded():
        _fill_kernel(
            screen, faces, sides.faces, sides.tips, offsets, f.face_ids, f.depths, places, of_side, distances, keys, total, int(orthographic)
        )  # fmt: skip
        if runtime.device().arch == "cpu":
            _claim_in_turn_kernel(places, keys, winners, count)
        else:
            nearest = empty(int, winners.shape)
            zero(nearest)
            _claim_kernel(places, keys, nearest, winners, count)
    return Crossings(offsets, count, places, of_side, distances, winners)


@ti.func
def _in_pixels(p, height: int, width: int, axis: int):
    """A screen position in pixels, centers at whole numbers: along a row (RIGHT) and aside, down, or along a column and to the right."""
    half = 0.5 * ti.min(height, width)
    x, y = half * p.x + 0.5 * (width - 1), 0.5 * (height - 1) - half * p.y
    return ti.select(axis == RIGHT, vec2(x, y), vec2(y, x))


@ti.func
def _is_silhouette(screen: ti.template(), faces: ti.template(), others: ti.template(), tips: ti.template(), b: int, f: int, side: int):
    """Whether a face ends at a side: where two faces share it the one with the lower number says so for both."""
    face, other = faces[f], others[f][side]
    u, v, w = screen[b, face[side]], screen[b, face[(side + 1) % 3]], screen[b, face[(side + 2) % 3]]
    found = other < 0
    if other > f:
        area, other_area = doubled_area(u.xy, v.xy, w.xy), doubled_area(u.xy, v.xy, screen[b, tips[f][side]].xy)
        found = area * other_area >= 0.0 or ti.min(ti.abs(area), ti.abs(other_area)) <= MIN_AREA  # seen from the side: rounding decides no edge
    return found and ti.min(u.z, v.z, w.z) > MIN_DEPTH


@ti.func
def _lines(u, v, count: int):
    """The lines first <= i < last, of `count`, that an edge crosses which runs more across than along them; none where it does not."""
    low, high = ti.min(u.y, v.y), ti.max(u.y, v.y)
    first = floor(ti.math.clamp(low, -1.0, count - 1.0)) + 1
    last = floor(ti.math.clamp(high, -1.0, count - 1.0)) + 1
    return first, ti.select(ti.abs(v.y - u.y) >= ti.abs(v.x - u.x) and is_finite(u + v), last, first)


@kernel
def _count_kernel(screen: Points, faces: Faces, others: Faces, tips: Faces, counts: Ints, total: int, height: int, width: int):
    for k in range(total):
        b, f, found = k // faces.shape[0], k % faces.shape[0], 0
        for side in range(3):
            if _is_silhouette(screen, faces, others, tips, b, f, side):
                p, q = screen[b, faces[f][side]], screen[b, faces[f][(side + 1) % 3]]
                for axis in range(2):
                    lines = ti.select(axis == RIGHT, height, width)
                    first, last = _lines(_in_pixels(p, height, width, axis), _in_pixels(q, height, width, axis), lines)
                    found += ti.max(last - first, 0)
        counts[k] = found


@ti.func
def _depth_at(z0, z1, t, orthographic: int):
    return ti.select(orthographic != 0, (1.0 - t) * z0 + t * z1, 1.0 / ((1.0 - t) / z0 + t / z1))


@ti.func
def _is_seen(depth, id0: int, depth0, id1: int, depth1):
    """Whether an edge at a depth is where the surface of the first pixel ends before the second's: it is nearer, and the edge its own."""
    behind = id1 < 0 or (depth < depth1 and ti.abs(depth - depth0) <= ti.abs(depth - depth1))
    nearer = id0 >= 0 and (id1 < 0 or depth0 < depth1 or (depth0 == depth1 and id0 < id1))
    return id0 != id1 and nearer and behind


@kernel
def _fill_kernel(
    screen: Points, faces: Faces, others: Faces, tips: Faces, offsets: Ints, face_ids: Names, depths: Pixels,
    places: Ints, sides: Ints, distances: Floats, keys: Ints, total: int, orthographic: int,
):  # fmt: skip
    for k in range(total):
        b, f, c = k // faces.shape[0], k % faces.shape[0], offsets[k]
        if offsets[k + 1] > c:
            batch, height, width = face_ids.shape[0], face_ids.shape[1], face_ids.shape[2]
            for side in range(3):
                if _is_silhouette(screen, faces, others, tips, b, f, side):
                    p, q, r = screen[b, faces[f][side]], screen[b, faces[f][(side + 1) % 3]], screen[b, faces[f][(side + 2) % 3]]
                    for axis in range(2):
                        lines, along = ti.select(axis == RIGHT, height, width), ti.select(axis == RIGHT, width, height)
                        u, v, w = _in_pixels(p, height, width, axis), _in_pixels(q, height, width, axis), _in_pixels(r, height, width, axis)
                        first, last = _lines(u, v, lines)
                        low_side = doubled_area(u, v, w) * (v.y - u.y) > 0.0  # the face is where the line's lower pixels are
                        for line in range(first, last):
                            t = (line - u.y) / (v.y - u.y)
                            x = u.x + t * (v.x - u.x)
                            j = int(ti.math.clamp(ti.floor(x), -1.0, float(along)))
                            places[c], sides[c], distances[c], keys[c] = -1, side, ti.select(low_side, x - j, x - j - 1.0), 0
                            if 0 <= j and j + 1 < along:
                                i0, j0 = ti.select(axis == RIGHT, line, j), ti.select(axis == RIGHT, j, line)
                                i1, j1 = i0 + axis, j0 + 1 - axis
                                depth, id0, id1 = _depth_at(p.z, q.z, t, orthographic), face_ids[b, i0, j0], face_ids[b, i1, j1]
                                depth0, depth1 = depths[b, i0, j0], depths[b, i1, j1]
                                seen = ti.select(
                                    low_side, int(_is_seen(depth, id0, depth0, id1, depth1)), int(_is_seen(depth, id1, depth1, id0, depth0))
                                )
                                if seen != 0:
                                    places[c] = ((axis * batch + b) * height + i0) * width + j0
                                    keys[c] = MOST - ti.bit_cast(ti.cast(depth, ti.f32), ti.i32)  # positive floats are in the order of their bits
                            c += 1


@kernel
def _claim_kernel(places: Ints, keys: Ints, nearest: Ints, winners: Ints, count: int):
    """Of the crossings at a place the nearest wins, of those the first; what is most is the same in whatever order it is found."""
    for c in range(count):
        if places[c] >= 0:
            ti.atomic_max(nearest[places[c]], keys[c])
    for c in range(count):
        if places[c] >= 0:
            if keys[c] == nearest[places[c]]:
                ti.atomic_max(winners[places[c]], MOST - c)


@kernel
def _claim_in_turn_kernel(places: Ints, keys: Ints, winners: Ints, count: int):
    """For CPUs, where they are few for two threads."""
    ti.loop_config(serialize=True)
    for c in range(count):
        if places[c] >= 0:
            best = winners[places[c]]
            if best == 0 or keys[c] > keys[ti.min(MOST - best, c)]:
                winners[places[c]] = MOST - c


@ti.func
def _wins(places: ti.template(), winners: ti.template(), c: int):
    return places[c] >= 0 and winners[ti.max(places[c], 0)] == MOST - c


@ti.func
def _blend_of(distance):
    """What the left or upper pixel takes of the other, negative for what that takes of it."""
    d = ti.select(distance >= 0.0, distance, -distance)
    return ti.select(distance >= 0.0, 0.5 - d, d - 0.5)


@kernel
def _blends_kernel(winners: Ints, distances: Floats, blends: Blends):
    for b, i, j in blends:
        found = vec2(0.0)
        for axis in ti.static(range(2)):
            best = winners[((axis * blends.shape[0] + b) * blends.shape[1] + i) * blends.shape[2] + j]
            if best > 0:
                found[axis] = _blend_of(distances[MOST - best])
        blends[b, i, j] = found


# --- The image ------------------------------------------------------------------------------------------------------


@kernel
def _antialias_kernel(image: Picture, blends: Blends, out: Picture):
    """For GPUs, as `_image_adjoint_kernel`: a thread takes a pixel."""
    for b, i, j in out:
        color = image[b, i, j]
        total = color
        right, down = ti.max(blends[b, i, j].x, 0.0), ti.max(blends[b, i, j].y, 0.0)
        left, up = 0.0, 0.0
        if j > 0:
            left = ti.max(-blends[b, i, j - 1].x, 0.0)
        if i > 0:
            up = ti.max(-blends[b, i - 1, j].y, 0.0)
        if right > 0.0:
            total += right * (image[b, i, j + 1] - color)
        if down > 0.0:
            total += down * (image[b, i + 1, j] - color)
        if left > 0.0:
            total += left * (image[b, i, j - 1] - color)
        if up > 0.0:
            total += up * (image[b, i - 1, j] - color)
        out[b, i, j] = total


@ti.func
def _pixels_of(place: int, batch: int, height: int, width: int):
    """Of a place the axis, the view, and the two pixels, the left or upper one first."""
    axis, b, i, j = place // (batch * height * width), place // (height * width) % batch, place // width % height, place % width
    return axis, b, i, j, i + axis, j + 1 - axis


@kernel
def _few_kernel(image: Picture, places: Ints, distances: Floats, winners: Ints, out: Picture, count: int):
    """For CPUs: the few pixels that edges pass, one after the other."""
    ti.loop_config(serialize=True)
    for c in range(count):
        if _wins(places, winners, c):
            _axis, b, i0, j0, i1, j1 = _pixels_of(places[c], out.shape[0], out.shape[1], out.shape[2])
            share, step = _blend_of(distances[c]), image[b, i1, j1] - image[b, i0, j0]
            if share > 0.0:
                out[b, i0, j0] = out[b, i0, j0] + share * step
            else:
                out[b, i1, j1] = out[b, i1, j1] + share * step


@operator
def _antialias(image: Array, screen: Array, faces: Array, crossings: Crossings, blends: Array | None, out: Array) -> None:
    x = crossings
    if blends is None:
        copy(image, out)
        _few_kernel(image, x.places, x.distances, x.winners, out, x.count)
    else:
        _blends_kernel(x.winners, x.distances, blends)
        _antialias_kernel(image, blends, out)


@kernel
def _image_adjoint_kernel(blends: Blends, image_grad: Picture, out_grad: Picture):
    for b, i, j in out_grad:
        kept, total = 1.0, ti.zero(out_grad[b, i, j])
        here = blends[b, i, j]
        kept -= ti.max(here.x, 0.0) + ti.max(here.y, 0.0)
        if here.x < 0.0:
            total -= here.x * out_grad[b, i, j + 1]
        if here.y < 0.0:
            total -= here.y * out_grad[b, i + 1, j]
        if j > 0:
            left = blends[b, i, j - 1].x
            kept += ti.min(left, 0.0)
            if left > 0.0:
                total += left * out_grad[b, i, j - 1]
        if i > 0:
            up = blends[b, i - 1, j].y
            kept += ti.min(up, 0.0)
            if up > 0.0:
                total += up * out_grad[b, i - 1, j]
        image_grad[b, i, j] = image_grad[b, i, j] + kept * out_grad[b, i, j] + total


@kernel
def _few_adjoint_kernel(places: Ints, distances: Floats, winners: Ints, image_grad: Picture, out_grad: Picture, count: int):
    ti.loop_config(serialize=True)
    for c in range(count):
        if _wins(places, winners, c):
            _axis, b, i0, j0, i1, j1 = _pixels_of(places[c], out_grad.shape[0], out_grad.shape[1], out_grad.shape[2])
            share, grad = _blend_of(distances[c]), out_grad[b, i0, j0]
            if share <= 0.0:
                grad = out_grad[b, i1, j1]
            image_grad[b, i0, j0] = image_grad[b, i0, j0] - share * grad
            image_grad[b, i1, j1] = image_grad[b, i1, j1] + share * grad


@kernel
def _edges_adjoint_kernel(
    image: Picture, screen: Points, faces: Faces, offsets: Ints, places: Ints, sides: Ints, distances: Floats, winners: Ints,
    out_grad: Picture, corner_grads: Points, total: int, components: ti.template(),
):  # fmt: skip
    """Per face: what the ends of its silhouette edges get."""
    for k in range(total):
        b, f = k // faces.shape[0], k % faces.shape[0]
        batch, height, width = image.shape[0], image.shape[1], image.shape[2]
        for corner in ti.static(range(3)):
            corner_grads[b, 3 * f + corner] = vec3(0.0)
        for c in range(offsets[k], offsets[k + 1]):
            if _wins(places, winners, c):
                axis, _view, i, j, i1, j1 = _pixels_of(places[c], batch, height, width)
                side = sides[c]
                u, v = (
                    _in_pixels(screen[b, faces[f][side]], height, width, axis),
                    _in_pixels(screen[b, faces[f][(side + 1) % 3]], height, width, axis),
                )
                t, slope = (ti.select(axis == RIGHT, i, j) - u.y) / (v.y - u.y), (v.x - u.x) / (v.y - u.y)
                # The first pixel shows its side up to x: the image changes by the difference as x moves, at whichever takes of the other.
                grad = out_grad[b, i1, j1]
                if _blend_of(distances[c]) > 0.0:
                    grad = out_grad[b, i, j]
                x_grad = inner(grad, image[b, i, j] - image[b, i1, j1], components) * 0.5 * ti.min(height, width)
                for end in range(2):
                    along = ti.select(end == 0, 1.0 - t, t) * x_grad
                    move = ti.select(axis == RIGHT, vec2(along, slope * along), vec2(-slope * along, -along))  # on the screen, y up
                    place = 3 * f + (side + end) % 3
                    corner_grads[b, place] = corner_grads[b, place] + vec3(move, 0.0)


@_antialias.adjoint
def _antialias_adjoint(image: Array, screen: Array, faces: Array, crossings: Crossings, blends: Array | None, out: Array) -> None:
    x = crossings
    if image.grad is not None and blends is None:
        add(out.grad, image.grad)
        _few_adjoint_kernel(x.places, x.distances, x.winners, image.grad, out.grad, x.count)
    elif image.grad is not None:
        _image_adjoint_kernel(blends, image.grad, out.grad)
    if screen.grad is not None:
        incidence = corner_incidence(faces, screen.shape[1])
        total, components = out.shape[0] * faces.shape[0], image.element_shape[0] if image.element_shape else 1
        corner_grads = empty(vec3, (out.shape[0], 3 * faces.shape[0]))
        _edges_adjoint_kernel(
            image, screen, faces, x.offsets, x.places, x.sides, x.distances, x.winners, out.grad, corner_grads, total, components
        )  # fmt: skip
        gather(corner_grads, incidence.offsets, incidence.slots, screen.grad)
