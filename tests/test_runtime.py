"""init(): what runs is what it says; a program's own Taichi is kept; importing starts and prints nothing."""

import os
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
import taichi as ti
from taichi.lang import impl

import taichi_dr as dr
from taichi_dr import arrays, runtime

ROOT = pathlib.Path(__file__).resolve().parent.parent


def missing_arch():
    for name in runtime.ARCHS:
        if not runtime._available(name):
            return name
    pytest.skip("every arch is available on this machine")


def run(tmp_path, code, *flags):
    """What a program of its own prints, but for Taichi's line about its start; Taichi needs the program in a file."""
    script = tmp_path / "program.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, *flags, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    return "".join(line for line in done.stdout.splitlines(keepends=True) if not line.startswith("[Taichi] Starting on arch="))


def draw():
    screen = dr.array([[[-0.5, -0.5, 2.0], [0.5, -0.5, 2.0], [0.0, 0.5, 2.0]]])
    return dr.soft_rasterize(screen, dr.array([[0, 1, 2]]), dr.array(np.ones((1, 3, 3))), size=8)


# --- init -------------------------------------------------------------------------------------------------------


def test_init_returns_what_really_runs(arch, f32):
    started = runtime.init(arch, strict=True)
    config = impl.current_cfg()
    assert config.arch in ({ti.x64, ti.arm64} if arch == "cpu" else {runtime.ARCHS[arch]})
    assert started == dr.device() == (arch, "f32", config.cpu_max_num_threads if arch == "cpu" else 1, True)
    assert dr.array(1.0).dtype == ti.f32


def test_without_an_arch_it_is_cuda_or_the_cpu():
    assert runtime.init().arch == ("cuda" if runtime._available("cuda") else "cpu")


@pytest.mark.parametrize("how", ["variable", "option", "home"])
def test_a_cache_that_cannot_be_written_is_a_warning_and_no_crash(how, tmp_path):
    """Taichi itself ends with a segmentation fault there."""
    (tmp_path / "file").write_text("")
    script, asked = tmp_path / "program.py", str(tmp_path / "file" / "cache")
    option = f"offline_cache_file_path={asked!r}" if how == "option" else ""
    script.write_text(f"import taichi_dr as dr\ndr.init('cpu', {option})\nprint(dr.read(dr.array([1.0, 2.0]))[1], dr.runtime.cache_folder())\n")
    place = {"variable": {"TI_OFFLINE_CACHE_FILE_PATH": asked}, "option": {}, "home": {"HOME": asked, "XDG_CACHE_HOME": asked}}[how]
    environment = {name: value for name, value in os.environ.items() if name != "TI_OFFLINE_CACHE_FILE_PATH"} | place
    environment |= {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"2.0 {asked}") and done.stderr.count("cannot be kept in") == 1
    assert not any(path.is_file() for folder in tmp_path.glob("taichi_dr-*") for path in folder.rglob("*"))


def test_options(arch):
    assert not runtime.init("cpu", deterministic=False).deterministic
    assert runtime.init("cpu").deterministic
    assert runtime.init("cpu", cpu_max_num_threads=1, fast_math=False).threads == 1
    assert not impl.current_cfg().fast_math
    assert runtime.init("cpu", precision="f64").precision == "f64"
    assert dr.array(1.0).dtype == ti.f64


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads are pinned on Linux only")
@pytest.mark.parametrize("pin", [True, False])
def test_threads_are_kept_on_cpus_of_their_own(pin):
    ti.reset()
    before, mine = runtime._thread_ids(), os.sched_getaffinity(0)
    threads = runtime.init("cpu", pin_threads=pin).threads
    kept = sorted(os.sched_getaffinity(thread) for thread in runtime._thread_ids() - before)
    alone = sorted(cpu for cpus in kept if len(cpus) == 1 for cpu in cpus)
    if len(mine) > 1:
        assert alone == (sorted(mine) if pin and threads == len(mine) else [])
    assert os.sched_getaffinity(0) == mine  # the program's own thread wanders


@pytest.mark.parametrize("options, message", [({"arch": "opengl"}, "arch: expected one of cpu, cuda"), ({"arch": "CPU"}, "arch"),
                                              ({"precision": "f16"}, "precision"), ({"precision": 32}, "precision")])  # fmt: skip
def test_unknown_arch_or_precision(options, message, f32):
    before = impl.get_runtime().prog
    with pytest.raises(ValueError, match=message):
        runtime.init(**options)
    assert impl.get_runtime().prog is before


@pytest.mark.parametrize("name", ["vulkan", "metal"])
def test_no_float64_on_vulkan_and_metal(name):
    with pytest.raises(ValueError, match=f'precision: expected "f32" on {name}'):
        runtime.init(name, precision="f64")


