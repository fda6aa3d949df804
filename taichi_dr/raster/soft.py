"""The soft rasterizer (SoftRas): every face colors every pixel near it, so the image is smooth in every vertex.

At a pixel p, face j has coverage D_j, color C_j and inverse depth z_j in [0, 1] (1 at near, 0 at far):

    D_j = sigmoid(x_j),  x_j = +-d(p, j) / sigma        d: squared distance to the boundary, + inside, - outside
    A   = 1 - prod_j (1 - D_j)                                                                      (silhouette)
    I   = sum_j w_j C_j + w_b C_b,  w_j ~ D_j exp(z_j / gamma),  w_b ~ exp(eps / gamma)                  (color)

Source: Liu, Li, Chen, Li: "Soft Rasterizer: A Differentiable Renderer for Image-based 3D Reasoning", ICCV 2019,
equations 1 to 4. The forward keeps per pixel only the sum of the weights and the front depth; the adjoint computes the
fragments again, so memory grows with pixels and with faces, not with their product.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import taichi as ti

from .. import runtime
from ..arrays import Array, Faces, Image, Ints, Points, Texels, Vectors, array, batch_size, capacity, empty, expect, item, split, vec2, vec3, vec4, work_item
from ..mesh import corner_incidence
from ..tape import operator
from . import triangle
from .tiles import TileLists, corners, in_box, pixel_bounds, pixel_center, tile_lists

HARD, BARYCENTRIC, EUCLIDEAN = 0, 1, 2
SOFTMAX = 1
SUM, PROD = 1, 2
DISTANCES = {"hard": HARD, "barycentric": BARYCENTRIC, "euclidean": EUCLIDEAN}
RGBS = {"hard": HARD, "softmax": SOFTMAX}
ALPHAS = {"hard": HARD, "sum": SUM, "prod": PROD}

Stats = ti.types.ndarray(dtype=vec2, ndim=3, needs_grad=False)  # (B, H, W): softmax: sum and front depth; hard: face and depth
Contributions = ti.types.ndarray(dtype=vec3, ndim=2, needs_grad=False)  # (pairs, 3): a gradient per corner

FAR_AWAY = 1e30  # a logit or a depth beyond all others; infinities do not survive fast math
CPU_TILE, GPU_TILE = 16, 8  # pixels on a side


class Settings(NamedTuple):
    """What the kernels need of the arguments, in the order in which they take it."""

    sigma: float
    softness: float  # gamma in units of depth
    near: float
    far: float
    last: float  # the depth that the background weighs as: eps in units of depth
    least_logit: float  # -ln(1 / dist_eps - 1): a face counts where its logit is above
    cutoff: float  # a color this many `softness` behind the front is lost in rounding
    distance: int
    rgb: int
    alpha: int
    textured: int
    perspective_correct: int
    double_sided: int

    @property
    def radius(self) -> float:
        """Screen distance from a face's box beyond which it has no fragments."""
        return 0.0 if self.distance == HARD else math.sqrt(-self.least_logit * self.sigma)


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
        double_sided: False leaves out the colors of faces that are clockwise on the screen (they still have alpha).
        perspective_correct: interpolate colors in space instead of on the screen.

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
    expect("faces", faces, 3, 1, "(F,) of ivec3")
    expect("colors", colors, 3, (2, 3, 4), "(B, V) of vec3, or texels (F, R, R) or (B, F, R, R) of vec3")
    textured = len(colors.shape) > 2
    expected, came = (faces.shape[0], colors.shape[-3]) if textured else (screen.shape[1], colors.shape[1])
    if expected != came:
        raise ValueError(f"colors: expected one entry per {'face' if textured else 'vertex'}, {expected}, got {came} in shape {tuple(colors.shape)}")
    if textured and colors.shape[-1] != colors.shape[-2]:
        raise ValueError(f"colors: expected square texels (F, R, R), got {tuple(colors.shape)}")
    height, width = image_size(size)
    if not isinstance(background, ti.Ndarray):
        background = array([float(x) for x in background])
    expect("background", background, 3, (0, 1), "three numbers, or () or (B,) of vec3")
    batch = batch_size(
        screen=screen.shape[0],
        colors=1 if len(colors.shape) == 3 else colors.shape[0],
        background=background.shape[0] if background.shape else 1,
    )
    settings = _settings(sigma, gamma, near, far, eps, dist_eps, distance, rgb, alpha, textured, perspective_correct, double_sided)

    tile = CPU_TILE if runtime.device().arch == "cpu" else GPU_TILE
    tiles = tile_lists(screen, faces, batch, height, width, settings.radius, tile)
    image = empty(vec4, (batch, height, width), needs_grad=True)
    stats = empty(vec2, (batch, height, width))
    _soft_rasterize(screen, faces, colors, background, tiles, settings, stats, image)
    return image


