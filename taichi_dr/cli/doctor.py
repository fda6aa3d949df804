"""What works on this machine, and what to do about what does not.

Every backend draws a picture, which is compared with geometry, and a gradient, which is compared with a known one, in a process of its own:
a driver that crashes or hangs is a finding. The exit code is 0 if all is well, 1 if something does not work. A device that is not
there is no fault.
"""

import importlib.util
import json
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from . import machine
from .console import Parser, at_least, bar, size_text

USAGE = "[options]"
EXAMPLES = """\
  taichi-dr doctor
  taichi-dr doctor --arch cuda        this backend must work"""
ARCHS = ("cpu", "cuda", "vulkan", "metal")
OFF = {"picture": 0.02, "gradient": 0.01}  # as shares, which a backend may be off
EXTRAS = {  # what for, and a module for each of its packages
    "uv": ("fit --texture uv: texture coordinates of meshes that have none", ("xatlas",)),
    "face": ("fit-face with a model in HDF5, and converting ICT-FaceKit", ("h5py",)),
    "video": ("render to mp4", ("imageio_ffmpeg",)),
    "viewer": ("view --viewer viser", ("viser",)),
    "exr": ("environment maps in OpenEXR", ("OpenEXR",)),
    "test": ("for developers: tests", ("pytest", "xdist", "hypothesis", "ruff", "websockets")),
    "docs": ("for developers: pages of the documentation", ("sphinx", "furo", "myst_parser")),
    "benchmark": ("for developers: benchmarks beside a peer", ("deodr", "typing_extensions")),
}
FULL = 200e6  # bytes that should be free where kernels are kept
LARGE = 2e9  # bytes of kept kernels that are worth a word
ADVICE = {
    "cuda": "where there is an NVIDIA GPU, install its driver; the CUDA toolkit is not needed",
    "vulkan": "install the driver of your GPU, or Mesa's software one (Debian, Ubuntu: apt install mesa-vulkan-drivers)",
    "metal": "only macOS on Arm has it; leave out --arch metal",
    "cpu": "reinstall Taichi: pip install --force-reinstall taichi; its wheels are for 64-bit Linux and Windows on x86, and macOS on Arm",
}


@dataclass
class Finding:
    """A line of the report: "ok", "no" for what is not there, "bad" for what does not work, and what to do."""

    mark: str
    name: str
    text: str
    advice: str = ""

    def lines(self) -> list[str]:
        return [f"[{self.mark:^4}] {self.name:<10} {self.text}"] + ([f"{'':<18}-> {self.advice}"] if self.advice else [])


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--arch", choices=ARCHS, help="test this backend only, which must be there")
    parser.add_argument("--timeout", type=at_least(1, float), default=120.0, metavar="S", help="seconds that a backend may take (default: 120)")


def run(options: Any, parser: Parser) -> int:
    findings = [_python(), _system(), *_packages()]
    tests = {arch: tested(arch, options.timeout) for arch in bar(options, [options.arch] if options.arch else ARCHS, "testing backends")}
    findings += [backend(arch, test, arch in ("cpu", options.arch)) for arch, test in tests.items()]
    findings += [*_drivers(), _cache(tests), *_extras()]
    bad = [finding for finding in findings if finding.mark == "bad"]
    if bad or not options.quiet:
        print("\n".join(line for finding in (bad if options.quiet else findings) for line in finding.lines()))
        print(f"\n{len(bad)} of these do not work" if bad else "\nall is well", flush=True)
    return 1 if bad else 0


# --- The machine -------------------------------------------------------------------------------------------------------


def _python() -> Finding:
    bits = 8 * struct.calcsize("P")
    text = f"{platform.python_version()}, {bits} bits, {sys.executable}"
    if not (3, 10) <= sys.version_info[:2] <= (3, 13) or bits != 64:
        return Finding("bad", "Python", text, "Taichi has wheels for Python 3.10 to 3.13 of 64 bits; make an environment with one of them")
    return Finding("ok", "Python", text)


def _system() -> Finding:
    count, allowed = machine.cpus()
    threads = f"{count} CPUs" + ("" if allowed == count else f", of which this process may use {allowed}")
    return Finding("ok", "system", f"{machine.system()}; {machine.processor()}, {threads}")


