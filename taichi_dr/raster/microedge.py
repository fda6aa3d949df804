"""Edges that move, though the image stays as it is: what surfaces hide of each other between pixels.

Between two neighboring pixels P and Q that show different faces runs a micro-edge. Were it a pixel farther from P, Q would have P's
color; so with its place x on the way from P to Q the loss changes by

    dL/dx = G = (I_P - I_Q) . (g_P + g_Q) / 2,   g = dL/dI

and x moves with what is there:

    P's surface ends before Q, over Q's or the background: with its face at P, dL/dp = G along the way, p where the face ends.
    Both go on, through each other: with the depths of both at the crossing. With h = 1 / z of P's face less that of Q's, linear on
    the screen, the line h = 0 has the normal -grad h / |grad h|, and dL/dh = -G e . grad h / |grad h|^2, e the way from P to Q.
    It is one surface, or neither goes on and they do not overlap: not.

Whether a surface goes on is found by a walk from face to face along the way, to Q or to where it has a border or turns back.
The paper asks for the face of P alone whether it reaches Q; then a mesh of faces as small as pixels seems to have no edges before
another. And it counts what depth does both in pairs side by side and in pairs above each other, along the way each time, where
here they have shares of the normal, (e . normal)^2, so that depth counts once. And p is there the center of P.

Source: Pidhorskyi et al., "Rasterized Edge Gradients: Handling Discontinuities Differentiably", ECCV 2024.
"""

import taichi as ti

from ..arrays import ELEMENTS, Array, Faces, Ints, Points, add, copy, empty, expect, is_finite, ivec3, vec2, vec3
from ..launch import kernel
from ..mesh import across
from ..tape import operator
from . import triangle
from .composite import Names
from .fragments import Contributions, room
from .gather import gather_corners
from .interpolate import inner
from .tiles import MIN_AREA, MIN_DEPTH, Boxes, corners, pair_at, pair_pixels, pixel_center, split_pairs
from .triangle import doubled_area
from .visible import Visible

AnyPicture = ti.types.ndarray(needs_grad=False)  # (B, H, W) of numbers or vectors, or (B, H, W, C)

STAYS, ENDS, CROSSES = 0, 1, 2  # what the first of two surfaces does before the second
LONGEST_WALK = 64  # faces between two pixels
TOUCHING = 1e-3  # of a pixel: surfaces that end within it of each other do not overlap
STEEPEST = 1e4  # of what a crossing moves on the screen per unit of depth, where surfaces are nearly parallel


def microedges(image: Array, screen: Array, faces: Array, visible: Visible, *, orthographic: bool = False) -> Array:
    """The same image, with gradients for what its edges do.

        dL/dx = (I_P - I_Q) . (g_P + g_Q) / 2    where the edge between pixels P and Q is x, which moves with the faces there

    Args:
        image: (B, H, W) of numbers, vec2, vec3 or vec4, or (B, H, W, C), one color for each pixel of `visible`.
        screen, faces: what was rasterized, (B, V) of vec3 and (F,) of ivec3.
        visible: of `rasterize`, its first layer.
        orthographic: as of `rasterize`.

    Returns:
        As `image`, with its values.

    Differentiable in `image`, and in `screen`: x and y where a surface ends before another or before the background; x, y and
    depth where two pass through each other. Not at edges within a surface, which change nothing where its colors meet; a jump of
    color from face to face there moves without a gradient.

    Raises:
        ValueError: an image of another size.

    Source: Pidhorskyi et al., Rasterized Edge Gradients, ECCV 2024.
    """
    size = tuple(visible.face_ids.shape)
    if not isinstance(image, ti.Ndarray) or tuple(image.shape[:3]) != size:
        came = type(image).__name__ if not isinstance(image, ti.Ndarray) else f"shape {tuple(image.shape)}"
        raise ValueError(f"image: expected pictures of shape {size}, as was rasterized, got {came}")
    expect("image", image, 1 if len(image.shape) == 4 else (1, 2, 3, 4), (3, 4), "(B, H, W) of numbers or vectors, or (B, H, W, C) of numbers")
    out = empty(ELEMENTS[image.element_shape[0] if image.element_shape else 1], image.shape, needs_grad=True)
    _microedges(image, screen, faces, visible, orthographic, out)
    return out


