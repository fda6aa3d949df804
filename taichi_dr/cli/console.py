"""What all commands share: how they read options, and how they speak. Nothing is colored."""

import argparse
import contextlib
import difflib
import io
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

EXPECTED = (ValueError, OSError, RuntimeError, ImportError, FloatingPointError)  # what the library raises on purpose


class Parser(argparse.ArgumentParser):
    """A parser that keeps the lines of its texts, takes no shortened options, and knows the nearest to a wrong one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            word = unknown[0].partition("=")[0]
            self.error(f"unknown option {word}{nearest(word, known)}" if word.startswith("-") else f"one word too many: {word!r}")
        return options


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that may have been meant, as the end of a sentence."""
    found = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def add_arch(parser: Parser) -> None:
    parser.add_argument("--arch", choices=("cpu", "cuda", "vulkan", "metal"), help="device; CUDA where there is one, else the CPU")


def start(arch: str | None) -> Any:
    """Start Taichi on the device asked for, which is an error where it is not there."""
    from .. import runtime

    with contextlib.redirect_stdout(io.StringIO()):  # Taichi says that it starts
        try:
            return runtime.init(arch, strict=arch is not None)
        except RuntimeError as error:  # speaks to Python
            if arch is None or "has no device" not in str(error):
                raise
            raise RuntimeError(f"--arch: {arch!r} has no device or driver here; leave it out, or see what `taichi-dr doctor` says of it") from error


def say(options: Any, *lines: str) -> None:
    if not options.quiet:
        print(*lines, sep="\n", flush=True)


def say_written(options: Any, paths: Iterable[str | Path]) -> None:
    """Name the files that are there, the last thing that a command says."""
    for path in map(Path, paths):
        say(options, f"wrote {shown(path)}  ({size_text(path.stat().st_size)})")


def shown(path: Path) -> str:
    """As short as can be from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def size_text(count: float) -> str:
    units = ["bytes", "kB", "MB", "GB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.0f} {units[0]}" if units[0] == "bytes" or count >= 100 else f"{count:.1f} {units[0]}"


def bar(options: Any, steps: Iterable[Any], what: str, total: int | None = None) -> Iterable[Any]:
    """Steps with a progress bar on stderr, where somebody may look at it."""
    from tqdm import tqdm

    return tqdm(steps, desc=what, total=total, disable=True if options.quiet else None, leave=False)


def error(problem: BaseException) -> None:
    """What went wrong, in one sentence."""
    text = " ".join(str(problem).split()) or type(problem).__name__
    if not isinstance(problem, EXPECTED):
        text = f"{type(problem).__name__}: {text}; this should not happen: run it again with --debug, and report what that shows"
    elif isinstance(problem, OSError) and problem.strerror and problem.filename is not None:
        text = f"{problem.filename}: {problem.strerror}"
    print(f"taichi-dr: error: {text}", file=sys.stderr)


def at_least(least: float, kind: type = int) -> Any:
    """An option's type: a number not below a bound."""

    def number(text: str) -> Any:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {text}")
        return value

    number.__name__ = "whole number" if kind is int else "number"
    return number


MOST = 8192  # pixels on a side, or samples of them: of more the CPU's memory is soon full


def picture_size(text: str) -> tuple[int, int]:
    """(height, width) of "256" or "320x240", which is width x height."""
    try:
        width, _, height = text.lower().partition("x")
        size = int(height or width), int(width)
    except ValueError:
        size = (0, 0)
    if not 1 <= min(size) <= max(size) <= MOST:
        raise argparse.ArgumentTypeError(f"expected pixels such as 256 or 320x240, width x height, at most {MOST}, got {text!r}")
    return size
