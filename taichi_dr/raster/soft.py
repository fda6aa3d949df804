"""The soft rasterizer (SoftRas): every face colors every pixel near it, so the image is smooth in every vertex.

At a pixel p, face j has coverage D_j, color C_j and inverse depth z_j in [0, 1] (1 at near, 0 at far):

    D_j = sigmoid(x_j),  x_j = +-d(p, j) / sigma        d: squared distance to the boundary, + inside, - outside
    A   = 1 - prod_j (1 - D_j)                                                                      (silhouette)
    I   = sum_j w_j C_j + w_b C_b,  w_j ~ D_j exp(z_j / gamma),  w_b ~ exp(eps / gamma)                  (color)

Source: Liu, Li, Chen, Li: "Soft Rasterizer: A Differentiable Renderer for Image-based 3D Reasoning", ICCV 2019,
equations 1 to 4. The forward keeps per pixel only the sum of the weights and the front depth; the adjoint computes the
fragments again, so memory grows with pixels and with faces, not with their product.
"""

from collections.abc import Sequence

import taichi as ti

from .. import runtime
from ..arrays import (
    Array,
    Faces,
    Image,
    Ints,
    Points,
    Texels,
    Vectors,
    batch_size,
    capacity,
    constant,
    empty,
    expect,
    image_size,
    item,
    split,
    vec2,
    vec3,
    vec4,
    work_item,
)
from ..launch import kernel
from ..tape import operator
from . import triangle
from .fragment import (
    BOTH,
    CLOCKWISE,
    COUNTERCLOCKWISE,
    background_share,
    blend,
    blend_adjoint,
    cleared,
    color_at,
    corner_colors,
    face_inverses,
    faces_us,
    fragment_adjoint,
    logit,
    mean,
    opacity,
    opacity_adjoint,
    surface,
    texel_index,
)  # fmt: skip
from .gather import add_rows, gather_corners
from .settings import Settings, checked_settings, interpolation_of, kept_turn
from .tiles import Boxes, TileLists, corners, pixel_center, tile_lists

Stats = ti.types.ndarray(dtype=vec2, ndim=3, needs_grad=False)  # (B, H, W): softmax: sum and front depth; hard: face and depth
Contributions = ti.types.ndarray(dtype=vec3, ndim=2, needs_grad=False)  # (pairs, 3): a gradient per corner

CPU_TILE = TILE_HEIGHT, TILE_WIDTH = 4, 32  # pixels; wide, to cut few rows of a face; small, to compile fast
GPU_TILE = 8  # pixels on a side
TILE_MASK = (1 << (TILE_HEIGHT * TILE_WIDTH - 1).bit_length()) - 1  # covers the indices of a CPU tile's pixels
LANES = 4  # pixels that a CPU computes at once: what plain x86-64 and Arm hold in a vector, and narrow faces fill
SPAN_BASE = 2 * TILE_WIDTH  # a span of columns in one number: begin times this, plus end
GRADS = 18  # of a face: position and color of three corners