@operator
def _microedges(image: Array, screen: Array, faces: Array, visible: Visible, orthographic: bool, out: Array) -> None:
    copy(image, out)


# --- Whether a surface goes on --------------------------------------------------------------------------------------


@ti.func
def _goes_on(screen: ti.template(), faces: ti.template(), others: ti.template(), tips: ti.template(), b: int, f: int, side: int):
    """The face in which the surface goes on at a side of a face, -1 where it ends or turns back."""
    found = others[f][side]
    if found >= 0:
        u, v, w = screen[b, faces[f][side]], screen[b, faces[f][(side + 1) % 3]], screen[b, faces[f][(side + 2) % 3]]
        tip = screen[b, tips[f][side]]
        area = doubled_area(u.xy, v.xy, tip.xy)
        turns = doubled_area(u.xy, v.xy, w.xy) * area >= 0.0 or ti.abs(area) <= MIN_AREA  # seen from the side: rounding decides no edge
        if turns or not is_finite(tip) or tip.z <= MIN_DEPTH:
            found = -1
    return found


@ti.func
def _way_out(w, w1, s, entry: int):
    """How far on the way between points of weights w and w1 in a face, from s on, the way leaves it, and by which side but the entry.

    1 and -1 where it does not.
    """
    end, side = 1.0, -1
    for k in ti.static(range(3)):
        before, after = w[(k + 2) % 3], w1[(k + 2) % 3]  # of the corner across from side k
        if k != entry and after < 0.0 and after < before:
            at = ti.max(before / (before - after), s)
            if side < 0 or at < end:
                end, side = at, k
    return end, side


@ti.func
def _walk(screen: ti.template(), faces: ti.template(), others: ti.template(), tips: ti.template(), b: int, f: int, p, p1):
    """Where the surface that is at p in face f is at p1: the face, -1 if it ends before; and how far on the way it got."""
    face, entry, s = f, -1, 0.0
    steps, on_the_way = 0, True
    while on_the_way:
        v0, v1, v2 = corners(screen, faces, b, face)
        s, side = _way_out(triangle.barycentrics(p, v0.xy, v1.xy, v2.xy), triangle.barycentrics(p1, v0.xy, v1.xy, v2.xy), s, entry)
        on_the_way = side >= 0
        if on_the_way:
            before, face = face, _goes_on(screen, faces, others, tips, b, face, side)
            steps += 1
            on_the_way = face >= 0 and steps < LONGEST_WALK
            for k in ti.static(range(3)):
                if on_the_way and others[face][k] == before:
                    entry = k
    return face, s


@ti.func
def _have_corner_in_common(one, other):
    found = 0
    for k, m in ti.static(ti.ndrange(3, 3)):
        found |= int(one[k] == other[m])
    return found != 0


