"""The table of lights: what shading asks of lights, material and eye, a row per view; gradients go from there to their fields."""

import numpy as np
import taichi as ti

from . import harmonics
from .arrays import Array, Points, Vectors, add_item, empty, grad_of, is_finite, is_finite_number, item, vec2, vec3
from .frame import EYE as FRAME_EYE
from .launch import kernel
from .lights import AMBIENT, DIRECTIONAL, HARMONICS, POINT, SPOT, WIDEST_CONE, DirectionalLight, Light, PointLight, SphericalHarmonicsLight, SpotLight
from .tape import operator
from .vectors import unit, unit_adjoint

Numbers = ti.types.ndarray(dtype=float, needs_grad=False)  # () or (B,)

RADIANS = np.pi / 180
COEFFICIENTS = harmonics.COUNT

# The columns of a table of vec3: those of the surface, the ambient lights summed up, the coefficients of the harmonics
# summed up, then each light that comes from somewhere. SHININESS holds (exponent, 0, 0).
DIFFUSE, SPECULAR, SHININESS, EYE, TOTAL, ENVIRONMENT = 0, 1, 2, 3, 4, 5
LIGHTS = ENVIRONMENT + COEFFICIENTS  # where the first light begins
SOURCES = (DIRECTIONAL, POINT, SPOT)  # the kinds that come from somewhere, in the order of the table
# The columns of a light. SOURCE: l, or the position. REACH: (1, 0, 0) where it is attenuated. CONE: (cos outer, cos inner, exponent).
INTENSITY, SOURCE, REACH, AXIS, CONE = 0, 1, 2, 3, 4
WIDTHS = {DIRECTIONAL: 2, POINT: 3, SPOT: 5}


def tabulate(
    lights: list[Light], surface: tuple[Array, Array, Array], frame: Array | None, rows: int, share: float
) -> tuple[Array, tuple[int, int, int]]:
    """A new table, recorded, and how many lights of each kind of SOURCES it has.

    `surface` is the material's diffuse, specular and shininess; without a frame the column of the eye holds nothing. Of light from
    somewhere `share` is scattered, of light from everywhere all: the table has `share` in DIFFUSE, and 1 / `share` of the latter.
    """
    counts = [sum(light.kind == kind for light in lights) for kind in SOURCES]
    width = LIGHTS + sum(count * WIDTHS[kind] for kind, count in zip(SOURCES, counts, strict=True))
    table = empty(vec3, (rows, width), needs_grad=True)
    _tabulate_surface(*surface, surface[0] if frame is None else frame, int(frame is not None), share, table)
    place = LIGHTS
    for light in sorted(lights, key=lambda light: (*SOURCES, AMBIENT, HARMONICS).index(light.kind)):
        intensity = light.coefficients if isinstance(light, SphericalHarmonicsLight) else light.intensity
        source = intensity  # stands for what the light does not have
        if isinstance(light, DirectionalLight):
            source = light.direction
        elif isinstance(light, (PointLight, SpotLight)):
            source = light.position
        begin = {AMBIENT: TOTAL, HARMONICS: ENVIRONMENT}.get(light.kind, place)
        _tabulate_light(light.kind, intensity, source, getattr(light, "attenuation", False), 1 / share, table, begin)
        if isinstance(light, SpotLight):
            _tabulate_cone(light.direction, light.exponent, light.inner, light.outer, table, place)
        place += WIDTHS.get(light.kind, 0)
    return table, (counts[0], counts[1], counts[2])


@ti.func
def _finite(v):
    return ti.select(is_finite(v), v, vec3(0.0))


@ti.func
def _finite_adjoint(v, v_grad):
    return ti.select(is_finite(v), v_grad, vec3(0.0))


@ti.func
def _cosine(degrees):
    """cos of an angle in [0, 90] degrees."""
    return ti.cos(RADIANS * ti.select(is_finite_number(degrees), ti.math.clamp(degrees, 0.0, WIDEST_CONE), 0.0))


@ti.func
def _cosine_adjoint(degrees, cosine_grad):
    degrees_grad = 0.0
    if is_finite_number(degrees) and 0.0 <= degrees and degrees <= WIDEST_CONE:
        degrees_grad = -RADIANS * ti.sin(RADIANS * degrees) * cosine_grad
    return degrees_grad