def soft_rasterize(
    screen: Array,
    faces: Array,
    colors: Array,
    *,
    size: int | tuple[int, int],
    sigma: float = 1e-5,
    gamma: float = 1e-4,
    distance: str = "euclidean",
    rgb: str = "softmax",
    alpha: str = "prod",
    near: float = 1.0,
    far: float = 100.0,
    eps: float = 1e-3,
    dist_eps: float = 1e-4,
    background: Sequence[float] | Array = (0.0, 0.0, 0.0),
    double_sided: bool = True,
    perspective_correct: bool = False,
    orthographic: bool = False,
    clockwise_front: bool = False,
    cull: str | None = None,
) -> Array:
    """Draw a mesh so that the image is differentiable in its vertices, colors and background (SoftRas).

        D_j = sigmoid(+-d_j / sigma),  A = 1 - prod_j (1 - D_j),  I = sum_j w_j C_j + w_b C_b,  w_j ~ D_j exp(z_j / gamma)

    Args:
        screen: projected vertices, (B, V) of vec3: x right, y up, the shorter side spans [-1, 1], z depth; see `project`.
        faces: vertex indices, (F,) of ivec3. Not to be changed in place: make a new array instead.
        colors: RGB per vertex, (B, V) of vec3, or texels per face, (F, R, R) or (B, F, R, R) of vec3.
        size: pixels, (height, width), or one number for a square.
        sigma: edge softness, screen units squared; sqrt(sigma) is about the width of an edge. Positive.
        gamma: depth softness, in fractions of far - near. Positive.
        distance: what the softness follows: "euclidean" distance, "barycentric" minimum, or "hard" (inside or not).
        rgb: "softmax" over depth, or "hard": the nearest face.
        alpha: "prod", "sum" over all faces of the mesh, or "hard" (any D > 0.5).
        near, far: depths outside of which a face has no color (it still has alpha).
        eps: weight of the background, exp(eps / gamma).
        dist_eps: coverage below which a face does not count at a pixel, in (0, 0.5).
        background: RGB behind everything, three numbers or an array of vec3, () or (B,).
        double_sided: False leaves out the colors of faces seen from behind (they still have alpha).
        cull: "back" or "front" faces are left out altogether, silhouette included.
        clockwise_front: faces seen from the front are clockwise on the screen, as in SoftRas's mirrored frame.
        perspective_correct: interpolate colors in space instead of on the screen.
        orthographic: `screen` is a parallel projection, where depth is linear on the screen and both interpolations are one. Else
            1 / depth is linear, as in perspective.

    Returns:
        RGBA image, (B, H, W) of vec4, row 0 on top.

    Differentiable in `screen`, `colors` and `background`. Not in the discrete choices: which faces count at a pixel,
    which texel or face is nearest, on which side a point is; "hard" modes are such choices and give no gradient
    to what they choose by.

    Raises:
        ValueError: wrong shapes or types, a face index out of range, a setting out of range, an unknown mode.

    Source: Liu et al., Soft Rasterizer, ICCV 2019, equations 1 to 4.
    """
    expect("screen", screen, 3, 2, "(B, V) of vec3")
    expect("faces", faces, 3, 1, "(F,) of ivec3", integers=True)
    expect("colors", colors, 3, (2, 3, 4), "(B, V) of vec3, or texels (F, R, R) or (B, F, R, R) of vec3")
    textured = len(colors.shape) > 2
    expected, came = (faces.shape[0], colors.shape[-3]) if textured else (screen.shape[1], colors.shape[1])
    if expected != came:
        raise ValueError(f"colors: expected one entry per {'face' if textured else 'vertex'}, {expected}, got {came} in shape {tuple(colors.shape)}")
    if textured and colors.shape[-1] != colors.shape[-2]:
        raise ValueError(f"colors: expected square texels (F, R, R), got {tuple(colors.shape)}")
    height, width = image_size(size)
    if not isinstance(background, ti.Ndarray):
        background = constant(tuple(float(x) for x in background))
    expect("background", background, 3, (0, 1), "three numbers, or () or (B,) of vec3")
    batch = batch_size(
        screen=screen.shape[0],
        colors=1 if len(colors.shape) == 3 else colors.shape[0],
        background=background.shape[0] if background.shape else 1,
    )
    settings = checked_settings(
        (height, width),
        sigma,
        gamma,
        near,
        far,
        eps,
        dist_eps,
        distance,
        rgb,
        alpha,
        textured,
        interpolation_of(perspective_correct, orthographic),
        BOTH if double_sided else CLOCKWISE if clockwise_front else COUNTERCLOCKWISE,
    )

    tile = CPU_TILE if runtime.device().arch == "cpu" else (GPU_TILE, GPU_TILE)
    tiles = tile_lists(screen, faces, batch, height, width, settings.radius, tile, kept_turn(cull, clockwise_front))
    image = empty(vec4, (batch, height, width), needs_grad=True)
    stats = empty(vec2, (batch, height, width))
    spans = empty(int, capacity(tiles.pairs) * TILE_HEIGHT if runtime.device().arch == "cpu" else 1)
    _soft_rasterize(screen, faces, colors, background, tiles, settings, spans, stats, image)
    return image


