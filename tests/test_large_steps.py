"""Large steps: against SciPy, gradients against differences, degenerate meshes, bad input, and what they are for."""

from types import SimpleNamespace

import numpy as np
import pytest
import reference_losses as reference
from contract import assert_gradients, gradients
from scipy import sparse
from scipy.sparse import linalg

import taichi_dr as dr
from taichi_dr import dissection
from taichi_dr.arrays import array, read, write

PIECES = (  # four spheres apart, an open grid, pages on one spine with a degenerate face and a vertex without faces
    np.concatenate([*(reference.icosphere()[0] + 3 * k for k in range(4)), reference.grid(9)[0], reference.BOOK[0]]),
    np.concatenate([*(reference.icosphere()[1] + 42 * k for k in range(4)), reference.grid(9)[1] + 168, reference.BOOK[1] + 249]),
)
MESHES = {**reference.MESHES, "large grid": reference.grid(30), "pieces": PIECES}


def make(name):
    vertices, faces = MESHES[name]
    return SimpleNamespace(vertices=array(vertices[None]), faces=array(faces)), vertices, faces


def cotangent_weights(x, faces):
    """By the angles, each computed from its cosine."""
    w = np.zeros((len(x),) * 2)
    for f in faces.tolist():
        if len(set(f)) < 3:
            continue
        for k in range(3):
            i, j, o = f[k], f[k - 1], f[k - 2]
            a, b = x[i] - x[o], x[j] - x[o]
            angle = np.arccos(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))
            w[i, j] += 0.5 / np.tan(angle)
            w[j, i] += 0.5 / np.tan(angle)
    return w


def system(x, faces, smoothness, laplacian):
    if laplacian == "cotangent":
        w = cotangent_weights(x, faces)
    else:
        w = np.zeros((len(x),) * 2)
        for i, j in reference.edge_set(faces):
            w[i, j] = w[j, i] = 1
    return np.eye(len(x)) + smoothness * (np.diag(w.sum(axis=1)) - w)


def ellipsoid_of(vertices):
    return vertices * [1.0, 0.7, 1.6] + 0.3 * np.sin(3 * vertices[:, [1, 2, 0]])


@pytest.mark.parametrize("laplacian", ["combinatorial", "cotangent"])
@pytest.mark.parametrize("name", MESHES)
@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_against_dense_algebra(name, laplacian, precision, request, rng):
    request.getfixturevalue(precision)
    tolerance = {"f32": 2e-4, "f64": 1e-9}[precision]
    mesh, x, faces = make(name)
    steps = dr.LargeSteps(mesh, 7.5, laplacian)
    matrix = system(x, faces, 7.5, laplacian)
    np.testing.assert_allclose(read(steps.coordinates)[0], matrix @ x, atol=tolerance)
    np.testing.assert_allclose(read(steps.vertices())[0], x, atol=tolerance)
    u, cotangent = rng.standard_normal((2, 1, *x.shape))
    write(steps.coordinates, u)
    np.testing.assert_allclose(read(steps.vertices())[0], np.linalg.solve(matrix, u[0]), atol=tolerance)
    (grad,) = gradients(steps.vertices, [steps.coordinates], cotangent)
    np.testing.assert_allclose(grad[0], np.linalg.solve(matrix, cotangent[0]), atol=tolerance)


def test_a_large_mesh_against_scipy(f64, rng):
    mesh = dr.shapes.icosphere(5)
    steps = dr.LargeSteps(mesh)
    ends, count = read(dr.mesh.edges(mesh.faces, 10242).ends), 10242
    links = sparse.coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count))
    links = sparse.csr_array(links + links.T)
    matrix = sparse.csc_array(sparse.diags_array(1 + 19 * links.sum(axis=1)) - 19 * links)
    u = rng.standard_normal((1, count, 3))
    write(steps.coordinates, u)
    np.testing.assert_allclose(read(steps.vertices())[0], linalg.splu(matrix).solve(u[0]), atol=1e-12)


@pytest.mark.parametrize("laplacian", ["combinatorial", "cotangent"])
def test_gradients_match_differences(laplacian, f64, rng):
    mesh, x, _ = make("icosphere")
    write(mesh.vertices, ellipsoid_of(x)[None])
    steps = dr.LargeSteps(mesh, 3.0, laplacian)
    assert_gradients(steps.vertices, {"coordinates": steps.coordinates}, rng)