def image_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of `size`, one number for a square."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(n, int) and n >= 1 for n in sides):
        raise ValueError(f"size: expected a positive whole number or (height, width), got {size!r}")
    return sides


def _settings(
    sigma: float, gamma: float, near: float, far: float, eps: float, dist_eps: float,
    distance: str, rgb: str, alpha: str, textured: bool, perspective_correct: bool, double_sided: bool,
) -> Settings:  # fmt: skip
    for name, value in {"sigma": sigma, "gamma": gamma, "near": near}.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name}: expected a positive number, got {value!r}")
    if not (far > near and math.isfinite(far)):
        raise ValueError(f"far: expected a number above near = {near!r}, got {far!r}")
    if not math.isfinite(eps):
        raise ValueError(f"eps: expected a finite number, got {eps!r}")
    if not 0 < dist_eps < 0.5:
        raise ValueError(f"dist_eps: expected a number between 0 and 0.5, got {dist_eps!r}")
    for name, value, modes in (("distance", distance, DISTANCES), ("rgb", rgb, RGBS), ("alpha", alpha, ALPHAS)):
        if value not in modes:
            raise ValueError(f"{name}: expected one of {', '.join(modes)}, got {value!r}")
    rounding = 2.0**-24 if runtime.device().precision == "f32" else 2.0**-53
    cutoff = -math.log(rounding * dist_eps)
    least_logit = -math.log(1 / dist_eps - 1)
    return Settings(
        float(sigma), gamma * (far - near), float(near), float(far), far - eps * (far - near), least_logit, cutoff,
        DISTANCES[distance], RGBS[rgb], ALPHAS[alpha], int(textured), int(perspective_correct), int(double_sided),
    )  # fmt: skip


# --- One fragment: a face seen from a pixel ---------------------------------------------------------------------


@ti.func
def _logit(p, a, b, c, w, sigma, least_logit, distance: ti.template()):
    """x with D = sigmoid(x), some x below least_logit where that is lower, and the edge that x is measured from."""
    x, edge = 0.0, 0
    least = ti.min(w.x, w.y, w.z)
    if ti.static(distance == HARD):
        x = ti.select(least >= 0.0, FAR_AWAY, -FAR_AWAY)
    elif ti.static(distance == BARYCENTRIC):
        x = least * ti.abs(least) * (1.0 / sigma)
        edge = ti.select(w.x == least, 0, ti.select(w.y == least, 1, 2))
    else:
        d, edge_of_d = triangle.boundary_distance(p, a, b, c, w, -least_logit * sigma)
        x, edge = ti.select(least > 0.0, d, -d) * (1.0 / sigma), edge_of_d
    return x, edge


@ti.func
def _logit_adjoint(p, a, b, c, w, edge, sigma, distance: ti.template(), x_grad):
    """Gradients of the corners a, b, c."""
    a_grad, b_grad, c_grad = vec2(0.0), vec2(0.0), vec2(0.0)
    least = ti.min(w.x, w.y, w.z)
    if ti.static(distance == BARYCENTRIC):
        step = x_grad * 2.0 * ti.abs(least) * (1.0 / sigma)
        w_grad = vec3(ti.select(edge == 0, step, 0.0), ti.select(edge == 1, step, 0.0), ti.select(edge == 2, step, 0.0))
        a_grad, b_grad, c_grad = triangle.barycentrics_adjoint(a, b, c, w, w_grad)
    elif ti.static(distance == EUCLIDEAN):
        d_grad = ti.select(least > 0.0, x_grad, -x_grad) * (1.0 / sigma)
        a_grad, b_grad, c_grad = triangle.boundary_distance_adjoint(p, a, b, c, edge, d_grad)
    return a_grad, b_grad, c_grad


