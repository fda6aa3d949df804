"""Materials: how much of the light a surface scatters in all directions, and how much it mirrors."""

from collections.abc import Sequence

import numpy as np
import taichi as ti

from .arrays import Array, field, view_numbers
from .lights import color_field

NO_HIGHLIGHT, PHONG, BLINN_PHONG = 0, 1, 2
MODELS = {"phong": PHONG, "blinn-phong": BLINN_PHONG}


class Material:
    """What a surface does with light, beside its color.

        lit = color * diffuse * E + specular * sum of I p^shininess

    over the lights that come from somewhere, where n . l > 0: p = max(0, n . h) with h halfway between the light and the
    eye (Blinn-Phong), or p = max(0, r . v) with r = 2 (n . l) n - l, the mirrored light, and v towards the eye (Phong).

    Args:
        diffuse: share of the light that is scattered: a number, an RGB triple, or (B, 3) for one per view; or an array of
            vec3, () or (B,), which is kept.
        specular: share that is mirrored, likewise. With no camera to mirror it to it must be 0.
        shininess: exponent of the highlight, at least 0, the larger the smaller the highlight; about a quarter of it makes
            a Phong highlight as large as a Blinn-Phong one. A number, B of them, or an array of numbers, () or (B,).
        model: "blinn-phong" or "phong".

    Fields: `diffuse`, `specular`, `shininess`, arrays with gradients; `model`. A value in them that is not finite counts
    as 0, and so does a negative shininess; both have no gradient.

    Raises:
        ValueError: a wrong shape, numbers that are not finite, a negative shininess, an unknown model.

    Source: Phong, "Illumination for computer generated pictures", 1975; Blinn, "Models of light reflection for computer
    synthesized pictures", 1977.
    """

    def __init__(
        self,
        diffuse: float | Sequence | np.ndarray | Array = 1.0,
        specular: float | Sequence | np.ndarray | Array = 0.0,
        shininess: float | Sequence[float] | np.ndarray | Array = 32.0,
        model: str = "blinn-phong",
    ) -> None:
        if model not in MODELS:
            raise ValueError(f"model: expected one of {', '.join(map(repr, MODELS))}, got {model!r}")
        if not isinstance(shininess, ti.Ndarray) and (view_numbers("shininess", shininess, 1) < 0).any():
            raise ValueError(f"shininess: expected numbers of at least 0, got {shininess!r}")
        self.diffuse = color_field("diffuse", diffuse)
        self.specular = color_field("specular", specular)
        self.shininess = field("shininess", shininess, 1)
        self.model = model
