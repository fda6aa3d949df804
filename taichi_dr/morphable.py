"""Morphable models: vertices and colors as a mean plus linear modes, whose coefficients count standard deviations.

    x = mean + basis (coefficients * stddev)

A basis is read once forward and once back, at the speed of memory: 128 MB for the 53,490 vertices and 199 modes of a Basel Face Model. It is
stored in strips of 64 rows (row 3 v + c is component c of vertex v), each strip mode by mode, so that both ways read it from beginning to
end, and a batch reads a strip once: the next view finds it in the cache.

Source: Blanz and Vetter, "A morphable model for the synthesis of 3D faces", SIGGRAPH 1999, equation 1.
"""

import os
from typing import Any, NamedTuple

import numpy as np
import taichi as ti

from . import runtime
from .arrays import Array, Floats, Points, allocate, array, batch_size, empty, expect, read, split, vec3, work_item, write
from .head import head
from .io import morphable as files
from .launch import kernel
from .mesh import Mesh
from .tape import operator

Table = ti.types.ndarray(dtype=float, ndim=2, needs_grad=False)  # (B, K), or (B, rows) padded to whole strips
Tables = ti.types.ndarray(dtype=float, ndim=3, needs_grad=False)  # (B, chunks, K)
Coefficients1or2 = ti.types.ndarray(dtype=float, needs_grad=False)  # (K,) or (B, K)

LANES = 32  # as many as Taichi unrolls without a warning
STRIP = 2 * LANES  # rows; a CPU has registers for so many sums, and LLVM makes vectors of a loop over them instead of unrolling it
CHUNK = 16  # strips that one thread sums the gradients of
GPU_VIEWS = 4  # views for which a GPU's thread reads the basis once
INDEX_LIMIT = 2**31  # Taichi counts elements in 32 bits


class Coefficients(NamedTuple):
    """In standard deviations, (K,) or (B, K) numbers each; None where the model has no such modes."""

    shape: Array
    expression: Array | None
    color: Array | None