@ti.func
def _sigmoid(x):
    """D and 1 - D, both to full precision."""
    e = ti.exp(-ti.abs(x))
    near_one = 1.0 / (1.0 + e)
    near_zero = e * near_one
    return ti.select(x > 0.0, near_one, near_zero), ti.select(x > 0.0, near_zero, near_one)


@ti.func
def _surface(w, z, perspective_correct: ti.template()):
    """Depth, and the weights of the corners' colors, at the point of the face that a fragment shows."""
    clipped = triangle.clip_weights(w)
    depth = triangle.depth_at(clipped, z)
    weights = clipped
    if ti.static(perspective_correct):
        weights = triangle.perspective_weights(clipped, z, depth)
    return depth, weights


@ti.func
def _surface_adjoint(w, z, perspective_correct: ti.template(), depth_grad, weights_grad):
    """Gradients of w and z."""
    clipped = triangle.clip_weights(w)
    depth = triangle.depth_at(clipped, z)
    clipped_grad, z_grad = weights_grad, vec3(0.0)
    if ti.static(perspective_correct):
        clipped_grad, z_grad, more = triangle.perspective_weights_adjoint(clipped, z, depth, weights_grad)
        depth_grad += more
    by_depth, z_by_depth = triangle.depth_at_adjoint(clipped, z, depth, depth_grad)
    return triangle.clip_weights_adjoint(w, clipped, clipped_grad + by_depth), z_grad + z_by_depth


@ti.func
def _texel_index(weights, resolution: int):
    """Row and column of the texel at `weights`: a face is cut into R x R cells, each into two triangles (SoftRas)."""
    column = ti.min(int(weights.x * resolution), resolution - 1)
    row = ti.min(int(weights.y * resolution), resolution - 1)
    # On the edge opposite corner 2 the sum is 1 up to rounding, and only lower triangles are there.
    if row + column < resolution - 1 and (weights.x + weights.y) * resolution - column - row > 1.0:
        row, column = resolution - 1 - row, resolution - 1 - column
    return row, column


@ti.func
def _texel(texels: ti.template(), b: int, f: int, weights):
    color = vec3(0.0)
    if ti.static(len(texels.shape) == 4):
        row, column = _texel_index(weights, texels.shape[2])
        color = texels[b % texels.shape[0], f, row, column]
    elif ti.static(len(texels.shape) == 3):
        row, column = _texel_index(weights, texels.shape[1])
        color = texels[f, row, column]
    return color


@ti.func
def _color(colors: ti.template(), b: int, f: int, c0, c1, c2, weights):
    """The color of face f at `weights`, from its corner colors or its texels."""
    color = weights.x * c0 + weights.y * c1 + weights.z * c2
    if ti.static(len(colors.shape) > 2):
        color = _texel(colors, b, f, weights)
    return color


@ti.func
def _vertex_colors(colors: ti.template(), faces: ti.template(), b: int, f: int):
    """The three corner colors of face f as columns, zero where the mesh has texels."""
    c0, c1, c2 = vec3(0.0), vec3(0.0), vec3(0.0)
    if ti.static(len(colors.shape) == 2):
        view = b % colors.shape[0]
        c0, c1, c2 = colors[view, faces[f].x], colors[view, faces[f].y], colors[view, faces[f].z]
    return c0, c1, c2


@ti.func
def _faces_us(a, b, c, double_sided: ti.template()):
    facing = True
    if ti.static(not double_sided):
        facing = triangle.doubled_area(a, b, c) > 0.0
    return facing


# --- Forward ----------------------------------------------------------------------------------------------------


@ti.func
def _cleared_pixel(background, last, rgb: ti.template(), alpha: ti.template()):
    """(r, g, b, alpha so far) and the statistics before any face."""
    pixel = vec4(background, ti.static(1.0 if alpha == PROD else 0.0))
    stats = vec2(1.0, last)
    if ti.static(rgb == HARD):
        stats = vec2(-1.0, FAR_AWAY)
    return pixel, stats


