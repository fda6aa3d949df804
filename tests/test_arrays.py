"""Arrays: what array() makes of its data, the pool that hands arrays out again, checks, and helpers for kernels."""

import gc
import pathlib

import numpy as np
import pytest
import taichi as ti
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import taichi_dr as dr
from taichi_dr import arrays, runtime
from taichi_dr.arrays import (
    Ints,
    Points,
    batch_size,
    capacity,
    constant,
    empty,
    expect,
    image_size,
    is_finite,
    split,
    vec2,
    vec3,
    vec4,
    work_item,
    zero,
)

ANY_INPUT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- array, read, write -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, shape, components",
    [
        (1.5, (), 1), ([1.5], (1,), 1), ([1.0, 2.0], (), 2), ([1.0, 2.0, 3.0], (), 3), (np.zeros(4), (), 4), (np.zeros(5), (5,), 1),
        (np.zeros((7, 2)), (7,), 2), (np.zeros((7, 3)), (7,), 3), (np.zeros((2, 5, 6, 4)), (2, 5, 6), 4), (np.zeros((2, 5, 1)), (2, 5, 1), 1),
    ],
)  # fmt: skip
def test_shapes_of_arrays(data, shape, components, f32):
    for dtype in (float, np.float32, np.int64, np.uint8):
        x = dr.array(np.asarray(data, dtype=dtype))
        assert (tuple(x.shape), int(np.prod(x.element_shape))) == (shape, components)
        assert x.dtype == (ti.f32 if np.dtype(dtype).kind == "f" else ti.i32)
        assert (x.grad is not None) == (np.dtype(dtype).kind == "f")
        assert np.array_equal(dr.read(x), np.asarray(data, dtype=dtype)) and dr.read(x).shape == np.shape(data)
        if x.grad is not None:
            assert not dr.read(x.grad).any()


def test_vectors_false_keeps_every_axis(f32):
    x = dr.array([[30.0, 40.0, 50.0]], vectors=False)
    assert tuple(x.shape) == (1, 3) and not x.element_shape
    assert np.array_equal(dr.read(x), [[30, 40, 50]])


def test_dtype_converts_first(f32):
    assert dr.array([1.7, 2.2, 3.9], np.int32).dtype == ti.i32 and dr.array([1, 2, 3], np.float64).dtype == ti.f32
    assert np.array_equal(dr.read(dr.array([True, False], float)), [1, 0])


def test_scalar(f32):
    loss = dr.scalar(2.5)
    assert tuple(loss.shape) == () and loss[None] == 2.5 and loss.grad[None] == 0


@pytest.mark.parametrize(
    "data, message",
    [
        ([True, False], "data: expected integers or floats, got dtype bool"), (["a"], "data: expected integers or floats"),
        ([None, 1], "got dtype object"), (1j, "got dtype complex128"), ([], r"at least one element, got shape \(0,\)"),
        (np.zeros((0, 3)), r"got shape \(0, 3\)"), (np.zeros((3, 0), int), r"got shape \(3, 0\)"),
    ],
)  # fmt: skip
def test_data_that_is_no_array(data, message, f32):
    with pytest.raises(ValueError, match=message):
        dr.array(data)


@ANY_INPUT
@given(shape=st.lists(st.integers(1, 6), max_size=4), seed=st.integers(0, 2**16), integers=st.booleans(), vectors=st.booleans())
def test_write_and_read_give_back_the_values(f32, shape, seed, integers, vectors):
    rng = np.random.default_rng(seed)
    values = rng.integers(-(2**31), 2**31, shape) if integers else np.float32(rng.standard_normal(shape) * 10.0 ** rng.integers(-30, 30))
    x = dr.array(values, vectors=vectors)
    assert np.array_equal(dr.read(x), values)
    others = np.asfortranarray(values[..., ::-1]) if shape else values
    dr.write(x, others)
    assert np.array_equal(dr.read(x), others)


def test_arrays_of_the_user_are_copies_and_keep_their_identity(f32):
    values = np.ones(5)
    x, y = dr.array(values), dr.array(values)
    values[:] = 7
    dr.write(y, np.full(5, 3.0))
    assert np.array_equal(dr.read(x), np.ones(5)) and x is not y


@pytest.mark.parametrize("element", [float, vec2, vec3, vec4, int, ti.math.ivec3])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4)])
def test_zero_clears_nan_of_every_type(element, shape, f32):
    x = empty(element, shape)
    filling = np.full_like(dr.read(x), np.nan if dr.read(x).dtype.kind == "f" else 7)
    dr.write(x, filling)
    zero(x)
    assert np.array_equal(dr.read(x), np.zeros_like(filling))


# --- The pool ---------------------------------------------------------------------------------------------------


def pooled():
    return sum(len(bucket) for bucket in arrays._pool.arrays.values())


SHAPE = (17, 19)  # of no other test


def test_an_array_that_somebody_holds_is_not_handed_out(f32):
    held = [empty(vec3, SHAPE, needs_grad=True) for _ in range(5)]
    assert len({id(x) for x in held}) == 5