def test_a_batch_moves_apart(f32, rng):
    vertices, faces = reference.icosphere()
    x = vertices + 0.1 * rng.standard_normal((3, *vertices.shape))
    steps = dr.LargeSteps(SimpleNamespace(vertices=array(x), faces=array(faces)), 5.0)
    np.testing.assert_allclose(read(steps.vertices()), x, atol=1e-5)
    cotangent = np.zeros(x.shape)
    cotangent[1] = rng.standard_normal(vertices.shape)
    (grad,) = gradients(steps.vertices, [steps.coordinates], cotangent)
    assert not grad[[0, 2]].any()
    np.testing.assert_allclose(grad[1], np.linalg.solve(system(vertices, faces, 5.0, "combinatorial"), cotangent[1]), atol=1e-4)


def test_repeats_bitwise(f32, rng):
    mesh = dr.shapes.icosphere(4)
    cotangent = rng.standard_normal((1, 2562, 3))
    results = []
    for _ in range(2):
        steps = dr.LargeSteps(mesh)
        results.append((read(steps.vertices()).tobytes(), gradients(steps.vertices, [steps.coordinates], cotangent)[0].tobytes()))
    assert results[0] == results[1]


def test_smoothness_and_alpha(f32):
    mesh, x, _ = make("tetrahedron")
    assert dr.LargeSteps(mesh).smoothness == 19
    assert dr.LargeSteps(mesh, alpha=0.95).smoothness == pytest.approx(19)
    np.testing.assert_allclose(read(dr.LargeSteps(mesh, 0).coordinates)[0], x, atol=1e-6)


def test_positions_do_not_matter_to_the_combinatorial_one(f32):
    mesh, x, _ = make("large grid")
    write(mesh.vertices, np.zeros((1, *x.shape)))  # all in one place
    steps = dr.LargeSteps(mesh)
    assert not read(steps.vertices()).any()
    assert len(read(steps._passes.values)) < 100 * len(x)


@pytest.mark.parametrize("smoothness", [19.0, 1e4])
def test_thin_and_empty_faces_have_cotangents(smoothness, f32, rng):
    x, faces = reference.grid(6)
    x[7], x[14] = x[8], x[15] + [1e-9, 0, 0]  # faces without area, and with very little
    x[20] = (x[19] + x[21]) / 2
    mesh = SimpleNamespace(vertices=array(x[None]), faces=array(faces))
    steps = dr.LargeSteps(mesh, smoothness, "cotangent")
    assert np.isfinite(read(steps.coordinates)).all() and np.isfinite(read(steps.vertices())).all()
    (grad,) = gradients(steps.vertices, [steps.coordinates], rng.standard_normal((1, *x.shape)))
    assert np.isfinite(grad).all() and grad.any()


def test_cotangents_that_are_held_stay_positive(f64, rng):
    for _ in range(20):
        x = rng.standard_normal((3, 3)) * [1, 10.0 ** -rng.integers(0, 12), 0]
        w = dr.large_steps._cotangents(x, np.array([[0, 1, 2]])).toarray()
        assert np.linalg.eigvalsh(np.diag(w.sum(axis=1)) - w).min() > -1e-9 * abs(w).max()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_gradient_stays_alone(bad, f32, rng):
    mesh, _, _ = make("icosphere")
    steps = dr.LargeSteps(mesh)
    loss, x = dr.scalar(), None
    with dr.Tape(loss) as tape:
        tape.grad = lambda: None
        x = steps.vertices()
    cotangent = rng.standard_normal((1, 42, 3))
    results = []
    for value in (0.0, bad):
        cotangent[0, 5] = value
        write(x.grad, cotangent)
        write(steps.coordinates.grad, np.zeros((1, 42, 3)))
        dr.large_steps._vertices.grad(steps.coordinates, steps._passes, x)
        results.append(read(steps.coordinates.grad))
    np.testing.assert_array_equal(*results)