@ti.func
def _add_face(
    pixel, stats, b: int, f: int, w, x, z, c0, c1, c2, facing, colors: ti.template(),
    softness, near, far, cutoff, rgb: ti.template(), alpha: ti.template(), perspective_correct: ti.template(),
):  # fmt: skip
    """The pixel and its statistics with face f added; the softmax is rescaled whenever its front moves nearer."""
    D, not_D = _sigmoid(x)
    if ti.static(alpha == PROD):
        pixel.w *= not_D
    elif ti.static(alpha == SUM):
        pixel.w += D
    elif D > 0.5:
        pixel.w = 1.0
    depth, weights = _surface(w, z, perspective_correct)
    if facing and near <= depth <= far:
        if ti.static(rgb == SOFTMAX):
            behind = (depth - stats.y) * (1.0 / softness)  # depths, since their difference is exact where it matters
            if behind < cutoff:
                shrink = ti.exp(-ti.abs(behind))
                old, new = ti.select(behind < 0.0, shrink, 1.0), D * ti.select(behind < 0.0, 1.0, shrink)
                pixel = vec4(old * pixel.xyz + new * _color(colors, b, f, c0, c1, c2, weights), pixel.w)
                stats = vec2(old * stats.x + new, ti.min(depth, stats.y))
        elif ti.min(w.x, w.y, w.z) > 0.0 and depth < stats.y:
            pixel = vec4(_color(colors, b, f, c0, c1, c2, weights), pixel.w)
            stats = vec2(float(f), depth)
    return pixel, stats


@ti.func
def _finished_pixel(pixel, stats, face_count: int, rgb: ti.template(), alpha: ti.template()):
    """RGBA of a pixel that has met all its faces."""
    color, A = pixel.xyz, pixel.w
    if ti.static(rgb == SOFTMAX):
        color /= stats.x
    if ti.static(alpha == PROD):
        A = 1.0 - A
    elif ti.static(alpha == SUM):
        A /= face_count
    return vec4(color, A)


@ti.kernel
def _tile_kernel(
    screen: Points, faces: Faces, colors: Texels, background: Vectors, offsets: Ints, members: Ints, stats: Stats, image: Image,
    steps: int, pad: int, threads: int, tile: int, rows: int, columns: int, radius: float,
    sigma: float, softness: float, near: float, far: float, last: float, least_logit: float, cutoff: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), perspective_correct: ti.template(), double_sided: ti.template(),
):  # fmt: skip
    """For CPUs: a thread takes a tile, then for each of its faces the pixels in the face's box."""
    for q in range(steps):
        k = work_item(q, pad, threads, image.shape[0] * rows * columns)
        if k >= 0:
            height, width = image.shape[1], image.shape[2]
            b, top, left = k // (rows * columns), k // columns % rows * tile, k % columns * tile
            bottom, right = ti.min(top + tile, height), ti.min(left + tile, width)
            for i in range(top, bottom):
                for j in range(left, right):
                    image[b, i, j], stats[b, i, j] = _cleared_pixel(item(background, b), last, rgb, alpha)
            for n in range(offsets[k], offsets[k + 1]):
                f = members[n]
                v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                c0, c1, c2 = _vertex_colors(colors, faces, b, f)
                facing = _faces_us(v0.xy, v1.xy, v2.xy, double_sided)
                z = vec3(v0.z, v1.z, v2.z)
                row0, row1, column0, column1 = pixel_bounds(v0.xy, v1.xy, v2.xy, radius, height, width)
                for i in range(ti.max(row0, top), ti.min(row1, bottom)):
                    for j in range(ti.max(column0, left), ti.min(column1, right)):
                        p = pixel_center(i, j, height, width)
                        w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                        x, edge = _logit(p, v0.xy, v1.xy, v2.xy, w, sigma, least_logit, distance)
                        if x > least_logit:
                            image[b, i, j], stats[b, i, j] = _add_face(
                                image[b, i, j], stats[b, i, j], b, f, w, x, z, c0, c1, c2, facing, colors,
                                softness, near, far, cutoff, rgb, alpha, perspective_correct,
                            )  # fmt: skip
            for i in range(top, bottom):
                for j in range(left, right):
                    image[b, i, j] = _finished_pixel(image[b, i, j], stats[b, i, j], faces.shape[0], rgb, alpha)


