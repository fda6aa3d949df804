"""Lights: ambient, directional, point, spot, and whole environments as spherical harmonics.

A surface with normal n at x shows its color times the light that arrives there (Lambert, as SoftRas has it: no 1 / pi):

    E = sum of I                                      ambient lights
      + sum of I max(0, n . l)                        directional lights, l towards the light
      + sum of I max(0, n . l) / d^2                  point lights, l = (p - x) / d, d = |p - x|; / d^2 only where asked for
      + sum of I max(0, n . l) / d^2 * cone           spot lights, likewise
      + sum of A_l / pi L_lm Y_lm(n)                  spherical harmonics: a whole environment
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import taichi as ti

from . import harmonics
from .arrays import Array, empty, expect, field, vec3, view_numbers, write, zero
from .environment import read_environment

WIDEST_CONE = 90.0  # degrees from the axis; behind itself a spot light lights nothing

AMBIENT, DIRECTIONAL, POINT, SPOT, HARMONICS = 0, 1, 2, 3, 4


class AmbientLight:
    """Light from everywhere: adds `intensity` on every surface.

    Args:
        intensity: a number, an RGB triple, or (B, 3) for one per view; or an array of vec3, () or (B,), which is kept.

    Fields: `intensity`, an array with a gradient. An intensity that is not finite counts as 0 and has no gradient, here
    and in the other lights.

    Raises:
        ValueError: a wrong shape, or numbers that are not finite.
    """

    kind = AMBIENT

    def __init__(self, intensity: float | Sequence | np.ndarray | Array = 0.5) -> None:
        self.intensity = color_field("intensity", intensity)


class DirectionalLight:
    """Light from far away: adds `intensity` times max(0, n . l).

    Args:
        direction: l, from the surface TO the light, of any length: three numbers, or (B, 3) for one per view; or an
            array of vec3, () or (B,), which is kept.
        intensity: as of `AmbientLight`.
        shadow: casts shadows, where the renderer makes them.

    Fields: `direction`, `intensity`, arrays with gradients; `shadow`. A direction of length zero lights nothing.

    Raises:
        ValueError: a wrong shape, numbers that are not finite, or a direction of length zero.
    """

    kind = DIRECTIONAL

    def __init__(
        self,
        direction: Sequence | np.ndarray | Array = (0.0, 1.0, 0.0),
        intensity: float | Sequence | np.ndarray | Array = 0.5,
        *,
        shadow: bool = True,
    ) -> None:
        self.direction = _direction_field(direction, "from the surface to the light")
        self.intensity = color_field("intensity", intensity)
        self.shadow = bool(shadow)


class PointLight:
    """Light from a place: adds `intensity` times max(0, n . l) with l = (position - x) / d, d = |position - x|.

    Args:
        position: in the world: three numbers, or (B, 3) for one per view; or an array of vec3, () or (B,), which is kept.
        intensity: as of `AmbientLight`.
        attenuation: divide by d^2; otherwise the distance does not count.
        shadow: as of `DirectionalLight`.

    Fields: `position`, `intensity`, arrays with gradients; `attenuation`, `shadow`. A point at the light's own position gets nothing,
    and a d below 1e-6 attenuates as 1e-6 does.

    Raises:
        ValueError: a wrong shape, or numbers that are not finite.
    """

    kind = POINT

    def __init__(
        self,
        position: Sequence | np.ndarray | Array = (0.0, 1.0, 0.0),
        intensity: float | Sequence | np.ndarray | Array = 0.5,
        attenuation: bool = False,
        *,
        shadow: bool = True,
    ) -> None:
        self.position = field("position", position, 3)
        self.intensity = color_field("intensity", intensity)
        self.attenuation, self.shadow = bool(attenuation), bool(shadow)


class SpotLight:
    """Light from a place in a cone: a `PointLight` times a factor that falls off with the angle a to the cone's axis.

        factor = s(t) max(0, cos a)^exponent,   s(t) = t^2 (3 - 2 t),   t = (cos a - cos outer) / (cos inner - cos outer) in [0, 1]

    Args:
        position, intensity, attenuation, shadow: as of `PointLight`.
        direction: of the axis, FROM the light into the scene, of any length; otherwise as of `DirectionalLight`.
        exponent: of the cosine, at least 0; 0 is the same light in all of the inner cone. A number, B of them, or an array
            of numbers, () or (B,).
        inner: degrees from the axis up to which there is the full light, likewise, less than `outer`.
        outer: degrees from the axis from which there is none, likewise, at most 90.

    Fields: `position`, `direction`, `intensity`, `exponent`, `inner`, `outer`, arrays with gradients; `attenuation`,
    `shadow`. In arrays, angles out of range count as 0 or 90 degrees, and a negative exponent as 0, with no gradient; angles that are
    equal, or in the wrong order, make a sharp edge of 1e-6 in the cosine at `outer`. A direction of length zero lights
    nothing.

    Raises:
        ValueError: a wrong shape, numbers that are not finite or out of range, or a direction of length zero.
    """

    kind = SPOT

    def __init__(
        self,
        position: Sequence | np.ndarray | Array = (0.0, 1.0, 0.0),
        direction: Sequence | np.ndarray | Array = (0.0, -1.0, 0.0),
        intensity: float | Sequence | np.ndarray | Array = 0.5,
        *,
        exponent: float | Sequence[float] | np.ndarray | Array = 0.0,
        inner: float | Sequence[float] | np.ndarray | Array = 20.0,
        outer: float | Sequence[float] | np.ndarray | Array = 30.0,
        attenuation: bool = False,
        shadow: bool = True,
    ) -> None:
        given = {"exponent": exponent, "inner": inner, "outer": outer}
        numbers = {name: view_numbers(name, x, 1) for name, x in given.items() if not isinstance(x, ti.Ndarray)}
        if (numbers.get("exponent", np.zeros(1)) < 0).any():
            raise ValueError(f"exponent: expected numbers of at least 0, got {exponent!r}")
        for name in ("inner", "outer"):
            if name in numbers and not ((numbers[name] >= 0) & (numbers[name] <= WIDEST_CONE)).all():
                raise ValueError(f"{name}: expected degrees from 0 to 90, between the axis and the side of the cone, got {given[name]!r}")
        if {"inner", "outer"} <= numbers.keys() and not np.less(*np.broadcast_arrays(numbers["inner"], numbers["outer"])).all():
            raise ValueError(f"inner: expected an angle less than outer = {outer!r}, got {inner!r}")
        self.position = field("position", position, 3)
        self.direction = _direction_field(direction, "from the light into the scene")
        self.intensity = color_field("intensity", intensity)
        self.exponent, self.inner, self.outer = (field(name, x, 1) for name, x in given.items())
        self.attenuation, self.shadow = bool(attenuation), bool(shadow)


class SphericalHarmonicsLight:
    """Light of an environment far away, of any directions, smoothed as a Lambert surface does.

        E(n) = sum over l <= 2 and m of (A_l / pi) L_lm Y_lm(n),   A_0 = pi,  A_1 = 2 pi / 3,  A_2 = pi / 4

    Y_lm are the real spherical harmonics of the world's axes x, y, z in the order (0, 0), (1, -1), (1, 0), (1, 1), (2, -2),
    ..., (2, 2); `harmonics.basis` writes them out. E is irradiance / pi, so that an environment of radiance 1 everywhere,
    L_00 = sqrt(4 pi), shows a white surface as 1. A bright spot in a dark environment makes E negative on the far side;
    it is not clamped, so that gradients come from there too.

    Args:
        coefficients: L_lm, 9 numbers, (9, 3) for RGB, or (B, 9, 3) for nine per view; or an array of vec3, (9,) or (B, 9),
            which is kept.

    Fields: `coefficients`, an array with a gradient. A coefficient that is not finite counts as 0 and has no gradient. Where
    there is no normal, only the mean of the environment arrives, L_00 Y_00.

    Raises:
        ValueError: a wrong shape, or numbers that are not finite.

    Source: Ramamoorthi and Hanrahan, "An efficient representation for irradiance environment maps", 2001, equations 8 to 10.
    """

    kind = HARMONICS

    def __init__(self, coefficients: Sequence | np.ndarray | Array) -> None:
        self.coefficients = _coefficients_field(coefficients)

    @classmethod
    def from_environment(cls, environment: str | Path | np.ndarray) -> "SphericalHarmonicsLight":
        """The light of an environment map: L_lm = integral of L Y_lm over all directions.

        For Lambert surfaces the nine coefficients carry all but about 1% of the energy of natural environments.

        Args:
            environment: linear radiance in latitude and longitude, (H, W) or (H, W, 3), or a file of it, .hdr or .exr. Row 0
                is up, +y. The middle of the image looks along -z; to its right is +x, and its left and right edges meet at +z.

        Raises:
            ValueError: another shape, values that are not finite, a file that cannot be read.
        """
        return cls(harmonics.project(read_environment(environment)))


Light = AmbientLight | DirectionalLight | PointLight | SpotLight | SphericalHarmonicsLight
NAMES = "AmbientLight, DirectionalLight, PointLight, SpotLight or SphericalHarmonicsLight"


def light_list(lights: Any) -> list[Light]:
    """`lights` as a list: one light, a sequence of them, or None."""
    lights = [] if lights is None else [lights] if isinstance(lights, Light) else list(lights)
    for k, light in enumerate(lights):
        if not isinstance(light, Light):
            raise ValueError(f"lights: expected {NAMES}, got {type(light).__name__} at index {k}")
        expect_arrays(f"lights[{k}]", light)
    return lights


def expect_arrays(name: str, x: Any) -> None:
    """Raise a ValueError where a field of a light or a material was replaced by what has no gradient."""
    for field_name, value in vars(x).items():
        if not isinstance(value, (ti.Ndarray, bool, str)):
            came = f"{name}.{field_name}: expected an array, which can have a gradient, got {type(value).__name__}"
            raise ValueError(f"{came}; change it in place with dr.write, or make a new {type(x).__name__}")


def view_counts(light: Light) -> dict[str, int]:
    """For how many views each field of the light has an entry, where it has an axis for them."""
    arrays = {name: x for name, x in vars(light).items() if isinstance(x, ti.Ndarray)}
    return {name: x.shape[0] for name, x in arrays.items() if len(x.shape) > (name == "coefficients")}


def color_field(name: str, given: Any) -> Array:
    """An array of vec3, () or (B,), with a gradient; one number is all three channels."""
    return field(name, (given,) * 3 if not isinstance(given, ti.Ndarray) and np.ndim(given) == 0 else given, 3)


def _direction_field(given: Any, meaning: str) -> Array:
    if not isinstance(given, ti.Ndarray) and (view_numbers("direction", given, 3) == 0).all(axis=-1).any():
        raise ValueError(f"direction: expected a direction {meaning}, got length zero in {given!r}")
    return field("direction", given, 3)


def _coefficients_field(given: Any) -> Array:
    count = harmonics.COUNT
    if isinstance(given, ti.Ndarray):
        expect("coefficients", given, 3, (1, 2), "(9,) or (B, 9) of vec3")
        if given.shape[-1] != count:
            raise ValueError(f"coefficients: expected (9,) or (B, 9) of vec3, got shape {tuple(given.shape)}")
        return given
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"coefficients: expected 9 numbers, (9, 3) or (B, 9, 3), got {given!r}") from error
    if values.shape == (count,):
        values = np.repeat(values[:, None], 3, axis=1)
    if values.ndim not in (2, 3) or values.shape[-2:] != (count, 3) or values.size == 0:
        raise ValueError(f"coefficients: expected 9 numbers, (9, 3) or (B, 9, 3), got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("coefficients: expected finite numbers, got some that are not")
    out = empty(vec3, values.shape[:-1], needs_grad=True)
    write(out, values)
    zero(out.grad)
    return out
