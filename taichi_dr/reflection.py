"""One light on one point of a surface: how much arrives, and how much of it the point mirrors; each adjoint below its function.

Nothing here branches, so that on CPUs LLVM computes several points at once; what does not count is selected away.
"""

import taichi as ti

from .arrays import is_finite_number, vec3
from .elementary import exp, log
from .harmonics import smoothed_basis, smoothed_basis_adjoint
from .light_table import AXIS, CONE, INTENSITY, REACH, SOURCE
from .lights import DIRECTIONAL, SPOT
from .materials import NO_HIGHLIGHT, PHONG

LEAST_COSINE = 1e-6  # cosines up to here raised to a power are 0, so that slopes stay finite at any exponent
NEAREST = 1e-6  # distance to a light that attenuates
SHORTEST, LONGEST = 1e-18, 1e18  # lengths whose squares float32 holds
LEAST_EDGE = 1e-6  # of a cone, in the cosine
LARGEST_LOGARITHM = 80.0  # of a power


@ti.func
def column(columns, k: ti.template()):
    """Column k of a part of the table, a matrix with the columns below one another."""
    return vec3(columns[k, 0], columns[k, 1], columns[k, 2])


@ti.func
def add_column(columns: ti.template(), k: ti.template(), value):
    for c in ti.static(range(3)):
        columns[k, c] += value[c]


# --- Powers -------------------------------------------------------------------------------------------------------


@ti.func
def _power(x, exponent):
    """x^exponent, 0 for x up to LEAST_COSINE, and the logarithm of x."""
    logarithm = log(ti.max(x, LEAST_COSINE))
    return ti.select(x > LEAST_COSINE, exp(ti.min(exponent * logarithm, LARGEST_LOGARITHM)), 0.0), logarithm


@ti.func
def _power_adjoint(x, exponent, power, logarithm, power_grad):
    """Gradients of x and of the exponent; zero where the power is."""
    total = power_grad * power
    return total * exponent / ti.max(x, LEAST_COSINE), total * logarithm


# --- Directions ---------------------------------------------------------------------------------------------------


@ti.func
def direction(v):
    """(v / |v|, 1 / |v|), zeros for lengths outside of 1e-18 .. 1e18 and where v is not finite."""
    square = v.dot(v)
    has_one = is_finite_number(square) & (square > SHORTEST * SHORTEST) & (square < LONGEST * LONGEST)
    inverse = 1.0 / ti.sqrt(ti.select(has_one, square, 1.0))
    return ti.select(has_one, v * inverse, vec3(0.0)), ti.select(has_one, inverse, 0.0)


@ti.func
def direction_adjoint(unit, inverse, unit_grad):
    """Gradient of v, zero where it has no direction."""
    return (unit_grad - unit * unit.dot(unit_grad)) * inverse


# --- What arrives -------------------------------------------------------------------------------------------------


@ti.func
def _cone(cosine, cone):
    """How much of a spot light there is at an angle to its axis; `cone` is (cos outer, cos inner, exponent)."""
    t = ti.math.clamp((cosine - cone.x) / ti.max(cone.y - cone.x, LEAST_EDGE), 0.0, 1.0)
    power, _ = _power(cosine, cone.z)
    return t * t * (3.0 - 2.0 * t) * power


@ti.func
def _cone_adjoint(cosine, cone, share_grad):
    """Gradients of the cosine and the cone."""
    edge = ti.max(cone.y - cone.x, LEAST_EDGE)
    t = ti.math.clamp((cosine - cone.x) / edge, 0.0, 1.0)
    power, logarithm = _power(cosine, cone.z)
    cosine_grad, exponent_grad = _power_adjoint(cosine, cone.z, power, logarithm, share_grad * t * t * (3.0 - 2.0 * t))
    t_grad = share_grad * power * 6.0 * t * (1.0 - t) / edge  # smooth: 0 at both ends of the clamp
    inner_grad = ti.select(cone.y - cone.x > LEAST_EDGE, -t_grad * t, 0.0)
    return cosine_grad + t_grad, vec3(-t_grad - inner_grad, inner_grad, exponent_grad)


@ti.func
def _arrival(kind: ti.template(), x, light):
    """l, the inverse of the distance it was normalized by, and how much arrives for its distance and for its cone."""
    toward, inverse, falloff, cone = column(light, SOURCE), 0.0, 1.0, 1.0  # of a directional light, which has its length already
    if ti.static(kind != DIRECTIONAL):
        toward, inverse = direction(column(light, SOURCE) - x)
        near = ti.min(inverse, 1.0 / NEAREST)
        falloff = ti.select(light[REACH, 0] > 0.0, near * near, 1.0)
        if ti.static(kind == SPOT):
            cone = _cone(-toward.dot(column(light, AXIS)), column(light, CONE))
    return toward, inverse, falloff, cone


@ti.func
def _arrival_adjoint(kind: ti.template(), light, toward, inverse, falloff, cone, toward_grad, share_grad, light_grad: ti.template()):
    """Gradient of x; adds to the light's. `share_grad` is the gradient of falloff times cone."""
    x_grad = vec3(0.0)
    if ti.static(kind == DIRECTIONAL):
        add_column(light_grad, SOURCE, toward_grad)
    else:
        attenuates = (light[REACH, 0] > 0.0) & (inverse < 1.0 / NEAREST)
        distance_grad = ti.select(attenuates, -2.0 * share_grad * cone * falloff * inverse, 0.0)
        if ti.static(kind == SPOT):
            axis = column(light, AXIS)
            cosine_grad, cone_grad = _cone_adjoint(-toward.dot(axis), column(light, CONE), share_grad * falloff)
            toward_grad -= cosine_grad * axis
            add_column(light_grad, AXIS, -cosine_grad * toward)
            add_column(light_grad, CONE, cone_grad)
        source_grad = direction_adjoint(toward, inverse, toward_grad) + distance_grad * toward
        add_column(light_grad, SOURCE, source_grad)
        x_grad = -source_grad
    return x_grad