class Modes:
    """Linear modes on the device: K columns over the components of V vertices.

    Args:
        basis: (3 V, K).
        stddev: (K,).
    """

    def __init__(self, name: str, basis: np.ndarray, stddev: np.ndarray) -> None:
        self.rows, self.count = basis.shape
        self.strips = -(-self.rows // STRIP)
        if self.strips * STRIP * self.count >= INDEX_LIMIT:
            raise ValueError(f"{name} basis: expected less than 2^31 numbers, got shape {basis.shape}; keep fewer modes")
        # Without gradients, which would be as large again.
        precision = ti.lang.impl.get_runtime().default_fp
        self.stddev = allocate(precision, (self.count,), False)
        self.stored = allocate(precision, (self.strips * self.count * STRIP,), False)
        write(self.stddev, stddev)
        padded = np.zeros((self.strips * STRIP, self.count), np.float32)
        padded[: self.rows] = basis
        write(self.stored, padded.reshape(self.strips, STRIP, self.count).swapaxes(1, 2).reshape(-1))

    def basis(self) -> np.ndarray:
        """(V, 3, K) numbers, read back."""
        strips = read(self.stored).reshape(self.strips, self.count, STRIP).swapaxes(1, 2)
        return strips.reshape(-1, self.count)[: self.rows].reshape(-1, 3, self.count)


class MorphableModel:
    """A mesh that linear modes of shape, of expression and of color move.

        vertices = mean + shape_basis (s * shape_stddev) + expression_basis (e * expression_stddev)
        colors = color_mean + color_basis (c * color_stddev)

    Args:
        mean: positions, in any unit, (V, 3) or (3 V,) numbers; with expressions, of the mean expression.
        faces: vertex indices, (F, 3) numbers; turned over where clockwise seen from outside.
        shape_basis: (V, 3, K) or (3 V, K) numbers.
        shape_stddev: (K,) numbers of at least 0; 1 where left out.
        expression_basis, expression_stddev: likewise.
        color_mean: RGB, (V, 3) or (3 V,) numbers, in [0, 1] or from 0 to 255; grey where left out.
        color_basis, color_stddev: as of shape.

    Attributes:
        mean, color_mean: (1, V) of vec3, with gradients, which a fit may move too; `color_mean` None where there are no colors.
        shape, expression, color: modes, the last two None where there are none: `.count`, `.stddev`, `.basis()` in NumPy.
        faces: (F,) of ivec3.

    Colors stay as stored. Those of Basel's are values of photographs, without gamma change, as `Mesh.load` reads textures: compare the
    picture with a photograph's values over 255. They may leave [0, 1].

    Raises:
        ValueError: sizes that do not agree, numbers that are not finite, color modes without a mean.
    """

    def __init__(
        self,
        mean: Any,
        faces: Any,
        shape_basis: Any,
        shape_stddev: Any = None,
        *,
        expression_basis: Any = None,
        expression_stddev: Any = None,
        color_mean: Any = None,
        color_basis: Any = None,
        color_stddev: Any = None,
    ) -> None:
        shape = files.modes("shape", shape_basis, shape_stddev)
        expression = files.modes("expression", expression_basis, expression_stddev)
        color = files.modes("color", color_basis, color_stddev)
        if shape is None:
            raise ValueError("shape_basis: expected (V, 3, K) or (3 V, K) numbers, got None; a mesh without modes is a dr.Mesh")
        self._fill(files.checked(files.unit_colors(files.MorphableData(mean, faces, shape, expression, color_mean, color))))

    def _fill(self, data: files.MorphableData) -> None:
        runtime.ensure_started()
        self.mean: Array = array(data.mean.reshape(1, -1, 3))
        self.faces: Array = array(data.faces, np.int32)
        self.shape = Modes("shape", *data.shape)
        self.expression = None if data.expression is None else Modes("expression", *data.expression)
        self.color_mean: Array | None = None if data.color_mean is None else array(data.color_mean.reshape(1, -1, 3))
        self.color = None if data.color is None else Modes("color", *data.color)
        self._mesh = Mesh(self.mean, self.faces, self.color_mean)

    @staticmethod
    def load(
        path: str | os.PathLike, *, shape_modes: int | None = None, expression_modes: int | None = None, color_modes: int | None = None
    ) -> "MorphableModel":
        """Read a Basel Face Model (HDF5), FLAME (.npz), or any file in those layouts; `io.morphable.read` lists what they hold.

        Args:
            path: .h5, .hdf5 (`pip install taichi_dr[face]`) or .npz. A pickle is never opened.
            shape_modes, expression_modes, color_modes: keep the first so many; all where left out.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a file of another kind, a damaged one, a dataset missing, sizes that do not agree, numbers that are not finite.
            ImportError: HDF5 without h5py.
        """
        return MorphableModel._of(files.read(path, shape_modes, expression_modes, color_modes))

    @staticmethod
    def synthetic(vertices: int = 5000, shape_modes: int = 20, expression_modes: int = 10, color_modes: int = 10) -> "MorphableModel":
        """A head by formula, about 2 units high, y up, its face toward +z: to try things on, and for tests.

        The first modes are those that a face has (width, jaw, nose, ...; open mouth, smile, brows, ...; skin, lips, brows, ...), the others
        smooth waves. No scan of anybody is in it.

        Args:
            vertices: about how many, at least 200: rings of equal length and two poles.
            shape_modes, expression_modes, color_modes: at least 1 each.

        Raises:
            ValueError: an argument out of range.
        """
        return MorphableModel._of(files.checked(head(vertices, shape_modes, expression_modes, color_modes)))

    @staticmethod
    def _of(data: files.MorphableData) -> "MorphableModel":
        model = MorphableModel.__new__(MorphableModel)
        model._fill(data)
        return model

    def save(self, path: str | os.PathLike) -> None:
        """Write the model as HDF5 in the layout of the Basel Face Model 2017.

        Raises:
            ValueError: a mean that is not finite any more.
            ImportError: without h5py.
            OSError: the file cannot be written.
        """

        def modes(m: Modes | None) -> files.Modes | None:
            return None if m is None else files.Modes(m.basis(), read(m.stddev))

        color_mean = None if self.color_mean is None else read(self.color_mean)
        shape = files.Modes(self.shape.basis(), read(self.shape.stddev))
        files.write(path, files.MorphableData(read(self.mean), read(self.faces), shape, modes(self.expression), color_mean, modes(self.color)))

    def coefficients(self, batch: int | None = None) -> Coefficients:
        """Zeros with gradients for all modes, in standard deviations: (K,) each, or (batch, K)."""
        if batch is not None and (isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1):
            raise ValueError(f"batch: expected a whole number of at least 1, or None for one face, got {batch!r}")
        shape = () if batch is None else (int(batch),)

        def zeros(modes: Modes) -> Array:
            return array(np.zeros((*shape, modes.count)), vectors=False)

        return Coefficients(
            zeros(self.shape), None if self.expression is None else zeros(self.expression), None if self.color is None else zeros(self.color)
        )

    def vertices(self, shape: Array | None = None, expression: Array | None = None) -> Array:
        """Positions of the vertices.

            x = mean + shape_basis (shape * shape_stddev) + expression_basis (expression * expression_stddev)

        Args:
            shape: coefficients, in standard deviations, (K,) or (B, K) numbers; None for zeros.
            expression: likewise. A batch of 1 serves every view: one face, B expressions.

        Returns:
            (B, V) of vec3; B is 1 for (K,).

        Differentiable in both and in `model.mean`; the basis is data.

        Raises:
            ValueError: not a Taichi array, a wrong length, expressions of a model without any, batches that do not agree.
        """
        return self._moved("expression", self.expression, expression, self._moved("shape", self.shape, shape, self.mean))

    def colors(self, color: Array | None = None) -> Array:
        """Colors of the vertices.

            c = color_mean + color_basis (color * color_stddev)

        Args:
            color: coefficients, in standard deviations, (K,) or (B, K) numbers; None for zeros.

        Returns:
            (B, V) of vec3; B is 1 for (K,).

        Differentiable in `color` and in `model.color_mean`; the basis is data.

        Raises:
            ValueError: as of `vertices`, or a model without colors.
        """
        if self.color_mean is None:
            raise ValueError("color: expected a model with colors, got one without, such as FLAME; give the mesh colors or a texture of its own")
        return self._moved("color", self.color, color, self.color_mean)

    def mesh(self, shape: Array | None = None, expression: Array | None = None, color: Array | None = None) -> Mesh:
        """A mesh of `vertices(shape, expression)` and `colors(color)`; grey where the model has no colors.

        It shares these arrays and `model.faces`, so that gradients of the mesh reach the coefficients. Make it anew in every tape;
        topology is found once, since the faces stay the same array.

        Raises:
            ValueError: as of `vertices` and `colors`.
        """
        mesh = self._mesh.with_vertices(self.vertices(shape, expression))
        if color is not None or self.color_mean is not None:
            mesh.colors = self.colors(color)
            batch_size(vertices=mesh.vertices.shape[0], colors=mesh.colors.shape[0])
        return mesh

    @staticmethod
    def _moved(name: str, modes: Modes | None, coefficients: Array | None, start: Array) -> Array:
        if coefficients is None:
            return start
        if modes is None:
            raise ValueError(f"{name}: expected None, since the model has no {name} modes, got coefficients; leave it out")
        shape = "(K,) or (B, K) of numbers, as of model.coefficients() or dr.array(values, vectors=False)"
        expect(name, coefficients, 1, (1, 2), shape)
        if coefficients.shape[-1] != modes.count:
            raise ValueError(
                f"{name}: expected {modes.count} coefficients, one per mode, got {coefficients.shape[-1]}; make them with model.coefficients(), "
                f"or keep fewer modes: MorphableModel.load(path, {name}_modes={coefficients.shape[-1]})"
            )
        views = _views(coefficients)
        out = empty(vec3, (batch_size(**{"vertices": start.shape[0], name: views}), start.shape[1]), needs_grad=True)
        _blend(start, coefficients, modes, out)
        return out


# --- Blend: start + basis (coefficients * stddev) -----------------------------------------------------------------
#
# Every batch is that of `out` or 1, which serves all: `ti.min(b, n - 1)` is the entry of n that serves view b.


@ti.func
def _scale(coefficients: ti.template(), stddev: ti.template(), scaled: ti.template()):
    for n in range(scaled.shape[0] * scaled.shape[1]):
        b, k = n // scaled.shape[1], n % scaled.shape[1]
        if ti.static(len(coefficients.shape) == 1):
            scaled[b, k] = coefficients[k] * stddev[k]
        else:
            scaled[b, k] = coefficients[b, k] * stddev[k]


@ti.func
def _add(start: ti.template(), moves: ti.template(), out: ti.template()):
    for v in range(out.shape[1]):
        for b in range(out.shape[0]):
            view = ti.min(b, moves.shape[0] - 1)
            move = vec3(moves[view, 3 * v], moves[view, 3 * v + 1], moves[view, 3 * v + 2])
            out[b, v] = start[ti.min(b, start.shape[0] - 1), v] + move


@kernel
def _blend_cpu_kernel(
    start: Points, coefficients: Coefficients1or2, stddev: Floats, basis: Floats, scaled: Table, moves: Table, out: Points,
    steps: int, pad: int, threads: int, strips: int,
):  # fmt: skip
    """A thread takes a strip, view by view; its sums stay in registers over the modes."""
    _scale(coefficients, stddev, scaled)
    for q in range(steps):
        s = work_item(q, pad, threads, strips)
        if s >= 0:
            for b in range(scaled.shape[0]):
                sums = ti.Vector([0.0] * STRIP)
                for k in range(scaled.shape[1]):
                    factor, at = scaled[b, k], (s * scaled.shape[1] + k) * STRIP
                    for half in ti.static(range(0, STRIP, LANES)):
                        for lane in ti.static(range(LANES)):
                            sums[half + lane] += factor * basis[at + (half + lane)]
                for half in ti.static(range(0, STRIP, LANES)):
                    for lane in ti.static(range(LANES)):
                        moves[b, s * STRIP + (half + lane)] = sums[half + lane]
    _add(start, moves, out)


@kernel
def _blend_gpu_kernel(
    start: Points, coefficients: Coefficients1or2, stddev: Floats, basis: Floats, scaled: Table, moves: Table, out: Points,
    groups: int, views: ti.template(),
):  # fmt: skip
    """A thread takes a row, so that neighbors read neighboring numbers, and several views at once."""
    _scale(coefficients, stddev, scaled)
    for q in range(groups * moves.shape[1]):
        first, row, modes = q // moves.shape[1] * views, q % moves.shape[1], scaled.shape[1]
        at, sums = row // STRIP * modes * STRIP + row % STRIP, ti.Vector([0.0] * views)
        for k in range(modes):
            x = basis[at + k * STRIP]
            for j in ti.static(range(views)):
                sums[j] += scaled[ti.min(first + j, scaled.shape[0] - 1), k] * x
        for j in ti.static(range(views)):
            if first + j < moves.shape[0]:
                moves[first + j, row] = sums[j]
    _add(start, moves, out)


@operator
def _blend(start: Array, coefficients: Array, modes: Modes, out: Array) -> None:
    views = _views(coefficients)
    scaled, moves = empty(float, (views, modes.count)), empty(float, (views, modes.strips * STRIP))
    arrays = start, coefficients, modes.stddev, modes.stored, scaled, moves, out
    if runtime.device().arch == "cpu":
        _blend_cpu_kernel(*arrays, *split(modes.strips), modes.strips)
    else:
        _blend_gpu_kernel(*arrays, *_groups(views))


def _views(coefficients: Array) -> int:
    return coefficients.shape[0] if len(coefficients.shape) == 2 else 1


def _groups(views: int) -> tuple[int, int]:
    """How many groups a GPU makes of the views, and how many views are in a group."""
    together = min(views, GPU_VIEWS)
    return -(-views // together), together


@ti.func
def _served_total(x: ti.template(), b: int, v: int, n: int):
    """The sum over the views that entry b of n serves."""
    total = x[b, v]
    if n < x.shape[0]:
        for other in range(1, x.shape[0]):
            total += x[other, v]
    return total


@kernel
def _start_adjoint_kernel(out_grad: Points, start_grad: Points):
    for v in range(start_grad.shape[1]):
        for b in range(start_grad.shape[0]):
            start_grad[b, v] = start_grad[b, v] + _served_total(out_grad, b, v, start_grad.shape[0])


@ti.func
def _add_adjoint(moves_grad: ti.template(), out_grad: ti.template()):
    """Gradient of the moves, zero in the rows that fill the last strip up."""
    for v in range(out_grad.shape[1] + STRIP // 3):
        for b in range(moves_grad.shape[0]):
            total = vec3(0.0)
            if v < out_grad.shape[1]:
                total = _served_total(out_grad, b, v, moves_grad.shape[0])
            for c in ti.static(range(3)):
                if 3 * v + c < moves_grad.shape[1]:
                    moves_grad[b, 3 * v + c] = total[c]


@ti.func
def _scale_adjoint(partials: ti.template(), stddev: ti.template(), coefficients_grad: ti.template()):
    """Gradient of the coefficients, the chunks summed in their order."""
    for n in range(partials.shape[0] * partials.shape[2]):
        b, k, total = n // partials.shape[2], n % partials.shape[2], 0.0
        for chunk in range(partials.shape[1]):
            total += partials[b, chunk, k]
        if ti.static(len(coefficients_grad.shape) == 1):
            coefficients_grad[k] = coefficients_grad[k] + total * stddev[k]
        else:
            coefficients_grad[b, k] = coefficients_grad[b, k] + total * stddev[k]


@kernel
def _blend_adjoint_cpu_kernel(
    coefficients_grad: Coefficients1or2, stddev: Floats, basis: Floats, partials: Tables, moves_grad: Table, out_grad: Points,
    steps: int, pad: int, threads: int, strips: int,
):  # fmt: skip
    """A thread takes a chunk of strips; the loop over the rows of a strip becomes a sum in vectors."""
    _add_adjoint(moves_grad, out_grad)
    for q in range(steps):
        chunk = work_item(q, pad, threads, partials.shape[1])
        if chunk >= 0:
            modes = partials.shape[2]
            for b in range(partials.shape[0]):
                for k in range(modes):
                    partials[b, chunk, k] = 0.0
            for s in range(chunk * CHUNK, ti.min((chunk + 1) * CHUNK, strips)):
                for b in range(partials.shape[0]):
                    grads = ti.Vector([0.0] * STRIP)
                    for row in range(STRIP):
                        grads[row] = moves_grad[b, s * STRIP + row]
                    for k in range(modes):
                        at, total = (s * modes + k) * STRIP, 0.0
                        for row in range(STRIP):
                            total += grads[row] * basis[at + row]
                        partials[b, chunk, k] = partials[b, chunk, k] + total
    _scale_adjoint(partials, stddev, coefficients_grad)


@kernel
def _blend_adjoint_gpu_kernel(
    coefficients_grad: Coefficients1or2, stddev: Floats, basis: Floats, partials: Tables, moves_grad: Table, out_grad: Points,
    groups: int, views: ti.template(),
):  # fmt: skip
    """A thread takes a mode in a chunk of strips, and several views at once."""
    _add_adjoint(moves_grad, out_grad)
    for q in range(groups * partials.shape[1] * partials.shape[2]):
        modes = partials.shape[2]
        first, chunk, k = q // (partials.shape[1] * modes) * views, q // modes % partials.shape[1], q % modes
        sums = ti.Vector([0.0] * views)
        for row in range(chunk * CHUNK * STRIP, ti.min((chunk + 1) * CHUNK * STRIP, moves_grad.shape[1])):
            x = basis[(row // STRIP * modes + k) * STRIP + row % STRIP]
            for j in ti.static(range(views)):
                sums[j] += moves_grad[ti.min(first + j, moves_grad.shape[0] - 1), row] * x
        for j in ti.static(range(views)):
            if first + j < partials.shape[0]:
                partials[first + j, chunk, k] = sums[j]
    _scale_adjoint(partials, stddev, coefficients_grad)


@_blend.adjoint
def _blend_adjoint(start: Array, coefficients: Array, modes: Modes, out: Array) -> None:
    if start.grad is not None:
        _start_adjoint_kernel(out.grad, start.grad)
    if coefficients.grad is None:
        return
    views, chunks = _views(coefficients), -(-modes.strips // CHUNK)
    partials, moves_grad = empty(float, (views, chunks, modes.count)), empty(float, (views, modes.strips * STRIP))
    arrays = coefficients.grad, modes.stddev, modes.stored, partials, moves_grad, out.grad
    if runtime.device().arch == "cpu":
        _blend_adjoint_cpu_kernel(*arrays, *split(chunks), modes.strips)
    else:
        _blend_adjoint_gpu_kernel(*arrays, *_groups(views))
