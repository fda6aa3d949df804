"""Losses: values against NumPy, gradients against differences, bad inputs, and nothing that spreads a NaN."""

from types import SimpleNamespace

import numpy as np
import pytest
import reference_losses as reference
import taichi as ti

from taichi_dr import losses, mesh
from taichi_dr.arrays import array, read, scalar, vec4, write
from taichi_dr.gradcheck import gradcheck
from taichi_dr.tape import Tape

IMAGE_LOSSES = ("mse", "l1", "silhouette_iou")
REGULARIZERS = ("laplacian", "flatten", "edge_length", "normal_consistency", "cotangent_laplacian")
# Images, long rows, vertices, numbers; and a target that serves all views.
SHAPES = {
    "images": ((3, 5, 7, 4), (3, 5, 7, 4)),
    "one target": ((3, 5, 7, 4), (1, 5, 7, 4)),
    "long rows": ((2, 3, 600, 4), (2, 3, 600, 4)),
    "one pixel": ((1, 1, 1, 4), (1, 1, 1, 4)),
    "vertices": ((2, 9, 3), (2, 9, 3)),
    "numbers": ((1300,), (1300,)),
    "rows of numbers": ((4, 11), (1, 11)),
    "four axes": ((2, 3, 5, 6), (1, 3, 5, 6)),
}


@pytest.fixture
def tolerance(request):
    """Run in the precision that the test asks for; how far values may be from the reference."""
    request.getfixturevalue(request.param)
    return {"f32": 1e-5, "f64": 1e-10}[request.param]


def pair(rng, shape, target_shape):
    return rng.random(shape), rng.random(target_shape)


def make_mesh(name, batch=1, rng=None):
    """A mesh by name, each view's vertices moved a little where there is an rng."""
    vertices, faces = reference.MESHES[name]
    vertices = np.repeat(vertices[None], batch, axis=0)
    if rng is not None:
        vertices = vertices + 0.1 * rng.standard_normal(vertices.shape)
    return SimpleNamespace(vertices=array(vertices), faces=array(faces)), vertices, faces


def options(name):
    return {"target": 0.3} if name == "edge_length" else {}


def run(*calls):
    """The loss after `calls`, and their gradients after the tape."""
    loss = scalar()
    with Tape(loss):
        for call in calls:
            call(loss)
    return float(read(loss))


def assert_slopes(gradient, f, x, rng, tolerance):
    """Along random directions the gradient agrees with differences of the reference, in float64, and is not zero."""
    directions = [d / np.linalg.norm(d) for d in rng.standard_normal((4, *x.shape))]
    expected = np.array([reference.slope(f, x, d) for d in directions])
    came = np.array([(gradient.astype(np.float64) * d).sum() for d in directions])
    assert np.abs(expected).max() > 1e-9
    assert np.abs(came - expected).max() <= tolerance * np.abs(expected).max()


# --- Images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("name", IMAGE_LOSSES)
@pytest.mark.parametrize("tolerance", ["f32", "f64"], indirect=True)  # lowest: as few new starts as can be
def test_image_loss_matches_the_reference(name, shapes, tolerance, rng):
    if name == "silhouette_iou" and (len(shapes[0]), shapes[0][-1]) != (4, 4):
        pytest.skip("silhouettes are images")
    x, t = pair(rng, *shapes)
    image, target = array(x), array(t)
    value = run(lambda loss: getattr(losses, name)(image, target, loss, weight=0.7))
    f = getattr(reference, name)
    assert value == pytest.approx(0.7 * f(x, t), rel=tolerance)
    slopes_within = 1e-6 if tolerance < 1e-6 else 1e-4
    assert_slopes(read(image.grad), lambda y: 0.7 * f(y, t), x, rng, slopes_within)


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_image_gradients_match_differences(name, f64, rng):
    image, target = (array(x) for x in pair(rng, (2, 4, 5, 4), (1, 4, 5, 4)))
    (check,) = gradcheck(lambda loss: getattr(losses, name)(image, target, loss), [image])
    assert check.error < 1e-6
    assert np.abs(check.by_tape).max() > 1e-9


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_a_target_is_data(name, f32, rng):
    """The tape neither fills nor clears its gradient; as the image of another loss it has one."""
    image, target = (array(x) for x in pair(rng, (2, 4, 5, 4), (2, 4, 5, 4)))
    loss_of = getattr(losses, name)
    write(target.grad, np.ones((2, 4, 5, 4)))
    run(lambda loss: loss_of(image, target, loss))
    assert read(image.grad).any() and (read(target.grad) == 1).all()
    run(lambda loss: loss_of(target, image, loss))
    expected = read(target.grad)
    run(lambda loss: loss_of(image, target, loss), lambda loss: loss_of(target, image, loss))
    np.testing.assert_array_equal(read(target.grad), expected)


