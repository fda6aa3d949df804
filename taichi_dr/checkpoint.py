"""Checkpoints: arrays and a description in one .npz file that is whole or not there, and whose reading trusts nothing in it.

A checkpoint is a plain .npz, its entries stored and not packed; `numpy.load` reads it too. The entry "meta" is JSON in bytes.
"""

import contextlib
import io
import json
import math
import os
import pathlib
import secrets
import sys
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

MOST_META = 1 << 20  # bytes
MOST_ENTRIES = 10_000
MOST_DIRECTORY = 1 << 22  # bytes of the list of entries
MOST_HEADER = 512  # characters; those that we write have 118
KINDS = "biufU"  # of dtypes: numbers and text, never objects


def save(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint; whenever this is stopped, `path` holds the one before or the new one, whole.

    It is written beside `path` under another name, forced to the disk and put in its place.

    Args:
        path: of the file; its folder is made where missing.
        arrays: NumPy arrays of numbers or text by name.
        meta: what JSON can hold.

    Raises:
        ValueError: an array of objects, or a name that is taken.
        OSError: the disk is full or does not take it; then the last checkpoint is still there.
    """
    path = pathlib.Path(path)
    entries = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    for name, values in arrays.items():
        entries[name] = values = np.asarray(values, order="C")
        if name == "meta" or values.dtype.kind not in KINDS:
            raise ValueError(f"arrays: expected arrays of numbers or text with other names than meta, got {name!r} of {values.dtype}")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as file:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                    for name, values in entries.items():
                        with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
                            np.lib.format.write_array(stream, values, version=(1, 0), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        text = f"the checkpoint could not be written ({error.strerror or error}); the one before it, if any, is whole: make room and resume"
        raise OSError(error.errno, text, str(path)) from error
    _sync_folder(path.parent)


def remove_parts(path: str | os.PathLike) -> None:
    """Remove what writers of this checkpoint left behind that were killed."""
    path = pathlib.Path(path)
    for part in path.parent.glob(f".{_literal(path.name)}.????????.part"):
        with contextlib.suppress(OSError):
            part.unlink()


class Entry(NamedTuple):
    """An array of a checkpoint, not read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype
    begin: int  # bytes before the numbers


class Checkpoint:
    """A checkpoint open for reading: first what is in it, then the arrays that are asked for.

        with Checkpoint(path) as saved:
            saved.meta, saved.entries["vertices"].shape, saved.read("vertices")

    Nothing in the file is taken for granted: entries are bounded by the size of the file, shapes and types are known before an
    array is made, and objects (pickles) are refused.

    Raises:
        ValueError: a file that is cut, changed, packed, or no checkpoint at all.
        OSError: no file, or one that cannot be read.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = pathlib.Path(path)
        self._file = _Bounded(io.FileIO(self.path))
        try:
            with self._trouble():
                self._archive = zipfile.ZipFile(self._file)
                self._file.most = sys.maxsize
                self._check_sizes()
                self.entries: dict[str, Entry] = {}
                for info in self._archive.infolist():
                    self.entries[info.filename.removesuffix(".npy")] = self._entry(info)
                self.meta: dict[str, Any] = self._meta()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, name: str) -> np.ndarray:
        """An array; it cannot be written to."""
        entry = self.entries[name]
        with self._trouble():
            data = self._archive.read(f"{name}.npy")  # checks the sum of the bytes
            return np.frombuffer(data, entry.dtype, offset=entry.begin).reshape(entry.shape)

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        """Whatever a file that is not one of ours makes zipfile and NumPy raise, as one error."""
        try:
            yield
        except OSError as error:
            if error.errno not in (None, 22):  # a seek to where no file is
                raise
            raise self._refusal(error) from error
        except Exception as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> ValueError:
        why = str(error) or type(error).__name__
        return ValueError(
            f"{self.path}: expected a whole checkpoint, got one that is cut or changed ({why}); take a copy of it, or begin anew without it"
        )

    def _check_sizes(self) -> None:
        infos, size = self._archive.infolist(), os.fstat(self._file.fileno()).st_size
        if len(infos) > MOST_ENTRIES:
            raise ValueError(f"{len(infos)} entries")
        if len({info.filename for info in infos}) < len(infos):
            raise ValueError("two entries of one name")
        for info in infos:
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise ValueError(f"{info.filename} is packed")
            if not info.filename.endswith(".npy"):
                raise ValueError(f"{info.filename} is no array")
            if info.file_size != info.compress_size:
                raise ValueError(f"{info.filename} has two sizes")
        if sum(info.file_size for info in infos) > size:
            raise ValueError("entries that are larger than the file")

    def _entry(self, info: zipfile.ZipInfo) -> Entry:
        with self._archive.open(info) as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError(f"{info.filename} is of another format")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=MOST_HEADER)
            begin = stream.tell()
        if dtype.kind not in KINDS or dtype.names is not None or fortran or any(n < 0 for n in shape):
            raise ValueError(f"{info.filename} has elements of {dtype}")
        if begin + math.prod(shape) * dtype.itemsize != info.file_size:
            raise ValueError(f"{info.filename} has not the length of its shape {shape}")
        return Entry(tuple(shape), dtype, begin)

    def _meta(self) -> dict[str, Any]:
        entry = self.entries.get("meta")
        if entry is None or entry.dtype != np.uint8 or len(entry.shape) != 1 or entry.shape[0] > MOST_META:
            raise ValueError("no description")
        meta = json.loads(self.read("meta").tobytes())
        if not isinstance(meta, dict):
            raise ValueError("no description")
        return meta


class _Bounded(io.BufferedReader):
    """A file whose list of entries zipfile cannot be made to read without end."""

    most = MOST_DIRECTORY

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > self.most:
            raise ValueError(f"a list of entries of {size} bytes")
        return super().read(size)


def _literal(name: str) -> str:
    """The name as a pattern that matches it alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _sync_folder(folder: pathlib.Path) -> None:
    """Force the new name to the disk, where folders can be opened."""
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):  # the file itself is on the disk already
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
