"""Fuzzing: how many inputs, how they are changed, and that what reads them stays in its folder, its time and its memory.

The suite tries few inputs. `FUZZ=2000 python -m pytest tests/test_photos.py tests/test_io.py -k "fuzz or mutated or random"` tries
that many of each.
"""

import contextlib
import os
import struct
import sys
import sysconfig
import time
import zlib

try:
    import resource
except ImportError:  # Windows
    resource = None

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SECONDS = 5.0  # of the processor, for one input
MEGABYTES = 400  # that the process may grow by, over all inputs of a test

_LIBRARIES = tuple({os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())})
_opened: list[str] | None = None


def fuzz(examples):
    """Hypothesis settings of that many inputs, or as many as the environment variable FUZZ says."""
    return settings(
        max_examples=int(os.environ.get("FUZZ", examples)),
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def _audit(event, arguments):
    if _opened is not None and event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened.append(os.path.realpath(os.fsdecode(arguments[0])))


sys.addaudithook(_audit)


@contextlib.contextmanager
def opened_files():
    """The real paths of files and folders opened within it, but for those of Python and its packages."""
    global _opened
    found, _opened = [], []
    try:
        yield found
    finally:
        found += [path for path in _opened if not path.startswith(_LIBRARIES)]
        _opened = None


@contextlib.contextmanager
def contained(folder):
    """Raise where something outside of the folder is opened, or where it takes too long."""
    start = time.process_time()
    with opened_files() as opened:
        yield
    seconds = time.process_time() - start
    outside = [path for path in opened if not path.startswith(os.path.realpath(folder) + os.sep) and path != os.path.realpath(folder)]
    assert not outside, f"opened outside of the folder: {outside}"
    assert seconds < SECONDS, f"took {seconds} seconds"


def peak_megabytes():
    if resource is None:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))


PIECES = [b"", b"\0", b"\xff" * 4, b"\xff" * 8, struct.pack("<Q", 1 << 40), struct.pack("<d", float("nan")), struct.pack("<d", 1e300), b"../x", b"/"]


@st.composite
def changed_bytes(draw, whole):
    """`whole` with some bytes changed, cut out or put in, or its end cut off."""
    data = bytearray(whole)
    ways = draw(st.sampled_from([["change"], ["change", "insert", "cut", "end"]]))  # the former gets deeper into binary files
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        piece = draw(st.one_of(st.binary(min_size=1, max_size=9), st.sampled_from(PIECES)))
        way = draw(st.sampled_from(ways))
        if way == "end":
            del data[at:]
        else:
            data[at : at + {"change": len(piece), "insert": 0, "cut": draw(st.integers(1, 16))}[way]] = b"" if way == "cut" else piece
    return bytes(data)


def png_checked_anew(data):
    """The PNG with the checksums of its chunks set right, as far as it has chunks: so changes get beyond them."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, at)
        if at + 12 + length > len(out):
            break
        struct.pack_into(">I", out, at + 8 + length, zlib.crc32(out[at + 4 : at + 8 + length]))
        at += 12 + length
    return bytes(out)