@ti.func
def _neighbor(i: int, j: int, side: int):
    """The pixel to the right, to the left, below or above."""
    step = 1 - 2 * (side % 2)
    return i + step * (side // 2), j + step * (1 - side // 2)


@ti.func
def _is_apart(other: int, f: int, around):
    """Whether what a neighbor shows is neither the face nor one in which its surface goes on; what is outside the image shows the face."""
    return ti.cast(other != f, int) & (ti.cast(other < 0, int) | ti.cast((other != around.x) & (other != around.y) & (other != around.z), int))


# --- How near it is -------------------------------------------------------------------------------------------------


@ti.func
def _nearness(v0, v1, v2, orthographic: int):
    """Of the corners, what is linear on the screen and larger where they are nearer: 1 / z, or -z."""
    z = vec3(v0.z, v1.z, v2.z)
    return ti.select(orthographic != 0, -z, 1.0 / z)


@ti.func
def _nearness_adjoint(nearness, orthographic: int, nearness_grad):
    """The gradient of the corner depths."""
    return ti.select(orthographic != 0, -nearness_grad, -nearness_grad * nearness * nearness)


@ti.func
def _slope(a, b, c, values):
    """The gradient on the screen of what is linear there and has `values` at the corners."""
    total = vec2(b.y - c.y, c.x - b.x) * values.x + vec2(c.y - a.y, a.x - c.x) * values.y + vec2(a.y - b.y, b.x - a.x) * values.z
    return total / doubled_area(a, b, c)


@ti.func
def _lead(screen: ti.template(), faces: ti.template(), b: int, f: int, other: int, p, orthographic: int):
    """By how much a face is nearer than another at p, both as planes, and the gradient of that on the screen."""
    v0, v1, v2 = corners(screen, faces, b, f)
    u0, u1, u2 = corners(screen, faces, b, other)
    near, other_near = _nearness(v0, v1, v2, orthographic), _nearness(u0, u1, u2, orthographic)
    slope, other_slope = _slope(v0.xy, v1.xy, v2.xy, near), _slope(u0.xy, u1.xy, u2.xy, other_near)
    return near.x + slope.dot(p - v0.xy) - other_near.x - other_slope.dot(p - u0.xy), slope - other_slope


@ti.func
def _part(
    screen: ti.template(), faces: ti.template(), others: ti.template(), tips: ti.template(), b: int, f: int, other: int, p, p1, orthographic: int
):  # fmt: skip
    """What the surface at p does before that of another face at p1; and their `_lead`, where they cross or both end."""
    part, lead, change = STAYS, 0.0, vec2(0.0)
    end, s = _walk(screen, faces, others, tips, b, f, p, p1)
    if end != other:
        other_end, other_s = _walk(screen, faces, others, tips, b, other, p1, p)
        if end < 0 and other_end >= 0:
            part = ENDS
        elif end < 0 and s + other_s > 1.0 + TOUCHING:
            lead, change = _lead(screen, faces, b, f, other, p, orthographic)
            if lead + 0.5 * (s + 1.0 - other_s) * change.dot(p1 - p) > 0.0:  # in the middle of where both are
                part = ENDS
        elif end >= 0 and other_end >= 0 and other_end != f and not _have_corner_in_common(faces[f], faces[other]):
            lead, change = _lead(screen, faces, b, f, other, p, orthographic)
            if change.dot(p1 - p) < 0.0:
                part = CROSSES
    return part, lead, change


# --- How it moves ---------------------------------------------------------------------------------------------------


@ti.func
def _gain(image: ti.template(), out_grad: ti.template(), b: int, i: int, j: int, i1: int, j1: int, components: ti.template()):
    """G: what the loss gains as the first pixel's color reaches a pixel farther, to the second."""
    gain = 0.0
    if ti.static(len(image.shape) == 4):
        for c in range(image.shape[3]):
            gain += (image[b, i, j, c] - image[b, i1, j1, c]) * (out_grad[b, i, j, c] + out_grad[b, i1, j1, c])
    else:
        gain = inner(image[b, i, j] - image[b, i1, j1], out_grad[b, i, j] + out_grad[b, i1, j1], components)
    return 0.5 * gain


@kernel
def _screen_adjoint_kernel(
    image: AnyPicture, screen: Points, faces: Faces, others: Faces, tips: Faces, face_ids: Names, boxes: Boxes, pair_faces: Ints,
    pair_tiles: Ints, members: Ints, out_grad: AnyPicture, corner_grads: Contributions, steps: int, pad: int, threads: int, pairs: int,
    tile_height: int, tile_width: int, rows: int, columns: int, half: float, steepest: float, orthographic: int, components: ti.template(),
):  # fmt: skip
    """A thread takes a pair of face and tile, and sums the face's part over its pixels and the four neighbors of each."""
    for q in range(steps):
        n = pair_at(q, pad, threads, pairs, members)
        if n >= 0:
            a_sum, b_sum, c_sum = vec3(0.0), vec3(0.0), vec3(0.0)
            height, width = face_ids.shape[1], face_ids.shape[2]
            b, f = pair_faces[n] // faces.shape[0], pair_faces[n] % faces.shape[0]
            i0, i1, j0, j1 = pair_pixels(boxes, pair_faces, pair_tiles, n, tile_height, tile_width, rows, columns)
            v0, v1, v2 = corners(screen, faces, b, f)
            around, is_known = ivec3(-1), 0
            for i in range(i0, i1):
                for j in range(j0, j1):
                    if face_ids[b, i, j] == f:
                        if is_known == 0:  # many faces show nowhere
                            is_known = 1
                            for side in range(3):
                                around[side] = _goes_on(screen, faces, others, tips, b, f, side)
                        apart = 0  # first without a branch, since most pixels are within a surface
                        for side in ti.static(range(4)):
                            i2, j2 = _neighbor(i, j, side)
                            apart |= _is_apart(face_ids[b, ti.math.clamp(i2, 0, height - 1), ti.math.clamp(j2, 0, width - 1)], f, around)
                        if apart != 0:
                            for side in range(4):
                                i2, j2 = _neighbor(i, j, side)
                                other, gain = face_ids[b, ti.math.clamp(i2, 0, height - 1), ti.math.clamp(j2, 0, width - 1)], 0.0
                                if _is_apart(other, f, around) != 0:
                                    gain = _gain(image, out_grad, b, i, j, i2, j2, components) * 0.5 / half  # per unit on the screen, not per pixel
                                if gain != 0.0:
                                    p, p1 = pixel_center(i, j, height, width, half), pixel_center(i2, j2, height, width, half)
                                    way = vec2(j2 - j, i - i2)  # y is up, rows go down
                                    part, lead, change = ENDS, 0.0, vec2(0.0)
                                    if other >= 0:
                                        part, lead, change = _part(screen, faces, others, tips, b, f, other, p, p1, orthographic)
                                    w, w1 = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy), triangle.barycentrics(p1, v0.xy, v1.xy, v2.xy)
                                    if part == ENDS:
                                        s, _side = _way_out(w, w1, 0.0, -1)
                                        at, move = (1.0 - s) * w + s * w1, vec3(gain * way, 0.0)
                                        a_sum += at.x * move
                                        b_sum += at.y * move
                                        c_sum += at.z * move
                                    elif part == CROSSES:
                                        s = ti.math.clamp(-lead / change.dot(p1 - p), 0.0, 1.0)
                                        at, near = (1.0 - s) * w + s * w1, _nearness(v0, v1, v2, orthographic)
                                        per_depth = ti.select(orthographic != 0, 1.0, at.dot(near) ** 2)
                                        lead_grad = -gain * way.dot(change) / ti.max(change.dot(change), (per_depth / steepest) ** 2)
                                        a_grad, b_grad, c_grad = triangle.barycentrics_adjoint(v0.xy, v1.xy, v2.xy, at, lead_grad * near)
                                        z_grad = _nearness_adjoint(near, orthographic, lead_grad * at)
                                        a_sum += vec3(a_grad, z_grad.x)
                                        b_sum += vec3(b_grad, z_grad.y)
                                        c_sum += vec3(c_grad, z_grad.z)
            corner_grads[n, 0], corner_grads[n, 1], corner_grads[n, 2] = a_sum, b_sum, c_sum


@_microedges.adjoint
def _microedges_adjoint(image: Array, screen: Array, faces: Array, visible: Visible, orthographic: bool, out: Array) -> None:
    if image.grad is not None:
        add(out.grad, image.grad)
    if screen.grad is not None:
        t, sides, size = visible.tiles, across(faces, screen.shape[1]), visible.face_ids.shape
        components = image.element_shape[0] if image.element_shape else 1
        corner_grads = empty(vec3, (room(t.pairs), 3))
        _screen_adjoint_kernel(
            image, screen, faces, sides.faces, sides.tips, visible.face_ids, t.boxes, t.pair_faces, t.pair_tiles, t.members, out.grad,
            corner_grads, *split_pairs(t.pairs), t.pairs, *t.tile, t.rows, t.columns, 1 / min(size[1:]), STEEPEST, int(orthographic), components,
        )  # fmt: skip
        gather_corners(t.face_offsets, faces, size[0], (corner_grads, screen.grad))