# --- What is mirrored ---------------------------------------------------------------------------------------------


@ti.func
def _highlight_cosine(model: ti.template(), n, toward, view):
    """p before it is clamped, of the directions to the light and to the eye."""
    cosine = 0.0
    if ti.static(model == PHONG):
        cosine = 2.0 * n.dot(toward) * n.dot(view) - toward.dot(view)
    else:
        half, _ = direction(toward + view)
        cosine = n.dot(half)
    return cosine


@ti.func
def _highlight_cosine_adjoint(model: ti.template(), n, toward, view, cosine_grad):
    """Gradients of n, l and v."""
    n_grad, toward_grad, view_grad = vec3(0.0), vec3(0.0), vec3(0.0)
    if ti.static(model == PHONG):
        by_light, by_view = 2.0 * n.dot(toward), 2.0 * n.dot(view)
        n_grad = cosine_grad * (by_view * toward + by_light * view)
        toward_grad = cosine_grad * (by_view * n - view)
        view_grad = cosine_grad * (by_light * n - toward)
    else:
        half, inverse = direction(toward + view)
        n_grad = cosine_grad * half
        toward_grad = direction_adjoint(half, inverse, cosine_grad * n)
        view_grad = toward_grad
    return n_grad, toward_grad, view_grad


# --- A light ------------------------------------------------------------------------------------------------------


@ti.func
def reflected(kind: ti.template(), model: ti.template(), n, x, view, light, shininess):
    """What a light gives: E, and S of the highlight in the direction of the eye, which must be there."""
    toward, _, falloff, cone = _arrival(kind, x, light)
    cosine = n.dot(toward)
    arriving = column(light, INTENSITY) * ti.select(cosine > 0.0, falloff * cone, 0.0)
    scattered, mirrored = arriving * cosine, vec3(0.0)
    if ti.static(model != NO_HIGHLIGHT):
        power, _ = _power(_highlight_cosine(model, n, toward, view), shininess)
        mirrored = arriving * power
    return scattered, mirrored


@ti.func
def reflected_adjoint(
    kind: ti.template(), model: ti.template(), n, x, view, light, shininess, scattered_grad, mirrored_grad, light_grad: ti.template(),
):  # fmt: skip
    """Gradients of n, x, view and shininess, and E and S once more; adds to the light's."""
    toward, inverse, falloff, cone = _arrival(kind, x, light)
    cosine, intensity = n.dot(toward), column(light, INTENSITY)
    lit = ti.select(cosine > 0.0, 1.0, 0.0)
    share = lit * falloff * cone
    arriving = intensity * share
    scattered, mirrored = arriving * cosine, vec3(0.0)
    cosine_grad, arriving_grad = scattered_grad.dot(arriving), scattered_grad * cosine
    n_grad, toward_grad, view_grad, shininess_grad = cosine_grad * toward, cosine_grad * n, vec3(0.0), 0.0
    if ti.static(model != NO_HIGHLIGHT):
        p = _highlight_cosine(model, n, toward, view)
        power, logarithm = _power(p, shininess)
        mirrored = arriving * power
        arriving_grad += mirrored_grad * power
        p_grad, shininess_grad = _power_adjoint(p, shininess, power, logarithm, mirrored_grad.dot(arriving))
        by_n, by_toward, view_grad = _highlight_cosine_adjoint(model, n, toward, view, p_grad)
        n_grad += by_n
        toward_grad += by_toward
    add_column(light_grad, INTENSITY, arriving_grad * share)
    x_grad = _arrival_adjoint(kind, light, toward, inverse, falloff, cone, toward_grad, lit * arriving_grad.dot(intensity), light_grad)
    return n_grad, x_grad, view_grad, shininess_grad, scattered, mirrored


# --- An environment -----------------------------------------------------------------------------------------------


@ti.func
def environment(n, coefficients):
    """E of spherical harmonics."""
    first, second, third = smoothed_basis(n)
    total = vec3(0.0)
    for j in ti.static(range(3)):
        total += first[j] * column(coefficients, j) + second[j] * column(coefficients, 3 + j) + third[j] * column(coefficients, 6 + j)
    return total


@ti.func
def environment_adjoint(n, coefficients, total_grad, coefficients_grad: ti.template()):
    """Gradient of n, and E once more; adds to those of the coefficients."""
    first, second, third = smoothed_basis(n)
    total, first_grad, second_grad, third_grad = vec3(0.0), vec3(0.0), vec3(0.0), vec3(0.0)
    for j in ti.static(range(3)):
        a, b, c = column(coefficients, j), column(coefficients, 3 + j), column(coefficients, 6 + j)
        total += first[j] * a + second[j] * b + third[j] * c
        first_grad[j], second_grad[j], third_grad[j] = total_grad.dot(a), total_grad.dot(b), total_grad.dot(c)
        add_column(coefficients_grad, j, total_grad * first[j])
        add_column(coefficients_grad, 3 + j, total_grad * second[j])
        add_column(coefficients_grad, 6 + j, total_grad * third[j])
    return smoothed_basis_adjoint(n, first_grad, second_grad, third_grad), total
