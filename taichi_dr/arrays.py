"""Array types by name, where arrays come from, and the frames that all of them are in.

Frames, stated here once:
    World   right-handed, y up, any unit of length. Faces are counter-clockwise seen from outside.
    Camera  axes right, up, forward (unit vectors in world space). Depth is the distance along forward.
    Screen  x right, y up, square pixels; the image's SHORTER side spans [-1, 1]; z is depth, positive in front.
    Image   (B, H, W) of RGBA in [0, 1], linear color, row 0 on top. Pixel (row i, column j) has its center at
            x = (2 j + 1 - W) / min(H, W),   y = (H - 1 - 2 i) / min(H, W).
    Batch   a leading axis; an array whose leading axis is 1 serves every view of a batch.
Angles are in degrees at the public face and in radians inside.
"""

import ctypes
import math
import sys
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import taichi as ti
from taichi.lang import impl
from taichi.lang._ndarray import ScalarNdarray

from . import runtime
from .launch import kernel

vec2, vec3, vec4 = ti.math.vec2, ti.math.vec3, ti.math.vec4
ivec3, ivec4 = ti.math.ivec3, ti.math.ivec4
Array = ti.Ndarray

# Kernel argument types. needs_grad=False: adjoints take x.grad as an argument of its own, so that a kernel
# compiles once whether or not its arrays carry gradients.
Points = ti.types.ndarray(dtype=vec3, ndim=2, needs_grad=False)  # (B, V): positions, normals or colors per vertex
Texels = ti.types.ndarray(dtype=vec3, needs_grad=False)  # (F, R, R) or (B, F, R, R)
Vectors = ti.types.ndarray(dtype=vec3, needs_grad=False)  # () or (B,): one vector for all views, or one each
Faces = ti.types.ndarray(dtype=ivec3, ndim=1, needs_grad=False)  # (F,)
Image = ti.types.ndarray(dtype=vec4, ndim=3, needs_grad=False)  # (B, H, W)
Picture = ti.types.ndarray(ndim=3, needs_grad=False)  # (B, H, W) of numbers or vectors
Floats = ti.types.ndarray(dtype=float, ndim=1, needs_grad=False)  # (N,)
Ints = ti.types.ndarray(dtype=ti.i32, ndim=1, needs_grad=False)  # (N,)
Scalar = ti.types.ndarray(dtype=float, ndim=0, needs_grad=False)  # ()

_HOSTS = (ti.x64, ti.arm64)  # where arrays are in the memory that NumPy sees
_VECTORS = {2: vec2, 3: vec3, 4: vec4}
ELEMENTS: dict[int, Any] = {1: float, **_VECTORS}  # by number of components
_INT_VECTORS = {2: ti.math.ivec2, 3: ivec3, 4: ivec4}


def array(data: Any, dtype: Any = None, *, vectors: bool = True) -> Array:
    """A Taichi array with the values of `data` and, for floats, a zero gradient.

    Args:
        data: anything NumPy takes. A last axis of 2, 3 or 4 becomes vector elements: (V, 3) gives (V,) of vec3.
        dtype: a NumPy dtype to convert to first. Floats become the precision of `init`, integers i32.
        vectors: False keeps every axis: [30, 40, 50] gives (3,) numbers.

    Returns:
        An ndarray on the device, `.grad` beside it where it holds floats.

    Raises:
        ValueError: values that are neither integers nor floats, or an axis of length zero.
    """
    runtime.ensure_started()
    values = np.asarray(data) if dtype is None else np.asarray(data, dtype=dtype)
    if values.dtype.kind not in "fiu":
        raise ValueError(f"data: expected integers or floats, got dtype {values.dtype}; convert it with .astype(float)")
    if 0 in values.shape:
        raise ValueError(f"data: expected at least one element, got shape {values.shape}")
    is_float = values.dtype.kind == "f"
    if not is_float and (values.min() < -(2**31) or values.max() >= 2**31):
        raise ValueError(f"data: expected integers that fit 32 bits, got values from {values.min()} to {values.max()}")
    is_vector = vectors and values.ndim > 0 and values.shape[-1] in _VECTORS
    element: Any = (float if is_float else int) if not is_vector else (_VECTORS if is_float else _INT_VECTORS)[values.shape[-1]]
    if element in (float, int):
        element = impl.get_runtime().default_fp if is_float else ti.i32
    # Not from the pool: an array of the user's keeps its identity and its values for as long as it lives.
    out = allocate(element, values.shape[:-1] if is_vector else values.shape, is_float)
    runtime.held.add(out)
    write(out, values)
    return out


