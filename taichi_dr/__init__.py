"""taichi_dr: a differentiable mesh renderer; images in, mesh, colors, lights and cameras out. The public names are in `contents`."""

import importlib
import os
import sys
from typing import Any

__version__ = "0.1.0"


def _is_command() -> bool:
    """Whether `taichi-dr` or `python -m taichi_dr` runs, which says its help without waiting a second for Taichi."""
    name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    as_module = name == "-m" and ("-m", "taichi_dr") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    return as_module or name.removesuffix(".exe").removesuffix("-script.py") == "taichi-dr"


_waits = _is_command()
if not _waits:
    from .contents import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Of the command: all names come with the first that is asked for."""
    if _waits and not name.startswith("_"):
        contents = importlib.import_module(f"{__name__}.contents")
        public = {key: value for key, value in vars(contents).items() if not key.startswith("_")}
        globals().update(public)
        if name in public:
            return public[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
