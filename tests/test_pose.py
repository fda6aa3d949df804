"""Poses: exp and log against their series, transform against the formula, and gradients at 0, near pi and beyond."""

import numpy as np
import pytest
import reference_camera as reference
from contract import assert_gradients, gradients
from test_lens import fields_of, marker

from taichi_dr import losses, shapes
from taichi_dr.arrays import array, read, scalar
from taichi_dr.camera import Camera
from taichi_dr.lens import BrownConrady
from taichi_dr.mesh import Mesh
from taichi_dr.optim import Adam
from taichi_dr.pose import Pose, rotation_from_6d, se3_exp, se3_log, so3_exp, so3_log, transform
from taichi_dr.render import SoftRenderer
from taichi_dr.tape import Tape

ANGLES = [0.0, 1e-9, 1e-4, 0.1, 0.7, 0.71, 1.0, 2.0, np.pi - 1e-4, np.pi - 1e-9, np.pi, 4.0, 2 * np.pi, 9.0]
AXES = np.array([[1, 0, 0], [0, -1, 0], [0, 0, 1], [0.6, 0, 0.8], [1 / 3, -2 / 3, 2 / 3]])


@pytest.mark.parametrize("angle", ANGLES)
def test_exp_matches_its_series(angle):
    expected = np.stack([reference.rotation(angle * axis) for axis in AXES])
    np.testing.assert_allclose(so3_exp(angle * AXES), expected, atol=1e-12)


@pytest.mark.parametrize("angle", [a for a in ANGLES if a <= np.pi])
def test_log_undoes_exp(angle):
    w = so3_log(so3_exp(angle * AXES))
    np.testing.assert_allclose(np.linalg.norm(w, axis=-1), angle, atol=1e-12)
    sign = np.where((w * AXES).sum(-1, keepdims=True) < 0, -1, 1) if angle == np.pi else 1  # both axes are right at pi
    np.testing.assert_allclose(w * sign, angle * AXES, atol=1e-12)


def test_log_beyond_pi_is_the_shorter_way_round():
    np.testing.assert_allclose(so3_log(so3_exp([0, 0, 4.0])), [0, 0, 4.0 - 2 * np.pi], atol=1e-12)


@pytest.mark.parametrize("angle", ANGLES)
def test_motions_match_their_series_and_come_back(rng, angle):
    twists = np.concatenate([rng.standard_normal((5, 3)), angle * AXES], axis=1)
    motions = se3_exp(twists)
    np.testing.assert_allclose(motions, [reference.twist_motion(xi) for xi in twists], atol=1e-11)
    np.testing.assert_allclose(se3_exp(se3_log(motions)), motions, atol=1e-9)
    if angle < np.pi:
        np.testing.assert_allclose(se3_log(motions), twists, atol=1e-7)


def test_six_numbers_give_the_rotation_of_gram_and_schmidt(rng):
    six = rng.standard_normal((2, 4, 6))
    rotations = rotation_from_6d(six)
    np.testing.assert_allclose(rotations[1, 2], reference.gram_schmidt(six[1, 2, :3], six[1, 2, 3:]), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-12)


def test_poses_go_through_matrices(f64, rng):
    matrices = se3_exp(rng.standard_normal((3, 6)))
    for six in (False, True):
        np.testing.assert_allclose(Pose.from_matrix(matrices, six=six).matrix(), matrices, atol=1e-12)
        np.testing.assert_allclose(Pose.from_matrix(matrices[0, :3], six=six).matrix(), matrices[0], atol=1e-12)
        np.testing.assert_array_equal(Pose.identity(six=six).matrix(), np.eye(4))
        assert Pose.identity(5, six=six).batch == 5
    assert Pose(np.zeros(3), np.zeros((4, 3))).matrix().shape == (4, 4, 4)