@pytest.mark.parametrize("hold", ["the array", "its gradient", "both", "a list", "an attribute", "a closure"])
def test_any_way_to_hold_it_counts(hold, f32):
    x = empty(vec3, SHAPE, needs_grad=True)
    name, grad_name = id(x), id(x.grad)
    if hold == "its gradient":
        keeper = x.grad
    elif hold == "both":
        keeper = x, x.grad
    elif hold == "a list":
        keeper = [x]
    elif hold == "an attribute":
        keeper = type("Holder", (), {})()
        keeper.x = x
    elif hold == "a closure":

        def keeper(x=x):
            return x

    else:
        keeper = x
    del x
    taken = [empty(vec3, SHAPE, needs_grad=True) for _ in range(8)]
    assert all(id(y) != name and id(y.grad) != grad_name for y in taken)
    del taken, keeper
    gc.collect()
    taken = [empty(vec3, SHAPE, needs_grad=True) for _ in range(12)]
    assert name in {id(y) for y in taken}


def test_an_array_that_nobody_holds_is_handed_out_again(f32):
    names = set()
    for _ in range(10):
        x = empty(float, SHAPE)
        names.add(id(x))
        del x
    assert len(names) == 1
    x = empty(float, SHAPE)
    assert empty(int, SHAPE) is not x and empty(float, SHAPE[::-1]) is not x and empty(float, SHAPE, needs_grad=True) is not x


def test_free_arrays_beyond_the_limit_are_freed(f32, monkeypatch):
    held = [empty(vec4, (64, 64)) for _ in range(6)]  # 64 KiB each
    monkeypatch.setattr(arrays._pool, "keep_bytes", 2 * 64 * 64 * 16)
    keep, before = held[0], pooled()
    dr.write(keep, np.full((64, 64, 4), 3.0))
    del held
    empty(vec4, (64, 65))
    assert pooled() <= before + 1 - 3
    assert (dr.read(keep) == 3).all() and any(x is keep for bucket in arrays._pool.arrays.values() for x in bucket)


def test_memory_of_arrays_that_nobody_holds_is_freed(f32):
    """Also of vectors, which Taichi itself would keep for ever."""
    statm = pathlib.Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("reads the size of the process from /proc/self/statm")
    values, sizes = np.zeros((1, 2**17, 3)), []
    for _ in range(60):
        dr.array(values)  # 3 MB with its gradient
        sizes.append(int(statm.read_text().split()[1]) * 4096)
    assert sizes[-1] - sizes[9] < 20e6, np.diff(sizes)


def test_arrays_may_outlive_their_gradient_and_their_init(arch, f32):
    x, y, z = (dr.array(np.ones((5, 3))) for _ in range(3))
    grad = y.grad
    x.grad = None
    del y
    assert np.array_equal(dr.read(x), np.ones((5, 3))) and not dr.read(grad).any()
    ti.reset()
    runtime.init(arch)
    fresh = dr.array(np.ones((5, 3)))
    del x, grad, z
    gc.collect()
    assert np.array_equal(dr.read(fresh), np.ones((5, 3)))


def triangle():
    return dr.array([[[-0.5, -0.5, 2.0], [0.5, -0.5, 2.0], [0.0, 0.5, 2.0]]]), dr.array([[0, 1, 2]]), dr.array(np.ones((1, 3, 3)))


def test_two_renders_give_two_images(f32):
    screen, faces, colors = triangle()
    first = dr.soft_rasterize(screen, faces, colors, size=16)
    before = dr.read(first)
    second = dr.soft_rasterize(screen, faces, colors, size=16, background=(1.0, 0.0, 0.0))
    assert first is not second and np.array_equal(dr.read(first), before) and not np.array_equal(dr.read(second), before)


def test_a_fit_allocates_in_its_first_steps_only(arch, f32):
    mesh, camera = dr.shapes.icosphere(1), dr.Camera.look_at((0.0, 0.0, 3.0), size=24)
    lights = [dr.AmbientLight(0.5), dr.DirectionalLight((0.0, 1.0, 1.0), 0.5)]
    renderer, loss = dr.SoftRenderer(sigma=1e-3, antialias=2), dr.scalar()
    target = dr.array(np.zeros((1, 24, 24, 4)))
    counts, start = [], dr.read(mesh.vertices)
    for step in range(200 if arch == "cpu" else 40):
        dr.write(mesh.vertices, start * (1 + 0.2 * np.sin(step)))  # the number of pairs of face and tile changes
        with dr.Tape(loss):
            dr.losses.mse(renderer(mesh, camera, lights), target, loss)
        counts.append(pooled())
    assert counts[-1] == counts[9], counts


def test_capacity():
    assert [capacity(n) for n in (0, 1, 63, 64, 65, 128, 129, 10**6)] == [64, 64, 64, 64, 128, 128, 256, 2**20]


def test_constants_are_made_once(f32):
    assert constant((0.5, 0.25, 0.125)) is constant((0.5, 0.25, 0.125)) is not constant((0.5, 0.25, 0.5))
    assert np.array_equal(dr.read(constant((0.5, 0.25, 0.125))), [0.5, 0.25, 0.125]) and constant((0.5, 0.25, 0.125)).grad is None


