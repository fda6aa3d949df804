"""Triangle meshes: vertices, faces, colors; which faces, edges and vertices touch each other."""

import weakref
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, array, read


class Incidence(NamedTuple):
    """Which slots of an index list name vertex v: `slots[offsets[v]:offsets[v + 1]]`, ascending.

    Slot s of an (N, K) index list is entry s % K of row s // K. Sums over a vertex's slots run in this order, so
    they are the same in every run.
    """

    offsets: Array  # (V + 1,)
    slots: Array  # (N * K,)


def incidence(indices: np.ndarray, vertex_count: int) -> Incidence:
    """The incidence of an (N, K) list of vertex indices."""
    flat = indices.reshape(-1)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=vertex_count))])
    return Incidence(array(offsets, np.int32), array(np.argsort(flat, kind="stable"), np.int32))


_corners: "weakref.WeakKeyDictionary[Array, dict[int, Incidence]]" = weakref.WeakKeyDictionary()


def corner_incidence(faces: Array, vertex_count: int) -> Incidence:
    """The incidence of a face array, computed once per array."""
    known = _corners.setdefault(faces, {})
    if vertex_count not in known:
        known[vertex_count] = incidence(read(faces), vertex_count)
    return known[vertex_count]
