"""One fragment, a face seen from a pixel, in the soft rasterizer: coverage, depth and color; each adjoint below its function.

Nothing here branches, so that on CPUs LLVM computes several fragments at once; what does not count is selected away.
"""

import taichi as ti

from ..arrays import vec2, vec3
from ..elementary import exp
from . import triangle

HARD, BARYCENTRIC, EUCLIDEAN = 0, 1, 2
SOFTMAX = 1
SUM, PROD = 1, 2
COUNTERCLOCKWISE, BOTH, CLOCKWISE = 0, 1, 2
AFFINE, PERSPECTIVE, PARALLEL = 0, 1, 2  # weights on the screen, in space, or the same in both; depth is linear in 1 / z, or in z
DISTANCES = {"hard": HARD, "barycentric": BARYCENTRIC, "euclidean": EUCLIDEAN}
RGBS = {"hard": HARD, "softmax": SOFTMAX}
ALPHAS = {"hard": HARD, "sum": SUM, "prod": PROD}

FAR_AWAY = 1e30  # a logit or a depth beyond all others; infinities do not survive fast math
LEAST_KEEP = 1e-30  # the product of 1 - D stops here: smaller floats are slow and change nothing


@ti.func
def sigmoid(x):
    """D and 1 - D, both to full precision."""
    e = exp(-ti.abs(x))
    near_one = 1.0 / (1.0 + e)
    near_zero = e * near_one
    return ti.select(x > 0.0, near_one, near_zero), ti.select(x > 0.0, near_zero, near_one)


@ti.func
def logit(p, a, b, c, inverses, w, per_sigma, distance: ti.template()):
    """x with D = sigmoid(x), and what its adjoint needs: the offset of p from the boundary and the weights of the corners.

    Divisors that many fragments share come inverted: `inverses` are triangle.inverse_squares, per_sigma = 1 / sigma.
    """
    x, offset, weights = 0.0, vec2(0.0), vec3(0.0)
    inmost = triangle.smallest(w)
    if ti.static(distance == HARD):
        x = ti.select(inmost >= 0.0, FAR_AWAY, -FAR_AWAY)
    elif ti.static(distance == BARYCENTRIC):
        x = inmost * ti.abs(inmost) * per_sigma
        first, second = w.x == inmost, w.y == inmost
        weights = vec3(ti.select(first, 1.0, 0.0), ti.select(second & (w.x != inmost), 1.0, 0.0), ti.select(first | second, 0.0, 1.0))
    else:
        offset, weights = triangle.boundary_offset(p, a, b, c, inverses)
        d = offset.dot(offset)
        x = ti.select(inmost > 0.0, d, -d) * per_sigma
    return x, offset, weights


@ti.func
def logit_adjoint(a, b, c, w, offset, weights, per_sigma, distance: ti.template(), x_grad):
    """Gradients of the corners a, b, c; `offset` and `weights` are from `logit`."""
    a_grad, b_grad, c_grad = vec2(0.0), vec2(0.0), vec2(0.0)
    inmost = triangle.smallest(w)
    if ti.static(distance == BARYCENTRIC):
        a_grad, b_grad, c_grad = triangle.barycentrics_adjoint(a, b, c, w, weights * (x_grad * 2.0 * ti.abs(inmost) * per_sigma))
    elif ti.static(distance == EUCLIDEAN):
        d_grad = ti.select(inmost > 0.0, x_grad, -x_grad) * per_sigma
        a_grad, b_grad, c_grad = triangle.squared_distance_adjoint(offset, weights, d_grad)
    return a_grad, b_grad, c_grad


@ti.func
def surface(w, depths, interpolation: ti.template()):
    """Depth, and the weights of the corners' colors, at the point of the face that the fragment shows; `depths` are of `face_inverses`."""
    weights, depth = triangle.clip_weights(w), 0.0
    if ti.static(interpolation == PARALLEL):
        depth = weights.dot(depths)
    else:
        depth = triangle.depth_at(weights, depths)
    if ti.static(interpolation == PERSPECTIVE):
        weights = triangle.perspective_weights(weights, depths, depth)
    return depth, weights


@ti.func
def surface_adjoint(w, depths, interpolation: ti.template(), depth_grad, weights_grad):
    """Gradients of w and of the corner depths z."""
    clipped = triangle.clip_weights(w)
    clipped_grad, z_grad = weights_grad, vec3(0.0)
    if ti.static(interpolation == PARALLEL):
        clipped_grad += depth_grad * depths
        z_grad = depth_grad * clipped
    else:
        depth = triangle.depth_at(clipped, depths)
        if ti.static(interpolation == PERSPECTIVE):
            clipped_grad, z_grad, more = triangle.perspective_weights_adjoint(clipped, depths, depth, weights_grad)
            depth_grad += more
        by_depth, z_by_depth = triangle.depth_at_adjoint(clipped, depths, depth, depth_grad)
        clipped_grad += by_depth
        z_grad += z_by_depth
    return triangle.clip_weights_adjoint(w, clipped, clipped_grad), z_grad


