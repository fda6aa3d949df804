"""Functions of one screen triangle (a, b, c) and one point p in its plane; each adjoint directly below its function.

An adjoint takes the gradient of the function's value last and returns the gradients of its arguments. None of them
branches: on CPUs LLVM then computes eight pixels at once.
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
def segment_offset(p, a, b):
    """p - q and t for q = (1 - t) a + t b, the point of the segment closest to p."""
    edge = b - a
    t = ti.math.clamp((p - a).dot(edge) * (1.0 / edge.dot(edge)), 0.0, 1.0)
    return (p - a) - t * edge, t


@ti.func
def boundary_distance(p, a, b, c):
    """Squared distance from p to the boundary, and the edge it is to, named by the corner opposite."""
    offset_bc, _bc = segment_offset(p, b, c)
    offset_ca, _ca = segment_offset(p, c, a)
    offset_ab, _ab = segment_offset(p, a, b)
    d_bc, d_ca, d_ab = offset_bc.dot(offset_bc), offset_ca.dot(offset_ca), offset_ab.dot(offset_ab)
    d = ti.min(d_bc, d_ca, d_ab)
    return d, ti.select(d_bc == d, 0, ti.select(d_ca == d, 1, 2))


@ti.func
def boundary_distance_adjoint(p, a, b, c, edge, d_grad):
    """d = |p - q|^2: q, the closest point of the edge, moves with the corners by its weights, and along the edge d is stationary."""
    start = ti.select(edge == 0, b, ti.select(edge == 1, c, a))
    end = ti.select(edge == 0, c, ti.select(edge == 1, a, b))
    offset, t = segment_offset(p, start, end)
    step = -2.0 * d_grad * offset
    at_start, at_end, zero = (1.0 - t) * step, t * step, vec2(0.0)
    a_grad = ti.select(edge == 0, zero, ti.select(edge == 1, at_end, at_start))
    b_grad = ti.select(edge == 0, at_start, ti.select(edge == 1, zero, at_end))
    c_grad = ti.select(edge == 0, at_end, ti.select(edge == 1, at_start, zero))
    return a_grad, b_grad, c_grad


@ti.func
def clip_weights(w):
    """Barycentrics of a point of the triangle near p: clipped to [0, 1] and scaled to sum 1 (the sum is at least 1)."""
    clipped = ti.math.clamp(w, 0.0, 1.0)
    return clipped * (1.0 / clipped.sum())


@ti.func
def clip_weights_adjoint(w, value, value_grad):
    """`value` is clip_weights(w)."""
    scale = 1.0 / ti.math.clamp(w, 0.0, 1.0).sum()
    shift = value.dot(value_grad)
    moves = vec3(0.0)
    for k in ti.static(range(3)):
        moves[k] = ti.select(0.0 < w[k] < 1.0, scale, 0.0)
    return (value_grad - shift) * moves


@ti.func
def depth_at(w, z):
    """Depth at screen barycentrics w of a triangle with corner depths z; 1 / depth is linear on the screen."""
    return 1.0 / w.dot(1.0 / z)


@ti.func
def depth_at_adjoint(w, z, depth, depth_grad):
    """`depth` is depth_at(w, z); returns the gradients of w and z."""
    step, inverse = depth_grad * depth * depth, 1.0 / z
    return -step * inverse, step * w * inverse * inverse


@ti.func
def perspective_weights(w, z, depth):
    """Weights on the triangle in space at screen barycentrics w."""
    return w * depth * (1.0 / z)


@ti.func
def perspective_weights_adjoint(w, z, depth, value_grad):
    """Returns the gradients of w, z and depth."""
    inverse = 1.0 / z
    per_corner = value_grad * inverse
    return per_corner * depth, -per_corner * w * depth * inverse, per_corner.dot(w)