def scalar(value: float = 0.0) -> Array:
    """A 0-D array with a gradient, for a loss."""
    return array(np.float64(value))


def write(out: Array, values: np.ndarray) -> None:
    """Copy NumPy `values` of the array's full shape into `out`, outside of any tape."""
    values = np.asarray(values, dtype=_numpy_dtype(out), order="C")
    if impl.current_cfg().arch in _HOSTS and values.shape == _full_shape(out):
        _memory(out)[...] = values
    else:
        with unrecorded():
            out.from_numpy(values)


def read(x: Array) -> np.ndarray:
    """The values of `x` as a NumPy array, outside of any tape."""
    if impl.current_cfg().arch in _HOSTS:
        return _memory(x).copy()
    with unrecorded():
        return x.to_numpy()


def _memory(x: Array) -> np.ndarray:
    """The memory of `x` itself, where it is the host's; Taichi would compile a kernel for each type to copy it."""
    shape, dtype = _full_shape(x), _numpy_dtype(x)
    address = impl.get_runtime().prog.get_ndarray_data_ptr_as_int(x.arr)
    return np.frombuffer((ctypes.c_byte * (math.prod(shape) * dtype.itemsize)).from_address(address), dtype).reshape(shape)


def _full_shape(x: Array) -> tuple[int, ...]:
    return tuple(x.shape) + tuple(x.element_shape)


def zero(x: Array) -> None:
    """Fill with zeros, also over NaN."""
    with unrecorded():
        if impl.current_cfg().arch in (ti.x64, ti.cuda):
            # A plain memory fill; Ndarray.fill compiles a kernel on every call where elements are vectors.
            impl.get_runtime().prog.fill_uint(x.arr, 0)
        else:
            _zero_kernel(x)


def fill(x: Array, number: int) -> None:
    """Fill an array of i32 with a number."""
    with unrecorded():
        if impl.current_cfg().arch in (ti.x64, ti.cuda):
            impl.get_runtime().prog.fill_uint(x.arr, number % 2**32)
        else:
            x.fill(number)


@kernel
def _zero_kernel(x: ti.types.ndarray(needs_grad=False)):
    for index in ti.grouped(x):
        x[index] = ti.zero(x[index])


def copy(x: Array, out: Array) -> None:
    """out <- x, of one shape and element."""
    if impl.current_cfg().arch in _HOSTS:
        _memory(out)[...] = _memory(x)
    else:
        with unrecorded():
            _copy_kernel(x, out)


@kernel
def _copy_kernel(x: ti.types.ndarray(needs_grad=False), out: ti.types.ndarray(needs_grad=False)):
    for index in ti.grouped(x):
        out[index] = x[index]


def add(x: Array, out: Array) -> None:
    """out <- out + x, of one shape and element."""
    if impl.current_cfg().arch in _HOSTS:
        total = _memory(out)
        total += _memory(x)
    else:
        with unrecorded():
            _add_kernel(x, out)


@kernel
def _add_kernel(x: ti.types.ndarray(needs_grad=False), out: ti.types.ndarray(needs_grad=False)):
    for index in ti.grouped(x):
        out[index] = out[index] + x[index]


class unrecorded:
    """Within it Taichi's tapes record nothing: for work that is no step of the computation."""

    def __enter__(self) -> None:
        self._runtime = impl.get_runtime()
        self._before = self._runtime.grad_replaced
        self._runtime.grad_replaced = True

    def __exit__(self, *_: object) -> None:
        self._runtime.grad_replaced = self._before