def rotations(rng, kind, views):
    """A pose's rotation, made of arrays, and its matrices."""
    if kind == "axis-angle":
        w = rng.standard_normal((views, 3))
        return array(w), np.stack([reference.rotation(x) for x in w])
    six = rng.standard_normal((views, 6))
    return (array(six[:, :3]), array(six[:, 3:])), np.stack([reference.gram_schmidt(x[:3], x[3:]) for x in six])


def params_of(pose, **more):
    vectors = pose.rotation if isinstance(pose.rotation, tuple) else (pose.rotation,)
    return {**more, **{f"rotation[{k}]": x for k, x in enumerate(vectors)}, "translation": pose.translation}


@pytest.mark.parametrize("kind", ["axis-angle", "6d"])
@pytest.mark.parametrize("views, vertex_batch", [(1, 1), (3, 3), (3, 1), (1, 3)])
def test_transform_matches_the_formula(f32, rng, kind, views, vertex_batch):
    vertices, shift = rng.uniform(-1, 1, (vertex_batch, 9, 3)), rng.standard_normal((views, 3))
    rotation, matrices = rotations(rng, kind, views)
    moved = read(transform(array(vertices), Pose(rotation, array(shift))))
    expected = np.einsum("bij,bvj->bvi", matrices, np.broadcast_to(vertices, (max(views, vertex_batch), 9, 3))) + shift[:, None]
    np.testing.assert_allclose(moved, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["axis-angle", "6d"])
@pytest.mark.parametrize("views, vertex_batch", [(1, 1), (3, 3), (3, 1), (1, 3)])
def test_gradients(f64, rng, kind, views, vertex_batch):
    vertices = array(rng.uniform(-1, 1, (vertex_batch, 9, 3)))
    pose = Pose(rotations(rng, kind, views)[0], rng.standard_normal((views, 3)))
    assert_gradients(lambda: transform(vertices, pose), params_of(pose, vertices=vertices), rng, directions=3)


@pytest.mark.parametrize("angle", ANGLES)
def test_gradients_at_every_angle(f64, rng, angle):
    vertices = array(rng.uniform(-1, 1, (1, 9, 3)))
    pose = Pose(angle * AXES, np.zeros(3))
    assert_gradients(lambda: transform(vertices, pose), {"rotation": pose.rotation, "translation": pose.translation}, rng)


def test_gradients_in_arrays_that_poses_share(f64, rng):
    vertices = array(rng.uniform(-1, 1, (1, 9, 3)))
    pose = Pose(rng.standard_normal(3), rng.standard_normal((3, 3)))
    assert pose.rotation.shape == () and pose.batch == 3
    assert_gradients(lambda: transform(vertices, pose), params_of(pose), rng)
    six = Pose((array(np.array([1.0, 0.2, -0.3])), array(rng.standard_normal((3, 3)))), np.zeros((1, 3)))
    assert_gradients(lambda: transform(vertices, six), params_of(six), rng)


@pytest.mark.parametrize("kind", ["axis-angle", "6d"])
def test_gradients_in_single_precision(f32, rng, kind):
    """Every device against differences of the formula, with as many vertices as fill several strips."""
    vertices, shift, cotangent = rng.uniform(-1, 1, (1, 150, 3)), rng.standard_normal((2, 3)), rng.standard_normal((2, 150, 3))
    numbers = rng.standard_normal((2, 3 if kind == "axis-angle" else 6))
    rotation = array(numbers) if kind == "axis-angle" else (array(numbers[:, :3]), array(numbers[:, 3:]))
    given, pose = array(vertices), Pose(rotation, array(shift))
    grads = gradients(lambda: transform(given, pose), list(params_of(pose, vertices=given).values()), cotangent)
    by_rotation = np.concatenate(grads[1:-1], axis=1)

    def value(vertices, numbers, shift):
        matrices = [reference.rotation(x) if len(x) == 3 else reference.gram_schmidt(x[:3], x[3:]) for x in numbers]
        return sum((cotangent[b] * (vertices[0] @ matrices[b].T + shift[b])).sum() for b in range(2))

    start = (vertices, numbers, shift)
    for k, grad in enumerate((grads[0], by_rotation, grads[-1])):
        d = rng.standard_normal(start[k].shape)
        ends = [value(*(x + h * d if n == k else x for n, x in enumerate(start))) for h in (1e-5, -1e-5)]
        slope = (ends[0] - ends[1]) / 2e-5
        assert abs((grad * d).sum() - slope) < 1e-3 * max(1.0, abs(slope))


