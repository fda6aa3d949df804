"""Texels that no view has seen, filled in smoothly from those that were."""

from typing import Any, NamedTuple

import numpy as np
import taichi as ti

from .arrays import read

DAMPING = 0.8  # of the Jacobi smoother
MAX_STEPS = 100  # far above what any mask has needed


def fill_unseen(texture: Any, seen: Any, wrap: str = "clamp", tolerance: float = 1e-4) -> np.ndarray:
    """Replace the unseen texels of a texture by the harmonic continuation of the seen ones.

    Seen texels stay exactly as they are, and at each unseen texel Laplace's equation holds,

        sum over the neighbors n of texel t of (x_n - x_t) = 0,

    so that x is the smoothest continuation, without new extremes. Beyond its border the texture has no neighbors, or with
    "wrap" those of the other side. It is solved by conjugate gradients, preconditioned by a multigrid cycle.

    Not differentiable: it ends a fit, whose loss does not depend on what was not seen. In NumPy, whatever the device.

    Args:
        texture: (H, W, C) or (B, H, W, C) floats, or a Taichi array (B, H, W) of vec3; what unseen texels hold does not matter.
        seen: (H, W) or (B, H, W), true or above zero where a texel was seen; NumPy or Taichi.
        wrap: "clamp", or "wrap" for a texture that repeats.
        tolerance: of the residual in proportion to that of unseen texels of zero; below 1e-5 the solution is in float64.

    Returns:
        A new array of the shape of the texture's numbers.

    Raises:
        ValueError: wrong shapes or types, nothing seen, or a seen texel that is not finite.

    Source: pixels as in Perez, Gangnet and Blake, Poisson Image Editing (2003), eq. 2, for no guidance field. Cycle: Braess,
    Towards Algebraic Multigrid for Elliptic Problems of Second Order (1995): 2 x 2 aggregates, the coarse operator halved.
    """
    values = read(texture) if isinstance(texture, ti.Ndarray) else np.asarray(texture)
    mask = read(seen) if isinstance(seen, ti.Ndarray) else np.asarray(seen)
    if values.ndim not in (3, 4) or values.dtype.kind != "f" or 0 in values.shape:
        raise ValueError(f"texture: expected floats of shape (H, W, C) or (B, H, W, C), got {values.dtype} of shape {values.shape}")
    if mask.dtype.kind not in "biuf" or mask.shape not in (values.shape[-3:-1], values.shape[:-1]):
        sizes = f"{values.shape[-3:-1]}" + (f" or {values.shape[:-1]}" if values.ndim == 4 else "")
        raise ValueError(f"seen: expected booleans of shape {sizes}, as the texture, got {mask.dtype} of shape {mask.shape}")
    if wrap not in ("clamp", "wrap"):
        raise ValueError(f"wrap: expected 'clamp' or 'wrap', got {wrap!r}")
    if not (isinstance(tolerance, (int, float)) and 0 < tolerance < 1):
        raise ValueError(f"tolerance: expected a number between 0 and 1, got {tolerance!r}")
    textures = values[None] if values.ndim == 3 else values
    masks = np.broadcast_to(mask > 0, textures.shape[:-1])
    if not masks.any(axis=(1, 2)).all():
        raise ValueError("seen: expected at least one seen texel, got none; there is nothing to continue")
    if not np.isfinite(textures[masks]).all():
        raise ValueError("texture: expected finite values at seen texels, got NaN or infinity; leave those out of seen")
    filled = [_filled(*pair, wrap == "wrap", tolerance) for pair in zip(textures, masks, strict=True)]
    return np.stack(filled).reshape(values.shape)


def _filled(texture: np.ndarray, seen: np.ndarray, wrap: bool, tolerance: float) -> np.ndarray:
    if seen.all():
        return texture.copy()
    precision = np.float32 if tolerance >= 1e-5 else np.float64
    known = np.ascontiguousarray(np.moveaxis(np.where(seen[..., None], texture, 0), -1, 0), dtype=precision)  # (C, H, W)
    # Values of any size without overflow of their squares.
    scale = max(float(np.abs(known).max()), 1e-30)
    known /= precision(scale)
    grids = _grids(seen, wrap, precision)
    solved = _solved(grids, known, _coarse_means(known, seen), ~seen, tolerance)
    return np.where(seen[..., None], texture, np.moveaxis(solved * scale, 0, -1)).astype(texture.dtype)


class _Grid(NamedTuple):
    """A network of conductances; texel (i, j) is joined to (i, j + 1) and (i + 1, j), around the border if it wraps, and to
    ground, where what is known is. Where a texel is known itself, nothing is joined."""

    right: np.ndarray  # (H, W)
    down: np.ndarray  # (H, W)
    ground: np.ndarray  # (H, W)
    inverse: np.ndarray  # (H, W) of the sum of all around a texel, zero where there is none
    wrap: bool


def _grid(right: np.ndarray, down: np.ndarray, ground: np.ndarray, wrap: bool) -> _Grid:
    around = ground + right + down
    around[:, 1:] += right[:, :-1]
    around[1:] += down[:-1]
    if wrap:
        around[:, 0] += right[:, -1]
        around[0] += down[-1]
    return _Grid(right, down, ground, np.divide(1, around, out=np.zeros_like(around), where=around > 0), wrap)