# --- Checks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, message",
    [
        (np.zeros((1, 5, 3)), r"points: expected a Taichi array, \(B, V\) of vec3, got ndarray; make it with dr.array"),
        (None, "points: expected a Taichi array, .* got NoneType"),
        (lambda: dr.array(np.zeros((5, 3))), r"points: expected \(B, V\) of vec3, got shape \(5,\) of vec3; make it with"),
        (lambda: dr.array(np.zeros((1, 5, 2))), r"points: .* got shape \(1, 5\) of vec2"),
        (lambda: dr.array(np.zeros((1, 5))), r"points: .* got shape \(1, 5\) of numbers"),
        (lambda: dr.array(np.zeros((1, 5, 3), int)), "points: expected f32 elements, got i32"),
    ],
)
def test_expect_says_what_came_and_what_to_do(value, message, f32):
    with pytest.raises(ValueError, match=message):
        expect("points", value() if callable(value) else value, 3, 2, "(B, V) of vec3")


def test_expect_takes_what_fits(f32):
    expect("points", dr.array(np.zeros((1, 5, 3))), 3, 2, "(B, V) of vec3")
    expect("points", dr.array(np.zeros((5, 3))), (1, 3), (1, 2), "anything")
    expect("faces", dr.array(np.zeros((5, 3), int)), 3, 1, "(F,) of ivec3", integers=True)
    with pytest.raises(ValueError, match="faces: expected i32 elements, got f32"):
        expect("faces", dr.array(np.zeros((5, 3))), 3, 1, "(F,) of ivec3", integers=True)


def test_batch_size():
    assert batch_size(mesh=1, camera=7, light=1) == 7 and batch_size(mesh=1) == 1 and batch_size(a=3, b=3) == 3
    with pytest.raises(ValueError, match=r"mesh: expected a batch of 1 or 7, got 3 \(mesh 3, camera 7\); give every array the same batch"):
        batch_size(mesh=3, camera=7)


def test_image_size():
    assert image_size(5) == (5, 5) and image_size((3, 4)) == image_size([3, np.int64(4)]) == (3, 4)
    for bad in (0, -1, 2.0, (1, 0), (1,), (1, 2, 3), "ab", None):
        with pytest.raises(ValueError, match="size: expected a positive whole number"):
            image_size(bad)


# --- In kernels -------------------------------------------------------------------------------------------------


@ti.kernel
def count_kernel(seen: Ints, steps: int, pad: int, threads: int, n: int):
    for q in range(steps):
        k = work_item(q, pad, threads, n)
        if k >= 0:
            ti.atomic_add(seen[k], 1)


@pytest.mark.parametrize("threads", [None, 1, 3, 16])
def test_split_visits_each_item_once(threads, arch, f32, monkeypatch):
    if threads:
        monkeypatch.setattr(runtime, "device", lambda: runtime.Device("cpu", "f32", threads, True))
    seen = dr.array(np.zeros(5000, np.int32), vectors=False)
    for n in (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 100, 511, 512, 513, 1023, 1025, 4999):
        zero(seen)
        count_kernel(seen, *split(n), n)
        assert np.array_equal(dr.read(seen), np.arange(5000) < n), n


@ANY_INPUT
@given(n=st.integers(1, 10**5), threads=st.integers(1, 128))
def test_split_gives_every_thread_a_block_of_its_own(n, threads):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "device", lambda: runtime.Device("cpu", "f32", threads, True))
        steps, pad, parts = split(n)
    assert parts == threads and steps % threads == 0 and steps // threads >= 512 and steps // pad >= n
    assert steps // pad < n + threads


@ti.kernel
def finite_kernel(points: Points, out: Ints):
    for k in range(out.shape[0]):
        out[k] = is_finite(points[0, k])


def test_is_finite_under_fast_math(f32):
    values = [0.0, -1.0, 1e38, -3e38, 1e-38, 1e-45, np.nan, -np.nan, np.inf, -np.inf]
    points = np.zeros((1, 3 * len(values), 3))
    for k, value in enumerate(values):
        for axis in range(3):
            points[0, 3 * k + axis, axis] = value
    out = empty(int, 3 * len(values))
    finite_kernel(dr.array(points), out)
    assert np.array_equal(dr.read(out) != 0, np.isfinite(np.float32(points[0])).all(axis=1))


def test_precision_follows_init(f64):
    assert dr.array([1, 2.0]).dtype == ti.f64 and dr.read(dr.array(np.float32([0.1] * 5))).dtype == np.float64


def test_zero_in_float64(f64):
    x = empty(vec3, (4, 5))
    dr.write(x, np.full((4, 5, 3), np.nan))
    zero(x)
    assert not dr.read(x).any()


@pytest.mark.parametrize("value", [2**32 + 2, 2**31, -(2**31) - 1])
def test_integers_do_not_wrap(value, f32):
    with pytest.raises(ValueError, match="integers that fit 32 bits"):
        dr.array([0, value])
