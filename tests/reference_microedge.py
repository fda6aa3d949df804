"""What micro-edges give corners, in NumPy, pixel pair by pixel pair; imports nothing of ours.

Written from Pidhorskyi et al., ECCV 2024: dL/dp = (I_A - I_B) . (g_A + g_B) / 2 and, where faces cross, dp/dr = n_A / (b . n_A) b_1, here
for lines of any direction; surfaces are followed from face to face by cutting the way with their edges.
"""

import numpy as np


def gradient(image, cotangent, face_ids, screen, faces, orthographic=False):
    """(V, 3) for image and cotangent (H, W, C), face_ids (H, W), screen (V, 3)."""
    height, width = face_ids.shape
    side = min(height, width)
    out = np.zeros_like(screen)
    scene = Scene(screen, faces, orthographic)
    for i, j in np.ndindex(height, width):
        for i1, j1 in ((i, j + 1), (i + 1, j)):
            if i1 < height and j1 < width and face_ids[i, j] != face_ids[i1, j1]:
                jump = ((image[i1, j1] - image[i, j]) * 0.5 * (cotangent[i1, j1] + cotangent[i, j])).sum()
                places = [np.array([(2 * column + 1 - width) / side, (height - 1 - 2 * row) / side]) for row, column in ((i, j), (i1, j1))]
                scene.add(out, -jump * side / 2, *places, face_ids[i, j], face_ids[i1, j1])
    return out


class Scene:
    def __init__(self, screen, faces, orthographic):
        self.screen, self.faces, self.orthographic = screen, faces, orthographic
        self.by_edge = {}
        for f, face in enumerate(faces):
            for k in range(3):
                self.by_edge.setdefault(frozenset((face[k], face[(k + 1) % 3])), []).append(f)

    def add(self, out, rate, p, q, first, second):
        """`rate` is how the loss changes as the edge moves from p to q."""
        if first < 0 or second < 0:
            self.move(out, rate, *((p, q, first) if second < 0 else (q, p, second)), 1 if second < 0 else -1)
            return
        (end, s), (other_end, t) = self.follow(first, p, q), self.follow(second, q, p)
        if end is None and other_end is None and s + t > 1.001:
            middle = p + (q - p) * (s + 1 - t) / 2
            end, other_end = (None, 0) if self.depth(first, middle) < self.depth(second, middle) else (0, None)
        elif end is None and other_end is None:
            return
        if end is None:
            self.move(out, rate, p, q, first, 1)
        elif other_end is None:
            self.move(out, rate, q, p, second, -1)
        elif end != second and other_end != first and not set(self.faces[first]) & set(self.faces[second]):
            self.cross(out, rate, p, q, first, second)

    def move(self, out, rate, p, q, f, sign):
        """The face ends on the way from p to q; `sign` -1 where `rate` is of the opposite way."""
        at = p + (q - p) * min((s for s, _, _ in self.cuts(f, p, q)), default=1.0)
        out[self.faces[f], :2] += self.weights(f, at)[:, None] * sign * rate * (q - p) / np.linalg.norm(q - p)

    def cross(self, out, rate, p, q, first, second):
        """Both faces as planes of what is linear on the screen: 1 / depth, or depth."""
        planes = [self.plane(f) for f in (first, second)]
        gap = planes[0] - planes[1]
        along = gap[:2] @ (q - p)
        towards = along * (1 if self.orthographic else -1)
        if towards <= 0:
            return
        at = p + (q - p) * np.clip(-(gap @ [*p, 1]) / along, 0, 1)
        direction = (q - p) / np.linalg.norm(q - p)
        for f, other in ((first, second), (second, first)):
            n, fixed = (self.normal(g, self.depth(f, at)) for g in (f, other))
            normal = (n - fixed)[:2] / np.linalg.norm((n - fixed)[:2])
            dp_dr = n / (normal @ (n - fixed)[:2])  # of the line's place along its normal, as the face moves by r
            moved = rate * (direction @ normal) * dp_dr
            w, z = self.weights(f, at), self.screen[self.faces[f], 2]
            depth = w if self.orthographic else w * (self.depth(f, at) / z) ** 2  # d depth / d corner depth
            out[self.faces[f]] += np.c_[w[:, None] * moved[:2], depth * moved[2]]

    def follow(self, f, p, q):
        """(face at q, 1), or (None, how far) where the surface ends or turns back."""
        s, entry = 0.0, None
        while True:
            cuts = [cut for cut in self.cuts(f, p, q) if cut[1] != entry and cut[0] >= s]
            if not cuts:
                return f, 1.0
            s, entry, tip = min(cuts, key=lambda cut: cut[0])
            others = [g for g in self.by_edge[entry] if g != f]
            if len(others) != 1:
                return None, s
            (other,) = set(self.faces[others[0]]) - entry
            u, v = (self.screen[k, :2] for k in entry)
            other_turn = self.turn(u, v, self.screen[other, :2])
            if self.turn(u, v, self.screen[tip, :2]) * other_turn >= 0 or abs(other_turn) < 1e-10:  # turns back, or is seen from the side
                return None, s
            f = others[0]

    def cuts(self, f, p, q):
        """Where the way from p to q leaves the face: (how far, the edge, the corner across from it)."""
        found = []
        for k in range(3):
            u, v = self.screen[self.faces[f][k], :2], self.screen[self.faces[f][(k + 1) % 3], :2]
            tip = self.faces[f][(k + 2) % 3]
            inside = np.sign(self.turn(u, v, self.screen[tip, :2]))
            before, after = inside * self.turn(u, v, p), inside * self.turn(u, v, q)
            if after < 0 and after < before:
                found.append((before / (before - after), frozenset((self.faces[f][k], self.faces[f][(k + 1) % 3])), tip))
        return found

    @staticmethod
    def turn(u, v, p):
        return (v[0] - u[0]) * (p[1] - u[1]) - (v[1] - u[1]) * (p[0] - u[0])

    def weights(self, f, at):
        return np.linalg.solve(np.vstack([self.screen[self.faces[f], :2].T, np.ones(3)]), [*at, 1])

    def plane(self, f):
        v = self.screen[self.faces[f]]
        return np.linalg.solve(np.c_[v[:, :2], np.ones(3)], v[:, 2] if self.orthographic else 1 / v[:, 2])

    def depth(self, f, at):
        value = self.plane(f) @ [*at, 1]
        return value if self.orthographic else 1 / value

    def normal(self, f, depth):
        """(dz/dx, dz/dy, -1) where the plane has this depth."""
        slope = self.plane(f)[:2]
        return np.array([*(slope if self.orthographic else -(depth**2) * slope), -1])