@ti.kernel
def _pixel_kernel(
    screen: Points, faces: Faces, colors: Texels, background: Vectors, offsets: Ints, members: Ints, stats: Stats, image: Image,
    steps: int, tile: int, rows: int, columns: int, radius: float,
    sigma: float, softness: float, near: float, far: float, last: float, least_logit: float, cutoff: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), perspective_correct: ti.template(), double_sided: ti.template(),
):  # fmt: skip
    """For GPUs: a thread takes a pixel, a block a tile, and all walk the tile's faces together."""
    ti.loop_config(block_dim=GPU_TILE * GPU_TILE)
    for q in range(steps):
        k, local = q // (tile * tile), q % (tile * tile)
        b = k // (rows * columns)
        i, j = k // columns % rows * tile + local // tile, k % columns * tile + local % tile
        if i < image.shape[1] and j < image.shape[2]:
            p = pixel_center(i, j, image.shape[1], image.shape[2])
            pixel, seen = _cleared_pixel(item(background, b), last, rgb, alpha)
            for n in range(offsets[k], offsets[k + 1]):
                f = members[n]
                v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                if in_box(p, v0.xy, v1.xy, v2.xy, radius):
                    w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                    x, edge = _logit(p, v0.xy, v1.xy, v2.xy, w, sigma, least_logit, distance)
                    if x > least_logit:
                        c0, c1, c2 = _vertex_colors(colors, faces, b, f)
                        facing = _faces_us(v0.xy, v1.xy, v2.xy, double_sided)
                        pixel, seen = _add_face(
                            pixel, seen, b, f, w, x, vec3(v0.z, v1.z, v2.z), c0, c1, c2, facing, colors,
                            softness, near, far, cutoff, rgb, alpha, perspective_correct,
                        )  # fmt: skip
            image[b, i, j] = _finished_pixel(pixel, seen, faces.shape[0], rgb, alpha)
            stats[b, i, j] = seen


@operator
def _soft_rasterize(
    screen: Array, faces: Array, colors: Array, background: Array, tiles: TileLists, settings: Settings, stats: Array, image: Array
) -> None:
    s = settings
    shared = (s.radius, s.sigma, s.softness, s.near, s.far, s.last, s.least_logit, s.cutoff, s.distance, s.rgb, s.alpha, s.perspective_correct, s.double_sided)
    inputs = (screen, faces, colors, background, tiles.tile_offsets, tiles.members, stats, image)
    count = image.shape[0] * tiles.rows * tiles.columns
    if runtime.device().arch == "cpu":
        _tile_kernel(*inputs, *split(count), tiles.tile, tiles.rows, tiles.columns, *shared)
    else:
        _pixel_kernel(*inputs, count * tiles.tile**2, tiles.tile, tiles.rows, tiles.columns, *shared)


# --- Adjoint ----------------------------------------------------------------------------------------------------


@ti.func
def _fragment_adjoint(
    p, a, b, c, z, c0, c1, c2, color, w, x, edge, facing, winner, pixel, stats, pixel_grad, face_count: int,
    sigma, softness, near, far, cutoff,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), perspective_correct: ti.template(), textured: ti.template(),
):  # fmt: skip
    """Gradients of the corners a, b, c, of their depths z, and of the color that the fragment shows."""
    D, not_D = _sigmoid(x)
    x_grad = 0.0  # through D; for the product dA/dx is (1 - A) D: no division to blow up as D nears 1
    if ti.static(alpha == PROD):
        x_grad = pixel_grad.w * (1.0 - pixel.w) * D
    elif ti.static(alpha == SUM):
        x_grad = pixel_grad.w / face_count * D * not_D
    depth, _ = _surface(w, z, perspective_correct)
    share, depth_grad = 0.0, 0.0  # share: how much of the pixel's color this fragment is
    if facing and near <= depth <= far:
        if ti.static(rgb == SOFTMAX):
            behind = (depth - stats.y) * (1.0 / softness)
            if behind < cutoff:
                share = D * ti.exp(-behind) / stats.x
                pull = share * pixel_grad.xyz.dot(color - pixel.xyz)
                x_grad += pull * not_D
                depth_grad = -pull / softness
        elif winner:
            share = 1.0
    a_grad, b_grad, c_grad = _logit_adjoint(p, a, b, c, w, edge, sigma, distance, x_grad)
    z_grad, color_grad = vec3(0.0), share * pixel_grad.xyz
    if share > 0.0:
        weights_grad = vec3(0.0)
        if ti.static(not textured):
            weights_grad = vec3(color_grad.dot(c0), color_grad.dot(c1), color_grad.dot(c2))
        w_grad, z_grad_here = _surface_adjoint(w, z, perspective_correct, depth_grad, weights_grad)
        a_more, b_more, c_more = triangle.barycentrics_adjoint(a, b, c, w, w_grad)
        a_grad, b_grad, c_grad, z_grad = a_grad + a_more, b_grad + b_more, c_grad + c_more, z_grad_here
    return a_grad, b_grad, c_grad, z_grad, color_grad