class _Numbers(ScalarNdarray):
    """An array that is freed by `_free` only: Taichi's own, left over from before an `init`, frees whatever has its address now."""

    def __del__(self) -> None:
        pass


def allocate(element: Any, shape: tuple[int, ...], needs_grad: bool) -> Array:
    """A new array whose memory goes when it goes; Taichi itself keeps arrays of vectors for ever."""
    out = ti.ndarray(element, shape, needs_grad=needs_grad)
    for x in (out, out.grad):
        if x is not None:
            if isinstance(x, ScalarNdarray):
                x.__class__ = _Numbers
            weakref.finalize(x, _free, impl.get_runtime(), x.arr).atexit = False
            runtime.living.add(x)
    return out


def _free(owner: Any, memory: Any) -> None:
    if impl.get_runtime() is owner and owner.prog is not None:  # otherwise a new init has freed it
        owner.prog.delete_ndarray(memory)


# --- The pool ---------------------------------------------------------------------------------------------------


class _Pool:
    """Arrays by type and shape; one that nobody else holds any more is handed out again."""

    keep_bytes = 256 << 20  # arrays that nobody holds are freed beyond this, the longest unused first

    def __init__(self) -> None:
        self.owner: Any = None
        self.arrays: OrderedDict[tuple, list[Array]] = OrderedDict()

    def take(self, element: Any, shape: tuple[int, ...], needs_grad: bool) -> Array:
        if self.owner is not impl.get_runtime():  # after a new init the old arrays are dead
            self.owner, self.arrays = impl.get_runtime(), OrderedDict()
        key = (element, shape, needs_grad)
        bucket = self.arrays.setdefault(key, [])
        self.arrays.move_to_end(key)
        for k in range(len(bucket)):
            if _is_free(bucket, k):
                return bucket[k]
        self._trim()
        fresh = allocate(element, shape, needs_grad)
        bucket.append(fresh)
        return fresh

    def _trim(self) -> None:
        free = [(bucket, k) for bucket in self.arrays.values() for k in range(len(bucket)) if _is_free(bucket, k)]
        excess = sum(_bytes(bucket[k]) for bucket, k in free) - self.keep_bytes
        doomed: dict[int, tuple[list[Array], set[int]]] = {}
        for bucket, k in free:
            if excess <= 0:
                break
            excess -= _bytes(bucket[k])
            doomed.setdefault(id(bucket), (bucket, set()))[1].add(k)
        for bucket, indices in doomed.values():
            bucket[:] = [x for k, x in enumerate(bucket) if k not in indices]


def _references(bucket: list[Array], k: int) -> tuple[int, int]:
    x = bucket[k]
    return sys.getrefcount(x), (sys.getrefcount(x.grad) if x.grad is not None else 0)


def _is_free(bucket: list[Array], k: int) -> bool:
    of_array, of_grad = _references(bucket, k)
    return of_array <= _UNHELD[0] and of_grad <= _UNHELD[1]


class _Sample:
    """Counts what the pool itself holds of an array, whatever the Python version counts."""

    def __init__(self, grad: Any) -> None:
        self.grad = grad


_constants: dict[tuple[float, ...], tuple[Any, Array]] = {}


def constant(values: tuple[float, ...]) -> Array:
    """A vector without a gradient that nobody writes to, made once for each tuple of numbers."""
    owner, known = _constants.get(values, (None, None))
    if owner is not impl.get_runtime() or known is None:
        known = array(np.array(values))
        known.grad = None
        _constants[values] = impl.get_runtime(), known
    return known


_UNHELD = _references([_Sample(_Sample(None))], 0)  # type: ignore[list-item]
_pool = _Pool()


def empty(element: Any, shape: int | tuple[int, ...], *, needs_grad: bool = False) -> Array:
    """An array from the pool, its values undefined; with a plain `ti.ad.Tape` open, its gradient is zero.

    Args:
        element: `float`, `int`, or a vector type such as `vec3`.
        shape: shape over the elements, each axis at least 1.
        needs_grad: with a gradient array beside it.
    """
    runtime.ensure_started()
    if element is float:
        element = impl.get_runtime().default_fp
    elif element is int:
        element = ti.i32
    out = _pool.take(element, (shape,) if isinstance(shape, int) else tuple(shape), needs_grad)
    if needs_grad and impl.get_runtime().target_tape is not None:
        zero(out.grad)
    return out