# --- Forward ----------------------------------------------------------------------------------------------------


@kernel
def _tile_kernel(
    screen: Points, faces: Faces, colors: Texels, background: Vectors, boxes: Boxes, pair_faces: Ints, tile_offsets: Ints, members: Ints,
    spans: Ints, stats: Stats, image: Image, steps: int, pad: int, threads: int, rows: int, columns: int,
    half: float, zero: float, per_sigma: float, per_softness: float, near: float, far: float, last: float, least_logit: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), interpolation: ti.template(), sides: ti.template(),
):  # fmt: skip
    """For CPUs: a thread takes a tile, keeps its pixels in local arrays, and adds face after face, four pixels at once.

    `spans` keeps where in each row of a pair its fragments begin and end, for the adjoint: less than half of a box is fragments.
    """
    for q in range(steps):
        k = work_item(q, pad, threads, image.shape[0] * rows * columns)
        if k >= 0:
            height, width = image.shape[1], image.shape[2]
            b, top, left = k // (rows * columns), k // columns % rows * TILE_HEIGHT, k % columns * TILE_WIDTH
            red, green, blue = _tile_array(), _tile_array(), _tile_array()
            keeps, totals, fronts = _tile_array(), _tile_array(), _tile_array()
            for t in range(TILE_HEIGHT * TILE_WIDTH):
                keeps[t], totals[t], fronts[t] = cleared(last, rgb, alpha)
                color = item(background, b)
                red[t], green[t], blue[t] = color.x, color.y, color.z
            for n in range(tile_offsets[k], tile_offsets[k + 1]):
                box, f = boxes[pair_faces[members[n]]], pair_faces[members[n]] % faces.shape[0]
                v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                inverses, depths = face_inverses(v0, v1, v2, zero, interpolation)
                c0, c1, c2 = corner_colors(colors, faces, b, f)
                facing = faces_us(v0.xy, v1.xy, v2.xy, sides)
                first, last_column = ti.max(box[2], left), ti.min(box[3], left + TILE_WIDTH)
                for i in range(ti.max(box[0], top), ti.min(box[1], top + TILE_HEIGHT)):
                    span_begin, span_end = left + TILE_WIDTH, left
                    for group in range((last_column - first + LANES - 1) // LANES):
                        begin = first + group * LANES
                        start = ti.min(begin, left + TILE_WIDTH - LANES)  # the last group overlaps the one before
                        base = ((i - top) * TILE_WIDTH + start - left) & TILE_MASK  # so LLVM sees that t cannot wrap
                        for lane in range(LANES):
                            j, t = start + lane, base + lane
                            p = pixel_center(i, j, height, width, half)
                            w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                            x, _offset, _nearest = logit(p, v0.xy, v1.xy, v2.xy, inverses, w, per_sigma, distance)
                            counts = (x > least_logit) & (j >= begin) & (j < last_column)
                            depth, weights = surface(w, depths, interpolation)
                            color, keeps[t], totals[t], fronts[t] = blend(
                                vec3(red[t], green[t], blue[t]), keeps[t], totals[t], fronts[t], f, x, counts, facing, w, depth,
                                color_at(colors, b, f, c0, c1, c2, weights), per_softness, near, far, rgb, alpha,
                            )  # fmt: skip
                            red[t], green[t], blue[t] = color.x, color.y, color.z
                            span_begin = ti.min(span_begin, ti.select(counts, j, left + TILE_WIDTH))
                            span_end = ti.max(span_end, ti.select(counts, j + 1, left))
                    spans[members[n] * TILE_HEIGHT + i - top] = (span_begin - left) * SPAN_BASE + span_end - left
            for i in range(top, ti.min(top + TILE_HEIGHT, height)):
                for j in range(left, ti.min(left + TILE_WIDTH, width)):
                    t = (i - top) * TILE_WIDTH + j - left
                    image[b, i, j] = vec4(mean(vec3(red[t], green[t], blue[t]), totals[t], rgb), opacity(keeps[t], faces.shape[0], alpha))
                    stats[b, i, j] = vec2(totals[t], fronts[t])


@ti.func
def _tile_array():
    """A local array with a number per pixel of a CPU tile."""
    return ti.Vector([0.0] * (TILE_HEIGHT * TILE_WIDTH))


@kernel
def _pixel_kernel(
    screen: Points, faces: Faces, colors: Texels, background: Vectors, boxes: Boxes, pair_faces: Ints, tile_offsets: Ints, members: Ints,
    stats: Stats, image: Image, steps: int, rows: int, columns: int,
    half: float, zero: float, per_sigma: float, per_softness: float, near: float, far: float, last: float, least_logit: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), interpolation: ti.template(), sides: ti.template(),
):  # fmt: skip
    """For GPUs: a thread takes a pixel, a block a tile, and all walk the tile's faces together."""
    ti.loop_config(block_dim=GPU_TILE * GPU_TILE)
    for q in range(steps):
        k, local = q // (GPU_TILE * GPU_TILE), q % (GPU_TILE * GPU_TILE)
        b = k // (rows * columns)
        i, j = k // columns % rows * GPU_TILE + local // GPU_TILE, k % columns * GPU_TILE + local % GPU_TILE
        if i < image.shape[1] and j < image.shape[2]:
            p = pixel_center(i, j, image.shape[1], image.shape[2], half)
            keep, total, front = cleared(last, rgb, alpha)
            color = item(background, b)
            for n in range(tile_offsets[k], tile_offsets[k + 1]):
                box = boxes[pair_faces[members[n]]]
                if box[0] <= i and i < box[1] and box[2] <= j and j < box[3]:
                    f = pair_faces[members[n]] % faces.shape[0]
                    v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                    inverses, depths = face_inverses(v0, v1, v2, zero, interpolation)
                    w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                    x, _offset, _nearest = logit(p, v0.xy, v1.xy, v2.xy, inverses, w, per_sigma, distance)
                    if x > least_logit:
                        c0, c1, c2 = corner_colors(colors, faces, b, f)
                        depth, weights = surface(w, depths, interpolation)
                        color, keep, total, front = blend(
                            color, keep, total, front, f, x, x > least_logit, faces_us(v0.xy, v1.xy, v2.xy, sides), w, depth,
                            color_at(colors, b, f, c0, c1, c2, weights), per_softness, near, far, rgb, alpha,
                        )  # fmt: skip
            image[b, i, j] = vec4(mean(color, total, rgb), opacity(keep, faces.shape[0], alpha))
            stats[b, i, j] = vec2(total, front)


