"""`pytest --arch cpu|cuda|vulkan|metal`: which device the kernels run on; fixtures for precision, randomness and shared data."""

import pathlib
import signal

import numpy as np
import pytest

from taichi_dr import runtime

SHARED = pathlib.Path(__file__).resolve().parent.parent.parent / "shared"


def pytest_addoption(parser):
    parser.addoption("--arch", default="cpu", choices=list(runtime.ARCHS), help="device that the kernels run on")


def pytest_configure(config):
    """Ctrl-C is tested too: what a shell runs in the background would ignore it, and so would its children."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# What runs on the host, whatever the device, and what only combines kernels that have tests of their own, is tested with the CPU only.
HOST = "checkpoint cli docs history intersections io io_cameras photos quality reconstruct recording remesh report smooth subdivide".split()


def pytest_ignore_collect(collection_path, config):
    if config.getoption("--arch") != "cpu" and collection_path.name in {f"test_{name}.py" for name in HOST}:
        return True
    return None


def _ensure(arch, precision):
    """Start Taichi on the arch, unless it runs there already; a missing device is a skip, not a silent CPU run."""
    try:
        if not _ensure.started or runtime.device()[:2] != (arch, precision):
            runtime.init(arch, precision=precision, strict=True)
            _ensure.started = True
    except RuntimeError as error:
        pytest.skip(str(error))


_ensure.started = False


@pytest.fixture
def arch(request):
    return request.config.getoption("--arch")


@pytest.fixture
def f32(arch):
    """Run the test in float32."""
    _ensure(arch, "f32")


@pytest.fixture
def f64(arch):
    """Run the test in float64, for gradients to 1e-6."""
    if arch in ("vulkan", "metal"):
        pytest.skip(f"{arch} has no 64-bit exp; the same operators are compared with the CPU in float32")
    _ensure(arch, "f64")


@pytest.fixture
def rng(request):
    """Random numbers by the test's name; the seed is printed where a test fails."""
    seed = sum(map(ord, request.node.name))
    print("seed", seed)
    return np.random.default_rng(seed)


@pytest.fixture
def shared():
    """The folder of real inputs and golden outputs, which stands beside the repository."""
    if not SHARED.exists():
        pytest.skip("real data: the folder ../shared is not there")
    return SHARED