@ti.func
def texel_index(weights, resolution: int):
    """Row and column of the texel at `weights`: a face is cut into R x R cells, each into two triangles (SoftRas)."""
    column = ti.min(int(weights.x * resolution), resolution - 1)
    row = ti.min(int(weights.y * resolution), resolution - 1)
    # On the edge opposite corner 2 the sum is 1 up to rounding, and only lower triangles are there.
    upper = (row + column < resolution - 1) & ((weights.x + weights.y) * resolution - column - row > 1.0)
    return ti.select(upper, resolution - 1 - row, row), ti.select(upper, resolution - 1 - column, column)


@ti.func
def color_at(colors: ti.template(), b: int, f: int, c0, c1, c2, weights):
    """The color of face f in view b at `weights`, from its corner colors or its texels."""
    color = vec3(0.0)
    if ti.static(len(colors.shape) == 2):
        color = weights.x * c0 + weights.y * c1 + weights.z * c2
    elif ti.static(len(colors.shape) == 3):
        row, column = texel_index(weights, colors.shape[1])
        color = colors[f, row, column]
    else:
        row, column = texel_index(weights, colors.shape[2])
        color = colors[b % colors.shape[0], f, row, column]
    return color


@ti.func
def corner_colors(colors: ti.template(), faces: ti.template(), b: int, f: int):
    """The colors of the corners of face f, zero where the mesh has texels."""
    c0, c1, c2 = vec3(0.0), vec3(0.0), vec3(0.0)
    if ti.static(len(colors.shape) == 2):
        view = b % colors.shape[0]
        c0, c1, c2 = colors[view, faces[f].x], colors[view, faces[f].y], colors[view, faces[f].z]
    return c0, c1, c2


@ti.func
def faces_us(a, b, c, sides: ti.template()):
    """Whether the face shows its color: both sides do, or only the one that is turned so on the screen."""
    facing = 1 == 1
    if ti.static(sides == COUNTERCLOCKWISE):
        facing = triangle.doubled_area(a, b, c) > 0.0
    elif ti.static(sides == CLOCKWISE):
        facing = triangle.doubled_area(a, b, c) < 0.0
    return facing


@ti.func
def face_inverses(v0, v1, v2, zero: float, interpolation: ti.template()):
    """What a face's fragments would divide by, inverted: squared edge lengths, and the depths of the corners, which are linear
    on the screen as they are in a parallel projection, and inverted in perspective.

    `zero` is 0. LLVM cannot know, and so leaves x * inverse a product instead of making it a division again for each pixel.
    """
    inverses, depths = triangle.inverse_squares(v0.xy, v1.xy, v2.xy) + zero, vec3(v0.z, v1.z, v2.z)
    if ti.static(interpolation != PARALLEL):
        depths = 1.0 / depths + zero
    return inverses, depths


# --- A pixel's sums over its fragments ------------------------------------------------------------------------------


@ti.func
def cleared(last, rgb: ti.template(), alpha: ti.template()):
    """A pixel's sums before any face: alpha so far, sum of weights and front depth (hard: face and depth)."""
    keep, total, front = 0.0, 1.0, last
    if ti.static(alpha == PROD):
        keep = 1.0
    if ti.static(rgb == HARD):
        total, front = -1.0, FAR_AWAY
    return keep, total, front


@ti.func
def opacity(keep, face_count: int, alpha: ti.template()):
    """Alpha of a pixel that has met all its faces."""
    value = keep
    if ti.static(alpha == PROD):
        value = 1.0 - keep
    elif ti.static(alpha == SUM):
        value = keep / face_count
    return value


@ti.func
def mean(color, total, rgb: ti.template()):
    """The color of a pixel that has met all its faces."""
    value = color
    if ti.static(rgb == SOFTMAX):
        value = color / total
    return value


@ti.func
def background_share(total, front, last, per_softness, rgb: ti.template()):
    """How much of a pixel's color the background is."""
    share = 0.0
    if ti.static(rgb == SOFTMAX):
        share = exp((front - last) * per_softness) / total
    else:
        share = ti.select(total < 0.0, 1.0, 0.0)
    return share


@ti.func
def cover(keep, x, counts, alpha: ti.template()):
    """Alpha so far with one more fragment."""
    D, not_D = sigmoid(x)
    if ti.static(alpha == PROD):
        keep = ti.select(counts & (keep > LEAST_KEEP), keep * not_D, keep)
    elif ti.static(alpha == SUM):
        keep += ti.select(counts, D, 0.0)
    else:
        keep = ti.select(counts & (D > 0.5), 1.0, keep)
    return keep


@ti.func
def cover_adjoint(x, opacity_step, alpha: ti.template()):
    """Gradient of x, from `opacity_adjoint`."""
    D, not_D = sigmoid(x)
    x_grad = 0.0
    if ti.static(alpha == PROD):
        x_grad = opacity_step * D
    elif ti.static(alpha == SUM):
        x_grad = opacity_step * D * not_D
    return x_grad


