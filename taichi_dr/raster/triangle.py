"""Functions of one screen triangle (a, b, c) and one point p in its plane; each adjoint directly below its function.

An adjoint takes the gradient of the function's value last and returns the gradients of its arguments. None of them
branches: on CPUs LLVM then computes several pixels at once.
"""

import taichi as ti

from ..arrays import vec2, vec3


@ti.func
def doubled_area(a, b, c):
    """Twice the signed area, positive where (a, b, c) turn counter-clockwise."""
    return (b - a).cross(c - a)


@ti.func
def barycentrics(p, a, b, c):
    """Weights w, sum 1, with p = w0 a + w1 b + w2 c."""
    inverse = 1.0 / doubled_area(a, b, c)
    return vec3((b - p).cross(c - p), (c - p).cross(a - p), (a - p).cross(b - p)) * inverse


@ti.func
def smallest(w):
    """The smallest of three numbers; positive barycentrics mean inside."""
    return least(w.x, least(w.y, w.z))


@ti.func
def barycentrics_adjoint(a, b, c, w, w_grad):
    """Moving corner k by delta does to w what moving p by -w_k delta does: dL/dk = -w_k dL/dp."""
    inverse = 1.0 / doubled_area(a, b, c)
    p_grad = (
        vec2(b.y - c.y, c.x - b.x) * (w_grad.x * inverse)
        + vec2(c.y - a.y, a.x - c.x) * (w_grad.y * inverse)
        + vec2(a.y - b.y, b.x - a.x) * (w_grad.z * inverse)
    )
    return -w.x * p_grad, -w.y * p_grad, -w.z * p_grad


@ti.func
def least(x, y):
    """min for numbers that are not NaN: one instruction, where ti.min spends three on NaN."""
    return ti.select(x < y, x, y)


@ti.func
def clamp01(x):
    """x clipped to [0, 1]; not NaN."""
    lower = ti.select(x > 0.0, x, 0.0)
    return ti.select(lower < 1.0, lower, 1.0)


@ti.func
def inverse_squares(a, b, c):
    """1 / squared length of the edges ab, bc and ca."""
    ab, bc, ca = b - a, c - b, a - c
    return vec3(1.0 / ab.dot(ab), 1.0 / bc.dot(bc), 1.0 / ca.dot(ca))


@ti.func
def segment_offset(p, a, b, inverse_square):
    """p - q and t for q = (1 - t) a + t b, the point of the segment closest to p; inverse_square = 1 / |b - a|^2."""
    edge = b - a
    t = clamp01((p - a).dot(edge) * inverse_square)
    return (p - a) - t * edge, t


@ti.func
def boundary_offset(p, a, b, c, inverses):
    """p - q for q, the point of the boundary closest to p, and the barycentrics of q; `inverses` are `inverse_squares`."""
    offset_ab, t_ab = segment_offset(p, a, b, inverses.x)
    offset_bc, t_bc = segment_offset(p, b, c, inverses.y)
    offset_ca, t_ca = segment_offset(p, c, a, inverses.z)
    d_ab, d_bc, d_ca = offset_ab.dot(offset_ab), offset_bc.dot(offset_bc), offset_ca.dot(offset_ca)
    bc_wins = d_bc < d_ab
    d = ti.select(bc_wins, d_bc, d_ab)
    offset = vec2(ti.select(bc_wins, offset_bc.x, offset_ab.x), ti.select(bc_wins, offset_bc.y, offset_ab.y))
    weights = vec3(ti.select(bc_wins, 0.0, 1.0 - t_ab), ti.select(bc_wins, 1.0 - t_bc, t_ab), ti.select(bc_wins, t_bc, 0.0))
    ca_wins = d_ca < d
    offset = vec2(ti.select(ca_wins, offset_ca.x, offset.x), ti.select(ca_wins, offset_ca.y, offset.y))
    weights = vec3(ti.select(ca_wins, t_ca, weights.x), ti.select(ca_wins, 0.0, weights.y), ti.select(ca_wins, 1.0 - t_ca, weights.z))
    return offset, weights


@ti.func
def squared_distance_adjoint(offset, weights, d_grad):
    """For d = |p - q|^2: q moves with the corners by its weights, and along the edge d is stationary."""
    step = -2.0 * d_grad * offset
    return weights.x * step, weights.y * step, weights.z * step


@ti.func
def clip_weights(w):
    """Barycentrics of a point of the triangle near p: clipped to [0, 1] and scaled to sum 1 (the sum is at least 1)."""
    clipped = vec3(clamp01(w.x), clamp01(w.y), clamp01(w.z))
    return clipped * (1.0 / clipped.sum())


@ti.func
def clip_weights_adjoint(w, value, value_grad):
    """`value` is clip_weights(w)."""
    scale = 1.0 / (clamp01(w.x) + clamp01(w.y) + clamp01(w.z))
    shift = value.dot(value_grad)
    moves = vec3(0.0)
    for k in ti.static(range(3)):
        moves[k] = ti.select(0.0 < w[k] < 1.0, scale, 0.0)
    return (value_grad - shift) * moves


@ti.func
def depth_at(w, inverse_z):
    """Depth at screen barycentrics w of a triangle whose corners have depths 1 / inverse_z; 1 / depth is linear on the screen."""
    return 1.0 / w.dot(inverse_z)


@ti.func
def depth_at_adjoint(w, inverse_z, depth, depth_grad):
    """`depth` is depth_at(w, inverse_z); returns the gradients of w and of the corner depths z."""
    step = depth_grad * depth * depth
    return -step * inverse_z, step * w * inverse_z * inverse_z


@ti.func
def perspective_weights(w, inverse_z, depth):
    """Weights on the triangle in space at screen barycentrics w."""
    return w * depth * inverse_z


@ti.func
def perspective_weights_adjoint(w, inverse_z, depth, value_grad):
    """Returns the gradients of w, of the corner depths z, and of depth."""
    per_corner = value_grad * inverse_z
    return per_corner * depth, -per_corner * w * depth * inverse_z, per_corner.dot(w)