def test_bad_arguments(f32):
    mesh, x, faces = make("icosphere")
    holed = SimpleNamespace(vertices=array(np.where(np.arange(42)[:, None] == 7, np.nan, x)[None]), faces=mesh.faces)
    twins = SimpleNamespace(vertices=array(np.stack([x, x])), faces=mesh.faces)
    wild = SimpleNamespace(vertices=mesh.vertices, faces=array(faces + 1))
    cases = [
        (lambda: dr.LargeSteps(mesh.vertices), "mesh: expected a mesh with vertices and faces"),
        (lambda: dr.LargeSteps(holed), "mesh.vertices: expected finite positions, got NaN or infinity at vertex 7"),
        (lambda: dr.LargeSteps(wild), "faces: expected indices from 0 to 41"),
        (lambda: dr.LargeSteps(twins, laplacian="cotangent"), "laplacian: expected one shape for cotangents, got a batch of 2"),
        (lambda: dr.LargeSteps(mesh, laplacian="uniform"), "laplacian: expected 'combinatorial' or 'cotangent', got 'uniform'"),
        *[(lambda s=s: dr.LargeSteps(mesh, s), "smoothness: expected a finite number of at least 0") for s in (-1, np.nan, np.inf, "much")],
        *[(lambda a=a: dr.LargeSteps(mesh, alpha=a), "alpha: expected") for a in (-0.1, 1.0, 2, np.nan)],
        (lambda: dr.LargeSteps(mesh, 19.0, alpha=0.5), "alpha: expected either smoothness or alpha, got both"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


# --- The order of elimination -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["large grid", "pieces", "hub", "random", "dust"])
def test_no_edge_joins_two_subtrees(name, rng):
    if name == "hub":
        ends = np.stack([np.zeros(999, int), np.arange(1, 1000)], axis=1)
    elif name == "random":
        ends = rng.integers(0, 400, (900, 2))
    elif name == "dust":
        ends = np.arange(2000).reshape(-1, 2)
    else:
        ends = np.array(reference.edge_set(MESHES[name][1]))
    count = 1000 if name == "hub" else 2000 if name == "dust" else max(400, ends.max() + 1)
    links = sparse.csr_array(sparse.coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count)))
    node = dissection.dissect(sparse.csr_array(links + links.T))
    for a, b in node[ends]:
        deep, high = max(a, b), min(a, b)
        while deep > high:
            deep //= 2
        assert deep == high
    if name in ("hub", "dust"):
        assert np.bincount(node).max() <= dissection.LEAF


# --- What they are for ------------------------------------------------------------------------------------------


def folds(vertices, faces):
    """Share of the edges between faces over which the surface turns back by more than a right angle."""
    hinges = np.array(reference.hinge_list(faces))
    normal = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    owner = {}
    for f, face in enumerate(faces.tolist()):
        for k in range(3):
            owner.setdefault(tuple(sorted((face[k], face[k - 1]))), []).append(f)
    pairs = np.array([owner[tuple(h[:2])] for h in hinges.tolist()])
    return ((normal[pairs[:, 0]] * normal[pairs[:, 1]]).sum(axis=1) < 0).mean()


def test_a_sphere_deforms_without_folding(f32):
    """To silhouettes of an ellipsoid, whose gradients only few vertices have: plain Adam folds the surface, large steps do not."""
    sphere = dr.shapes.icosphere(3)
    x, faces = read(sphere.vertices)[0], read(sphere.faces)
    camera = dr.Camera.orbit(3.0, [0.0, 0.0, 70.0, -30.0], [0.0, 90.0, 20.0, 200.0], size=48)
    renderer = dr.SoftRenderer(sigma=1e-4)
    goal = renderer(sphere.with_vertices(array((x * [0.5, 1.1, 0.8])[None])), camera)

    def fit(moving, optimizer, vertices):
        loss = dr.scalar()
        for _ in range(60):
            with dr.Tape(loss):
                dr.losses.silhouette_iou(renderer(sphere.with_vertices(vertices()), camera), goal, loss)
            optimizer.step()
        return float(read(loss)), folds(read(vertices())[0].astype(np.float64), faces)

    steps = dr.LargeSteps(sphere)
    loss, folded = fit(steps.coordinates, dr.optim.AdamUniform([steps.coordinates], lr=0.1), steps.vertices)
    plain = array(x[None])
    plain_loss, plain_folded = fit(plain, dr.optim.Adam([plain], lr=0.01), lambda: plain)
    print(f"large steps: loss {loss:.4f}, folded {folded:.4f}; Adam: loss {plain_loss:.4f}, folded {plain_folded:.4f}")
    least = dr.scalar()
    dr.losses.silhouette_iou(goal, goal, least)  # not zero, since silhouettes are soft
    assert loss < float(read(least)) + 0.02 and folded == 0
    assert plain_folded > 0.1
