"""From fragments to pixels: I = sum_j s_j C_j + s_b C_b."""

from collections.abc import Sequence

import taichi as ti

from ..arrays import ELEMENTS, Array, Image, Ints, Picture, Points, Vectors, constant, empty, expect, item, split, unrecorded, vec3, vec4, work_item
from ..launch import kernel
from ..tape import operator
from .fragments import Fragments, Pixels, Shares
from .gather import add_rows
from .interpolate import Values, inner

Names = ti.types.ndarray(dtype=ti.i32, ndim=3, needs_grad=False)  # (B, H, W)


def composite(values: Array, fragments: Fragments) -> Array:
    """Sum what the fragments show to pixels, over nothing.

        I = sum_j s_j a_j

    Args:
        values: (1, N) of numbers, vec2, vec3 or vec4.
        fragments: of `soft_fragments`.

    Returns:
        (B, H, W), elements as of `values`.

    Differentiable in `values` and in the shares of the fragments.

    Raises:
        ValueError: values that are not one per fragment.
    """
    components = values.element_shape[0] if values.element_shape else 1
    if tuple(values.shape) != tuple(fragments.shares.shape) or components not in ELEMENTS:
        raise ValueError(f"values: expected (1, N) of numbers or vectors, {tuple(fragments.shares.shape)}, got {tuple(values.shape)}")
    out = empty(ELEMENTS[components], fragments.size, needs_grad=True)
    _composite(values, fragments.shares, fragments, out)
    return out


def composite_over(colors: Array, fragments: Fragments, background: Sequence[float] | Array = (0.0, 0.0, 0.0)) -> Array:
    """The RGBA image of fragments with colors, over a background.

        RGB = sum_j s_j C_j + s_b C_b,   A as of the rasterizer

    Args:
        colors: (1, N) of vec3.
        fragments: of `soft_fragments`.
        background: three numbers, or an array of vec3, () or (B,).

    Returns:
        (B, H, W) of vec4.

    Differentiable in `colors`, `background`, and in shares and alpha of the fragments.

    Raises:
        ValueError: wrong shapes.
    """
    if not isinstance(background, ti.Ndarray):
        background = constant(tuple(float(x) for x in background))
    expect("background", background, 3, (0, 1), "three numbers, or () or (B,) of vec3")
    expect("colors", colors, 3, 2, "(1, N) of vec3")
    if tuple(colors.shape) != tuple(fragments.shares.shape):
        raise ValueError(f"colors: expected one per fragment, {tuple(fragments.shares.shape)}, got {tuple(colors.shape)}")
    image = empty(vec4, fragments.size, needs_grad=True)
    _composite_over(colors, fragments.shares, background, fragments.background, fragments.alpha, fragments, image)
    return image


@kernel
def _composite_kernel(
    values: Values, shares: Shares, tile_offsets: Ints, members: Ints, offsets: Ints, pixels: Ints, out: Picture,
    steps: int, pad: int, threads: int, rows: int, columns: int, tile_height: int, tile_width: int,
):  # fmt: skip
    """A thread takes a tile, so nobody else adds to its pixels."""
    for q in range(steps):
        k = work_item(q, pad, threads, out.shape[0] * rows * columns)
        if k >= 0:
            height, width = out.shape[1], out.shape[2]
            b, top, left = k // (rows * columns), k // columns % rows * tile_height, k % columns * tile_width
            for i in range(top, ti.min(top + tile_height, height)):
                for j in range(left, ti.min(left + tile_width, width)):
                    out[b, i, j] = ti.zero(out[b, i, j])
            for n in range(tile_offsets[k], tile_offsets[k + 1]):
                for m in range(offsets[members[n]], offsets[members[n] + 1]):
                    if pixels[m] >= 0:
                        i, j = pixels[m] // width % height, pixels[m] % width
                        out[b, i, j] = out[b, i, j] + shares[0, m] * values[0, m]


@operator
def _composite(values: Array, shares: Array, fragments: Fragments, out: Array) -> None:
    t, f = fragments.tiles, fragments
    _composite_kernel(
        values, shares, t.tile_offsets, t.members, f.offsets, f.pixels, out, *split(f.size[0] * t.rows * t.columns), t.rows, t.columns, *t.tile
    )  # fmt: skip


