"""Morphable models: vertices and colors as a mean plus linear modes, whose coefficients count standard deviations.

    x = mean + basis (coefficients * stddev)

A basis is read once forward and once back, at the speed of memory: 128 MB for the 53,490 vertices and 199 modes of a Basel Face Model. It is
stored in strips of 32 vertices, which are 96 rows (row 3 v + c is component c of vertex v), each strip mode by mode, so that both ways
read it from beginning to end, and a batch reads a strip once: the next view finds it in the cache.

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
from .mesh import Mesh
from .tape import operator

Table = ti.types.ndarray(dtype=float, ndim=2, needs_grad=False)  # (B, K)
Tables = ti.types.ndarray(dtype=float, ndim=3, needs_grad=False)  # (B, chunks, K)
Coefficients1or2 = ti.types.ndarray(dtype=float, needs_grad=False)  # (K,) or (B, K)

STRIP_VERTICES = 32
STRIP = 3 * STRIP_VERTICES  # rows of a strip; so many that LLVM makes vectors of a loop over them instead of unrolling it
LANES = 32  # rows whose sums a CPU keeps in registers: eight vectors of four floats
CHUNK = 8  # strips that one thread sums the gradients of
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
        views = coefficients.shape[0] if len(coefficients.shape) == 2 else 1
        out = empty(vec3, (batch_size(**{"vertices": start.shape[0], name: views}), start.shape[1]), needs_grad=True)
        _blend(start, coefficients, modes, out)
        return out


# --- Blend: start + basis (coefficients * stddev) -----------------------------------------------------------------


@ti.func
def _component(x: ti.template(), b: int, row: int):
    """Component `row` of the vectors of view b, counted one after another."""
    return x[b % x.shape[0], row // 3][row % 3]


@ti.kernel
def _scale_kernel(coefficients: Coefficients1or2, stddev: Floats, scaled: Table):
    for n in range(scaled.shape[0] * scaled.shape[1]):
        b, k = n // scaled.shape[1], n % scaled.shape[1]
        if ti.static(len(coefficients.shape) == 1):
            scaled[b, k] = coefficients[k] * stddev[k]
        else:
            scaled[b, k] = coefficients[b, k] * stddev[k]


@ti.kernel
def _blend_cpu_kernel(
    start: Points, basis: Floats, scaled: Table, moves: Floats, out: Points, modes: int, steps: int, pad: int, threads: int, strips: int
):
    """A thread takes a strip, view by view; the sums of LANES rows stay in registers over the modes, and go to `moves` in vectors."""
    for q in range(steps):
        s = work_item(q, pad, threads, strips)
        if s >= 0:
            for view in range(scaled.shape[0]):
                for group in range(STRIP // LANES):
                    sums = ti.Vector([0.0] * LANES)
                    for k in range(modes):
                        factor, at = scaled[view, k], ((s * modes + k) * (STRIP // LANES) + group) * LANES
                        for lane in ti.static(range(LANES)):
                            sums[lane] += factor * basis[at + lane]
                    to = ((view * strips + s) * (STRIP // LANES) + group) * LANES
                    for lane in ti.static(range(LANES)):
                        moves[to + lane] = sums[lane]
    for n in range(out.shape[0] * out.shape[1]):
        b, v = n // out.shape[1], n % out.shape[1]
        at = b % scaled.shape[0] * strips * STRIP + 3 * v
        out[b, v] = start[b % start.shape[0], v] + vec3(moves[at], moves[at + 1], moves[at + 2])


@ti.kernel
def _blend_gpu_kernel(start: Points, basis: Floats, scaled: Table, out: Points, modes: int, rows: int, groups: int, views: ti.template()):
    """A thread takes a row, so that neighbors read neighboring numbers, and several views at once."""
    for q in range(groups * rows):
        first, row = q // rows * views, q % rows
        at, sums = row // STRIP * modes * STRIP + row % STRIP, ti.Vector([0.0] * views)
        for k in range(modes):
            x = basis[at + k * STRIP]
            for j in ti.static(range(views)):
                sums[j] += scaled[(first + j) % scaled.shape[0], k] * x
        for j in ti.static(range(views)):
            if first + j < out.shape[0]:
                out[first + j, row // 3][row % 3] = _component(start, first + j, row) + sums[j]


@operator
def _blend(start: Array, coefficients: Array, modes: Modes, out: Array) -> None:
    scaled = empty(float, (coefficients.shape[0] if len(coefficients.shape) == 2 else 1, modes.count))
    _scale_kernel(coefficients, modes.stddev, scaled)
    if runtime.device().arch == "cpu":
        moves = empty(float, scaled.shape[0] * modes.strips * STRIP)
        _blend_cpu_kernel(start, modes.stored, scaled, moves, out, modes.count, *split(modes.strips), modes.strips)
    else:
        views = min(out.shape[0], GPU_VIEWS)
        _blend_gpu_kernel(start, modes.stored, scaled, out, modes.count, modes.rows, -(-out.shape[0] // views), views)


@ti.kernel
def _start_adjoint_kernel(out_grad: Points, start_grad: Points):
    """Per vertex, over the views that share it."""
    for n in range(start_grad.shape[0] * start_grad.shape[1]):
        b, v = n // start_grad.shape[1], n % start_grad.shape[1]
        total = vec3(0.0)
        for turn in range(out_grad.shape[0] // start_grad.shape[0]):
            total += out_grad[b + turn * start_grad.shape[0], v]
        start_grad[b, v] = start_grad[b, v] + total


@ti.kernel
def _products_cpu_kernel(basis: Floats, out_grad: Points, partials: Tables, modes: int, steps: int, pad: int, threads: int, strips: int):
    """Products of the modes with the gradient, a thread a chunk of strips; the loop over the rows of a strip is a sum in vectors."""
    for q in range(steps):
        chunk = work_item(q, pad, threads, partials.shape[1])
        if chunk >= 0:
            for b in range(partials.shape[0]):
                for k in range(modes):
                    partials[b, chunk, k] = 0.0
            for s in range(chunk * CHUNK, ti.min((chunk + 1) * CHUNK, strips)):
                for b in range(partials.shape[0]):
                    grads = ti.Vector([0.0] * STRIP)
                    for i in range(STRIP_VERTICES):
                        v, grad = s * STRIP_VERTICES + i, vec3(0.0)
                        if v < out_grad.shape[1]:
                            grad = out_grad[b, v]
                        grads[3 * i], grads[3 * i + 1], grads[3 * i + 2] = grad.x, grad.y, grad.z
                    for k in range(modes):
                        at, total = (s * modes + k) * STRIP, 0.0
                        for row in range(STRIP):
                            total += grads[row] * basis[at + row]
                        partials[b, chunk, k] = partials[b, chunk, k] + total


@ti.kernel
def _products_gpu_kernel(basis: Floats, out_grad: Points, partials: Tables, modes: int, rows: int, groups: int, views: ti.template()):
    """Products of the modes with the gradient, a thread a mode in a chunk of strips, for several views at once."""
    for q in range(groups * partials.shape[1] * modes):
        first, chunk, k = q // (partials.shape[1] * modes) * views, q // modes % partials.shape[1], q % modes
        sums = ti.Vector([0.0] * views)
        for row in range(chunk * CHUNK * STRIP, ti.min((chunk + 1) * CHUNK * STRIP, rows)):
            x = basis[(row // STRIP * modes + k) * STRIP + row % STRIP]
            for j in ti.static(range(views)):
                sums[j] += _component(out_grad, first + j, row) * x
        for j in ti.static(range(views)):
            if first + j < partials.shape[0]:
                partials[first + j, chunk, k] = sums[j]


@ti.kernel
def _coefficients_adjoint_kernel(partials: Tables, stddev: Floats, coefficients_grad: Coefficients1or2, views: int):
    """Per coefficient, over the views that share it and the chunks."""
    for n in range(views * partials.shape[2]):
        first, k = n // partials.shape[2], n % partials.shape[2]
        total = 0.0
        for turn in range(partials.shape[0] // views):
            for chunk in range(partials.shape[1]):
                total += partials[first + turn * views, chunk, k]
        if ti.static(len(coefficients_grad.shape) == 1):
            coefficients_grad[k] = coefficients_grad[k] + total * stddev[k]
        else:
            coefficients_grad[first, k] = coefficients_grad[first, k] + total * stddev[k]


@_blend.adjoint
def _blend_adjoint(start: Array, coefficients: Array, modes: Modes, out: Array) -> None:
    if start.grad is not None:
        _start_adjoint_kernel(out.grad, start.grad)
    if coefficients.grad is None:
        return
    batch = out.shape[0]
    partials = empty(float, (batch, -(-modes.strips // CHUNK), modes.count))
    if runtime.device().arch == "cpu":
        _products_cpu_kernel(modes.stored, out.grad, partials, modes.count, *split(partials.shape[1]), modes.strips)
    else:
        views = min(batch, GPU_VIEWS)
        _products_gpu_kernel(modes.stored, out.grad, partials, modes.count, modes.rows, -(-batch // views), views)
    _coefficients_adjoint_kernel(partials, modes.stddev, coefficients.grad, coefficients.shape[0] if len(coefficients.shape) == 2 else 1)