def test_strict_raises_where_the_arch_is_missing(f32):
    name, before = missing_arch(), impl.get_runtime().prog
    with pytest.raises(RuntimeError, match=f"arch: '{name}' has no device or driver"):
        runtime.init(name, strict=True)
    assert impl.get_runtime().prog is before


def test_otherwise_it_warns_and_runs_on_the_cpu():
    name = missing_arch()
    with pytest.warns(RuntimeWarning, match=f"arch '{name}' has no device or driver.*running on the CPU") as caught:
        assert runtime.init(name).arch == "cpu"
    assert caught[0].filename == __file__  # it points to the caller


def test_after_a_new_init_the_pool_hands_out_no_dead_arrays(arch, f32):
    first = dr.read(draw())
    held, known = draw(), arrays.constant((0.0, 0.0, 0.0))
    ti.reset()
    runtime.init(arch)
    assert draw() is not held and arrays.constant((0.0, 0.0, 0.0)) is not known
    del held, known  # what is left of them harms nobody
    assert np.array_equal(dr.read(draw()), first)


def test_again_with_the_same_settings_nothing_happens(arch, f32):
    x, program = dr.array([1.0, 2.0, 5.0]), impl.get_runtime().prog
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert runtime.init(arch) == runtime.init(arch, strict=True) == runtime.device()
        assert not runtime.init(arch, deterministic=False).deterministic and runtime.init(arch).deterministic  # which needs no new start
    assert impl.get_runtime().prog is program and dr.read(x).tolist() == [1, 2, 5]


@pytest.mark.parametrize("anew", [{"precision": "f32"}, {"precision": "f64"}])
def test_arrays_from_before_another_init_say_so(anew, f32):
    runtime.init("cpu", cpu_max_num_threads=1)
    mesh, camera, numbers = dr.shapes.icosphere(1), dr.Camera.orbit(3, 0, 0, size=8), dr.array(np.ones(7))
    image = dr.SoftRenderer()(mesh, camera)
    with pytest.warns(
        RuntimeWarning, match=r"dr\.init starts Taichi anew, on cpu in f\d\d after cpu in f32, and \d+ arrays made before are gone"
    ) as caught:
        runtime.init("cpu", **anew)
    assert caught[0].filename == __file__
    uses = [
        lambda: dr.read(numbers), lambda: dr.read(numbers.grad), lambda: dr.write(numbers, np.zeros(7)), lambda: numbers[0], lambda: dr.read(image),
        lambda: mesh.vertices.to_numpy(), lambda: image.fill(0), lambda: dr.SoftRenderer()(mesh, camera), lambda: dr.read(mesh.faces),
        lambda: dr.fit({"x": numbers}, lambda step: None, 1, progress=False),
        lambda: dr.mesh_quality(mesh),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(
            RuntimeError, match=r"array: expected one that is there, got one of shape .*: dr\.init started Taichi anew after it was made; call"
        ):
            use()
    assert "gone" in repr(numbers) and mesh.vertices.element_shape == (3,) and numbers.element_shape == ()


def test_nothing_is_said_where_nothing_is_lost(f32, tmp_path):
    code = """
import warnings
import taichi_dr as dr
warnings.simplefilter("error")
dr.init("cpu")
mesh = dr.shapes.icosphere(1)
image = dr.SoftRenderer()(mesh, dr.Camera.orbit(3, 0, 0, size=8))
del mesh, image
dr.init("cpu", precision="f64")
print(dr.device().precision)
"""
    assert run(tmp_path, code) == "f64\n"


# --- Programs of their own --------------------------------------------------------------------------------------


def test_import_prints_nothing_warns_nothing_and_does_not_start_taichi(tmp_path):
    code = """
import warnings
warnings.simplefilter("error")
import taichi_dr
from taichi.lang import impl
assert impl.get_runtime().prog is None
"""
    assert run(tmp_path, code, "-W", "error") == ""


def test_a_library_call_starts_taichi(tmp_path):
    code = """
import taichi_dr as dr
x = dr.array([1.0, 2.0, 3.0, 4.0, 5.0])
print(dr.read(x).sum(), x.shape, dr.device().precision, dr.device().arch in ("cpu", "cuda"))
"""
    assert run(tmp_path, code) == "15.0 (5,) f32 True\n"


def test_a_program_that_started_taichi_keeps_its_own(tmp_path):
    code = """
import taichi_dr as dr
import taichi as ti
ti.init(arch=ti.cpu, default_fp=ti.f64, cpu_max_num_threads=1, log_level=ti.ERROR)
mine = ti.ndarray(ti.f64, 3)
mine[1] = 2.0
mesh = dr.shapes.icosphere(1)
image = dr.SoftRenderer()(mesh, dr.Camera.look_at((0, 0, 3), size=8))
print(dr.device()[:3], dr.read(image).dtype, mine[1])
"""
    assert run(tmp_path, code, "-W", "ignore") == "('cpu', 'f64', 1) float64 2.0\n"