@operator
def _soft_rasterize(
    screen: Array, faces: Array, colors: Array, background: Array, tiles: TileLists, settings: Settings, spans: Array, stats: Array, image: Array
) -> None:  # fmt: skip
    t, count = tiles, image.shape[0] * tiles.rows * tiles.columns
    arrays = (screen, faces, colors, background, t.boxes, t.pair_faces, t.tile_offsets, t.members)
    if runtime.device().arch == "cpu":
        _tile_kernel(*arrays, spans, stats, image, *split(count), t.rows, t.columns, *settings.numbers, *settings.modes)
    else:
        _pixel_kernel(*arrays, stats, image, count * GPU_TILE**2, t.rows, t.columns, *settings.numbers, *settings.modes)


# --- Adjoint ----------------------------------------------------------------------------------------------------


@kernel
def _tile_adjoint_kernel(
    screen: Points, faces: Faces, colors: Points, boxes: Boxes, pair_faces: Ints, tile_offsets: Ints, members: Ints,
    spans: Ints, stats: Stats, image: Image, image_grad: Image, corner_grads: Contributions, color_grads: Contributions,
    steps: int, pad: int, threads: int, rows: int, columns: int,
    half: float, zero: float, per_sigma: float, per_softness: float, near: float, far: float, last: float, least_logit: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), interpolation: ti.template(), sides: ti.template(),
):  # fmt: skip
    """For CPUs and vertex colors: the forward's walk over a tile, with the gradients of each face summed lane by lane."""
    for q in range(steps):
        k = work_item(q, pad, threads, image.shape[0] * rows * columns)
        if k >= 0:
            height, width = image.shape[1], image.shape[2]
            b, top, left = k // (rows * columns), k // columns % rows * TILE_HEIGHT, k % columns * TILE_WIDTH
            red_grad, green_grad, blue_grad, color_pulls = _tile_array(), _tile_array(), _tile_array(), _tile_array()
            opacity_steps, totals, fronts = _tile_array(), _tile_array(), _tile_array()
            for i in range(top, ti.min(top + TILE_HEIGHT, height)):
                for j in range(left, ti.min(left + TILE_WIDTH, width)):
                    t = (i - top) * TILE_WIDTH + j - left
                    pixel, grad = image[b, i, j], image_grad[b, i, j]
                    red_grad[t], green_grad[t], blue_grad[t] = grad.x, grad.y, grad.z
                    color_pulls[t], opacity_steps[t] = grad.xyz.dot(pixel.xyz), opacity_adjoint(pixel.w, grad.w, faces.shape[0], alpha)
                    totals[t], fronts[t] = stats[b, i, j].x, stats[b, i, j].y
            for n in range(tile_offsets[k], tile_offsets[k + 1]):
                box, f = boxes[pair_faces[members[n]]], pair_faces[members[n]] % faces.shape[0]
                v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                inverses, depths = face_inverses(v0, v1, v2, zero, interpolation)
                c0, c1, c2 = corner_colors(colors, faces, b, f)
                facing = faces_us(v0.xy, v1.xy, v2.xy, sides)
                sums = ti.Vector([0.0] * (GRADS * LANES))
                for s in range(GRADS * LANES):
                    sums[s] = 0.0
                for i in range(ti.max(box[0], top), ti.min(box[1], top + TILE_HEIGHT)):
                    span = spans[members[n] * TILE_HEIGHT + i - top]
                    first, last_column = left + span // SPAN_BASE, left + span % SPAN_BASE
                    for group in range((last_column - first + LANES - 1) // LANES):
                        begin = first + group * LANES
                        start = ti.min(begin, left + TILE_WIDTH - LANES)
                        base = ((i - top) * TILE_WIDTH + start - left) & TILE_MASK
                        for lane in range(LANES):
                            j, t = start + lane, base + lane
                            p = pixel_center(i, j, height, width, half)
                            w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                            x, offset, nearest = logit(p, v0.xy, v1.xy, v2.xy, inverses, w, per_sigma, distance)
                            counts = (x > least_logit) & (j >= begin) & (j < last_column)
                            depth, weights = surface(w, depths, interpolation)
                            x_grad, depth_grad, face_color_grad = blend_adjoint(
                                vec3(red_grad[t], green_grad[t], blue_grad[t]), color_pulls[t], opacity_steps[t], totals[t], fronts[t],
                                f, x, counts, facing, depth, color_at(colors, b, f, c0, c1, c2, weights), per_softness, near, far, rgb, alpha,
                            )  # fmt: skip
                            a_grad, b_grad, c_grad, z_grad = fragment_adjoint(
                                v0.xy, v1.xy, v2.xy, depths, c0, c1, c2, w, offset, nearest, x_grad, depth_grad, face_color_grad, per_sigma,
                                distance, interpolation, False,
                            )  # fmt: skip
                            for c in ti.static(range(3)):
                                position_grad = (a_grad, b_grad, c_grad)[c]
                                sums[(6 * c + 0) * LANES + lane] += position_grad.x
                                sums[(6 * c + 1) * LANES + lane] += position_grad.y
                                sums[(6 * c + 2) * LANES + lane] += z_grad[c]
                                for channel in ti.static(range(3)):
                                    sums[(6 * c + 3 + channel) * LANES + lane] += weights[c] * face_color_grad[channel]
                for c in ti.static(range(3)):
                    position_grad, color_grad = vec3(0.0), vec3(0.0)
                    for lane in range(LANES):
                        for axis in ti.static(range(3)):
                            position_grad[axis] += sums[(6 * c + axis) * LANES + lane]
                            color_grad[axis] += sums[(6 * c + 3 + axis) * LANES + lane]
                    corner_grads[members[n], c], color_grads[members[n], c] = position_grad, color_grad


@ti.func
def _add_texel_grad(texels_grad: ti.template(), b: int, f: int, weights, color_grad, owned: ti.template()):
    """Add to the texel that the fragment shows; atomically unless one thread owns the face."""
    if ti.static(len(texels_grad.shape) == 4):
        row, column = texel_index(weights, texels_grad.shape[2])
        view = b % texels_grad.shape[0]
        if ti.static(owned):
            texels_grad[view, f, row, column] = texels_grad[view, f, row, column] + color_grad
        else:
            texels_grad[view, f, row, column] += color_grad
    elif ti.static(len(texels_grad.shape) == 3):
        row, column = texel_index(weights, texels_grad.shape[1])
        if ti.static(owned):
            texels_grad[f, row, column] = texels_grad[f, row, column] + color_grad
        else:
            texels_grad[f, row, column] += color_grad


@kernel
def _pair_adjoint_kernel(
    screen: Points, faces: Faces, colors: Texels, boxes: Boxes, face_offsets: Ints, pair_faces: Ints, pair_tiles: Ints, stats: Stats, image: Image,
    colors_grad: Texels, image_grad: Image, corner_grads: Contributions, color_grads: Contributions,
    steps: int, pad: int, threads: int, items: int, tile_height: int, tile_width: int, rows: int, columns: int,
    half: float, zero: float, per_sigma: float, per_softness: float, near: float, far: float, last: float, least_logit: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), interpolation: ti.template(), sides: ti.template(),
    by_face: ti.template(),
):  # fmt: skip
    """For GPUs and texels: a thread takes a pair of face and tile, and sums the gradients of its fragments in registers.

    With `by_face` it takes all pairs of a face in all views: then no other thread touches the face's texels.
    """
    for q in range(steps):
        k = work_item(q, pad, threads, items)
        if k >= 0:
            views = 1
            if ti.static(by_face):
                views = image.shape[0]
            for view in range(views):
                begin, end = k, k + 1
                if ti.static(by_face):
                    begin, end = face_offsets[view * faces.shape[0] + k], face_offsets[view * faces.shape[0] + k + 1]
                for n in range(begin, end):
                    b, f = pair_faces[n] // faces.shape[0], pair_faces[n] % faces.shape[0]
                    top, left = pair_tiles[n] // columns % rows * tile_height, pair_tiles[n] % columns * tile_width
                    v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                    inverses, depths = face_inverses(v0, v1, v2, zero, interpolation)
                    c0, c1, c2 = corner_colors(colors, faces, b, f)
                    facing = faces_us(v0.xy, v1.xy, v2.xy, sides)
                    box = boxes[pair_faces[n]]
                    a_sum, b_sum, c_sum, z_sum = vec2(0.0), vec2(0.0), vec2(0.0), vec3(0.0)
                    c0_sum, c1_sum, c2_sum = vec3(0.0), vec3(0.0), vec3(0.0)
                    for i in range(ti.max(box[0], top), ti.min(box[1], top + tile_height)):
                        for j in range(ti.max(box[2], left), ti.min(box[3], left + tile_width)):
                            p = pixel_center(i, j, image.shape[1], image.shape[2], half)
                            w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                            x, offset, nearest = logit(p, v0.xy, v1.xy, v2.xy, inverses, w, per_sigma, distance)
                            if x > least_logit:
                                depth, weights = surface(w, depths, interpolation)
                                pixel, grad = image[b, i, j], image_grad[b, i, j]
                                opacity_step = opacity_adjoint(pixel.w, grad.w, faces.shape[0], alpha)
                                x_grad, depth_grad, face_color_grad = blend_adjoint(
                                    grad.xyz, grad.xyz.dot(pixel.xyz), opacity_step, stats[b, i, j].x, stats[b, i, j].y,
                                    f, x, x > least_logit, facing, depth, color_at(colors, b, f, c0, c1, c2, weights),
                                    per_softness, near, far, rgb, alpha,
                                )  # fmt: skip
                                a_grad, b_grad, c_grad, z_grad = fragment_adjoint(
                                    v0.xy, v1.xy, v2.xy, depths, c0, c1, c2, w, offset, nearest, x_grad, depth_grad, face_color_grad, per_sigma,
                                    distance, interpolation, ti.static(len(colors.shape) > 2),
                                )  # fmt: skip
                                a_sum += a_grad
                                b_sum += b_grad
                                c_sum += c_grad
                                z_sum += z_grad
                                c0_sum += weights.x * face_color_grad
                                c1_sum += weights.y * face_color_grad
                                c2_sum += weights.z * face_color_grad
                                _add_texel_grad(colors_grad, b, f, weights, face_color_grad, by_face)
                    corner_grads[n, 0], corner_grads[n, 1], corner_grads[n, 2] = vec3(a_sum, z_sum.x), vec3(b_sum, z_sum.y), vec3(c_sum, z_sum.z)
                    color_grads[n, 0], color_grads[n, 1], color_grads[n, 2] = c0_sum, c1_sum, c2_sum


