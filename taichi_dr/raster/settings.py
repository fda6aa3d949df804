"""The settings of the soft rasterizer, checked and as the kernels need them."""

import math
from typing import NamedTuple

from .fragment import AFFINE, ALPHAS, DISTANCES, HARD, PARALLEL, PERSPECTIVE, RGBS

STEEPEST = 1e30  # the largest 1 / sigma that float32 can multiply


class Settings(NamedTuple):
    """What the kernels need of the arguments."""

    half: float  # of a pixel, on the screen
    zero: float  # 0, unknown to the compiler
    per_sigma: float  # 1 / sigma
    per_softness: float  # 1 / (gamma in units of depth)
    near: float
    far: float
    last: float  # the depth that the background weighs as: eps in units of depth
    least_logit: float  # -ln(1 / dist_eps - 1): a face counts where its logit is above
    distance: int
    rgb: int
    alpha: int
    interpolation: int
    sides: int
    textured: int

    @property
    def numbers(self) -> tuple[float, ...]:
        """The kernels' arguments, in their order."""
        return self[:8]

    @property
    def modes(self) -> tuple[int, ...]:
        """What the kernels are compiled for, in their order."""
        return self[8:13]

    @property
    def radius(self) -> float:
        """Screen distance from a face's box beyond which it has no fragments."""
        return 0.0 if self.distance == HARD else math.sqrt(-self.least_logit / self.per_sigma)


def checked_settings(
    size: tuple[int, int], sigma: float, gamma: float, near: float, far: float, eps: float, dist_eps: float,
    distance: str, rgb: str, alpha: str, textured: bool, interpolation: int, sides: int,
) -> Settings:  # fmt: skip
    """The settings, checked; `size` is (height, width)."""
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
    least_logit = -math.log(1 / dist_eps - 1)
    return Settings(
        1 / min(size), 0.0, min(1 / sigma, STEEPEST), min(1 / (gamma * (far - near)), STEEPEST),
        float(near), float(far), far - eps * (far - near), least_logit,
        DISTANCES[distance], RGBS[rgb], ALPHAS[alpha], interpolation, sides, int(textured),
    )  # fmt: skip


def kept_turn(cull: str | None, clockwise_front: bool) -> int:
    """Which faces `cull` leaves: 1 those that are counter-clockwise on the screen, -1 those that are clockwise, 0 all."""
    if cull not in (None, "back", "front"):
        raise ValueError(f'cull: expected "back", "front" or None, got {cull!r}')
    return 0 if cull is None else 1 if (cull == "back") != clockwise_front else -1


def interpolation_of(perspective: bool, orthographic: bool) -> int:
    """How depths and weights run over a face on the screen."""
    return PARALLEL if orthographic else PERSPECTIVE if perspective else AFFINE
