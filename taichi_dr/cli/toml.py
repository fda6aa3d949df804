"""Settings as TOML: read with what the standard library has, and written so that they read back the same."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def read(path: Path) -> dict[str, Any]:
    """The keys of a file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no TOML, with the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}; check the path")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, offset {error.start}: expected UTF-8 text, got other bytes") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: expected TOML, lines such as steps = 400; {error}") from error


def text(values: Mapping[str, Any], remark: str = "") -> str:
    """Keys of strings, truth values, numbers and lists of them, one a line; what is None is left out.

    Raises:
        ValueError: a value that TOML cannot hold.
    """
    lines = [f"# {line}" for line in remark.splitlines()]
    return "\n".join(lines + [f"{key} = {_value(key, value)}" for key, value in values.items() if value is not None]) + "\n"


def _value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{key}: expected text of Unicode, got {value!r}; rename the file") from error
        return '"' + "".join(ESCAPES.get(c, c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}") for c in value) + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(key, x) for x in value) + "]"
    raise ValueError(f"{key}: expected text, a truth value, numbers or a list, got {type(value).__name__}")
