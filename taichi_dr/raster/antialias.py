"""Edges that move: an image of visible surfaces, blended where silhouettes pass between pixels, so that it changes with them.

Of two neighboring pixels that show different faces, the nearer face ends somewhere between the centers: at d of the way from its
own pixel P to the other, Q, where a silhouette edge of it crosses the line between them. Its color reaches that far,

    C_P <- C_P + (1/2 - d) (C_Q - C_P)    where d < 1/2
    C_Q <- C_Q + (d - 1/2) (C_P - C_Q)    where d > 1/2

and d moves with the two ends of the edge. Edges that run more across the line than along it count for the line, so each counts once.
A silhouette edge has one face, or two that lie on the same side of it on the screen.

Source: Laine et al., "Modular primitives for high-performance differentiable rendering", ACM Transactions on Graphics, 2020, section 3.5.
"""

import taichi as ti

from ..arrays import ELEMENTS, Array, Faces, Ints, Picture, Points, empty, expect, split, unrecorded, vec2, vec3, work_item
from ..mesh import Across, across
from ..tape import operator
from .channels import join_fours, split_fours
from .composite import Names
from .fragments import Contributions, Pixels, room
from .gather import gather_corners
from .interpolate import inner
from .triangle import doubled_area
from .visible import Visible

Flags = ti.types.ndarray(dtype=ti.i32, ndim=2, needs_grad=False)  # (B, F): bit k: side k is a silhouette edge, 3 + k: the face across has one
Blends = ti.types.ndarray(dtype=vec2, ndim=3, needs_grad=False)  # (B, H, W): with the pixel to the right, and with that below

MARGIN = 1 / 16  # by which a crossing may miss the line between two centers, for rounding
RIGHT, DOWN = 0, 1


def antialias(image: Array, screen: Array, faces: Array, visible: Visible) -> Array:
    """The image with the silhouettes of its faces blended over the pixels that they pass between.

        C_P <- C_P + (1/2 - d) (C_Q - C_P) where d < 1/2,   C_Q <- C_Q + (d - 1/2) (C_P - C_Q) where d > 1/2

    Args:
        image: (B, H, W) of numbers, vec2, vec3 or vec4, or (B, H, W, C), one color for each pixel of `visible`.
        screen, faces: what was rasterized, (B, V) of vec3 and (F,) of ivec3.
        visible: of `rasterize`, its first layer.

    Returns:
        As `image`.

    Differentiable in `image`, and in x and y of `screen`: each pixel is what the nearer face covers of it, to first order. Not in
    depth, nor in which edge it is. A face so small that it shows at no pixel has no edges here: render larger, and average.

    Raises:
        ValueError: an image of another size.

    Source: Laine et al., ACM Transactions on Graphics, 2020, section 3.5.
    """
    size = tuple(visible.face_ids.shape)
    if not isinstance(image, ti.Ndarray) or tuple(image.shape[:3]) != size:
        came = type(image).__name__ if not isinstance(image, ti.Ndarray) else f"shape {tuple(image.shape)}"
        raise ValueError(f"image: expected pictures of shape {size}, as was rasterized, got {came}")
    if len(image.shape) == 4:
        return join_fours([antialias(part, screen, faces, visible) for part in split_fours(image)], image.shape[3])
    expect("image", image, (1, 2, 3, 4), 3, "(B, H, W) of numbers or vectors")
    flags, blends = empty(int, (screen.shape[0], faces.shape[0])), empty(vec2, size)
    sides = across(faces, screen.shape[1])
    with unrecorded():
        _silhouettes_kernel(screen, faces, sides.faces, sides.tips, flags)
    out = empty(ELEMENTS[image.element_shape[0] if image.element_shape else 1], size, needs_grad=True)
    _antialias(image, screen, faces, visible, sides, flags, blends, out)
    return out


@ti.kernel
def _silhouettes_kernel(screen: Points, faces: Faces, others: Faces, tips: Faces, flags: Flags):
    for k in range(flags.shape[0] * flags.shape[1]):
        b, f = k // flags.shape[1], k % flags.shape[1]
        found = 0
        for side in ti.static(range(3)):
            u, v, w = screen[b, faces[f][side]], screen[b, faces[f][(side + 1) % 3]], screen[b, faces[f][(side + 2) % 3]]
            same_side = doubled_area(u.xy, v.xy, w.xy) * doubled_area(u.xy, v.xy, screen[b, tips[f][side]].xy) >= 0.0
            found |= ti.select(others[f][side] < 0 or same_side, 1 << side, 0)
        flags[b, f] = found
    for k in range(flags.shape[0] * flags.shape[1]):
        b, f = k // flags.shape[1], k % flags.shape[1]
        found = flags[b, f]
        for side in ti.static(range(3)):
            if others[f][side] >= 0:
                found |= ti.select(flags[b, others[f][side]] & 7, 8 << side, 0)
        flags[b, f] = found


