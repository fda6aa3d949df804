"""Time DEODR, a CPU differentiable rasterizer with antialiased edges, on a mesh: python benchmarks/peer_deodr.py MESH.obj"""

import argparse
import time

import numpy as np

SIZES = (64, 256, 512, 1024)


def deodr_times(screen_xy_pixels, depths, faces, colors, height, width, repeats=15, clockwise=False):
    """Time DEODR's forward and backward pass and return the medians.

    Args:
        screen_xy_pixels: (V, 2), x right and y down, in pixels; the center of the upper left pixel is (0, 0).
        depths: (V,), positive in front of the camera.
        faces: (F, 3) vertex indices, counter-clockwise on the displayed image where they face the camera.
        colors: (V, C), one color per vertex.
        height, width: size of the image in pixels.
        repeats: timed runs, after three runs of warm-up.
        clockwise: True where faces toward the camera are clockwise on the displayed image.

    Returns:
        Median forward and median backward time in milliseconds, and the image (height, width, C).

    Raises:
        ImportError: DEODR is not installed.
    """
    forward_ms, backward_ms, image = deodr_runs(screen_xy_pixels, depths, faces, colors, height, width, repeats, clockwise)
    return float(np.median(forward_ms)), float(np.median(backward_ms)), image


def deodr_runs(screen_xy_pixels, depths, faces, colors, height, width, repeats=15, clockwise=False):
    """As deodr_times, but return the time of every run: forward (repeats,), backward (repeats,), image."""
    scene = deodr_scene(screen_xy_pixels, depths, faces, colors, height, width, clockwise)
    image_gradient = np.random.default_rng(0).standard_normal((height, width, scene.nb_colors))
    forward_ms, backward_ms = [], []
    for _ in range(3 + repeats):
        gradient = image_gradient.copy()  # the backward pass writes into it
        start = time.perf_counter()
        image, _ = scene.render(sigma=1)
        middle = time.perf_counter()
        scene.clear_gradients()
        scene.render_backward(gradient)
        end = time.perf_counter()
        forward_ms.append((middle - start) * 1e3)
        backward_ms.append((end - middle) * 1e3)
    return np.array(forward_ms[3:]), np.array(backward_ms[3:]), image


def deodr_scene(screen_xy_pixels, depths, faces, colors, height, width, clockwise=False):
    """A DEODR scene of vertex colors on black; its backward pass demands that faces seen from behind are culled."""
    try:
        from deodr.differentiable_renderer import Scene2D
    except ImportError as error:
        raise ImportError("DEODR is needed for this comparison: pip install deodr") from error
    faces = np.ascontiguousarray(faces, np.uint32)
    xy = np.ascontiguousarray(screen_xy_pixels, np.float64)
    colors = np.ascontiguousarray(colors, np.float64)
    return Scene2D(
        faces=faces,
        faces_uv=faces,
        ij=xy,
        depths=np.ascontiguousarray(depths, np.float64),
        textured=np.zeros(len(faces), bool),
        uv=np.zeros((len(xy), 2)),
        shade=np.zeros(len(xy)),
        colors=colors,
        shaded=np.zeros(len(faces), bool),
        edgeflags=silhouette_edges(xy, faces, clockwise),
        height=height,
        width=width,
        nb_colors=colors.shape[1],
        texture=np.zeros((0, 0)),
        background_color=np.zeros(colors.shape[1]),
        clockwise=clockwise,
        backface_culling=True,
        strict_edge=True,
        perspective_correct=False,
        integer_pixel_centers=True,
    )


def silhouette_edges(xy, faces, clockwise=False):
    """Flag (F, 3) the edges (0-1, 1-2, 2-0) of which exactly one adjacent face is seen from the front, as DEODR does."""
    a, b, c = xy[faces[:, 0]], xy[faces[:, 1]], xy[faces[:, 2]]
    u, v = b - a, c - a
    turn = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]  # y is down: negative is counter-clockwise on the displayed image
    front = turn > 0 if clockwise else turn < 0
    edges = np.sort(np.stack([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]], axis=1), axis=2).reshape(-1, 2)
    edge = np.unique(edges, axis=0, return_inverse=True)[1].ravel()
    front_faces = np.bincount(edge, weights=np.repeat(front, 3))
    return (front_faces[edge] == 1).reshape(-1, 3)


def read_obj(path):
    """Vertices (V, 3) and triangles (F, 3) of an OBJ file."""
    vertices, faces = [], []
    with open(path) as file:
        for line in file:
            words = line.split()
            if words and words[0] == "v":
                vertices.append([float(x) for x in words[1:4]])
            elif words and words[0] == "f":
                corners = [int(corner.split("/")[0]) - 1 for corner in words[1:]]
                faces += [[corners[0], corners[i], corners[i + 1]] for i in range(1, len(corners) - 1)]
    return np.array(vertices), np.array(faces)


def look_at(vertices, eye, half_fov):
    """Screen x and y in [-1, 1] (x right, y up) and depth of vertices, for an eye that looks at the origin with y up."""
    forward = -np.array(eye) / np.linalg.norm(eye)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    x, y, depth = np.stack([right, np.cross(right, forward), forward]) @ (vertices - eye).T
    return np.stack([x, y], axis=1) / (np.tan(np.radians(half_fov)) * depth)[:, None], depth


def main(mesh, repeats=15, sizes=SIZES, image=None):
    """Print a table of DEODR's times on a mesh, centered and scaled to the unit box; save the last image if asked."""
    vertices, faces = read_obj(mesh)
    vertices -= (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    vertices /= np.abs(vertices).max()
    xy, depths = look_at(vertices, (1.67, 1.37, -1.67), half_fov=30)
    print(f"{mesh}: {len(vertices)} vertices, {len(faces)} faces; milliseconds, median (minimum) of {repeats} runs")
    print("size   forward           backward")
    for size in sizes:
        pixels = np.stack([(xy[:, 0] + 1) / 2 * size - 0.5, (1 - xy[:, 1]) / 2 * size - 0.5], axis=1)
        forward, backward, rendered = deodr_runs(pixels, depths, faces, (vertices + 1) / 2, size, size, repeats)
        times = [f"{np.median(ms):7.2f} ({ms.min():7.2f})" for ms in (forward, backward)]
        print(f"{size:4d} {times[0]} {times[1]}")
    if image:
        from PIL import Image

        Image.fromarray((rendered.clip(0, 1) * 255).round().astype(np.uint8)).save(image)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Time DEODR on a mesh.")
    parser.add_argument("mesh", help="OBJ file")
    parser.add_argument("--repeats", type=int, default=15, help="timed runs")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="image sizes in pixels")
    parser.add_argument("--image", help="PNG file for the image of the last size")
    main(**vars(parser.parse_args()))