def _grids(seen: np.ndarray, wrap: bool, precision: type) -> list[_Grid]:
    """The network of the texture, and one of half the size after the other."""
    unseen = ~seen
    right, down = (unseen & np.roll(unseen, -1, axis) for axis in (1, 0))
    to_right, to_down = (np.roll(seen, -1, axis) for axis in (1, 0))
    to_left, to_up = (np.roll(seen, 1, axis) for axis in (1, 0))
    if not wrap:
        right[:, -1] = to_right[:, -1] = to_left[:, 0] = down[-1] = to_down[-1] = to_up[0] = False
    ground = unseen * (to_right.astype(precision) + to_left + to_down + to_up)
    grids = [_grid(right.astype(precision), down.astype(precision), ground.astype(precision), wrap)]
    while grids[-1].right.size > 1:
        grids.append(_coarser(grids[-1]))
    return grids


def _coarser(grid: _Grid) -> _Grid:
    """Cells of 2 x 2 texels. Conductances are summed over those parallel and halved for those in series, as of a sheet."""
    right, down = _even(grid.right), _even(grid.down)
    height, width = grid.right.shape
    if grid.wrap and width % 2:  # the last texel of a row joins the first from the right half of its cell
        right[:, width], right[:, width - 1] = right[:, width - 1].copy(), 0
    if grid.wrap and height % 2:
        down[height], down[height - 1] = down[height - 1].copy(), 0
    right, down = (right[::2, 1::2] + right[1::2, 1::2]) / 2, (down[1::2, ::2] + down[1::2, 1::2]) / 2
    if right.shape[1] == 1:
        right[:] = 0  # a cell joined to itself
    if down.shape[0] == 1:
        down[:] = 0
    return _grid(right, down, _cell_sums(grid.ground) / 2, grid.wrap)


def _even(x: np.ndarray) -> np.ndarray:
    """(..., H, W) with a row and a column of zeros where their number is odd."""
    height, width = x.shape[-2:]
    return np.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, height % 2), (0, width % 2)]) if height % 2 or width % 2 else x


def _cell_sums(x: np.ndarray) -> np.ndarray:
    x = _even(x)
    return x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]


def _spread(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each value to the 2 x 2 texels of its cell."""
    return np.repeat(np.repeat(x, 2, axis=-2), 2, axis=-1)[..., :height, :width]


def _coarse_means(known: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """`known`, and where nothing is seen the mean of the smallest cell around that has seen something."""
    height, width = seen.shape
    if height * width == 1:
        return known
    counts = _cell_sums(seen.astype(known.dtype))
    means = _coarse_means(_cell_sums(known) / np.maximum(counts, 1), counts > 0)
    return np.where(seen, known, _spread(means, height, width))


def _operator(grid: _Grid, x: np.ndarray) -> np.ndarray:
    """What flows out of each texel of (C, H, W). Differences come first: they are small against x, and their rounding must
    not add up over a wide hole."""
    out = grid.ground * x
    flow = x[..., :-1] - x[..., 1:]
    flow *= grid.right[:, :-1]
    out[..., :-1] += flow
    out[..., 1:] -= flow
    flow = x[..., :-1, :] - x[..., 1:, :]
    flow *= grid.down[:-1]
    out[..., :-1, :] += flow
    out[..., 1:, :] -= flow
    if grid.wrap:
        flow = grid.right[:, -1] * (x[..., -1] - x[..., 0])
        out[..., -1] += flow
        out[..., 0] -= flow
        flow = grid.down[-1] * (x[..., -1, :] - x[..., 0, :])
        out[..., -1, :] += flow
        out[..., 0, :] -= flow
    return out


def _cycle(grids: list[_Grid], right_side: np.ndarray) -> np.ndarray:
    """One multigrid W-cycle: an approximate, symmetric inverse of the operator of the first grid."""
    grid = grids[0]
    weight = grid.inverse * grid.inverse.dtype.type(DAMPING if len(grids) > 1 else 1)
    x = weight * right_side
    if len(grids) == 1:
        return x
    rest = _cell_sums(right_side - _operator(grid, x))
    coarse = _cycle(grids[1:], rest)
    if len(grids) > 2:
        coarse += _cycle(grids[1:], rest - _operator(grids[1], coarse))
    x += _spread(coarse, *grid.right.shape) * (grid.inverse > 0)
    x += weight * (right_side - _operator(grid, x))
    return x


def _solved(grids: list[_Grid], known: np.ndarray, guess: np.ndarray, unseen: np.ndarray, tolerance: float) -> np.ndarray:
    """The harmonic continuation of `known` (C, H, W), by preconditioned conjugate gradients of each channel."""
    grid, precision = grids[0], known.dtype.type
    sheet = grid._replace(right=np.ones_like(grid.right), down=np.ones_like(grid.down), ground=np.zeros_like(grid.ground))
    start = _norms(_operator(sheet, known) * unseen)
    x, residual = guess.copy(), -_operator(sheet, guess) * unseen
    step, last = np.zeros_like(x), np.ones(len(x))
    for _ in range(MAX_STEPS):
        if (_norms(residual) <= tolerance * start).all():
            break
        preconditioned = _cycle(grids, residual)
        product = _dots(residual, preconditioned)
        step = preconditioned + (product / np.maximum(last, 1e-300)).astype(precision)[:, None, None] * step
        last, image = product, _operator(grid, step)
        length = (product / np.maximum(_dots(step, image), 1e-300)).astype(precision)[:, None, None]
        x += length * step
        residual -= length * image
    return x


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The inner product of each channel, rows first, so that float32 does not lose the small ones."""
    return np.einsum("chw,chw->ch", a, b).sum(axis=1, dtype=np.float64)


def _norms(a: np.ndarray) -> np.ndarray:
    return np.sqrt(_dots(a, a))
