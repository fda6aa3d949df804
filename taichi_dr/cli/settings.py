"""Dataclasses of settings as options of a command and as keys of a TOML file; what their fields mean comes from their docstrings."""

import argparse
import dataclasses
import inspect
import re
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from .console import Parser, nearest

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def add_options(parser: Parser, title: str, kind: type) -> None:
    """An option for each field; one that is not given leaves nothing in what is parsed."""
    group = parser.add_argument_group(title)
    meanings, hints = described(kind), get_type_hints(kind)
    for field in dataclasses.fields(kind):
        default = "" if field.default is None else f" (default: {_shown(field.default)})"
        settings: dict[str, Any] = {"help": meanings.get(field.name, "").rstrip(".").replace("%", "%%") + default, "default": argparse.SUPPRESS}
        hint = _without_none(hints[field.name])
        if hint is bool:
            settings["action"] = argparse.BooleanOptionalAction
        elif get_origin(hint) is tuple:
            parts = [part for part in get_args(hint) if part is not Ellipsis]
            settings |= {
                "type": parts[0],
                "nargs": "+" if Ellipsis in get_args(hint) else len(parts),
                "metavar": {int: "N", float: "X"}.get(parts[0], parts[0].__name__.upper()),
            }
        elif choices := choices_of(kind, field.name):
            settings["choices"] = choices
        else:
            settings |= {"type": hint, "metavar": {int: "N", float: "X", str: "FOLDER"}[hint]}
        group.add_argument("--" + field.name.replace("_", "-"), **settings)


def described(kind: type) -> dict[str, str]:
    """What each field means, by the lines `name, name: meaning` under `Attributes:` of the docstring."""
    after = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")[2].partition("\n\n")[0]  # Python 3.13 keeps docstrings like that
    out: dict[str, str] = {}
    for entry in re.split(r"\n(?= {4}\w)", after):
        names, _, meaning = entry.partition(":")
        for name in names.split(","):
            out[name.strip()] = " ".join(meaning.replace("`", "").split())
    return out


def choices_of(kind: type, name: str) -> tuple[str, ...]:
    """The words that a field of text may be, if its meaning quotes them, the default too; none where any text will do."""
    words = tuple(re.findall(r'"([\w-]+)"', described(kind).get(name, "")))
    return words if getattr(kind, name, None) in words else ()


def checked(where: str, values: Mapping[str, Any], *kinds: type, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """Keys of a file as values of fields, hyphens as underscores.

    Args:
        where: the file, for messages.
        values: as read.
        kinds: dataclasses whose fields are known.
        also: more names, of text.

    Raises:
        ValueError: a key that is no field of them, with the nearest that is; a value of another type.
    """
    hints = {name: str for name in also} | {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}
    choices = {name: choices_of(kind, name) for kind in kinds for name in get_type_hints(kind)}
    out = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in hints:
            raise ValueError(f"{where}: no setting is called {key!r}{nearest(name, hints)}")
        out[name] = _converted(f"{where}: {key}", value, _without_none(hints[name]))
        if choices.get(name) and value not in choices[name]:
            raise ValueError(f"{where}: {key}: expected one of {', '.join(choices[name])}, got {value!r}")
    return out


def made(kind: type, values: Mapping[str, Any]) -> Any:
    """The dataclass with those of the values that are its fields; lists become tuples."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in names})


def _converted(where: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if not isinstance(value, list) or (Ellipsis not in parts and len(value) != len(parts)):
            count = "" if Ellipsis in parts else f" of {len(parts)}"
            raise ValueError(f"{where}: expected a list{count}, got {value!r}")
        return tuple(_converted(where, x, parts[0]) for x in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{where}: expected {WORDS[hint]}, got {value!r}")
    return value


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
