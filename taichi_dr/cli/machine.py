"""What this machine is: names of devices, drivers and versions, as far as they are to be known without Taichi."""

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from .. import __version__

PATIENCE = 10.0  # seconds for a driver's own program


def version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions() -> str:
    """In one line."""
    return f"taichi_dr {__version__}, Taichi {version_of('taichi')}, NumPy {version_of('numpy')}, Python {platform.python_version()}, {system()}"


def system() -> str:
    name = platform.system()
    if name == "Linux":
        try:
            name = platform.freedesktop_os_release()["PRETTY_NAME"]
        except (OSError, KeyError):
            pass
    elif name == "Darwin":
        name = f"macOS {platform.mac_ver()[0]}"
    elif name == "Windows":
        name = f"Windows {platform.version()}"
    return f"{name}, {platform.machine()}"


def processor() -> str:
    try:
        found = re.search(r"model name\s*: *(.+)", Path("/proc/cpuinfo").read_text())
        if found and found[1].strip() != "unknown":
            return found[1].strip()
    except OSError:
        pass
    if platform.system() == "Darwin":
        return said(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.machine()
    return platform.processor() or platform.machine()


def cpus() -> tuple[int, int]:
    """How many CPUs there are, and how many this process may use."""
    count = os.cpu_count() or 1
    return count, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count


def nvidia() -> str | None:
    """Devices and driver, if NVIDIA's program is there and answers."""
    text = said(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    lines = [", driver ".join(part.strip() for part in line.split(",")) for line in (text or "").splitlines() if "," in line]
    return "; ".join(lines) or None


def vulkan() -> str | None:
    """Devices, if vulkaninfo is there and answers."""
    names = re.findall(r"deviceName\s*= *(.+)", said(["vulkaninfo", "--summary"]) or "")
    return "; ".join(name.strip() for name in names) or None


def device_name(arch: str) -> str:
    if arch == "cpu":
        return processor()
    return {"cuda": nvidia, "vulkan": vulkan}.get(arch, processor)() or f"a {arch} device"


def said(command: list[str]) -> str | None:
    """What a program says; None where it is not there, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