def test_l1_has_no_gradient_where_both_agree(f32):
    image, target = array(np.full((1, 2, 2, 4), 0.5)), array(np.full((1, 2, 2, 4), 0.5))
    assert run(lambda loss: losses.l1(image, target, loss)) == 0
    assert not read(image.grad).any()


def test_iou_of_equal_apart_and_empty_silhouettes(f32):
    half = np.zeros((1, 4, 4, 4))
    half[:, :2, :, 3] = 1
    a, b, nothing = array(half), array(half[:, ::-1].copy()), array(np.zeros((1, 4, 4, 4)))
    assert run(lambda loss: losses.silhouette_iou(a, a, loss)) == pytest.approx(0, abs=1e-6)
    assert run(lambda loss: losses.silhouette_iou(a, b, loss)) == pytest.approx(1)
    assert run(lambda loss: losses.silhouette_iou(nothing, nothing, loss)) == pytest.approx(1)
    assert np.isfinite(read(nothing.grad)).all()


def test_iou_moves_alpha_only(f32, rng):
    image, target = (array(x) for x in pair(rng, (2, 4, 4, 4), (2, 4, 4, 4)))
    run(lambda loss: losses.silhouette_iou(image, target, loss))
    assert not read(image.grad)[..., :3].any() and read(image.grad)[..., 3].all()


def test_sums_of_a_million_terms_keep_their_digits(f32, rng):
    x = rng.random((1, 512, 512, 4))
    image, target = array(x), array(np.zeros((1, 512, 512, 4)))
    expected = reference.mse(read(image).astype(np.float64), 0.0)
    assert run(lambda loss: losses.mse(image, target, loss)) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("name", ["mse", "l1"])
def test_a_bad_pixel_shows_in_the_loss_but_in_no_gradient(name, bad, f32, rng):
    x, t = pair(rng, (1, 4, 4, 4), (1, 4, 4, 4))
    image, target = array(x), array(t)
    run(lambda loss: getattr(losses, name)(image, target, loss))
    good = read(image.grad)
    x[0, 1, 2, 0] = bad
    write(image, x)
    value = run(lambda loss: getattr(losses, name)(image, target, loss))
    assert np.isfinite(bad) or not np.isfinite(value)
    came = read(image.grad)
    assert np.isfinite(came).all()
    others = np.ones((1, 4, 4), bool)
    others[0, 1, 2] = False
    np.testing.assert_array_equal(came[others], good[others])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_pixel_is_left_out_of_the_iou(bad, f32, rng):
    x, t = pair(rng, (2, 4, 4, 4), (2, 4, 4, 4))
    x[0, 1, 2, 3] = bad
    image, target = array(x), array(t)
    value = run(lambda loss: losses.silhouette_iou(image, target, loss))
    x[0, 1, 2, 3] = t[0, 1, 2, 3] = 0  # neither in the intersection nor in the union
    assert value == pytest.approx(reference.silhouette_iou(x, t), rel=1e-5)
    assert np.isfinite(read(image.grad)).all() and read(image.grad)[0, 1, 2, 3] == 0


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_arrays_without_a_gradient_are_constants(name, f32, rng):
    x, t = pair(rng, (2, 4, 4, 4), (2, 4, 4, 4))
    image, target = array(x), ti.ndarray(vec4, (2, 4, 4))
    write(target, t)
    loss_of = getattr(losses, name)
    assert run(lambda loss: loss_of(image, target, loss)) == pytest.approx(getattr(reference, name)(x, t), rel=1e-5)
    assert read(image.grad).any()
    expected = read(image.grad)
    assert run(lambda loss: loss_of(target, image, loss)) == pytest.approx(getattr(reference, name)(t, x), rel=1e-5)
    np.testing.assert_allclose(read(image.grad), expected, rtol=1e-5, atol=1e-9)
    assert run(lambda loss: loss_of(target, target, loss)) >= 0


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_losses_add_up_and_gradients_too(name, f32, rng):
    image, target = (array(x) for x in pair(rng, (1, 4, 4, 4), (1, 4, 4, 4)))
    one = run(lambda loss: getattr(losses, name)(image, target, loss))
    grad = read(image.grad)
    two = run(*[lambda loss: getattr(losses, name)(image, target, loss)] * 2)
    assert two == pytest.approx(2 * one)
    np.testing.assert_allclose(read(image.grad), 2 * grad, rtol=1e-6)


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_image_losses_repeat_bitwise(name, f32, rng):
    image, target = (array(x) for x in pair(rng, (3, 40, 41, 4), (1, 40, 41, 4)))
    results = []
    for _ in range(2):
        value = run(lambda loss: getattr(losses, name)(image, target, loss))
        results.append((value, read(image.grad).tobytes()))
    assert results[0] == results[1]