@kernel
def _background_kernel(stats: Stats, image_grad: Image, sums: Points, per_softness: float, last: float, rgb: ti.template()):
    """Per view and row, the sum of the color gradients times the share of the background."""
    for k in range(sums.shape[0] * sums.shape[1]):
        b, i = k // sums.shape[1], k % sums.shape[1]
        total = vec3(0.0)
        for j in range(image_grad.shape[2]):
            total += background_share(stats[b, i, j].x, stats[b, i, j].y, last, per_softness, rgb) * image_grad[b, i, j].xyz
        sums[b, i] = total


@_soft_rasterize.adjoint
def _soft_rasterize_adjoint(
    screen: Array, faces: Array, colors: Array, background: Array, tiles: TileLists, settings: Settings, spans: Array, stats: Array, image: Array
) -> None:  # fmt: skip
    s, t = settings, tiles
    batch, height, width = image.shape
    corner_grads, color_grads = empty(vec3, (capacity(t.pairs), 3)), empty(vec3, (capacity(t.pairs), 3))
    if runtime.device().arch == "cpu" and not s.textured:
        _tile_adjoint_kernel(
            screen, faces, colors, t.boxes, t.pair_faces, t.tile_offsets, t.members, spans, stats, image, image.grad, corner_grads, color_grads,
            *split(batch * t.rows * t.columns), t.rows, t.columns, *s.numbers, *s.modes,
        )  # fmt: skip
    else:
        by_face = bool(s.textured) and runtime.device().deterministic
        colors_grad = empty(vec3, colors.shape) if colors.grad is None else colors.grad  # the kernel writes to it where there are texels
        items = faces.shape[0] if by_face else t.pairs
        _pair_adjoint_kernel(
            screen, faces, colors, t.boxes, t.face_offsets, t.pair_faces, t.pair_tiles, stats, image,
            colors_grad, image.grad, corner_grads, color_grads,
            *split(items), items, *t.tile, t.rows, t.columns, *s.numbers, *s.modes, by_face,
        )  # fmt: skip
    targets = [(corner_grads, screen.grad)] if screen.grad is not None else []
    if colors.grad is not None and not s.textured:
        targets.append((color_grads, colors.grad))
    gather_corners(t.face_offsets, faces, batch, *targets)
    if background.grad is not None:
        rows = empty(vec3, (batch, height))
        _background_kernel(stats, image.grad, rows, s.per_softness, s.last, s.rgb)
        add_rows(rows, background.grad)
