"""Which device the kernels run on, and in which precision; the only module that starts Taichi."""

import functools
import gc
import inspect
import os
import sys
import tempfile
import textwrap
import warnings
import weakref
from typing import Any, NamedTuple

# Read by Taichi on import: no banner, and no call home from a rendering library.
os.environ.setdefault("ENABLE_TAICHI_HEADER_PRINT", "0")
os.environ.setdefault("TI_SKIP_VERSION_CHECK", "ON")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Taichi asks for the locale in an old way
    import taichi as ti
    from taichi.lang import impl, kernel_impl
    from taichi.lang.ast import ast_transformer_utils


class _TextWrapper(textwrap.TextWrapper):
    """For each expression that it compiles Taichi wraps the source line, in case of an error: a third of a warm start. This one remembers."""

    def wrap(self, text: str) -> list[str]:
        return _wrapped(text, self.width)


@functools.cache
def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width)


ast_transformer_utils.TextWrapper = _TextWrapper

_looked_up = kernel_impl._inside_class


def _inside_class(level_of_class_stackframe: int) -> bool:
    """Taichi reads the source around all that it decorates, in search of a class: a third of our import. Modules and functions are none."""
    level = level_of_class_stackframe
    code = sys._getframe(level - 1).f_code
    return code.co_name != "<module>" and not code.co_flags & inspect.CO_OPTIMIZED and _looked_up(level + 1)


kernel_impl._inside_class = _inside_class

ARCHS = {"cpu": ti.cpu, "cuda": ti.cuda, "vulkan": ti.vulkan, "metal": ti.metal}
PRECISIONS = {"f32": ti.f32, "f64": ti.f64}


class Device(NamedTuple):
    """What the kernels really run on."""

    arch: str  # "cpu", "cuda", "vulkan" or "metal"
    precision: str  # "f32" or "f64"
    threads: int  # CPU threads; 1 on a GPU, where the scheduler balances the work itself
    deterministic: bool  # gradients summed in a fixed order, so that two runs agree bitwise


_deterministic = True
_started: tuple[Any, Any] = (None, None)  # what was started here: Taichi's session, and the settings
living: "weakref.WeakSet[ti.Ndarray]" = weakref.WeakSet()  # arrays of ours, which end with their session
held: "weakref.WeakSet[ti.Ndarray]" = weakref.WeakSet()  # of these what `array` made
GONE = "dr.init started Taichi anew after it was made; call dr.init once, before meshes, cameras and arrays are made, or make them again"
_unwritable: list[str | None] = [None]  # the folder that compiled kernels should be kept in, where it is not to be


def init(
    arch: str | None = None,
    *,
    precision: str = "f32",
    deterministic: bool = True,
    strict: bool = False,
    pin_threads: bool = True,
    **taichi_options: Any,
) -> Device:
    """Start Taichi: to be called once, first. Where it runs with these settings already, nothing happens.

    With other settings it is started anew. Arrays made before, meshes and cameras with them, are gone then: it warns where there
    are some, and to use one is an error.

    Args:
        arch: "cpu", "cuda", "vulkan" or "metal"; None takes CUDA where there is a device, else the CPU.
        precision: "f32", or "f64" to check gradients.
        deterministic: sum every gradient in a fixed order, so that two runs of a fit agree bitwise.
            False allows float atomics where a GPU gains from them.
        strict: raise where `arch` is not available instead of falling back to the CPU with a warning.
        pin_threads: on Linux, where there are as many CPU threads as CPUs, keep each on a CPU of its own. False lets them wander,
            for a program that shares the CPUs with another which is kept on some of them.
        taichi_options: passed on to `ti.init`, e.g. `cpu_max_num_threads=4`, `offline_cache=False`.

    Returns:
        The device in use; `device.arch` is what really runs.

    Raises:
        ValueError: unknown arch or precision.
        RuntimeError: with `strict`, where the arch is not available.
    """
    global _deterministic, _started
    if arch is not None and arch not in ARCHS:
        raise ValueError(f"arch: expected one of {', '.join(ARCHS)} or None, got {arch!r}")
    if precision not in PRECISIONS:
        raise ValueError(f'precision: expected "f32" or "f64", got {precision!r}')
    if precision == "f64" and arch in ("vulkan", "metal"):
        raise ValueError(f'precision: expected "f32" on {arch}, which has no 64-bit exp, got "f64"; check gradients on the CPU or CUDA')
    wanted = arch or ("cuda" if _available("cuda") else "cpu")
    available = _available(wanted)
    if not available and strict:
        raise RuntimeError(f"arch: {wanted!r} has no device or driver on this machine; install one, or leave out strict=True to run on the CPU")
    if not available:
        warnings.warn(f"arch {wanted!r} has no device or driver on this machine; running on the CPU", RuntimeWarning, stacklevel=2)
    options = {"log_level": ti.WARN, "default_fp": PRECISIONS[precision], **taichi_options}
    wanted = wanted if available else "cpu"
    settings = {"arch": wanted, "precision": precision, "pin_threads": pin_threads, **taichi_options}
    if impl.get_runtime().prog is not None and _started[0] is impl.get_runtime() and _started[1] == settings:
        _deterministic, _described[0] = deterministic, None
        return device()
    gc.collect()  # Taichi leaves the arguments of a kernel's first launch in cycles
    count = sum(x.grad is not None for x in held)
    if count and impl.get_runtime().prog is not None:
        now = device()
        text = f"dr.init starts Taichi anew, on {wanted} in {precision} after {now.arch} in {now.precision}, and {count} arrays made before are gone"
        warnings.warn(
            f"{text}, with their meshes and cameras; call it once, before anything is made, or make them again", RuntimeWarning, stacklevel=2
        )
    options |= _without_cache(options)
    before = _thread_ids()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        ti.init(arch=ARCHS[wanted], **options)
    _bury()
    _started = impl.get_runtime(), settings
    _deterministic, _described[0] = deterministic, None
    if pin_threads and device().arch == "cpu":
        _pin(sorted(_thread_ids() - before), device().threads)
    return device()


