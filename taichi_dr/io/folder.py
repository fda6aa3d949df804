"""Files of a folder that came from elsewhere: nothing outside of it is ever opened, whatever names its files give."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath


class Folder:
    """A folder; of names, only files within it are found.

    Args:
        path: the folder, as the user gave it; links on the way to it are followed.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        try:
            self.root = self.path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:  # not there, a loop of links, a name that cannot be one
            raise FileNotFoundError(f"no such folder: {self.path}; check the path") from error
        if not self.root.is_dir():
            raise FileNotFoundError(f"no such folder: {self.path}, which is a file; give the folder that it is in")

    def __repr__(self) -> str:
        return str(self.path)

    def place(self, name: str, where: str) -> Path:
        """Where the file `name` would be, with links followed.

        Args:
            name: relative to the folder, with / or \\ between its parts.
            where: file and entry that have the name, for the message.

        Raises:
            ValueError: an absolute name, one with `..`, one that cannot be a name, or a link that leads out of the folder.
        """
        parts = name.replace("\\", "/").split("/")
        fix = f"only files of {self.path} are read; move it there and name it relative to that"
        if name[:1] in ("/", "\\") or PureWindowsPath(name).drive or ".." in parts:
            raise ValueError(f"{where}: expected a file within the folder, got {reprlib.repr(name)}; {fix}")
        try:
            target = self.root.joinpath(*parts).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"{where}: expected a file name, got {reprlib.repr(name)}; correct it") from error
        if not target.is_relative_to(self.root):
            came = f"got {reprlib.repr(name)}, a link that leads out of it"
            raise ValueError(f"{where}: expected a file within the folder, {came}; {fix}, or give its folder as an argument")
        return target

    def find(self, names: Iterable[str], where: str) -> str | None:
        """The first of the names that is a file within the folder.

        Raises:
            ValueError: as `place`.
        """
        return next((name for name in names if _is_file(self.place(name, where))), None)

    def has_folder(self, name: str, where: str) -> bool:
        return self.place(name, where).is_dir()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero in it
        return False