# --- Where an edge crosses ------------------------------------------------------------------------------------------


@ti.func
def _from_pixel(p, i: int, j: int, height: int, width: int, axis: int):
    """A screen position, in pixels from the center of pixel (i, j): along the line to the neighbor right or below, and aside from it."""
    half = 0.5 * ti.min(height, width)
    x, y = half * p.x + 0.5 * (width - 1) - j, 0.5 * (height - 1) - half * p.y - i
    return ti.select(axis == RIGHT, vec2(x, y), vec2(y, x))


@ti.func
def _is_ours(f: int, depth, other: int, other_depth):
    """Whether the face at a pixel is nearer than that at its neighbor."""
    return f >= 0 and (other < 0 or depth < other_depth or (depth == other_depth and f < other))


@ti.func
def _crossing(
    screen: ti.template(), faces: ti.template(), others: ti.template(), flags: ti.template(), b: int, f: int, i: int, j: int,
    height: int, width: int, axis: int, sign: int,
):  # fmt: skip
    """(d, face, side, t, m) of the silhouette edge that crosses between pixel (i, j), which shows face f, and its neighbor; side -1
    where none does. The edge is a side of f or of a face next to it, which may show at no pixel here.

    t is how far from the start of the side, m its slope, along over across.
    """
    row = b % screen.shape[0]
    nearest, owner, side, at, slope = 2.0, f, -1, 0.0, 0.0
    for n in range(4):
        g = f
        if n > 0:
            g = ti.select(flags[row, f] & (4 << n), others[f][ti.max(n - 1, 0)], -1)
        if g >= 0:
            for k in range(3):
                if flags[row, g] & (1 << k):
                    u = _from_pixel(screen[row, faces[g][k]], i, j, height, width, axis)
                    v = _from_pixel(screen[row, faces[g][(k + 1) % 3]], i, j, height, width, axis)
                    along, aside = v.x - u.x, v.y - u.y
                    if (u.y < 0.0) != (v.y < 0.0) and ti.abs(aside) >= ti.abs(along):
                        t = -u.y / aside
                        d = sign * (u.x + t * along)
                        if -MARGIN < d and d < 1.0 + MARGIN and d < nearest:
                            nearest, owner, side, at, slope = d, g, k, t, along / aside
    return nearest, owner, side, at, slope


@ti.func
def _pair_blend(
    screen: ti.template(), faces: ti.template(), others: ti.template(), flags: ti.template(), face_ids: ti.template(), depths: ti.template(),
    b: int, i: int, j: int, axis: int,
):  # fmt: skip
    """What pixel (i, j) takes of the pixel to the right or below, negative for what that takes of it."""
    i1, j1 = i + axis, j + 1 - axis
    blend = 0.0
    if i1 < face_ids.shape[1] and j1 < face_ids.shape[2]:
        f, f1 = face_ids[b, i, j], face_ids[b, i1, j1]
        if f != f1:
            height, width = face_ids.shape[1], face_ids.shape[2]
            ours = _is_ours(f, depths[b, i, j], f1, depths[b, i1, j1])
            way = ti.select(ours, 1, -1)
            i0, j0 = ti.select(ours, i, i1), ti.select(ours, j, j1)
            d, _g, side, _t, _m = _crossing(screen, faces, others, flags, b, ti.select(ours, f, f1), i0, j0, height, width, axis, way)
            blend = way * (0.5 - ti.math.clamp(d, 0.0, 1.0))
            if side < 0:
                blend = 0.0
    return blend


@ti.kernel
def _blends_kernel(
    screen: Points, faces: Faces, others: Faces, flags: Flags, face_ids: Names, depths: Pixels, blends: Blends, steps: int, pad: int, threads: int
):
    for q in range(steps):
        k = work_item(q, pad, threads, face_ids.shape[0] * face_ids.shape[1])
        if k >= 0:
            b, i = k // face_ids.shape[1], k % face_ids.shape[1]
            for j in range(face_ids.shape[2]):
                found = vec2(0.0)
                for axis in range(2):
                    found[axis] = _pair_blend(screen, faces, others, flags, face_ids, depths, b, i, j, axis)
                blends[b, i, j] = found


# --- The image ------------------------------------------------------------------------------------------------------


@ti.kernel
def _antialias_kernel(image: Picture, blends: Blends, out: Picture, steps: int, pad: int, threads: int):
    for q in range(steps):
        k = work_item(q, pad, threads, out.shape[0] * out.shape[1])
        if k >= 0:
            b, i = k // out.shape[1], k % out.shape[1]
            for j in range(out.shape[2]):
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


@operator
def _antialias(image: Array, screen: Array, faces: Array, visible: Visible, sides: Across, flags: Array, blends: Array, out: Array) -> None:
    rows = split(out.shape[0] * out.shape[1])
    _blends_kernel(screen, faces, sides.faces, flags, visible.face_ids, visible.depths, blends, *rows)
    _antialias_kernel(image, blends, out, *rows)


