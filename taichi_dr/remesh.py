"""Isotropic remeshing: triangles of almost equal sides on the surface of a mesh, with all that its vertices carry."""

import math
from typing import NamedTuple

import numpy as np
import taichi as ti
from scipy import sparse

from .arrays import array, checked_number, read
from .closest import Surface
from .mesh import Mesh, one_mesh

ROOM = 1.065  # departs from the source: without it the mean edge comes out 6% shorter than asked for
LONG, SHORT = ROOM * 4 / 3, ROOM * 4 / 5  # of the edge length: what is split, and what is collapsed
CORNER = 45.0  # degrees that a boundary turns by where its vertex stays
UPRIGHT = 0.2  # least cosine between the normals of a face before and after a step
STEEP, LOW = 0.7, 0.05  # sine of the angle to the faces it leaves by which a vertex may be collapsed; or height, of the least edge
FLAT = 0.7  # least cosine between the normals of two faces with turned edge and the mean normal before
SHARP, ROUND = 0.72, 0.95  # length of the mean normal around a vertex up to which it stays, and from which it moves freely
MOST_FACES = 10_000_000
FEW = 5e-4  # of the faces: fewer collapses than that are not waited for by all others
MOST_ROUNDS = 200  # of each step, far above what any mesh has needed


class Remeshed(NamedTuple):
    """A new mesh, and a sparse (V new, V old) matrix: `weights @ x` carries what old vertices have to the new ones."""

    mesh: Mesh
    weights: sparse.csr_array


def remesh(mesh: Mesh, edge_length: float | None = None, iterations: int = 5, *, crease_angle: float | None = None) -> Remeshed:
    """Cover the surface of a mesh with triangles of almost equal sides.

    `iterations` times: edges longer than about 4/3 of the edge length are split in the middle; edges shorter than about 4/5 are
    collapsed to one of their ends; edges are turned where that brings the number of neighbors nearer to 6, or 4 on a boundary,

        minimize   sum over the vertices of (neighbors - optimum)^2;

    vertices move along the surface toward the mean of their neighbors, the less the sharper the surface is there, and then to the closest
    point of the old surface.
    No step turns a face over, tears or joins the surface, or makes a manifold one non-manifold. A boundary stays
    a boundary: its vertices stay on the old one, and corners, where it turns by more than 45 degrees, stay. So do the borders between
    objects, and non-manifold vertices. Faces without area are welcome, vertices without faces are dropped.

    Each new vertex is at a place in an old triangle: with the barycentrics there, row by row, `weights` of the result carries
    colors, and what else is wanted. So an optimizer can go on with moments of (V, C) numbers as
    `weights @ moments`, where weights are never negative and have sum 1.

    Not differentiable: for between the steps of a fit. In NumPy, whatever the device.

    Args:
        mesh: no batch. Colors, and texture coordinates without seams, are carried.
        edge_length: what edges come near to, world units; the mean of the mesh's edges where left out.
        iterations: 1 or more.
        crease_angle: degrees; edges between faces whose normals differ by more are kept as borders between objects are. Without it
            vertices at sharp edges do not slide off them, so that a cube stays one, but edges are rounded by as much as the
            edge length allows, and parts that are thinner lose volume; on the noisy surface of a fit that is better
            than to keep every edge of the noise.

    Raises:
        ValueError: a batch, texels, texture coordinates with seams, vertices that are not finite, no face with area, an argument out
            of range, an edge length that would make more than ten million faces.

    Source: Botsch and Kobbelt, A Remeshing Approach to Multiresolution Modeling (2004), section 4. Steps on many edges at
    once: those whose neighborhoods do not touch, the best first.
    """
    vertices, faces = one_mesh(mesh)
    carried = _carried(mesh, faces)
    if not isinstance(iterations, (int, np.integer)) or iterations < 1:
        raise ValueError(f"iterations: expected a whole number of at least 1, got {iterations!r}")
    start = _start(vertices, faces, read(mesh.objects), crease_angle)
    length = _checked_length(edge_length, start)
    old, now = _Old(start), start
    for _ in range(iterations):
        now = _split(now, LONG * length)
        now = _collapse(now, SHORT * length, LONG * length)
        now = _turn(now)
        now = _relax(now, old)
    weights = old.weights(now)
    arrays = {name: array(np.stack([weights @ x for x in read(values)])) for name, values in carried.items()}
    images = {"texture": mesh.texture, "normal_map": mesh.normal_map}
    return Remeshed(Mesh(now.points, now.faces, objects=now.objects, **arrays, **{k: v for k, v in images.items() if v is not None}), weights)