def test_a_plain_taichi_tape_records_too(f32, rng):
    image, target = (array(x) for x in pair(rng, (1, 4, 4, 4), (1, 4, 4, 4)))
    run(lambda loss: losses.mse(image, target, loss))
    expected, loss = read(image.grad), scalar()
    write(image.grad, np.zeros((1, 4, 4, 4)))
    with ti.ad.Tape(loss):
        losses.mse(image, target, loss)
    np.testing.assert_array_equal(read(image.grad), expected)


IMAGES = np.zeros((2, 3, 5, 4))
BAD_PAIRS = {
    "no batch axis": (IMAGES, IMAGES[0], r"target: expected shape \(2, 3, 5\), or \(1, 3, 5\).*got \(3, 5\); add the batch axis"),
    "one view without batch axis": (IMAGES[:1], IMAGES[0], r"target: .*got \(3, 5\); add the batch axis"),
    "other size": (IMAGES, IMAGES[:, :, :4], r"target: expected shape \(2, 3, 5\).*got \(2, 3, 4\)"),
    "other batch": (IMAGES[:1], IMAGES, r"target: expected shape \(1, 3, 5\).*got \(2, 3, 5\)"),
    "other elements": (IMAGES, IMAGES[..., :2], "target: expected elements like the image's, vec4, got vec2"),
    "a target with alpha alone": (IMAGES[..., :3], IMAGES, "target: expected elements like the image's, vec3, got vec4"),
    "integers": (IMAGES.astype(int), IMAGES, "image: expected f32 elements, got i32"),
    "an integer target": (IMAGES, IMAGES.astype(int), "target: expected f32 elements, got i32"),
    "0-D": (np.float64(1), np.float64(1), "image: expected 1 to 4 axes"),
}


@pytest.mark.parametrize("name", ["mse", "l1"])
@pytest.mark.parametrize("components", [4, 3])
def test_a_photograph_has_no_alpha_and_a_place_no_depth(name, components, f32, rng):
    x, t = pair(rng, (2, 4, 5, components), (1, 4, 5, components - 1))
    image, target = array(x), array(t)
    value = run(lambda loss: getattr(losses, name)(image, target, loss))
    assert value == pytest.approx(getattr(reference, name)(x[..., :-1], t), rel=1e-5)
    assert read(image.grad)[..., :-1].all() and not read(image.grad)[..., -1].any()


