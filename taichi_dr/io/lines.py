"""Lines of OBJ and MTL files: statements with their numbers, the numbers in them, and errors that name the line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

MAX_LINE = 1 << 20  # characters; anything longer is junk that would only take long to refuse


def statements(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the non-empty lines with their numbers; continued lines are joined under the number of the first."""
    data = path.read_bytes()
    nul = data.find(b"\0")
    if nul >= 0:
        number = len((data[:nul] + b".").splitlines())
        raise ValueError(f"{path}, line {number}: expected text, got a NUL byte; this is a binary file, check the path and suffix")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    pending: list[str] = []
    first = 0
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate([*lines, ""], 1):  # the empty line ends one that the file leaves to be continued
        line = line.strip()
        if line.startswith("#") and not pending:
            continue
        if line.endswith("\\"):
            first = first if pending else number
            pending.append(line[:-1])
            continue
        if pending:
            number, line = first, " ".join([*pending, line]).strip()
            pending = []
        if len(line) > MAX_LINE:
            raise malformed(path, number, f"expected at most {MAX_LINE} characters", line)
        if line:
            yield number, line


def rest(line: str) -> str:
    return line.split(None, 1)[1] if len(line.split(None, 1)) > 1 else ""


def floats(words: list[str], form: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    try:
        values = tuple(map(float, words[1:]))
    except ValueError:
        raise ValueError(f"expected numbers as in {form}") from None
    if len(values) not in counts:
        raise ValueError(f"expected {form}, that is {' or '.join(map(str, counts))} numbers")
    if not all(map(math.isfinite, values)) or "_" in "".join(words):  # Python alone reads 1_0 as 10
        raise ValueError(f"expected finite numbers as in {form}")
    return values


def malformed(path: Path, number: int, expected: str, line: str) -> ValueError:
    got = line if len(line) <= 60 else line[:57] + "..."
    return ValueError(f"{path}, line {number}: {expected}, got {got!r}; correct this line or export the mesh again")
