"""Losses, optimizers and small meshes in NumPy, written from the formulas in the plainest way; nothing of the package."""

import itertools

import numpy as np


def mse(image, target):
    return np.mean((image - target) ** 2)


def l1(image, target):
    return np.mean(np.abs(image - target))


def silhouette_iou(image, target):
    a, t = np.broadcast_arrays(image[..., 3], target[..., 3])
    values = [1 - (x * y).sum() / ((x + y - x * y).sum() + 1e-6) for x, y in zip(a, t, strict=True)]
    return np.mean(values)


def edge_set(faces):
    """All (i, j) with i < j that are sides of a face."""
    return sorted({tuple(sorted(pair)) for face in faces.tolist() for pair in itertools.combinations(face, 2) if pair[0] != pair[1]})


def hinge_list(faces):
    """(v0, v1, v2, v3) for every edge between two faces; of more than two faces the first two, no face with a corner twice."""
    hinges = []
    for v0, v1 in edge_set(faces):
        opposite = [next(v for v in f if v not in (v0, v1)) for f in faces.tolist() if len(set(f)) == 3 and v0 in f and v1 in f]
        if len(opposite) >= 2:
            hinges.append((v0, v1, *opposite[:2]))
    return hinges


def laplacian(vertices, faces):
    L = np.zeros((vertices.shape[1],) * 2)
    for i, j in edge_set(faces):
        L[i, j] = L[j, i] = -1
    degree = -L.sum(axis=1)
    for i, d in enumerate(degree):
        if d:
            L[i] /= d
            L[i, i] = 1
    return np.mean([((L @ x) ** 2).sum() for x in vertices])


def flatten(vertices, faces, eps=1e-6):
    def one(x):
        total = 0.0
        for v0, v1, v2, v3 in hinge_list(faces):
            a1 = x[v1] - x[v0]
            parts = []
            for v in (v2, v3):
                b1 = x[v] - x[v0]
                a1l2, b1l2 = (a1**2).sum(), (b1**2).sum()
                a1l1, b1l1 = np.sqrt(a1l2 + eps), np.sqrt(b1l2 + eps)
                ab1 = (a1 * b1).sum()
                cos1 = ab1 / (a1l1 * b1l1 + eps)
                sin1 = np.sqrt(1 - cos1**2 + eps)
                c1 = a1 * (ab1 / (a1l2 + eps))
                parts.append((b1 - c1, b1l1 * sin1))
            (cb1, cb1l1), (cb2, cb2l1) = parts
            cos = (cb1 * cb2).sum() / (cb1l1 * cb2l1 + eps)
            total += (cos + 1) ** 2
        return total

    return np.mean([one(x) for x in vertices])


def edge_length(vertices, faces, target=0.0):
    edges = edge_set(faces)
    return np.mean([[(np.linalg.norm(x[i] - x[j]) - target) ** 2 for i, j in edges] for x in vertices])


def unit_or_none(v):
    return v / np.linalg.norm(v) if np.linalg.norm(v) > 0 else None


def normal_consistency(vertices, faces):
    def one(x):
        total = 0.0
        for v0, v1, v2, v3 in hinge_list(faces):
            n1, n2 = (unit_or_none(np.cross(x[v1] - x[v0], x[v] - x[v0])) for v in (v2, v3))
            if n1 is not None and n2 is not None:
                total += 1 + n1 @ n2  # the second face goes round the other way
        return total / max(1, len(hinge_list(faces)))

    return np.mean([one(x) for x in vertices])


def cotangent_laplacian(vertices, faces, flattest=1e-4):
    def one(x):
        w = np.zeros((len(x),) * 2)
        for face in faces.tolist():
            sides = sum(np.sum((x[face[k]] - x[face[k - 1]]) ** 2) for k in range(3))
            for k in range(3):
                o, i, j = face[k], face[k - 1], face[k - 2]
                a, b = x[i] - x[o], x[j] - x[o]
                area = max(np.linalg.norm(np.cross(a, b)), flattest * sides)
                if area > 0 and i != j:
                    w[i, j] += a @ b / area
                    w[j, i] += a @ b / area
        total = w.sum(axis=1)
        y = [(w[i] @ x) / total[i] - x[i] for i in range(len(x)) if total[i] > 0]
        return sum(np.linalg.norm(v) for v in y) / len(x)

    return np.mean([one(x) for x in vertices])


def squared_distances(p, q):
    return ((p[:, None] - q[None]) ** 2).sum(axis=-1)


def chamfer(points, target):
    values = []
    for b, p in enumerate(points):
        d = squared_distances(p, target[b % len(target)])
        values.append(d.min(axis=1).mean() + d.min(axis=0).mean())
    return np.mean(values)