@pytest.mark.parametrize("name", ["mse", "l1"])
@pytest.mark.parametrize("views", [1, 2])
def test_a_mask_says_what_counts(name, views, f32, rng):
    """The mean is over all elements, so that a mask takes away and raises nothing."""
    x, t = pair(rng, (2, 4, 5, 4), (1, 4, 5, 3))
    share = rng.uniform(0, 1, (views, 4, 5)) * (rng.uniform(size=(views, 4, 5)) < 0.6)
    expected = (share[..., None] * (np.abs(x[..., :3] - t) if name == "l1" else (x[..., :3] - t) ** 2)).mean()
    x[np.broadcast_to(share == 0, (2, 4, 5))] = np.nan  # nobody looks there
    image, mask = array(x), array(share, vectors=False)
    assert run(lambda loss: getattr(losses, name)(image, array(t), loss, mask=mask)) == pytest.approx(expected, rel=1e-5)
    grad = read(image.grad)
    assert np.isfinite(grad).all() and ((grad[..., :3] != 0).all(axis=-1) == np.broadcast_to(share != 0, (2, 4, 5))).all()


@pytest.mark.parametrize("mask", [np.ones((2, 3, 4)), np.ones((3, 5)), np.ones((1, 3, 5, 3))])
def test_bad_masks(mask, f32):
    with pytest.raises(ValueError, match="mask: expected"):
        losses.mse(array(IMAGES), array(IMAGES), scalar(), mask=array(mask, vectors=mask.ndim == 4))


@pytest.mark.parametrize("name", ["mse", "l1"])
def test_gradients_of_masked_colors(name, f64, rng):
    x, t = pair(rng, (2, 4, 5, 4), (1, 4, 5, 3))
    image, target, mask = array(x), array(t), array(rng.uniform(0, 1, (1, 4, 5)), vectors=False)
    (check,) = gradcheck(lambda loss: getattr(losses, name)(image, target, loss, mask=mask), [image])
    assert check.error < 1e-6 and np.abs(check.by_tape).min() > 0


@pytest.mark.parametrize(("image", "target", "message"), BAD_PAIRS.values(), ids=BAD_PAIRS.keys())
@pytest.mark.parametrize("name", ["mse", "l1"])
def test_bad_pairs(name, image, target, message, f32):
    with pytest.raises(ValueError, match=message):
        getattr(losses, name)(array(image), array(target), scalar())


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_numpy_images_are_converted_outside(name, f32):
    with pytest.raises(ValueError, match="image: expected a Taichi array, got ndarray; convert it once, outside of the loop: image = dr.array"):
        getattr(losses, name)(IMAGES, array(IMAGES), scalar())
    with pytest.raises(ValueError, match="target: expected a Taichi array, got ndarray; convert it once, outside of the loop: target = dr.array"):
        getattr(losses, name)(array(IMAGES), IMAGES, scalar())


def test_numbers_in_a_list_need_equal_lengths(f32):
    with pytest.raises(ValueError, match=r"target: expected shape \(9,\), got \(1,\)"):
        losses.mse(array(np.zeros(9)), array(np.zeros(1)), scalar())


def test_silhouettes_are_of_images(f32):
    with pytest.raises(ValueError, match=r"image: expected \(B, H, W\) of vec4"):
        losses.silhouette_iou(array(np.zeros((2, 5, 3))), array(np.zeros((2, 5, 3))), scalar())


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_bad_loss_and_weight(name, f32):
    image = array(IMAGES)
    for loss in (0.0, array(np.zeros(1)), array(np.zeros(3)), image):
        with pytest.raises(ValueError, match="loss: expected a 0-D Taichi array with a gradient, .*dr.scalar"):
            getattr(losses, name)(image, image, loss)
    for weight in (np.nan, np.inf, "big", None):
        with pytest.raises(ValueError, match="weight: expected a finite number"):
            getattr(losses, name)(image, image, scalar(), weight)


# --- Topology ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", reference.MESHES)
def test_topology_matches_the_reference(name, f32):
    vertices, faces = reference.MESHES[name]
    indices, count = array(faces), len(vertices)
    edges, hinges, neighbors = mesh.edges(indices, count), mesh.hinges(indices, count), mesh.neighbors(indices, count)
    expected = reference.edge_set(faces)
    assert [tuple(e) for e in read(edges.ends)[: edges.count].tolist()] == expected
    assert [tuple(h) for h in read(hinges.corners)[: hinges.count].tolist()] == reference.hinge_list(faces)
    offsets, adjacent = read(neighbors.offsets), read(neighbors.vertices)
    assert neighbors.edges == len(expected)
    for v in range(count):
        assert adjacent[offsets[v] : offsets[v + 1]].tolist() == sorted([j for i, j in expected if i == v] + [i for i, j in expected if j == v])
    for rows, incidence in ((read(edges.ends), edges.incidence), (read(hinges.corners), hinges.incidence)):
        offsets, slots = read(incidence.offsets), read(incidence.slots)
        for v in range(count):
            assert slots[offsets[v] : offsets[v + 1]].tolist() == np.flatnonzero(rows.reshape(-1) == v).tolist()