@ti.kernel
def _image_adjoint_kernel(blends: Blends, image_grad: Picture, out_grad: Picture, steps: int, pad: int, threads: int):
    for q in range(steps):
        k = work_item(q, pad, threads, out_grad.shape[0] * out_grad.shape[1])
        if k >= 0:
            b, i = k // out_grad.shape[1], k % out_grad.shape[1]
            for j in range(out_grad.shape[2]):
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


@ti.func
def _slot(faces: ti.template(), others: ti.template(), f: int, g: int, v: int):
    """Which of six numbers 0 ... 5 stands for vertex v of face g: a corner of f, or the tip across one of its sides."""
    slot = 0
    for k in ti.static(range(3)):
        if g != f and others[f][k] == g:
            slot = 3 + k
    for k in ti.static(range(3)):
        if faces[f][k] == v:
            slot = k
    return slot


@ti.func
def _end_adjoint(share, slope, axis: int, half):
    """Gradient of an end of an edge on the screen, y up, where d = sign (u + t (v - u)); `share` is that of the end along the line."""
    along, aside = half * share, -half * share * slope
    return ti.select(axis == RIGHT, vec2(along, -aside), vec2(aside, -along))


@ti.kernel
def _screen_adjoint_kernel(
    image: Picture, screen: Points, faces: Faces, others: Faces, flags: Flags, face_ids: Names, depths: Pixels, pair_faces: Ints, offsets: Ints,
    pixels: Ints, out_grad: Picture, corner_grads: Contributions, tip_grads: Contributions,
    steps: int, pad: int, threads: int, pairs: int, components: ti.template(),
):  # fmt: skip
    """A thread takes a pair of face and tile, and of its pixels those where the surface ends."""
    for q in range(steps):
        n = work_item(q, pad, threads, pairs)
        if n >= 0:
            for k in ti.static(range(3)):
                corner_grads[n, k], tip_grads[n, k] = vec3(0.0), vec3(0.0)
            height, width = face_ids.shape[1], face_ids.shape[2]
            half = 0.5 * ti.min(height, width)
            f, b = pair_faces[n] % faces.shape[0], pair_faces[n] // faces.shape[0]
            if flags[b % screen.shape[0], f] != 0:
                for m in range(offsets[n], offsets[n + 1]):
                    i, j = pixels[m] // width % height, pixels[m] % width
                    for direction in range(4):
                        axis, way = direction // 2, 1 - 2 * (direction % 2)
                        i1, j1 = i + way * axis, j + way * (1 - axis)
                        if 0 <= i1 and i1 < height and 0 <= j1 and j1 < width:
                            other = face_ids[b, i1, j1]
                            if other != f and _is_ours(f, depths[b, i, j], other, depths[b, i1, j1]):
                                d, g, side, t, slope = _crossing(screen, faces, others, flags, b, f, i, j, height, width, axis, way)
                                if side >= 0 and 0.0 < d and d < 1.0:
                                    grad = out_grad[b, i1, j1]
                                    if d < 0.5:
                                        grad = out_grad[b, i, j]
                                    d_grad = way * inner(grad, image[b, i, j] - image[b, i1, j1], components)
                                    for end in range(2):
                                        move = _end_adjoint(ti.select(end == 0, 1.0 - t, t) * d_grad, slope, axis, half)
                                        slot = _slot(faces, others, f, g, faces[g][(side + end) % 3])
                                        if slot < 3:
                                            corner_grads[n, slot] = corner_grads[n, slot] + vec3(move, 0.0)
                                        else:
                                            tip_grads[n, slot - 3] = tip_grads[n, slot - 3] + vec3(move, 0.0)


@_antialias.adjoint
def _antialias_adjoint(
    image: Array, screen: Array, faces: Array, visible: Visible, sides: Across, flags: Array, blends: Array, out: Array
) -> None:  # fmt: skip
    if image.grad is not None:
        _image_adjoint_kernel(blends, image.grad, out.grad, *split(out.shape[0] * out.shape[1]))
    if screen.grad is not None:
        f, components = visible.fragments, image.element_shape[0] if image.element_shape else 1
        corner_grads, tip_grads = empty(vec3, (room(f.tiles.pairs), 3)), empty(vec3, (room(f.tiles.pairs), 3))
        _screen_adjoint_kernel(
            image, screen, faces, sides.faces, flags, visible.face_ids, visible.depths, f.tiles.pair_faces, f.offsets, f.pixels, out.grad,
            corner_grads, tip_grads, *split(f.tiles.pairs), f.tiles.pairs, components,
        )  # fmt: skip
        gather_corners(f.tiles.face_offsets, faces, f.size[0], (corner_grads, screen.grad))
        gather_corners(f.tiles.face_offsets, sides.tips, f.size[0], (tip_grads, screen.grad))
