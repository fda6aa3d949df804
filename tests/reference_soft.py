"""The soft rasterizer in NumPy, written from SoftRas's formulas, a loop over faces; imports nothing of ours."""

import numpy as np


def soft_rasterize(
    screen, faces, colors, size, *, sigma=1e-5, gamma=1e-4, distance="euclidean", rgb="softmax", alpha="prod", near=1.0, far=100.0,
    eps=1e-3, dist_eps=1e-4, background=(0.0, 0.0, 0.0), double_sided=True, perspective_correct=False, orthographic=False,
    clockwise_front=False,
):  # fmt: skip
    """(H, W, 4) for one view: screen (V, 3), faces (F, 3), colors (V, 3) or texels (F, R, R, 3)."""
    height, width = size
    side = min(height, width)
    j, i = np.meshgrid(np.arange(width), np.arange(height))
    px, py = (2 * j + 1 - width) / side, (height - 1 - 2 * i) / side
    tau = np.log(1 / dist_eps - 1)
    reach = np.sqrt(tau * sigma)

    fragments = []  # (face, D, closeness, depth, color, inside, has color) per face, arrays over the pixels
    for f, corners in enumerate(faces):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = v = screen[corners]
        z = np.array([az, bz, cz])
        doubled = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if not np.isfinite(v).all() or (z <= 1e-6).any() or abs(doubled) <= 1e-10:
            continue
        w = np.stack(
            [
                ((bx - px) * (cy - py) - (cx - px) * (by - py)) / doubled,
                ((cx - px) * (ay - py) - (ax - px) * (cy - py)) / doubled,
                ((ax - px) * (by - py) - (bx - px) * (ay - py)) / doubled,
            ]
        )
        least = w.min(axis=0)
        inside = least > 0
        xs, ys = v[:, 0], v[:, 1]
        in_box = (px >= xs.min() - reach) & (px <= xs.max() + reach) & (py >= ys.min() - reach) & (py <= ys.max() + reach)
        if distance == "hard":
            counts, D = least >= 0, np.ones_like(least)
        else:
            if distance == "euclidean":
                d = np.min([_segment(px, py, v[k, :2], v[(k + 1) % 3, :2]) for k in range(3)], axis=0)
                signed = np.where(inside, d, -d)
            else:
                signed = np.sign(least) * least**2
            counts = in_box & (inside | (-signed < tau * sigma))
            D = 1 / (1 + np.exp(-np.clip(signed / sigma, -700, 700)))
        clipped = np.clip(w, 0, 1)
        clipped /= np.maximum(clipped.sum(axis=0), 1e-5)
        depth = (clipped * z[:, None, None]).sum(axis=0) if orthographic else 1 / (clipped / z[:, None, None]).sum(axis=0)
        weights = clipped * depth / z[:, None, None] if perspective_correct and not orthographic else clipped
        if colors.ndim == 2:
            color = np.einsum("khw,kc->hwc", weights, colors[corners])
        else:
            color = _texels(colors[f], weights)
        facing = double_sided or (doubled < 0 if clockwise_front else doubled > 0)
        shows = counts & facing & (depth >= near) & (depth <= far)
        fragments.append((f, np.where(counts, D, 0), (far - depth) / (far - near), depth, color, inside, shows, counts))

    image = np.zeros((height, width, 4))
    image[..., :3] = background
    zeros = np.zeros((height, width))
    if alpha == "prod":
        image[..., 3] = 1 - np.prod([1 - D for _, D, *_ in fragments], axis=0, initial=1.0) if fragments else zeros
    elif alpha == "sum":
        image[..., 3] = sum((D for _, D, *_ in fragments), zeros) / len(faces)
    else:
        image[..., 3] = np.max([zeros] + [(D > 0.5) * 1.0 for _, D, *_ in fragments], axis=0)
    if rgb == "softmax":
        peak = np.full((height, width), eps)
        for _, _, closeness, _, _, _, shows, _ in fragments:
            peak = np.where(shows, np.maximum(peak, closeness), peak)
        total = np.exp((eps - peak) / gamma)
        mixed = total[..., None] * np.asarray(background)
        for _, D, closeness, _, color, _, shows, _ in fragments:
            weight = np.where(shows, D * np.exp((np.where(shows, closeness, eps) - peak) / gamma), 0)
            total = total + weight
            mixed = mixed + weight[..., None] * color
        image[..., :3] = mixed / total[..., None]
    else:
        nearest = np.full((height, width), np.inf)
        for _, _, _, depth, color, inside, shows, _ in fragments:
            wins = shows & inside & (depth < nearest)
            nearest = np.where(wins, depth, nearest)
            image[..., :3] = np.where(wins[..., None], color, image[..., :3])
    return image


def _segment(px, py, a, b):
    """Squared distance from the pixels to the segment a b."""
    ex, ey = b - a
    t = np.clip(((px - a[0]) * ex + (py - a[1]) * ey) / (ex * ex + ey * ey), 0, 1)
    return (px - a[0] - t * ex) ** 2 + (py - a[1] - t * ey) ** 2


def _texels(texels, weights):
    """Nearest texel: an R x R grid of cells over (w0, w1), each cut along its diagonal."""
    R = len(texels)
    column = np.minimum((weights[0] * R).astype(int), R - 1)
    row = np.minimum((weights[1] * R).astype(int), R - 1)
    upper = (row + column < R - 1) & ((weights[0] + weights[1]) * R - column - row > 1)
    return texels[np.where(upper, R - 1 - row, row), np.where(upper, R - 1 - column, column)]