@ti.func
def _add_texel_grad(texels_grad: ti.template(), b: int, f: int, weights, color_grad, owned: ti.template()):
    """Add to the texel that the fragment shows; atomically unless one thread owns the face."""
    if ti.static(len(texels_grad.shape) == 4):
        row, column = _texel_index(weights, texels_grad.shape[2])
        view = b % texels_grad.shape[0]
        if ti.static(owned):
            texels_grad[view, f, row, column] = texels_grad[view, f, row, column] + color_grad
        else:
            texels_grad[view, f, row, column] += color_grad
    elif ti.static(len(texels_grad.shape) == 3):
        row, column = _texel_index(weights, texels_grad.shape[1])
        if ti.static(owned):
            texels_grad[f, row, column] = texels_grad[f, row, column] + color_grad
        else:
            texels_grad[f, row, column] += color_grad


@ti.kernel
def _pair_adjoint_kernel(
    screen: Points, faces: Faces, colors: Texels, face_offsets: Ints, pair_faces: Ints, pair_tiles: Ints, stats: Stats, image: Image,
    colors_grad: Texels, image_grad: Image, corner_grads: Contributions, color_grads: Contributions,
    steps: int, pad: int, threads: int, items: int, tile: int, rows: int, columns: int, radius: float,
    sigma: float, softness: float, near: float, far: float, least_logit: float, cutoff: float,
    distance: ti.template(), rgb: ti.template(), alpha: ti.template(), perspective_correct: ti.template(), double_sided: ti.template(),
    by_face: ti.template(),
):  # fmt: skip
    """A thread takes a pair of face and tile, computes its fragments again, and sums their gradients in registers.

    With `by_face` it takes all pairs of a face in all views: then no other thread touches the face's texels.
    """
    for q in range(steps):
        item_index = work_item(q, pad, threads, items)
        if item_index >= 0:
            views = 1
            if ti.static(by_face):
                views = image.shape[0]
            for view in range(views):
                first, last = item_index, item_index + 1
                if ti.static(by_face):
                    first, last = face_offsets[view * faces.shape[0] + item_index], face_offsets[view * faces.shape[0] + item_index + 1]
                for n in range(first, last):
                    height, width = image.shape[1], image.shape[2]
                    b, f = pair_faces[n] // faces.shape[0], pair_faces[n] % faces.shape[0]
                    top, left = pair_tiles[n] // columns % rows * tile, pair_tiles[n] % columns * tile
                    v0, v1, v2 = corners(screen, faces, b % screen.shape[0], f)
                    z = vec3(v0.z, v1.z, v2.z)
                    c0, c1, c2 = _vertex_colors(colors, faces, b, f)
                    facing = _faces_us(v0.xy, v1.xy, v2.xy, double_sided)
                    row0, row1, column0, column1 = pixel_bounds(v0.xy, v1.xy, v2.xy, radius, height, width)
                    a_sum, b_sum, c_sum, z_sum = vec2(0.0), vec2(0.0), vec2(0.0), vec3(0.0)
                    c0_sum, c1_sum, c2_sum = vec3(0.0), vec3(0.0), vec3(0.0)
                    for i in range(ti.max(row0, top), ti.min(row1, top + tile)):
                        for j in range(ti.max(column0, left), ti.min(column1, left + tile)):
                            p = pixel_center(i, j, height, width)
                            w = triangle.barycentrics(p, v0.xy, v1.xy, v2.xy)
                            x, edge = _logit(p, v0.xy, v1.xy, v2.xy, w, sigma, least_logit, distance)
                            if x > least_logit:
                                _, weights = _surface(w, z, perspective_correct)
                                a_grad, b_grad, c_grad, z_grad, color_grad = _fragment_adjoint(
                                    p, v0.xy, v1.xy, v2.xy, z, c0, c1, c2, _color(colors, b, f, c0, c1, c2, weights), w, x, edge,
                                    facing, stats[b, i, j].x == float(f), image[b, i, j], stats[b, i, j], image_grad[b, i, j], faces.shape[0],
                                    sigma, softness, near, far, cutoff, distance, rgb, alpha, perspective_correct, ti.static(len(colors.shape) > 2),
                                )  # fmt: skip
                                a_sum += a_grad
                                b_sum += b_grad
                                c_sum += c_grad
                                z_sum += z_grad
                                c0_sum += weights.x * color_grad
                                c1_sum += weights.y * color_grad
                                c2_sum += weights.z * color_grad
                                _add_texel_grad(colors_grad, b, f, weights, color_grad, by_face)
                    corner_grads[n, 0], corner_grads[n, 1], corner_grads[n, 2] = vec3(a_sum, z_sum.x), vec3(b_sum, z_sum.y), vec3(c_sum, z_sum.z)
                    color_grads[n, 0], color_grads[n, 1], color_grads[n, 2] = c0_sum, c1_sum, c2_sum