@pytest.mark.parametrize("build", [mesh.edges, mesh.neighbors, mesh.hinges])
def test_topology_is_computed_once_and_checks_indices(build, f32):
    faces = array(np.array([(0, 1, 2), (1, 3, 2)]))
    assert build(faces, 4) is build(faces, 4)
    with pytest.raises(ValueError, match=r"faces: expected indices from 0 to 2, got \[1, 3, 2\] in face 1"):
        build(faces, 3)


# --- Regularizers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", reference.MESHES)
@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("tolerance", ["f32", "f64"], indirect=True)  # lowest: as few new starts as can be
def test_regularizer_matches_the_reference(name, shape, tolerance, rng):
    m, x, faces = make_mesh(shape, 3, rng)
    value = run(lambda loss: getattr(losses, name)(m, loss, 0.7, **options(name)))
    f = getattr(reference, name)
    assert value == pytest.approx(0.7 * f(x, faces, **options(name)), rel=tolerance)
    assert_slopes(read(m.vertices.grad), lambda y: 0.7 * f(y, faces, **options(name)), x, rng, 1e-6 if tolerance < 1e-6 else 1e-3)


@pytest.mark.parametrize("shape", reference.MESHES)
@pytest.mark.parametrize("name", REGULARIZERS)
def test_regularizer_gradients_match_differences(name, shape, f64, rng):
    m, _, _ = make_mesh(shape, 2, rng)
    (check,) = gradcheck(lambda loss: getattr(losses, name)(m, loss, **options(name)), [m.vertices])
    assert check.error < 1e-6
    assert np.abs(check.by_tape).max() > 1e-9


def test_regularizers_of_a_regular_tetrahedron(f32):
    m, x, _ = make_mesh("tetrahedron")
    # A vertex is 4/3 of its position away from the mean of the others; the dihedral angle's cosine is 1/3.
    assert run(lambda loss: losses.laplacian(m, loss)) == pytest.approx(4 * (4 / 3) ** 2 * 3, rel=1e-5)
    assert run(lambda loss: losses.flatten(m, loss)) == pytest.approx(6 * (1 / 3 + 1) ** 2, rel=1e-4)
    assert run(lambda loss: losses.edge_length(m, loss)) == pytest.approx(8, rel=1e-5)
    assert run(lambda loss: losses.edge_length(m, loss, target=8**0.5)) == pytest.approx(0, abs=1e-9)


def test_a_plane_is_flat(f32):
    m, x, _ = make_mesh("grid")
    assert run(lambda loss: losses.flatten(m, loss)) < 1e-4
    before = [run(lambda loss, f=f: f(m, loss)) for f in (losses.normal_consistency, losses.cotangent_laplacian, losses.laplacian)]
    x[0, 12] += (0.06, -0.04, 0.0)  # in the middle, two edges from the border, along the plane
    write(m.vertices, x)
    after = [run(lambda loss, f=f: f(m, loss)) for f in (losses.normal_consistency, losses.cotangent_laplacian, losses.laplacian)]
    np.testing.assert_allclose(after[:2], before[:2], atol=1e-6)
    assert after[2] > before[2] + 1e-3


def test_a_sphere_is_round(f32):
    """The cotangent Laplacian of a sphere is along the normal, however uneven its faces: no vertex slides."""
    m, x, _ = make_mesh("icosphere")
    run(lambda loss: losses.cotangent_laplacian(m, loss))
    gradient = read(m.vertices.grad)[0]
    along = (gradient * x[0]).sum(axis=1)
    assert (along > 0).all()
    assert np.linalg.norm(gradient - along[:, None] * x[0], axis=1).max() < 0.05 * along.max()