class _Gone(ti.Ndarray):
    """What an array becomes whose memory went with its session: an error wherever it is used, where Taichi would crash."""

    def _memory(self, *_: Any) -> Any:
        raise RuntimeError(f"array: expected one that is there, got one of shape {self.shape}: {GONE}")

    arr = property(_memory, lambda self, value: None)
    __getitem__ = __setitem__ = fill = to_numpy = from_numpy = _memory

    @property
    def element_shape(self) -> tuple[int, ...]:
        return tuple(self.element_type.shape()) if hasattr(self.element_type, "shape") else ()

    def __repr__(self) -> str:
        return f"<array of shape {self.shape}, gone: {GONE}>"


def _bury() -> None:
    for x in living:
        x.__class__ = _Gone
    living.clear()
    held.clear()


def _without_cache(options: dict[str, Any]) -> dict[str, Any]:
    """Options that keep no kernels, where the folder for them cannot be written: there Taichi crashes when the process ends."""
    asked = options.get("offline_cache_file_path") or os.environ.get("TI_OFFLINE_CACHE_FILE_PATH") or impl.default_cfg().offline_cache_file_path
    _unwritable[0] = None
    try:
        os.makedirs(asked, exist_ok=True)
        with tempfile.TemporaryFile(dir=asked):
            return {}
    except OSError as error:
        _unwritable[0] = str(asked)
        if options.get("offline_cache", os.environ.get("TI_OFFLINE_CACHE") != "0"):
            warnings.warn(
                f"compiled kernels cannot be kept in {asked} ({error.strerror}), so every start compiles anew; "
                "make it writable, or set TI_OFFLINE_CACHE_FILE_PATH to another folder",
                RuntimeWarning,
                stacklevel=3,
            )
    try:
        return {"offline_cache": False, "offline_cache_file_path": tempfile.mkdtemp(prefix="taichi_dr-")}  # which stays empty
    except OSError:
        return {"offline_cache": False}


def _thread_ids() -> set[int]:
    """Of this process; none where they cannot be pinned anyway."""
    return {int(name) for name in os.listdir("/proc/self/task")} if hasattr(os, "sched_setaffinity") and os.path.isdir("/proc/self/task") else set()


def _pin(started: list[int], workers: int) -> None:
    """Keep the workers, the last that Taichi starts, each on a CPU: Linux leaves two that wake together for 0.2 ms on the one where both were."""
    cpus = sorted(os.sched_getaffinity(0)) if started else []
    if len(cpus) == workers <= len(started):
        for thread, cpu in zip(started[-workers:], cpus, strict=True):
            try:
                os.sched_setaffinity(thread, {cpu})
            except OSError:
                return  # forbidden here, or the thread is gone: they wander as before


def device() -> Device:
    """The device in use; starts Taichi with the defaults of `init` if nothing has started it yet."""
    ensure_started()
    if impl.get_runtime().prog is not _described[0]:
        _described[:] = impl.get_runtime().prog, _describe()
    return _described[1]


_described: list[Any] = [None, None]  # of which program of Taichi's the device is known, since every operator asks; and the device


def _describe() -> Device:
    config = impl.current_cfg()
    names = {ti.x64: "cpu", ti.arm64: "cpu", ti.cuda: "cuda", ti.vulkan: "vulkan", ti.metal: "metal"}
    arch = names.get(config.arch, str(config.arch).rsplit(".", 1)[-1])
    threads = config.cpu_max_num_threads if arch == "cpu" else 1
    precision = "f64" if impl.get_runtime().default_fp == ti.f64 else "f32"
    return Device(arch, precision, threads, _deterministic)


def ensure_started() -> None:
    """Start Taichi unless this program already has; a program that called `ti.init` keeps its own."""
    if impl.get_runtime().prog is None:
        init()


def _available(arch: str) -> bool:
    ti.set_logging_level(ti.ERROR)  # a missing driver is an answer here, not news for the log
    return arch == "cpu" or ti.lang.misc.is_arch_supported(ARCHS[arch])


def cache_folder() -> str:
    """Where Taichi keeps compiled kernels, or should if it could; starts Taichi if nothing has."""
    ensure_started()
    return _unwritable[0] or str(impl.current_cfg().offline_cache_file_path)