@ti.kernel
def _gather_kernel(contributions: Contributions, offsets: Ints, vertex_offsets: Ints, vertex_corners: Ints, out: Points, batch: int, face_count: int):
    """Add up, for each vertex, what the pairs of its faces contribute, in the order of faces, views and pairs."""
    for k in range(out.shape[0] * out.shape[1]):
        view, v = k // out.shape[1], k % out.shape[1]
        total = vec3(0.0)
        for s in range(vertex_offsets[v], vertex_offsets[v + 1]):
            f, corner = vertex_corners[s] // 3, vertex_corners[s] % 3
            for turn in range((batch - view + out.shape[0] - 1) // out.shape[0]):
                face = (view + turn * out.shape[0]) * face_count + f
                for n in range(offsets[face], offsets[face + 1]):
                    total += contributions[n, corner]
        out[view, v] += total


@ti.kernel
def _background_kernel(stats: Stats, image_grad: Image, sums: Points, softness: float, last: float, rgb: ti.template()):
    """Per view and row, the sum of the color gradients times the share of the background."""
    for k in range(sums.shape[0] * sums.shape[1]):
        b, i = k // sums.shape[1], k % sums.shape[1]
        total = vec3(0.0)
        for j in range(image_grad.shape[2]):
            share = 0.0
            if ti.static(rgb == SOFTMAX):
                share = ti.exp((stats[b, i, j].y - last) / softness) / stats[b, i, j].x
            elif stats[b, i, j].x < 0.0:
                share = 1.0
            total += share * image_grad[b, i, j].xyz
        sums[b, i] = total


@ti.kernel
def _add_rows_kernel(sums: Points, out: Vectors):
    ti.loop_config(serialize=True)
    for k in range(sums.shape[0] * sums.shape[1]):
        b = k // sums.shape[1]
        if ti.static(len(out.shape) == 0):
            out[None] += sums[b, k % sums.shape[1]]
        else:
            out[b % out.shape[0]] += sums[b, k % sums.shape[1]]


@_soft_rasterize.adjoint
def _soft_rasterize_adjoint(
    screen: Array, faces: Array, colors: Array, background: Array, tiles: TileLists, settings: Settings, stats: Array, image: Array
) -> None:
    s, t = settings, tiles
    batch, height, width = image.shape
    by_face = bool(s.textured) and runtime.device().deterministic
    items = faces.shape[0] if by_face else t.pairs
    corner_grads, color_grads = empty(vec3, (capacity(t.pairs), 3)), empty(vec3, (capacity(t.pairs), 3))
    _pair_adjoint_kernel(
        screen, faces, colors, t.face_offsets, t.pair_faces, t.pair_tiles, stats, image,
        colors if colors.grad is None else colors.grad, image.grad, corner_grads, color_grads,
        *split(items), items, t.tile, t.rows, t.columns, s.radius, s.sigma, s.softness, s.near, s.far, s.least_logit, s.cutoff,
        s.distance, s.rgb, s.alpha, s.perspective_correct, s.double_sided, by_face,
    )  # fmt: skip
    corners_of = corner_incidence(faces, screen.shape[1])
    if screen.grad is not None:
        _gather_kernel(corner_grads, t.face_offsets, corners_of.offsets, corners_of.slots, screen.grad, batch, faces.shape[0])
    if colors.grad is not None and not s.textured:
        _gather_kernel(color_grads, t.face_offsets, corners_of.offsets, corners_of.slots, colors.grad, batch, faces.shape[0])
    if background.grad is not None:
        rows = empty(vec3, (batch, height))
        _background_kernel(stats, image.grad, rows, s.softness, s.last, s.rgb)
        _add_rows_kernel(rows, background.grad)