@ti.func
def _exponent(s):
    return ti.select(is_finite_number(s), ti.max(s, 0.0), 0.0)


@ti.func
def _exponent_adjoint(s, exponent_grad):
    return ti.select(is_finite_number(s) and s >= 0.0, exponent_grad, 0.0)


@ti.func
def _coefficient(coefficients: ti.template(), row: int, j: int):
    value = vec3(0.0)
    if ti.static(len(coefficients.shape) == 1):
        value = coefficients[j]
    else:
        value = coefficients[row % coefficients.shape[0], j]
    return value


@ti.func
def _add_coefficient(coefficients: ti.template(), row: int, j: int, value):
    if ti.static(len(coefficients.shape) == 1):
        coefficients[j] = coefficients[j] + value
    else:
        coefficients[row % coefficients.shape[0], j] = coefficients[row % coefficients.shape[0], j] + value


# --- The surface --------------------------------------------------------------------------------------------------

# Rows are few, and share arrays of length 1: these loops are serial, which also is the quickest to launch.


@kernel
def _tabulate_surface_kernel(
    diffuse: Vectors, specular: Vectors, shininess: Numbers, frame: Vectors, with_eye: ti.template(), share: float, table: Points
):  # fmt: skip
    ti.loop_config(serialize=True)
    for row in range(table.shape[0]):
        table[row, DIFFUSE], table[row, SPECULAR] = share * _finite(item(diffuse, row)), _finite(item(specular, row))
        table[row, SHININESS] = vec3(_exponent(item(shininess, row)), 0.0, 0.0)
        if ti.static(with_eye):
            table[row, EYE] = frame[row % frame.shape[0], FRAME_EYE]
        for j in range(TOTAL, LIGHTS):
            table[row, j] = vec3(0.0)


@operator
def _tabulate_surface(diffuse: Array, specular: Array, shininess: Array, frame: Array, with_eye: int, share: float, table: Array) -> None:
    _tabulate_surface_kernel(diffuse, specular, shininess, frame, with_eye, share, table)


@kernel
def _tabulate_surface_adjoint_kernel(
    diffuse: Vectors, specular: Vectors, shininess: Numbers, with_eye: ti.template(), share: float, table_grad: Points,
    diffuse_grad: Vectors, specular_grad: Vectors, shininess_grad: Numbers, frame_grad: Vectors,
):  # fmt: skip
    ti.loop_config(serialize=True)
    for row in range(table_grad.shape[0]):
        add_item(diffuse_grad, row, _finite_adjoint(item(diffuse, row), share * table_grad[row, DIFFUSE]))
        add_item(specular_grad, row, _finite_adjoint(item(specular, row), table_grad[row, SPECULAR]))
        add_item(shininess_grad, row, _exponent_adjoint(item(shininess, row), table_grad[row, SHININESS].x))
        if ti.static(with_eye):
            view = row % frame_grad.shape[0]
            frame_grad[view, FRAME_EYE] = frame_grad[view, FRAME_EYE] + table_grad[row, EYE]


@_tabulate_surface.adjoint
def _tabulate_surface_adjoint(diffuse: Array, specular: Array, shininess: Array, frame: Array, with_eye: int, share: float, table: Array) -> None:
    if any(x.grad is not None for x in (diffuse, specular, shininess, frame)):
        surface = diffuse, specular, shininess
        _tabulate_surface_adjoint_kernel(*surface, with_eye, share, table.grad, *map(grad_of, surface), grad_of(frame))


# --- A light ------------------------------------------------------------------------------------------------------


@kernel
def _tabulate_light_kernel(kind: ti.template(), intensity: Vectors, source: Vectors, attenuated: int, everywhere: float, table: Points, place: int):
    ti.loop_config(serialize=True)
    for row in range(table.shape[0]):
        if ti.static(kind == HARMONICS):
            for j in range(COEFFICIENTS):
                table[row, place + j] = table[row, place + j] + everywhere * _finite(_coefficient(intensity, row, j))
        elif ti.static(kind == AMBIENT):
            table[row, place] = table[row, place] + everywhere * _finite(item(intensity, row))
        else:
            table[row, place + INTENSITY] = _finite(item(intensity, row))
            if ti.static(kind == DIRECTIONAL):
                table[row, place + SOURCE], _ = unit(item(source, row), 0.0)
            else:
                table[row, place + SOURCE] = item(source, row)  # where it is not finite no direction leads to it
                table[row, place + REACH] = vec3(attenuated, 0.0, 0.0)