def test_single_precision_rotations_are_right_around_zero(f32):
    angles = np.array([0, 1e-20, 1e-8, 1e-4, 1e-3, 0.1, 0.7, 0.72])
    w = angles[:, None] * AXES[4]
    moved = read(transform(array(np.eye(3)[None]), Pose(w)))
    np.testing.assert_allclose(moved, so3_exp(w).swapaxes(1, 2), atol=3e-7)


def test_a_bad_vertex_spoils_no_pose(f32, rng):
    vertices, cotangent = rng.uniform(-1, 1, (1, 5, 3)), rng.standard_normal((1, 5, 3))
    pose, spoiled = Pose([0.1, 0.2, 0.3]), vertices.copy()
    spoiled[0, 2] = np.nan
    others = [0, 1, 3, 4]
    params = [pose.rotation, pose.translation]
    clean, given = array(vertices[:, others]), array(spoiled)
    by_clean = gradients(lambda: transform(clean, pose), [clean, *params], cotangent[:, others])
    by_spoiled = gradients(lambda: transform(given, pose), [given, *params], cotangent)
    np.testing.assert_allclose(by_spoiled[0][:, others], by_clean[0], rtol=1e-6)
    for a, b in zip(by_spoiled[1:], by_clean[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_bad_pose_spoils_no_other(f32, rng):
    rotation = np.array([[0.1, 0.2, 0.3], [np.nan, 0, 0]])
    pose, vertices = Pose(array(rotation), array(np.zeros((2, 3)))), array(rng.uniform(-1, 1, (2, 5, 3)))
    cotangent = np.zeros((2, 5, 3))
    cotangent[0] = 1
    grads = gradients(lambda: transform(vertices, pose), [vertices, pose.rotation, pose.translation], cotangent)
    assert all(np.isfinite(g).all() and np.any(g[0]) and not np.any(g[1]) for g in grads)


@pytest.mark.parametrize("first, second", [((0, 0, 0), (0, 1, 0)), ((1, 2, 3), (2, 4, 6)), ((0, 0, 1), (0, 0, 0)), ((0, 0, 0), (0, 0, 0))])
def test_singular_vectors_in_arrays_give_some_rotation(f32, first, second):
    pose = Pose((array(np.array(first, float)), array(np.array(second, float))))
    vertices = array(np.eye(3)[None])
    moved = read(transform(vertices, pose))[0]
    np.testing.assert_allclose(moved @ moved.T, np.eye(3), atol=1e-5)
    grads = gradients(lambda: transform(vertices, pose), [*pose.rotation, vertices], np.ones((1, 3, 3)))
    assert all(np.isfinite(g).all() for g in grads)


# --- Pictures ---------------------------------------------------------------------------------------------------


def test_gradients_through_the_whole_renderer(f64, rng):
    mesh = marker(np.zeros(3), 0.8)
    pose, lens = Pose([0.1, -0.2, 0.05], [0.1, -0.2, 3.0]), BrownConrady(-0.2, 0.06, 0.01, -0.015, -0.01)
    camera = Camera.from_pose(pose, focal=(11, 12), principal=(6.2, 5.8), size=12, distortion=lens)
    renderer = SoftRenderer(sigma=3e-2, gamma=1e-1, near=1.0, far=5.0)
    assert_gradients(lambda: renderer(mesh, camera), fields_of(camera), rng, directions=2, step=1e-6, tolerance=1e-5)


def test_a_pose_is_fitted_through_transform_and_renderer(f64, rng):
    mesh, pose = marker(np.zeros(3), 0.8), Pose([0.1, -0.2, 0.05], [0.1, -0.2, 0.3])
    camera, renderer = Camera.look_at((0, 0, 3), size=12), SoftRenderer(sigma=3e-2, gamma=1e-1, near=1.0, far=5.0)

    def image():
        return renderer(Mesh(transform(mesh.vertices, pose), mesh.faces, mesh.colors), camera)

    assert_gradients(image, {"rotation": pose.rotation, "translation": pose.translation}, rng, directions=2, step=1e-6, tolerance=1e-5)


@pytest.mark.parametrize("six", [False, True])
def test_a_pose_is_recovered_from_its_picture(f32, six):
    box = shapes.cube()
    corners = read(box.vertices)[0] * (1, 0.7, 0.5)
    box = Mesh(corners, read(box.faces), 0.5 + 0.5 * corners)
    camera, renderer = Camera.look_at((1, 1.5, 3), fov=50, size=32), SoftRenderer(sigma=1e-3, gamma=1e-2, near=1, far=10)
    true, pose = Pose([0.3, -0.2, 0.4], [0.1, -0.15, 0.2]), Pose.identity(six=six)

    def image(pose):
        return renderer(Mesh(transform(box.vertices, pose), box.faces, box.colors), camera)

    target, loss = array(read(image(true))), scalar()
    optimizer = Adam([*(pose.rotation if six else [pose.rotation]), pose.translation], lr=0.04)
    for _ in range(100):
        with Tape(loss):
            losses.mse(image(pose), target, loss)
        optimizer.step()
    np.testing.assert_allclose(pose.matrix(), true.matrix(), atol=0.02)


BAD = [
    (lambda: Pose(np.zeros(4)), r"rotation: expected three numbers \(axis times angle\) or six \(6D\), .* got shape \(4,\)"),
    (lambda: Pose(np.eye(3)[None]), r"rotation: .* make it with dr.Pose.from_matrix"),
    (lambda: Pose([np.nan, 0, 0]), "rotation: expected finite numbers"),
    (lambda: Pose(np.zeros(6)), "rotation: expected two vectors that are neither zero nor parallel"),
    (lambda: Pose([1, 2, 3, -2, -4, -6]), "rotation: expected two vectors that are neither zero nor parallel"),
    (lambda: Pose("left"), "rotation: expected three numbers"),
    (lambda: Pose((array(np.zeros(3)), np.zeros(3))), "rotation: expected one array of vec3, or two"),
    (lambda: Pose(np.zeros((2, 3)), np.zeros((3, 3))), r"expected a batch of 1 or 3, got 2"),
    (lambda: Pose(array(np.zeros((2, 4, 3)))), r"rotation: expected \(\) or \(B,\) of vec3"),
    (lambda: Pose.from_matrix(np.diag([1.0, 1, -1, 1])), r"matrix: expected a rotation, got a reflection \(determinant -1\)"),
    (lambda: Pose.from_matrix(np.diag([1.0, 2, 1, 1])), "matrix: expected a rotation, columns of length 1"),
    (lambda: Pose.from_matrix(np.eye(5)), r"matrix: expected numbers of shape \(4, 4\)"),
    (lambda: Pose.from_matrix(np.eye(4) + np.eye(4)[3] * [[0], [0], [0], [1]]), "matrix: expected the last row"),
    (lambda: Pose.from_matrix(np.full((4, 4), np.nan)), "matrix: expected finite numbers"),
    (lambda: transform(array(np.ones((2, 4, 3))), Pose(np.zeros((3, 3)))), "vertices: expected a batch of 1 or 3, got 2"),
    (lambda: transform(np.ones((1, 4, 3)), Pose()), "vertices: expected a Taichi array"),
    (lambda: transform(array(np.ones((1, 4, 3))), np.eye(4)), "pose: expected a Pose, got ndarray"),
    (lambda: so3_exp([1, 2]), r"w: expected finite numbers of shape \(..., 3\)"),
]


@pytest.mark.parametrize("make, message", BAD)
def test_bad_input_is_refused(f32, make, message):
    with pytest.raises(ValueError, match=message):
        make()