@ti.func
def opacity_adjoint(opacity, opacity_grad, face_count: int, alpha: ti.template()):
    """What the adjoints of a pixel's fragments share for their alpha."""
    step = 0.0
    if ti.static(alpha == PROD):
        step = opacity_grad * (1.0 - opacity)  # dA/dx = (1 - A) D: no division, so nothing blows up as D nears 1
    elif ti.static(alpha == SUM):
        step = opacity_grad / face_count
    return step


@ti.func
def shows_color(counts, facing, depth, near, far):
    """Whether a fragment has a color, rather than only an alpha."""
    return counts & facing & (near <= depth) & (depth <= far)


@ti.func
def weigh(total, front, f: int, x, shows, w, depth, per_softness, rgb: ti.template()):
    """What the color so far and the new fragment's count from now on, and the sum of weights and front depth (hard: face and depth).

    The softmax is kept relative to its front, and rescaled whenever the front moves nearer.
    """
    old, new = 1.0, 0.0
    if ti.static(rgb == SOFTMAX):
        behind = (depth - front) * per_softness  # depths, since their difference is exact where it matters
        shrink = exp(-ti.abs(behind))
        nearer = shows & (behind < 0.0)
        D, _ = sigmoid(x)
        old = ti.select(nearer, shrink, 1.0)
        new = ti.select(shows, D * ti.select(nearer, 1.0, shrink), 0.0)
        total = old * total + new
        front = ti.select(nearer, depth, front)
    else:
        wins = shows & (triangle.smallest(w) > 0.0) & (depth < front)
        old, new = ti.select(wins, 0.0, 1.0), ti.select(wins, 1.0, 0.0)
        total = ti.select(wins, float(f), total)
        front = ti.select(wins, depth, front)
    return old, new, total, front


@ti.func
def share_of(total, front, f: int, x, shows, depth, per_softness, rgb: ti.template()):
    """How much of the pixel's color the fragment is in the end."""
    share = 0.0
    if ti.static(rgb == SOFTMAX):
        D, _ = sigmoid(x)
        share = ti.select(shows, D * exp(triangle.least(front - depth, 0.0) * per_softness) / total, 0.0)
    else:
        share = ti.select(shows & (total == float(f)), 1.0, 0.0)
    return share


@ti.func
def share_adjoint(x, pull, per_softness, rgb: ti.template()):
    """Gradients of x and depth; `pull` is share (g - sum of shares times g) with g the gradient of the share."""
    x_grad, depth_grad = 0.0, 0.0
    if ti.static(rgb == SOFTMAX):
        _, not_D = sigmoid(x)
        x_grad, depth_grad = pull * not_D, -pull * per_softness
    return x_grad, depth_grad


@ti.func
def blend(
    color, keep, total, front, f: int, x, counts, facing, w, depth, face_color,
    per_softness, near, far, rgb: ti.template(), alpha: ti.template(),
):  # fmt: skip
    """A pixel's color and other sums with one more fragment."""
    old, new, total, front = weigh(total, front, f, x, shows_color(counts, facing, depth, near, far), w, depth, per_softness, rgb)
    return old * color + new * face_color, cover(keep, x, counts, alpha), total, front


@ti.func
def blend_adjoint(
    color_grad, color_pull, opacity_step, total, front, f: int, x, counts, facing, depth, face_color,
    per_softness, near, far, rgb: ti.template(), alpha: ti.template(),
):  # fmt: skip
    """Gradients of the fragment's x, depth and color; `color_pull` is the pixel's color times its gradient."""
    share = share_of(total, front, f, x, shows_color(counts, facing, depth, near, far), depth, per_softness, rgb)
    x_grad, depth_grad = share_adjoint(x, share * (color_grad.dot(face_color) - color_pull), per_softness, rgb)
    x_grad += cover_adjoint(x, opacity_step, alpha)
    return ti.select(counts, x_grad, 0.0), depth_grad, share * color_grad


@ti.func
def fragment_adjoint(
    a, b, c, depths, c0, c1, c2, w, offset, nearest, x_grad, depth_grad, face_color_grad, per_sigma,
    distance: ti.template(), interpolation: ti.template(), textured: ti.template(),
):  # fmt: skip
    """Gradients of the corners a, b, c on the screen and of their depths z."""
    weights_grad = vec3(0.0)
    if ti.static(not textured):
        weights_grad = vec3(face_color_grad.dot(c0), face_color_grad.dot(c1), face_color_grad.dot(c2))
    w_grad, z_grad = surface_adjoint(w, depths, interpolation, depth_grad, weights_grad)
    a_grad, b_grad, c_grad = logit_adjoint(a, b, c, w, offset, nearest, per_sigma, distance, x_grad)
    a_more, b_more, c_more = triangle.barycentrics_adjoint(a, b, c, w, w_grad)
    return a_grad + a_more, b_grad + b_more, c_grad + c_more, z_grad
