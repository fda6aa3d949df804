"""From photographs to a mesh: the fit that `taichi-dr fit` runs, with settings that suit most objects."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import losses, schedules, shapes
from .arrays import array, read
from .carve import visual_hull
from .deferred import DeferredRenderer
from .fit_run import Parameter, Step
from .fitting import Result, fit
from .large_steps import LargeSteps
from .mesh import GREY, Mesh
from .photos import Photos
from .quality import MeshQuality, mesh_quality
from .recording import Recording
from .remesh import remesh
from .render import SoftRenderer
from .smooth import smooth

SPHERE = 0.6  # of the radius of the ball around the object, for a start from a sphere


@dataclass(frozen=True)
class Settings:
    """How photographs are fitted; the defaults suit most objects.

    Attributes:
        steps: of the fit.
        views_per_step: photographs that a step looks at.
        vertices: of the mesh, about.
        start: "hull", the visual hull of the masks, which has the holes of the object; or "sphere".
        large_steps: move the mesh by `LargeSteps`; False moves vertices one by one.
        smoothness: lambda of the large steps.
        lr, color_lr: of the shape, as a share of the object's radius, and of colors.
        blur: pixels by which edges are blurred at the first and the last step.
        silhouette, normals: weights of the overlap of outlines and of the normals' consistency, beside 10 of the squared difference.
        texture: "vertex" for colors of vertices; "uv" for a texture, which is fitted when the shape is.
        texture_size: texels on a side.
        seed: of the order of photographs.
    """

    steps: int = 400
    views_per_step: int = 4
    vertices: int = 10_000
    start: str = "hull"
    large_steps: bool = True
    smoothness: float = 19.0
    lr: float = 3e-3
    color_lr: float = 2e-2
    blur: tuple[float, float] = (1.5, 0.5)
    silhouette: float = 1.0
    normals: float = 0.02
    texture: str = "vertex"
    texture_size: int = 512
    seed: int = 0


@dataclass
class Reconstruction:
    """What photographs came to.

    Attributes:
        mesh: in the world of the cameras.
        result: of the fit.
        start, end: how good the mesh was and is.
        scores: by name of the photographs, "fitted" and "held_out": mean overlap of the outlines and PSNR in dB.
    """

    mesh: Mesh
    result: Result
    start: MeshQuality
    end: MeshQuality
    scores: dict[str, tuple[float, float]]