def grad_of(x: Array) -> Array:
    """The gradient of x, or something to write to in its place, which nobody reads."""
    if x.grad is not None:
        return x.grad
    return empty(_VECTORS[x.element_shape[0]] if x.element_shape else float, x.shape)


def capacity(n: int) -> int:
    """The next power of two: lists whose length changes a little from step to step then share one array."""
    return 1 << max(6, (n - 1).bit_length())


def _bytes(x: Array) -> int:
    components = int(np.prod(x.element_shape, dtype=np.int64)) if x.element_shape else 1
    return int(np.prod(x.shape, dtype=np.int64)) * components * _numpy_dtype(x).itemsize * (1 if x.grad is None else 2)


def _numpy_dtype(x: Array) -> np.dtype:
    return np.dtype(ti.lang.util.to_numpy_type(x.dtype))


# --- Checks -----------------------------------------------------------------------------------------------------


def expect(name: str, x: Any, element: int | tuple[int, ...], ndims: int | tuple[int, ...], meaning: str, *, integers: bool = False) -> None:
    """Raise a ValueError unless `x` is a Taichi array with elements of `element` components and `ndims` axes.

    Args:
        name: the argument's name, for the message.
        x: what came.
        element: components per element: 1 for numbers, 2, 3 or 4 for vectors.
        ndims: the numbers of axes allowed.
        meaning: the shape in words, such as "(B, V) of vec3".
        integers: elements are i32 instead of floats in the precision of `init`.
    """
    fix = f"make it with dr.array(...): expected {meaning}"
    if not isinstance(x, ti.Ndarray):
        raise ValueError(f"{name}: expected a Taichi array, {meaning}, got {type(x).__name__}; {fix}")
    components = int(np.prod(x.element_shape)) if x.element_shape else 1
    elements = (element,) if isinstance(element, int) else element
    axes = (ndims,) if isinstance(ndims, int) else ndims
    if components not in elements or len(x.shape) not in axes:
        came = f"shape {tuple(x.shape)}" + (f" of vec{components}" if components > 1 else " of numbers")
        raise ValueError(f"{name}: expected {meaning}, got {came}; {fix}")
    dtype = ti.i32 if integers else impl.get_runtime().default_fp
    if x.dtype != dtype:
        raise ValueError(f"{name}: expected {dtype} elements, got {x.dtype}; make it with dr.array(...)")


def batch_size(**arrays: tuple[int, str] | int) -> int:
    """The common batch size of arrays whose leading axes are given by name; 1 serves any.

    Raises:
        ValueError: two of them differ and neither is 1.
    """
    sizes = {name: int(size) for name, size in arrays.items()}  # type: ignore[arg-type]
    batch = max(sizes.values())
    for name, size in sizes.items():
        if size not in (1, batch):
            listing = ", ".join(f"{other} {count}" for other, count in sizes.items())
            raise ValueError(f"{name}: expected a batch of 1 or {batch}, got {size} ({listing}); give every array the same batch, or 1")
    return batch


def image_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of `size`, one number for a square."""
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2 or not all(isinstance(n, Integral) and n >= 1 for n in sides):
        raise ValueError(f"size: expected a positive whole number or (height, width), got {size!r}")
    return int(sides[0]), int(sides[1])


def checked_loss(loss: Any) -> Array:
    """The loss, a 0-D number with a gradient."""
    if not isinstance(loss, ti.Ndarray) or loss.grad is None or loss.shape != () or loss.element_shape:
        came = f"shape {tuple(loss.shape)}" if isinstance(loss, ti.Ndarray) else type(loss).__name__
        raise ValueError(f"loss: expected a 0-D Taichi array with a gradient, got {came}; make it with dr.scalar()")
    expect("loss", loss, 1, 0, "a 0-D number")
    return loss


def checked_number(name: str, value: Any, least: float = -math.inf) -> float:
    """A finite number of at least `least`, as a float."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= least):
        raise ValueError(f"{name}: expected a finite number{f' of at least {least:g}' if math.isfinite(least) else ''}, got {value!r}")
    return number