@operator
def _tabulate_light(kind: int, intensity: Array, source: Array, attenuated: bool, everywhere: float, table: Array, place: int) -> None:
    """The intensity, or coefficients, `everywhere` times where it has no direction, and where the light comes from."""
    _tabulate_light_kernel(kind, intensity, source, int(attenuated), everywhere, table, place)


@kernel
def _tabulate_light_adjoint_kernel(
    kind: ti.template(), intensity: Vectors, source: Vectors, everywhere: float, table_grad: Points, place: int,
    intensity_grad: Vectors, source_grad: Vectors,
):  # fmt: skip
    ti.loop_config(serialize=True)
    for row in range(table_grad.shape[0]):
        if ti.static(kind == HARMONICS):
            for j in range(COEFFICIENTS):
                _add_coefficient(intensity_grad, row, j, _finite_adjoint(_coefficient(intensity, row, j), everywhere * table_grad[row, place + j]))
        else:
            share = everywhere if ti.static(kind == AMBIENT) else 1.0
            add_item(intensity_grad, row, _finite_adjoint(item(intensity, row), share * table_grad[row, place]))
            if ti.static(kind == DIRECTIONAL):
                toward, length = unit(item(source, row), 0.0)
                add_item(source_grad, row, unit_adjoint(toward, length, table_grad[row, place + SOURCE]))
            elif ti.static(kind != AMBIENT):
                add_item(source_grad, row, table_grad[row, place + SOURCE])


@_tabulate_light.adjoint
def _tabulate_light_adjoint(kind: int, intensity: Array, source: Array, attenuated: bool, everywhere: float, table: Array, place: int) -> None:
    _tabulate_light_adjoint_kernel(kind, intensity, source, everywhere, table.grad, place, grad_of(intensity), grad_of(source))


@kernel
def _tabulate_cone_kernel(axis: Vectors, exponent: Numbers, inner: Numbers, outer: Numbers, table: Points, place: int):
    ti.loop_config(serialize=True)
    for row in range(table.shape[0]):
        table[row, place + AXIS], _ = unit(item(axis, row), 0.0)
        cosines = vec2(_cosine(item(outer, row)), _cosine(item(inner, row)))
        table[row, place + CONE] = vec3(cosines, _exponent(item(exponent, row)))


@operator
def _tabulate_cone(axis: Array, exponent: Array, inner: Array, outer: Array, table: Array, place: int) -> None:
    _tabulate_cone_kernel(axis, exponent, inner, outer, table, place)


@kernel
def _tabulate_cone_adjoint_kernel(
    axis: Vectors, exponent: Numbers, inner: Numbers, outer: Numbers, table_grad: Points, place: int,
    axis_grad: Vectors, exponent_grad: Numbers, inner_grad: Numbers, outer_grad: Numbers,
):  # fmt: skip
    ti.loop_config(serialize=True)
    for row in range(table_grad.shape[0]):
        along, length = unit(item(axis, row), 0.0)
        add_item(axis_grad, row, unit_adjoint(along, length, table_grad[row, place + AXIS]))
        cone_grad = table_grad[row, place + CONE]
        add_item(outer_grad, row, _cosine_adjoint(item(outer, row), cone_grad.x))
        add_item(inner_grad, row, _cosine_adjoint(item(inner, row), cone_grad.y))
        add_item(exponent_grad, row, _exponent_adjoint(item(exponent, row), cone_grad.z))


@_tabulate_cone.adjoint
def _tabulate_cone_adjoint(axis: Array, exponent: Array, inner: Array, outer: Array, table: Array, place: int) -> None:
    fields = axis, exponent, inner, outer
    _tabulate_cone_adjoint_kernel(*fields, table.grad, place, *map(grad_of, fields))