def triangle_distance(p, a, b, c):
    """Squared, as the least of a convex quadratic over the weights, by all sets of active constraints."""
    corners, least = np.stack([a, b, c]), np.inf
    for count in (1, 2, 3):
        for kept in itertools.combinations(range(3), count):
            base, sides = corners[kept[0]], corners[list(kept[1:])] - corners[kept[0]]
            w = np.linalg.lstsq(sides.T, p - base, rcond=None)[0] if len(sides) else np.zeros(0)
            if (w >= 0).all() and w.sum() <= 1:
                least = min(least, ((p - base - w @ sides) ** 2).sum())
    return least


def point_to_mesh(vertices, faces, points):
    return np.mean([np.mean([min(triangle_distance(p, *x[f]) for f in faces) for p in points[b % len(points)]]) for b, x in enumerate(vertices)])


def slope(f, x, direction, h=1e-6):
    """Directional derivative of f at x by central differences."""
    return (f(x + h * direction) - f(x - h * direction)) / (2 * h)


class Adam:
    """Kingma and Ba, algorithm 1."""

    def __init__(self, x, lr, betas, eps):
        self.x, self.lr, self.betas, self.eps, self.t = np.array(x, np.float64), lr, betas, eps, 0
        self.m, self.v = np.zeros_like(self.x), np.zeros_like(self.x)

    def step(self, g):
        self.t += 1
        beta1, beta2 = self.betas
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g**2
        m_hat, v_hat = self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)
        self.x = self.x - self.lr * m_hat / (np.sqrt(v_hat) + self.eps)


class AdamUniform(Adam):
    """Nicolet et al. 2021: the largest second moment for all components."""

    def step(self, g):
        self.t += 1
        beta1, beta2 = self.betas
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g**2
        m_hat, v_hat = self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)
        self.x = self.x - self.lr * m_hat / (np.sqrt(v_hat.max()) + self.eps)


class SGD:
    """Gradient descent with heavy-ball momentum."""

    def __init__(self, x, lr, momentum):
        self.x, self.lr, self.momentum, self.v = np.array(x, np.float64), lr, momentum, 0.0

    def step(self, g):
        self.v = self.momentum * self.v + g
        self.x = self.x - self.lr * self.v


# --- Meshes: vertices (V, 3) and faces (F, 3) ---------------------------------------------------------------------

TETRAHEDRON = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)], float), np.array([(0, 1, 2), (0, 3, 1), (0, 2, 3), (1, 3, 2)])


def icosphere():
    """An icosahedron with every face cut in four: 42 vertices on the unit sphere, 80 faces."""
    golden = (1 + 5**0.5) / 2
    corners = [np.roll((0, s, t * golden), k) for k in range(3) for s in (-1, 1) for t in (-1, 1)]
    vertices = [c / np.linalg.norm(c) for c in corners]
    side = min(np.linalg.norm(vertices[0] - v) for v in vertices[1:])
    near = [[np.linalg.norm(a - b) < 1.01 * side for b in vertices] for a in vertices]
    faces = [(i, j, k) for i, j, k in itertools.combinations(range(12), 3) if near[i][j] and near[j][k] and near[i][k]]
    middle, out = {}, []
    for i, j, k in faces:
        for edge in ((i, j), (j, k), (i, k)):
            if edge not in middle:
                middle[edge] = len(vertices)
                point = vertices[edge[0]] + vertices[edge[1]]
                vertices.append(point / np.linalg.norm(point))
        a, b, c = middle[i, j], middle[j, k], middle[i, k]
        out += [(i, a, c), (a, j, b), (c, b, k), (a, b, c)]
    return np.array(vertices), np.array(out)


def grid(n):
    """A flat, open square of n x n vertices."""
    vertices = np.array([(j, i, 0) for i in range(n) for j in range(n)], float) / (n - 1)
    corners = [(i * n + j, i * n + j + 1, (i + 1) * n + j, (i + 1) * n + j + 1) for i in range(n - 1) for j in range(n - 1)]
    return vertices, np.array([f for a, b, c, d in corners for f in ((a, b, c), (c, b, d))])


BOOK = (  # three pages on one spine, a degenerate face, and a vertex in no face
    np.array([(0, 0, 0), (0, 1, 0), (1, 0.4, 0), (-1, 0.5, 0.3), (0.2, 0.6, 1), (5, 5, 5)], float),
    np.array([(0, 1, 2), (1, 0, 3), (0, 1, 4), (2, 2, 3)]),
)

MESHES = {"tetrahedron": TETRAHEDRON, "icosphere": icosphere(), "grid": grid(5), "book": BOOK}