@kernel
def _composite_adjoint_kernel(
    values: Values, shares: Shares, pixels: Ints, values_grad: Values, shares_grad: Shares, out_grad: Picture, components: ti.template()
):  # fmt: skip
    for m in range(shares.shape[1]):
        if pixels[m] >= 0:
            width, height = out_grad.shape[2], out_grad.shape[1]
            grad = out_grad[pixels[m] // (width * height), pixels[m] // width % height, pixels[m] % width]
            values_grad[0, m] += shares[0, m] * grad
            shares_grad[0, m] += inner(values[0, m], grad, components)


@_composite.adjoint
def _composite_adjoint(values: Array, shares: Array, fragments: Fragments, out: Array) -> None:
    components = values.element_shape[0] if values.element_shape else 1
    _composite_adjoint_kernel(values, shares, fragments.pixels, values.grad, shares.grad, out.grad, components)


@kernel
def _composite_over_kernel(
    colors: Points, shares: Shares, background: Vectors, background_shares: Pixels, alpha: Pixels,
    tile_offsets: Ints, members: Ints, offsets: Ints, pixels: Ints, image: Image,
    steps: int, pad: int, threads: int, rows: int, columns: int, tile_height: int, tile_width: int,
):  # fmt: skip
    """A thread takes a tile, so nobody else adds to its pixels."""
    for q in range(steps):
        k = work_item(q, pad, threads, image.shape[0] * rows * columns)
        if k >= 0:
            height, width = image.shape[1], image.shape[2]
            b, top, left = k // (rows * columns), k // columns % rows * tile_height, k % columns * tile_width
            behind = item(background, b)
            for i in range(top, ti.min(top + tile_height, height)):
                for j in range(left, ti.min(left + tile_width, width)):
                    image[b, i, j] = vec4(background_shares[b, i, j] * behind, alpha[b, i, j])
            for n in range(tile_offsets[k], tile_offsets[k + 1]):
                for m in range(offsets[members[n]], offsets[members[n] + 1]):
                    if pixels[m] >= 0:
                        i, j = pixels[m] // width % height, pixels[m] % width
                        image[b, i, j] = image[b, i, j] + vec4(shares[0, m] * colors[0, m], 0.0)


@operator
def _composite_over(
    colors: Array, shares: Array, background: Array, background_shares: Array, alpha: Array, fragments: Fragments, image: Array
) -> None:  # fmt: skip
    t, f = fragments.tiles, fragments
    _composite_over_kernel(
        colors, shares, background, background_shares, alpha, t.tile_offsets, t.members, f.offsets, f.pixels, image,
        *split(f.size[0] * t.rows * t.columns), t.rows, t.columns, *t.tile,
    )  # fmt: skip


@kernel
def _colors_adjoint_kernel(colors: Points, shares: Shares, pixels: Ints, colors_grad: Points, shares_grad: Shares, image_grad: Image):
    for m in range(shares.shape[1]):
        if pixels[m] >= 0:
            width, height = image_grad.shape[2], image_grad.shape[1]
            grad = image_grad[pixels[m] // (width * height), pixels[m] // width % height, pixels[m] % width].xyz
            colors_grad[0, m] = colors_grad[0, m] + shares[0, m] * grad
            shares_grad[0, m] = shares_grad[0, m] + colors[0, m].dot(grad)


@kernel
def _background_adjoint_kernel(background: Vectors, shares: Pixels, shares_grad: Pixels, alpha_grad: Pixels, image_grad: Image, sums: Points):
    """Per row of pixels; `sums` collects what the background's color gets."""
    for k in range(sums.shape[0] * sums.shape[1]):
        b, i = k // sums.shape[1], k % sums.shape[1]
        behind, total = item(background, b), vec3(0.0)
        for j in range(image_grad.shape[2]):
            grad = image_grad[b, i, j]
            shares_grad[b, i, j] = shares_grad[b, i, j] + behind.dot(grad.xyz)
            alpha_grad[b, i, j] = alpha_grad[b, i, j] + grad.w
            total += shares[b, i, j] * grad.xyz
        sums[b, i] = total


@_composite_over.adjoint
def _composite_over_adjoint(
    colors: Array, shares: Array, background: Array, background_shares: Array, alpha: Array, fragments: Fragments, image: Array
) -> None:  # fmt: skip
    _colors_adjoint_kernel(colors, shares, fragments.pixels, colors.grad, shares.grad, image.grad)
    rows = empty(vec3, image.shape[:2])
    _background_adjoint_kernel(background, background_shares, background_shares.grad, alpha.grad, image.grad, rows)
    if background.grad is not None:
        add_rows(rows, background.grad)


# --- Masks and names, what there is at a pixel ---------------------------------------------------------------------


def visible_part(shown: Array, fragments: Fragments) -> Array:
    """The silhouette of a part of the scene, as far as nothing hides it.

        M = A sum_{j in part} s_j / (1 - s_b)

    Args:
        shown: (B, H, W) of numbers: `composite` of 1 on the part's fragments and 0 on others.
        fragments: of `soft_fragments`.

    Returns:
        (B, H, W) of numbers. The parts of a scene add up to its alpha.

    Differentiable in `shown`, and in alpha and the share of the background.
    """
    out = empty(float, fragments.size, needs_grad=True)
    _visible_part(shown, fragments.alpha, fragments.background, out)
    return out


LEAST_COVERED = 1e-6  # of a pixel's color, under which nothing is said to be seen there


@kernel
def _visible_part_kernel(shown: Pixels, alpha: Pixels, background: Pixels, out: Pixels):
    for b, i, j in ti.ndrange(out.shape[0], out.shape[1], out.shape[2]):
        covered = 1.0 - background[b, i, j]
        out[b, i, j] = ti.select(covered > LEAST_COVERED, alpha[b, i, j] * shown[b, i, j] / ti.max(covered, LEAST_COVERED), 0.0)


@operator
def _visible_part(shown: Array, alpha: Array, background: Array, out: Array) -> None:
    _visible_part_kernel(shown, alpha, background, out)


@kernel
def _visible_part_adjoint_kernel(
    shown: Pixels, alpha: Pixels, background: Pixels, shown_grad: Pixels, alpha_grad: Pixels, background_grad: Pixels, out_grad: Pixels
):  # fmt: skip
    for b, i, j in ti.ndrange(out_grad.shape[0], out_grad.shape[1], out_grad.shape[2]):
        covered, grad = 1.0 - background[b, i, j], out_grad[b, i, j]
        if covered > LEAST_COVERED and grad != 0.0:
            shown_grad[b, i, j] += grad * alpha[b, i, j] / covered
            alpha_grad[b, i, j] += grad * shown[b, i, j] / covered
            background_grad[b, i, j] += grad * alpha[b, i, j] * shown[b, i, j] / (covered * covered)


@_visible_part.adjoint
def _visible_part_adjoint(shown: Array, alpha: Array, background: Array, out: Array) -> None:
    _visible_part_adjoint_kernel(shown, alpha, background, shown.grad, alpha.grad, background.grad, out.grad)


def face_ids(fragments: Fragments) -> Array:
    """Of the faces that hold a pixel's center the one that is most of its color, (B, H, W) of i32; -1 where none does. Names: no gradient."""
    ids, best = empty(int, fragments.size), empty(float, fragments.size)
    t, f = fragments.tiles, fragments
    with unrecorded():
        _face_ids_kernel(
            f.shares, f.weights, f.faces, t.tile_offsets, t.members, f.offsets, f.pixels, best, ids,
            *split(f.size[0] * t.rows * t.columns), t.rows, t.columns, *t.tile,
        )  # fmt: skip
    return ids


@kernel
def _face_ids_kernel(
    shares: Shares, weights: Points, face_of: Ints, tile_offsets: Ints, members: Ints, offsets: Ints, pixels: Ints, best: Pixels, ids: Names,
    steps: int, pad: int, threads: int, rows: int, columns: int, tile_height: int, tile_width: int,
):  # fmt: skip
    for q in range(steps):
        k = work_item(q, pad, threads, ids.shape[0] * rows * columns)
        if k >= 0:
            height, width = ids.shape[1], ids.shape[2]
            b, top, left = k // (rows * columns), k // columns % rows * tile_height, k % columns * tile_width
            for i in range(top, ti.min(top + tile_height, height)):
                for j in range(left, ti.min(left + tile_width, width)):
                    ids[b, i, j], best[b, i, j] = -1, 0.0
            for n in range(tile_offsets[k], tile_offsets[k + 1]):
                for m in range(offsets[members[n]], offsets[members[n] + 1]):
                    if pixels[m] >= 0:
                        i, j = pixels[m] // width % height, pixels[m] % width
                        if shares[0, m] > best[b, i, j] and weights[0, m].min() > 0.0:  # outside of the face weights are clipped to 0
                            ids[b, i, j], best[b, i, j] = face_of[m], shares[0, m]