# --- Fields of cameras and lights: one entry for all views, or one for each ---------------------------------------


def view_numbers(name: str, given: Any, components: int) -> np.ndarray:
    """`given` in the precision of the kernels, () or (B,), with 3 components (3,) or (B, 3).

    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    runtime.ensure_started()
    expected = "a number or (B,) numbers" if components == 1 else "three numbers or (B, 3) numbers"
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(given, dtype=ti.lang.util.to_numpy_type(impl.get_runtime().default_fp))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected {expected}, or an array made with dr.array(...), got {given!r}") from error
    is_shaped = values.ndim <= 1 if components == 1 else values.ndim in (1, 2) and values.shape[-1] == components
    if not is_shaped or values.size == 0:
        raise ValueError(f"{name}: expected {expected}, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite numbers, got {given!r}")
    return values


def field(name: str, given: Any, components: int) -> Array:
    """An array over () or (B,) of numbers or vec3, with a zero gradient; one that came as an array is kept.

    From the pool, since a fit may make a camera or a light in each step.
    """
    if isinstance(given, ti.Ndarray):
        numbers = "() or (B,) of numbers, as of dr.array([30.0, 60.0], vectors=False)"
        expect(name, given, components, (0, 1), numbers if components == 1 else f"() or (B,) of vec{components}")
        return given
    values = view_numbers(name, given, components)
    element, shape = (float, values.shape) if components == 1 else (_VECTORS[components], values.shape[:-1])
    out = empty(element, shape, needs_grad=True)
    write(out, values)
    zero(out.grad)
    return out


# --- Loops -------------------------------------------------------------------------------------------------------


def split(n: int) -> tuple[int, int, int]:
    """(steps, pad, threads) of a loop over n large items: `for q in range(steps): k = work_item(q, pad, threads, n)`.

    On CPUs Taichi cuts a loop into one block per thread of at least 512 iterations. So few items are padded with
    empty iterations, and items are dealt to the blocks in turn, since neighbors cost alike.
    """
    threads = runtime.device().threads
    per_thread = -(-n // threads)
    pad = 1 if runtime.device().arch != "cpu" else max(1, -(-512 // max(1, per_thread)))
    return per_thread * threads * pad, pad, threads


# --- In kernels -------------------------------------------------------------------------------------------------


@ti.func
def item(x: ti.template(), b: int):
    """The entry that serves view b: of a 0-D array its only one, of a (1,) array the first."""
    if ti.static(len(x.shape) == 0):
        return x[None]
    else:
        return x[b % x.shape[0]]


@ti.func
def add_item(x: ti.template(), b: int, value):
    """Add to the entry that serves view b; only one thread may do so."""
    if ti.static(len(x.shape) == 0):
        x[None] = x[None] + value
    else:
        x[b % x.shape[0]] = x[b % x.shape[0]] + value


@ti.func
def work_item(q: int, pad: int, threads: int, n: int):
    """The item of step q of a loop laid out by `split`, -1 for padding."""
    per_thread = (n + threads - 1) // threads
    k = q // pad % per_thread * threads + q // pad // per_thread
    return ti.select(q % pad == 0 and k < n, k, -1)


@ti.func
def is_finite(v):
    """Whether all components are finite; survives fast math, which folds x != x away."""
    bad = 0
    for k in ti.static(range(v.n)):
        bad += ti.cast(ti.math.isnan(v[k]), int) + ti.cast(ti.math.isinf(v[k]), int)
    return bad == 0


@ti.func
def is_finite_number(s):
    """As `is_finite`, of a number."""
    return not (ti.math.isnan(s) or ti.math.isinf(s))


@ti.func
def finite_or_zero(s):
    return ti.select(is_finite_number(s), s, 0.0)