def test_flatten_without_inner_edges_adds_nothing(f32):
    m = SimpleNamespace(vertices=array(np.eye(3)[None]), faces=array(np.array([(0, 1, 2)])))
    write(m.vertices.grad, np.ones((1, 3, 3)))
    assert run(lambda loss: losses.flatten(m, loss)) == 0
    assert not read(m.vertices.grad).any()


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_mesh_without_edges(name, f32):
    m = SimpleNamespace(vertices=array(np.eye(3)[None]), faces=array(np.array([(1, 1, 1)])))
    assert run(lambda loss: getattr(losses, name)(m, loss)) == 0
    assert not read(m.vertices.grad).any()


@pytest.mark.parametrize("name", REGULARIZERS)
def test_vertices_in_one_place_are_finite(name, f32):
    m, _, _ = make_mesh("icosphere")
    write(m.vertices, np.zeros((1, 42, 3)))
    assert np.isfinite(run(lambda loss: getattr(losses, name)(m, loss, **options(name))))
    assert np.isfinite(read(m.vertices.grad)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_bad_vertex_stays_alone(name, bad, f32, rng):
    m, x, faces = make_mesh("icosphere", 2, rng)
    run(lambda loss: getattr(losses, name)(m, loss, **options(name)))
    good = read(m.vertices.grad)
    x[0, 7, 1] = bad
    write(m.vertices, x)
    assert np.isfinite(run(lambda loss: getattr(losses, name)(m, loss, **options(name))))
    came = read(m.vertices.grad)
    assert np.isfinite(came).all()
    near = {7}
    for _ in range(2):  # a gradient reaches two edges far
        near |= {v for edge in reference.edge_set(faces) for v in edge if near & set(edge)}
    far = [v for v in range(42) if v not in near]
    assert far
    np.testing.assert_array_equal(came[0, far], good[0, far])
    np.testing.assert_array_equal(came[1], good[1])


@pytest.mark.parametrize("name", REGULARIZERS)
def test_regularizers_repeat_bitwise(name, f32, rng):
    m, _, _ = make_mesh("icosphere", 20, rng)
    results = []
    for _ in range(2):
        value = run(lambda loss: getattr(losses, name)(m, loss, **options(name)))
        results.append((value, read(m.vertices.grad).tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", REGULARIZERS)
def test_regularizers_without_a_gradient(name, f32, rng):
    m, x, faces = make_mesh("icosphere", 1, rng)
    m.vertices = ti.ndarray(ti.math.vec3, x.shape[:2])
    write(m.vertices, x)
    assert run(lambda loss: getattr(losses, name)(m, loss)) == pytest.approx(getattr(reference, name)(x, faces), rel=1e-5)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_bad_meshes(name, f32):
    f = getattr(losses, name)
    vertices, faces = array(np.eye(3)[None]), array(np.array([(0, 1, 2)]))
    with pytest.raises(ValueError, match="mesh: expected a mesh with vertices and faces, got"):
        f(vertices, scalar())
    with pytest.raises(ValueError, match=r"mesh.vertices: expected .*\(B, V\) of vec3"):
        f(SimpleNamespace(vertices=array(np.eye(3)), faces=faces), scalar())
    with pytest.raises(ValueError, match="mesh.faces: expected i32 elements, got f32"):
        f(SimpleNamespace(vertices=vertices, faces=array(np.array([(0.0, 1.0, 2.0)]))), scalar())
    with pytest.raises(ValueError, match=r"faces: expected indices from 0 to 2, got \[0, 1, 3\] in face 0"):
        f(SimpleNamespace(vertices=vertices, faces=array(np.array([(0, 1, 3)]))), scalar())
    good = SimpleNamespace(vertices=vertices, faces=faces)
    with pytest.raises(ValueError, match="loss: expected"):
        f(good, 0.0)
    with pytest.raises(ValueError, match="weight: expected"):
        f(good, scalar(), np.nan)


@pytest.mark.parametrize("target", [-1.0, np.nan, np.inf, "long"])
def test_bad_target_length(target, f32):
    m, _, _ = make_mesh("tetrahedron")
    with pytest.raises(ValueError, match="target: expected a finite number of at least 0"):
        losses.edge_length(m, scalar(), target=target)