def _carried(mesh: Mesh, faces: np.ndarray) -> dict[str, ti.Ndarray]:
    """The arrays per vertex that go along."""
    if mesh.texels is not None:
        raise ValueError("mesh: expected vertex colors, got texels, which belong to the old faces; load it with texture='vertex'")
    carried = {"colors": mesh.colors} if mesh.colored and mesh.colors is not None else {}
    if mesh.uv is not None:
        if mesh.uv.shape[1] != mesh.vertices.shape[1] or not np.array_equal(read(mesh.uv_faces), faces):
            raise ValueError(
                "mesh: expected texture coordinates without seams, got seams, which new faces would cross; load it with texture='vertex'"
            )
        carried["uv"] = mesh.uv
    return carried


def _checked_length(edge_length: float | None, start: "_State") -> float:
    a, b, c = (start.points[start.faces[:, k]] for k in range(3))
    sides = np.linalg.norm(np.stack([b - a, c - b, a - c]), axis=2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    if not area > 0:
        raise ValueError("mesh: expected a face with area, got none; there is no surface to cover")
    length = float(sides.mean()) if edge_length is None else checked_number("edge_length", edge_length)
    if not length > 0:
        raise ValueError(f"edge_length: expected a positive length, got {edge_length!r}")
    count = area / length**2 * (4 / math.sqrt(3)) + sides.sum() / length
    if count > MOST_FACES:
        raise ValueError(f"edge_length: expected one for at most {MOST_FACES} faces, got {length:g}, for about {count:.2g}; take a longer one")
    return length


# --- The surface between two steps ------------------------------------------------------------------------------


class _State(NamedTuple):
    points: np.ndarray  # (V, 3)
    faces: np.ndarray  # (F, 3)
    objects: np.ndarray  # (F,)
    seams: np.ndarray  # (S, 2) ascending: edges that are kept as curves, boundaries above all
    locked: np.ndarray  # (V,): vertices that stay
    part: np.ndarray  # (V,): which connected part of the mesh


class _Sides(NamedTuple):
    """Edges of faces; side s is that of face s // 3 from corner s % 3 to the next."""

    ends: np.ndarray  # (E, 2) ascending
    edge_of: np.ndarray  # (3 F,)
    first: np.ndarray  # (E,) a side of each edge
    second: np.ndarray  # (E,) the other one of an edge with two faces, else -1
    counts: np.ndarray  # (E,) faces


def _sides(faces: np.ndarray, count: int) -> _Sides:
    tails, heads = faces.reshape(-1), faces[:, [1, 2, 0]].reshape(-1)
    low, high = np.minimum(tails, heads), np.maximum(tails, heads)
    order = _order(high, count)
    order = order[_order(low[order], count)]
    keys = (low * count + high)[order]
    fresh = np.concatenate([[True], keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, bool)
    starts = np.flatnonzero(fresh)
    edge_of = np.empty(len(order), int)
    edge_of[order] = np.cumsum(fresh) - 1
    counts = np.diff(np.append(starts, len(order)))
    second = np.where(counts == 2, order[np.minimum(starts + 1, max(len(order) - 1, 0))], -1)
    return _Sides(np.stack([keys[starts] // count, keys[starts] % count], axis=1), edge_of, order[starts], second, counts)


def _tails(faces: np.ndarray, sides: np.ndarray) -> np.ndarray:
    return faces.reshape(-1)[sides]


def _tips(faces: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The vertices opposite the sides."""
    return faces[sides // 3, (sides + 2) % 3]


def _knotted(faces: np.ndarray, sides: _Sides) -> np.ndarray:
    """(E,) edges of more than two faces, or of two that go along it in the same direction."""
    return (sides.counts > 2) | ((sides.counts == 2) & (_tails(faces, sides.first) == _tails(faces, sides.second)))


def _start(vertices: np.ndarray, faces: np.ndarray, objects: np.ndarray, crease_angle: float | None) -> _State:
    """The mesh without the faces that name a vertex twice and the vertices of no face."""
    proper = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    faces, objects = faces[proper], objects[proper]
    if len(faces) == 0:
        raise ValueError("mesh: expected a face with area, got none; there is no surface to cover")
    count = len(vertices)
    sides = _sides(faces, count)
    paired = sides.counts == 2
    knotted = _knotted(faces, sides)
    seams = ~paired | knotted
    one, other = sides.first // 3, sides.second // 3
    seams |= paired & (objects[one] != objects[other])
    if crease_angle is not None:
        normals = _unit(_normals(vertices, faces))
        least = math.cos(math.radians(checked_number("crease_angle", crease_angle, 0.0)))
        seams |= paired & (_dot(normals[one], normals[other]) < least)
    locked = _branching(faces, sides, count)
    locked[sides.ends[knotted]] = True
    curves = sides.ends[seams]
    locked |= _corners(vertices, curves)
    joined = sparse.coo_array((np.ones(len(sides.ends)), sides.ends.T), shape=(count, count))
    part = sparse.csgraph.connected_components(joined, directed=False)[1]
    return _State(vertices, faces, objects, curves, locked, part)


def _branching(faces: np.ndarray, sides: _Sides, count: int) -> np.ndarray:
    """(V,) vertices that more than one fan of faces meets in."""
    pairs = np.flatnonzero((sides.counts == 2) & ~_knotted(faces, sides))
    one, other = sides.first[pairs], sides.second[pairs]
    after = [3 * (s // 3) + (s + 1) % 3 for s in (one, other)]
    # A corner goes by the number of its side. Across an edge, the tail of one side is the head of the other.
    links = np.concatenate([np.stack([one, after[1]]), np.stack([other, after[0]])], axis=1)
    fans, fan_of = sparse.csgraph.connected_components(sparse.coo_array((np.ones(links.shape[1]), links), shape=(faces.size,) * 2), directed=False)
    owner = np.zeros(fans, int)
    owner[fan_of] = faces.reshape(-1)
    return np.bincount(owner, minlength=count) > 1


def _corners(points: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """(V,) vertices where curves end, meet or turn sharply."""
    tails, heads = np.concatenate([curves, curves[:, ::-1]]).T
    degree = np.bincount(tails, minlength=len(points))
    away = np.zeros_like(points)
    np.add.at(away, tails, _unit(points[heads] - points[tails]))
    # Two unit vectors with the angle pi - turn between them have a sum of length 2 sin(turn / 2).
    turned = np.linalg.norm(away, axis=1) > 2 * math.sin(math.radians(CORNER) / 2)
    return (degree > 0) & ((degree != 2) | turned)


class _Old:
    """The surface that all is brought back to: faces, and apart from them the curves."""

    def __init__(self, start: _State) -> None:
        self.start = start
        self.surface = Surface(start.points, start.faces)
        self.normals = _unit(_normals(start.points, start.faces))
        self.segments = start.seams[:, [0, 1, 1]]
        self.curves = Surface(start.points, self.segments) if len(start.seams) else None

    def places(self, now: _State, points: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of vertices `which` at `points` the three old vertices (N, 3) that each is between, and their weights (N, 3)."""
        ends, weights = np.zeros((len(which), 3), int), np.zeros((len(which), 3))
        on_curve = np.isin(which, now.seams)
        normals = _unit(_vertex_normals(now.points, now.faces))
        for chosen, surface, corners in ((~on_curve, self.surface, self.start.faces), (on_curve, self.curves, self.segments)):
            if not chosen.any():
                continue
            part = now.part[which[chosen]]
            if surface is self.surface:  # never the far side of a thin part
                facing = normals[which[chosen]]

                def accept(i, f, part=part, facing=facing):
                    return (self.start.part[self.start.faces[f, 0]] == part[i]) & (_dot(self.normals[f], facing[i]) >= 0)
            else:

                def accept(i, f, part=part):
                    return self.start.part[self.segments[f, 0]] == part[i]

            found = surface.closest(points[chosen], accept)
            ends[chosen], weights[chosen] = corners[found.faces], found.barycentrics
        return ends, weights

    def weights(self, now: _State) -> sparse.csr_array:
        ends, weights = self.places(now, now.points, np.arange(len(now.points)))
        shape = (len(now.points), len(self.start.points))
        matrix = sparse.coo_array((weights.reshape(-1), (np.repeat(np.arange(shape[0]), 3), ends.reshape(-1))), shape=shape).tocsr()
        matrix.eliminate_zeros()
        return matrix


# --- Split ------------------------------------------------------------------------------------------------------


def _split(now: _State, most: float) -> _State:
    """Cut edges longer than `most` in the middle, until there are none."""
    for _ in range(MOST_ROUNDS):
        sides = _sides(now.faces, len(now.points))
        cut = np.linalg.norm(now.points[sides.ends[:, 0]] - now.points[sides.ends[:, 1]], axis=1) > most
        if not cut.any():
            break
        now = _cut(now, sides, cut)
    return now


def _cut(now: _State, sides: _Sides, cut: np.ndarray) -> _State:
    """Cut the marked edges; a face becomes two, three or four."""
    count, ends = len(now.points), sides.ends[cut]
    middle = np.full(len(cut), -1)
    middle[cut] = count + np.arange(len(ends))
    points = np.concatenate([now.points, now.points[ends].mean(axis=1)])
    faces, objects = _cut_faces(now.faces, middle[sides.edge_of].reshape(-1, 3), now.objects, points)
    keys, seam_keys = ends[:, 0] * count + ends[:, 1], now.seams[:, 0] * count + now.seams[:, 1]
    place = np.searchsorted(keys, seam_keys).clip(0, len(keys) - 1)
    halved = keys[place] == seam_keys
    new = count + place[halved]
    halves = [np.stack([now.seams[halved, k], new], axis=1) for k in (0, 1)]
    locked = np.concatenate([now.locked, _knotted(now.faces, sides)[cut]])
    part = np.concatenate([now.part, now.part[ends[:, 0]]])
    return _State(points, faces, objects, np.concatenate([now.seams[~halved], *halves]), locked, part)


def _cut_faces(faces: np.ndarray, middles: np.ndarray, objects: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces with a vertex, or -1, in the middle of each side, cut there; and the object of each."""
    marks = middles >= 0
    number = marks.sum(axis=1)
    # Turn each face so that it begins with its one marked side, or after its one unmarked side.
    first = np.where(number == 1, marks.argmax(axis=1), np.where(number == 2, ((~marks).argmax(axis=1) + 1) % 3, 0))
    turn = (first[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(faces, turn, axis=1).T
    ab, bc, ca = np.take_along_axis(middles, turn, axis=1).T
    shorter = np.zeros(len(faces), bool)
    two = number == 2
    shorter[two] = _squares(points[a[two]] - points[bc[two]]) <= _squares(points[ab[two]] - points[c[two]])
    patterns = (
        (number == 0, [(a, b, c)]),
        (number == 1, [(a, ab, c), (ab, b, c)]),
        (two & shorter, [(ab, b, bc), (a, ab, bc), (a, bc, c)]),
        (two & ~shorter, [(ab, b, bc), (a, ab, c), (ab, bc, c)]),
        (number == 3, [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]),
    )
    pieces = [(np.stack(corners, axis=1)[where], objects[where]) for where, cut in patterns for corners in cut]
    return np.concatenate([piece[0] for piece in pieces]), np.concatenate([piece[1] for piece in pieces])


# --- Collapse ---------------------------------------------------------------------------------------------------


def _collapse(now: _State, least: float, most: float) -> _State:
    """Move one end of edges shorter than `least` into the other, unless that makes an edge longer than `most`."""
    for _ in range(MOST_ROUNDS):
        sides = _sides(now.faces, len(now.points))
        around = _around(sides.ends, len(now.points))
        gone, into = _collapses(now, sides, around, least, most)
        moved = np.arange(len(now.points))
        moved[gone] = into
        faces = moved[now.faces]
        kept = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
        seams = np.sort(moved[now.seams], axis=1)
        seams = np.unique(seams[seams[:, 0] != seams[:, 1]], axis=0)
        now = now._replace(faces=faces[kept], objects=now.objects[kept], seams=seams)
        if len(gone) <= FEW * len(faces):
            break
    return _compact(now)


def _collapses(now: _State, sides: _Sides, around: "_Lists", least: float, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices that may all at once move into vertices next to them, and those."""
    points, faces, count = now.points, now.faces, len(now.points)
    keys = sides.ends[:, 0] * count + sides.ends[:, 1]
    lengths = np.linalg.norm(points[sides.ends[:, 0]] - points[sides.ends[:, 1]], axis=1)
    short = np.flatnonzero((lengths < least) & (sides.counts <= 2))
    seam = np.isin(keys, now.seams[:, 0] * count + now.seams[:, 1])
    on_seam = np.zeros(count, bool)
    on_seam[now.seams] = True
    # Each short edge in both directions: a moves into b.
    edge = np.concatenate([short, short])
    a, b = np.concatenate([sides.ends[short], sides.ends[short, ::-1]]).T
    free = ~now.locked[a] & (~on_seam[a] | seam[edge])
    edge, a, b = edge[free], a[free], b[free]
    # No edge may become long, and a and b may have no neighbors in common but the tips of their faces.
    owner, x = around.expand(a)
    far = (x != b[owner]) & (_squares(points[x] - points[b[owner]]) > most**2)
    common = _contains(keys, np.minimum(x, b[owner]) * count + np.maximum(x, b[owner]))
    good = (np.bincount(owner[far], minlength=len(a)) == 0) & (np.bincount(owner[common], minlength=len(a)) == sides.counts[edge])
    edge, a, b = edge[good], a[good], b[good]
    good = ~_closes_up(now, sides, seam, around, edge, a, b)
    edge, a, b = edge[good], a[good], b[good]
    owner, f = _faces_around(faces, count).expand(a)
    kept = (faces[f] != b[owner, None]).all(axis=1)
    owner, f = owner[kept], f[kept]
    after = np.where(faces[f] == a[owner, None], b[owner, None], faces[f])
    before = _normals(points, faces[f])
    over = ~_upright(before, _normals(points, after))
    # How far the vertex leaves the plane of the face: much where it comes off a sharp edge.
    way = (points[b] - points[a])[owner]
    height = np.abs(_dot(way, _unit(before)))
    over |= height > np.maximum(STEEP * np.linalg.norm(way, axis=1), LOW * least)
    good = np.bincount(owner[over], minlength=len(a)) == 0
    edge, a, b = edge[good], a[good], b[good]
    # The shortest edge of each a; of those as many as have no neighbors in common, the much shorter ones first.
    order = np.lexsort((b, lengths[edge], a))
    order = order[np.unique(a[order], return_index=True)[1]]
    edge, a, b = edge[order], a[order], b[order]
    order = np.lexsort((_shuffled(a), np.floor(np.log2(np.maximum(lengths[edge], 1e-300)))))
    a, b = a[order], b[order]
    owner, x = around.expand(a)
    chosen = _independent(np.concatenate([owner, np.arange(len(a))]), np.concatenate([x, a]), len(a), count)
    return a[chosen], b[chosen]


def _closes_up(now: _State, sides: _Sides, seam: np.ndarray, around: "_Lists", edge: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which collapses would lay two curves on each other, where a face has two sides on curves, or two faces, of a tetrahedron."""
    count = len(now.points)
    keys = sides.ends[:, 0] * count + sides.ends[:, 1]
    c, d = (_tips(now.faces, side[edge]) for side in (sides.first, sides.second))  # d is any vertex where there is one face
    inner = sides.counts[edge] == 2

    def between(one, other):
        return np.searchsorted(keys, np.minimum(one, other) * count + np.maximum(one, other)).clip(0, len(keys) - 1)

    out = seam[between(a, c)] & seam[between(b, c)] | inner & seam[between(a, d)] & seam[between(b, d)]
    across = between(c, d)
    tips = [_tips(now.faces, side[across]) for side in (sides.first, sides.second)]
    fourth = (sides.counts[across] != 2) | (tips[0] == b) | (tips[1] == b)
    return out | inner & (np.diff(around.offsets)[a] == 3) & fourth


def _compact(now: _State) -> _State:
    """Without the vertices of no face."""
    used = np.zeros(len(now.points), bool)
    used[now.faces] = True
    number = np.cumsum(used) - 1
    return now._replace(points=now.points[used], faces=number[now.faces], seams=number[now.seams], locked=now.locked[used], part=now.part[used])


# --- Turn -------------------------------------------------------------------------------------------------------


def _turn(now: _State) -> _State:
    """Turn edges within the two faces at them, where that brings the numbers of neighbors nearer to their optimum."""
    points, faces, count = now.points, now.faces.copy(), len(now.points)
    seam_keys = now.seams[:, 0] * count + now.seams[:, 1]
    for _ in range(MOST_ROUNDS):
        sides = _sides(faces, count)
        keys = sides.ends[:, 0] * count + sides.ends[:, 1]
        excess = np.bincount(sides.ends.reshape(-1), minlength=count) - 6
        excess[sides.ends[sides.counts == 1]] += 1  # twice at a boundary vertex, whose optimum is 4
        inner = np.flatnonzero((sides.counts == 2) & ~np.isin(keys, seam_keys))
        one, other = sides.first[inner], sides.second[inner]
        a, b, c, d = _tails(faces, one), _tails(faces, other), _tips(faces, one), _tips(faces, other)
        # (e - 1)^2 at a and b, (e + 1)^2 at c and d, less e^2 at all.
        gain = 2 * (excess[a] + excess[b] - excess[c] - excess[d]) - 4
        good = (gain > 0) & (c != d)
        one, other, gain, a, b, c, d = (x[good] for x in (one, other, gain, a, b, c, d))
        good = ~_contains(keys, np.minimum(c, d) * count + np.maximum(c, d)) & _may_turn(points, a, b, c, d)
        one, other, gain, a, b, c, d = (x[good] for x in (one, other, gain, a, b, c, d))
        order = np.lexsort((_shuffled(one), -gain))
        one, other, a, b, c, d = (x[order] for x in (one, other, a, b, c, d))
        chosen = _independent(np.tile(np.arange(len(a)), 4), np.concatenate([a, b, c, d]), len(a), count)
        if not chosen.any():
            break
        faces[one[chosen] // 3] = np.stack([a, d, c], axis=1)[chosen]
        faces[other[chosen] // 3] = np.stack([b, c, d], axis=1)[chosen]
    return now._replace(faces=faces)


def _may_turn(points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Whether faces (a, d, c) and (b, c, d) look where (a, b, c) and (b, a, d) look together, and have area."""
    mean = _unit(_normals(points, np.stack([a, b, c], axis=1)) + _normals(points, np.stack([b, a, d], axis=1)))
    out = np.ones(len(a), bool)
    for new in (np.stack([a, d, c], axis=1), np.stack([b, c, d], axis=1)):
        normals = _normals(points, new)
        sides = points[new] - points[np.roll(new, 1, axis=1)]
        out &= (_dot(normals, mean) > FLAT * np.linalg.norm(normals, axis=1)) & (np.linalg.norm(normals, axis=1) > 1e-2 * (sides**2).sum(axis=(1, 2)))
    return out


# --- Relax ------------------------------------------------------------------------------------------------------


def _relax(now: _State, old: _Old) -> _State:
    """Move vertices along the surface, or along their curve, toward the mean of their neighbors, and then onto the old one."""
    count = len(now.points)
    ends = _sides(now.faces, count).ends
    on_curve = np.zeros(count, bool)
    on_curve[now.seams] = True
    inner, along = _means(now.points, ends) - now.points, _means(now.points, now.seams) - now.points
    normals = _vertex_normals(now.points, now.faces)
    areas = np.linalg.norm(_normals(now.points, now.faces), axis=1)
    around = np.bincount(now.faces.reshape(-1), weights=np.repeat(areas, 3), minlength=count)
    # 1 in a plane, 0.71 at the edge of a cube, 0.58 at its corner: off those a vertex would slide, and each time take some volume.
    flatness = np.linalg.norm(normals, axis=1) / np.maximum(around, 1e-300)
    inner *= ((flatness - SHARP) / (ROUND - SHARP)).clip(0, 1)[:, None]
    normals = _unit(normals)
    tangents = _unit(_differences(now.points, now.seams))
    step = np.where(on_curve[:, None], tangents * _dot(tangents, along)[:, None], inner - normals * _dot(normals, inner)[:, None])
    free = np.flatnonzero(~now.locked)
    points = now.points.copy()
    if len(free):
        places, weights = old.places(now, now.points[free] + step[free], free)
        points[free] = (weights[:, :, None] * old.start.points[places]).sum(axis=1)
    before = _normals(now.points, now.faces)
    while True:
        over = ~_upright(before, _normals(points, now.faces))
        if not over.any():
            return now._replace(points=points)
        back = now.faces[over].reshape(-1)
        if np.array_equal(points[back], now.points[back]):  # none has moved: the face was without area
            return now._replace(points=points)
        points[back] = now.points[back]


def _means(points: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The mean of the neighbors by edges `ends`; the point itself where it has none."""
    tails, heads = np.concatenate([ends, ends[:, ::-1]]).T
    degree = np.bincount(tails, minlength=len(points))
    return np.where(degree[:, None] > 0, _sums(tails, points[heads], len(points)) / np.maximum(degree, 1)[:, None], points)


def _differences(points: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """From one neighbor to the other, of vertices with two."""
    tails, heads = np.concatenate([ends, ends[:, ::-1]]).T
    order = _order(tails, len(points))
    first = np.concatenate([[True], tails[order][1:] != tails[order][:-1]]) if len(tails) else np.zeros(0, bool)
    signs = np.empty(len(tails))
    signs[order] = np.where(first, -1.0, 1.0)
    return _sums(tails, points[heads] * signs[:, None], len(points))


# --- Lists per vertex, and vectors ------------------------------------------------------------------------------


class _Lists(NamedTuple):
    """Of each vertex v the list `values[offsets[v]:offsets[v + 1]]`."""

    offsets: np.ndarray
    values: np.ndarray

    def expand(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lists of `vertices` one after the other, and for each entry whose it is, by place in `vertices`."""
        counts = self.offsets[vertices + 1] - self.offsets[vertices]
        owners = np.repeat(np.arange(len(vertices)), counts)
        starts = self.offsets[vertices] - (np.cumsum(counts) - counts)
        return owners, self.values[np.arange(len(owners)) + starts[owners]]


def _lists(owners: np.ndarray, values: np.ndarray, count: int) -> _Lists:
    return _Lists(np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count))]), values[_order(owners, count)])


def _order(keys: np.ndarray, count: int) -> np.ndarray:
    """`np.argsort(keys, kind="stable")` of keys below `count`, in linear time: SciPy counts where NumPy compares."""
    rows = np.arange(len(keys) + 1)
    return sparse.csr_array((rows[:-1], keys, rows), shape=(len(keys), count)).tocsc().data


def _around(ends: np.ndarray, count: int) -> _Lists:
    return _lists(ends.T.reshape(-1), ends[:, ::-1].T.reshape(-1), count)


def _faces_around(faces: np.ndarray, count: int) -> _Lists:
    return _lists(faces.reshape(-1), np.arange(faces.size) // 3, count)


def _independent(owners: np.ndarray, claims: np.ndarray, number: int, count: int) -> np.ndarray:
    """Which of `number` steps to take at once, as many as possible: no two of them claim the same vertex.

    Args:
        owners, claims: step `owners[k]` claims vertex `claims[k]`.
        number: of steps, those to be preferred first.
        count: of vertices.
    """
    chosen = np.zeros(number, bool)
    while len(owners):
        best = np.full(count, number)
        np.minimum.at(best, claims, owners)
        lost = np.zeros(number, bool)
        lost[owners[best[claims] != owners]] = True
        won = ~lost[owners]
        chosen[owners[won]] = True
        taken = np.zeros(count, bool)
        taken[claims[won]] = True
        blocked = np.zeros(number, bool)
        blocked[owners[taken[claims]]] = True
        left = ~blocked[owners]
        owners, claims = owners[left], claims[left]
    return chosen


def _shuffled(numbers: np.ndarray) -> np.ndarray:
    """A sort key without order, the same in every run: steps that go by size would wait for each other in long rows."""
    return numbers * 2654435761 % 2**32


def _contains(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which of `wanted` are among the ascending `keys`."""
    return keys[np.searchsorted(keys, wanted).clip(0, len(keys) - 1)] == wanted


def _sums(owners: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    return np.stack([np.bincount(owners, weights=values[:, k], minlength=count) for k in range(values.shape[1])], axis=1)


def _normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3), of twice the area of each face."""
    a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
    return np.cross(b - a, c - a)


def _vertex_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    return _sums(faces.T.reshape(-1), np.tile(_normals(points, faces), (3, 1)), len(points))


def _upright(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which normals still look where they looked and have not vanished; one that was zero may be anything."""
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return (_dot(before, after) > UPRIGHT * lengths) | ~before.any(axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", a, b)


def _squares(vectors: np.ndarray) -> np.ndarray:
    return _dot(vectors, vectors)
