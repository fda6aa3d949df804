"""What the vertices have, as pictures of the visible surface, of any number of channels."""

import taichi as ti

from ..arrays import Array
from .channels import join_fours, take_four
from .composite import composite
from .fragments import Fragments
from .interpolate import interpolate as at_fragments
from .visible import Visible


def interpolate(values: Array, faces: Array, visible: Visible | Fragments) -> Array:
    """Attributes of the vertices, at every pixel of the surface that is seen there.

        a = w_0 a_0 + w_1 a_1 + w_2 a_2

    with w the place on the face in space, so that attributes are right in perspective.

    Args:
        values: per vertex, (B, V) of numbers, vec2, vec3 or vec4, or (B, V, C) of numbers; one row serves every view.
        faces: indices into `values`, (F,) of ivec3: the mesh's faces, or `uv_faces`.
        visible: of `rasterize`.

    Returns:
        (B, H, W), elements as of `values`, or (B, H, W, C); zero where no face is.

    Differentiable in `values`, and in what was rasterized.

    Raises:
        ValueError: elements that are no floats or vectors of them, other faces than were rasterized, batches that do not agree.
    """
    fragments = visible.fragments if isinstance(visible, Visible) else visible
    if not isinstance(values, ti.Ndarray):
        raise ValueError(f"values: expected a Taichi array, (B, V) or (B, V, C), got {type(values).__name__}; make it with dr.array(...)")
    if len(values.shape) != 3:
        return composite(at_fragments(values, faces, fragments), fragments)
    parts = [take_four(values, first) for first in range(0, values.shape[2], 4)]
    return join_fours([composite(at_fragments(part, faces, fragments), fragments) for part in parts], values.shape[2])