def _packages() -> list[Finding]:
    versions = {name: machine.version_of(name) for name in ("taichi", "numpy", "scipy", "trimesh", "imageio", "Pillow")}
    text = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = [name for name, version in versions.items() if version is None]
    known = Finding("ok", "packages", f"taichi_dr {__version__}, {text}")
    if missing:
        return [Finding("bad", "packages", f"{known.text}; missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")]
    return [known]


def _drivers() -> list[Finding]:
    found = {"NVIDIA": machine.nvidia(), "Vulkan": machine.vulkan()}
    return [Finding("ok", name, text) for name, text in found.items() if text]


def _extras() -> list[Finding]:
    """Each, there or not; it is there if all of its packages are."""
    out = []
    for extra, (use, modules) in EXTRAS.items():
        if all(importlib.util.find_spec(module) is not None for module in modules):
            out.append(Finding("ok", "extra", f"{extra}: {use}"))
        else:
            out.append(Finding("no", "extra", f"{extra}: {use}; not installed", f'where you want that: pip install "taichi_dr[{extra}]"'))
    return out


def _cache(tests: dict[str, dict]) -> Finding:
    """The folder of compiled kernels, as the backends that ran have it."""
    folder = next((Path(test["cache"]) for test in tests.values() if test.get("cache")), None)
    if folder is None:
        return Finding("no", "kernels", "not known where they are kept, since no backend ran")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    text = f"{size_text(size)} of compiled kernels in {folder}"
    above = next(path for path in (folder, *folder.parents) if path.is_dir())
    try:
        with tempfile.NamedTemporaryFile(dir=above):
            pass
    except OSError as error:
        advice = "make it writable, or set TI_OFFLINE_CACHE_FILE_PATH to another folder; without, every start compiles anew"
        return Finding("bad", "kernels", f"{text}, which cannot be written: {error.strerror}", advice)
    free = shutil.disk_usage(above).free
    if free < FULL:
        return Finding("bad", "kernels", f"{text}, where {size_text(free)} are free", "make room on this disk")
    return Finding("ok", "kernels", text, f"large; it may be removed at any time: {folder}" if size > LARGE else "")


# --- Backends ----------------------------------------------------------------------------------------------------------


def command(arch: str) -> list[str]:
    return [sys.executable, "-m", "taichi_dr.cli.selftest", arch]


def tested(arch: str, timeout: float) -> dict:
    """What the self-test of a backend says, or {"failed": why}; it may crash or hang."""
    if arch == "metal" and platform.system() != "Darwin":
        return {"missing": "no Mac"}
    # The package that is asked is the one that is tested, wherever this runs.
    above = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([above, *filter(None, [os.environ.get("PYTHONPATH")])]), "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            command(arch), capture_output=True, text=True, errors="replace", timeout=timeout, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"did not end within {timeout:g} seconds"}
    lines = done.stdout.strip().splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
        return {"failed": f"{_ending(done.returncode)}: {last}"}


def _ending(code: int) -> str:
    if code < 0:
        try:
            return f"crashed with {signal.Signals(-code).name}"
        except ValueError:
            return f"crashed with signal {-code}"
    return f"ended with code {code}"


def backend(arch: str, test: dict, needed: bool) -> Finding:
    if "missing" in test:
        return Finding("bad" if needed else "no", arch, "no device or driver here", ADVICE[arch] if needed or arch != "metal" else "")
    if "failed" in test:
        advice = ADVICE["cpu"] if arch == "cpu" else 'update its driver; meanwhile run on another device: --arch cpu, or dr.init("cpu")'
        return Finding("bad", arch, test["failed"], advice)
    wrong = [f"{what} off by {test[what]:.1%}" for what, most in OFF.items() if not test[what] <= most]
    speed = f"{1e3 * test['seconds_warm']:.0f} ms a step, {test['seconds']:.1f} s with compilation"
    threads = f", {test['threads']} threads" if arch == "cpu" else ""
    if wrong:
        return Finding("bad", arch, ", ".join(wrong), "do not trust results of this device; update its driver, and report this")
    return Finding("ok", arch, f"picture and gradient are right; {speed}{threads}")
