"""Large steps: a mesh moved by coordinates in which every step of an optimizer is smooth."""

from typing import Any

import numpy as np
from scipy import sparse

from . import mesh as topology
from .arrays import Array, array, checked_number, empty, read, vec3
from .dissection import Passes, add_solved, factor, solve
from .tape import operator

FLATTEST = 1e-6  # twice the area of a face, as a share of its squared sides, under which its cotangents grow no more


class LargeSteps:
    """The vertices x of a mesh by coordinates u, which are what an optimizer moves.

        u = (I + lambda L) x,   x = (I + lambda L)^-1 u

    With L the Laplacian of the mesh, a step that moves one u moves a whole neighborhood of x, the wider the greater lambda:
    gradients of silhouettes, which few vertices have, deform the surface instead of crumpling it. No shape is ruled out, and
    there is no term to weigh against the loss. The matrix is factored once, from the mesh as it was given, in double
    precision; a step then costs one solve forward and one back.

        steps = dr.LargeSteps(mesh)
        optimizer = dr.optim.AdamUniform([steps.coordinates], lr=1e-2)
        ...
            with dr.Tape(loss):
                image = renderer(mesh.with_vertices(steps.vertices()), camera)

    Args:
        mesh: with `vertices`, (B, V) of vec3, and `faces`, (F,) of ivec3, whose edges do not change.
        smoothness: lambda, no unit, at least 0; at 0 vertices move one by one.
        laplacian: "combinatorial", L_ii the number of neighbors, L_ij = -1 for each; or "cotangent", of the shape that the mesh has
            now, L_ij = -(cot a + cot b) / 2 for the angles across the edge. Cotangents of very thin faces are held, all three of
            a face by one factor, so that no face weighs over about 1e6 and the matrix stays positive definite.
        alpha: instead of `smoothness`, in [0, 1): lambda = alpha / (1 - alpha), so 0.95 is 19.

    Fields:
        coordinates: u, (B, V) of vec3, with a gradient.
        smoothness: lambda.

    A vertex without faces has x = u. Pieces that are not connected move apart from each other; open borders and edges with
    many faces count as any edge.

    Raises:
        ValueError: no mesh, vertices that are not finite, a setting out of range, cotangents of several shapes at once.

    Source: Nicolet, Jacobson and Jakob, "Large Steps in Inverse Rendering of Geometry", ACM TOG (SIGGRAPH Asia) 2021.
    """

    def __init__(self, mesh: Any, smoothness: float | None = None, laplacian: str = "combinatorial", *, alpha: float | None = None) -> None:
        positions, faces = topology.checked_mesh(mesh)
        self.smoothness = _smoothness(smoothness, alpha)
        vertices = read(positions).astype(np.float64)
        if not np.isfinite(vertices).all():
            bad = int(np.flatnonzero(~np.isfinite(vertices).all(axis=(0, 2)))[0])
            raise ValueError(f"mesh.vertices: expected finite positions, got NaN or infinity at vertex {bad}; a solve would spread it over the mesh")
        edges = topology.edges(faces, vertices.shape[1])  # checks the indices
        if laplacian == "combinatorial":
            weights = _joined(read(edges.ends)[: edges.count], np.ones(edges.count), vertices.shape[1])
        elif laplacian == "cotangent":
            if len(vertices) != 1:
                raise ValueError(f"laplacian: expected one shape for cotangents, got a batch of {len(vertices)}; make one LargeSteps for each")
            weights = _cotangents(vertices[0], read(faces).astype(np.int64))
        else:
            raise ValueError(f"laplacian: expected 'combinatorial' or 'cotangent', got {laplacian!r}")
        matrix = sparse.csr_array(sparse.diags_array(1.0 + self.smoothness * weights.sum(axis=1)) - self.smoothness * weights)
        self._passes = factor(matrix)
        self.coordinates = array(np.stack([matrix @ x for x in vertices]))

    def vertices(self) -> Array:
        """x, (B, V) of vec3, world units, such as for `mesh.with_vertices`. Differentiable in `coordinates`.

        A vertex whose gradient is not finite gives none, since the solve would spread it over all coordinates.
        """
        x = empty(vec3, self.coordinates.shape, needs_grad=True)
        _vertices(self.coordinates, self._passes, x)
        return x


@operator
def _vertices(u: Array, passes: Passes, x: Array) -> None:
    solve(passes, u, x)


@_vertices.adjoint
def _vertices_adjoint(u: Array, passes: Passes, x: Array) -> None:
    """The matrix is symmetric, and so its inverse: u.grad += A^-1 x.grad."""
    if u.grad is not None:
        add_solved(passes, x.grad, u.grad)


def _smoothness(smoothness: Any, alpha: Any) -> float:
    if alpha is None:
        return checked_number("smoothness", 19.0 if smoothness is None else smoothness, 0.0)
    if smoothness is not None:
        raise ValueError("alpha: expected either smoothness or alpha, got both; smoothness is alpha / (1 - alpha)")
    share = checked_number("alpha", alpha, 0.0)
    if share >= 1:
        raise ValueError(f"alpha: expected a number in [0, 1), got {alpha!r}")
    return share / (1 - share)


def _joined(ends: np.ndarray, weights: np.ndarray, count: int) -> sparse.csr_array:
    """The symmetric matrix (V, V) of the weights of edges, added up where an edge comes several times."""
    both = np.concatenate([ends, ends[:, ::-1]])
    return sparse.csr_array(sparse.coo_array((np.concatenate([weights, weights]), (both[:, 0], both[:, 1])), (count, count)))


def _cotangents(vertices: np.ndarray, faces: np.ndarray) -> sparse.csr_array:
    """(cot a + cot b) / 2 of the angles across each edge; that of one face on a border."""
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    sides = vertices[np.roll(faces, -1, axis=1)] - vertices[faces]  # (F, 3, 3): side k goes from corner k to the next
    double_area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=-1)
    held = np.maximum(double_area, FLATTEST * (sides**2).sum(axis=(1, 2)))
    ends, weights = [], []
    for k in range(3):
        # Side k is across from the corner between the other two.
        dot = -(sides[:, (k + 1) % 3] * sides[:, (k + 2) % 3]).sum(axis=1)
        ends.append(np.stack([faces[:, k], faces[:, (k + 1) % 3]], axis=1))
        weights.append(0.5 * np.divide(dot, held, out=np.zeros_like(dot), where=held > 0))
    return _joined(np.concatenate(ends), np.concatenate(weights), len(vertices))
