"""Smoothing: vertices move toward the mean of their neighbors, with or without shrinking the mesh."""

import numpy as np
from scipy import sparse

from .arrays import array, checked_number, read
from .mesh import Mesh, across, edges


def smooth(mesh: Mesh, iterations: int = 10, method: str = "taubin", *, strength: float = 0.5, pass_band: float = 0.1) -> Mesh:
    """Even out the vertices of a mesh.

    Each iteration of "laplacian" moves every vertex by the first line, of "taubin" by both, one after the other,

        x_i <- x_i + lambda y_i,   y_i = 1 / deg(i) sum_(j in N(i)) x_j - x_i
        x_i <- x_i + mu y_i,       1 / lambda + 1 / mu = k

    The first alone shrinks the mesh; with the second, waves of frequency below k on the scale of 0 to 2 keep their height or
    gain a little. Vertices on a boundary, or at an edge of more than two faces, stay where they are, and so do those without neighbors.
    Colors, texture and faces are shared with the mesh.

    Not differentiable: for between the steps of a fit.

    Args:
        mesh: batches too.
        iterations: 0 or more.
        method: "taubin" or "laplacian".
        strength: lambda, above 0, at most 1.
        pass_band: k of "taubin", above 0, below 1 / lambda.

    Raises:
        ValueError: an argument out of range.

    Source: Taubin, A Signal Processing Approach to Fair Surface Design (1995), section 3, with its equal weights.
    """
    if not isinstance(mesh, Mesh):
        raise ValueError(f"mesh: expected a dr.Mesh, got {type(mesh).__name__}; make one by dr.Mesh(vertices, faces)")
    if not isinstance(iterations, (int, np.integer)) or iterations < 0:
        raise ValueError(f"iterations: expected a whole number of at least 0, got {iterations!r}")
    if method not in ("taubin", "laplacian"):
        raise ValueError(f"method: expected 'taubin' or 'laplacian', got {method!r}")
    strength, pass_band = checked_number("strength", strength), checked_number("pass_band", pass_band)
    if not 0 < strength <= 1:
        raise ValueError(f"strength: expected a number above 0, at most 1, got {strength!r}; more steps do more")
    if not 0 < pass_band < 1 / strength:
        raise ValueError(f"pass_band: expected a number between 0 and 1 / strength = {1 / strength:g}, got {pass_band!r}; 0.1 is usual")
    batch, count = mesh.vertices.shape
    # Batches and coordinates side by side: one matrix moves them all.
    x = read(mesh.vertices).astype(np.float64).transpose(1, 0, 2).reshape(count, -1)
    laplacian = _laplacian(mesh)
    back = 1 / (pass_band - 1 / strength) if method == "taubin" else 0.0
    for _ in range(iterations):
        x = x + strength * (laplacian @ x)
        x = x + back * (laplacian @ x)
    return mesh.with_vertices(array(x.reshape(count, batch, 3).transpose(1, 0, 2)))


def _laplacian(mesh: Mesh) -> sparse.csr_array:
    """(V, V) matrix with y = L x, without the rows of vertices that stay."""
    count = mesh.vertices.shape[1]
    adjacent = edges(mesh.faces, count)
    ends = read(adjacent.ends)[: adjacent.count]
    both = np.concatenate([ends, ends[:, ::-1]])
    faces = read(mesh.faces)
    alone = read(across(mesh.faces, count).faces) < 0  # sides with no other face across, or several
    moves = np.bincount(both[:, 0], minlength=count) > 0
    moves[faces[alone]] = False
    moves[np.roll(faces, -1, axis=1)[alone]] = False
    rows = both[moves[both[:, 0]]]
    degree = np.bincount(rows[:, 0], minlength=count)
    means = sparse.csr_array((1 / degree[rows[:, 0]], rows.T), shape=(count, count))
    return means - sparse.diags_array(moves.astype(float))
