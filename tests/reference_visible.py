"""The nearest face per pixel in NumPy, pixel by pixel and face by face; imports nothing of ours."""

import numpy as np


def layers(screen, faces, size, orthographic=False):
    """Per pixel (H, W) the hits as lists of (depth, face, weights in space), nearest first, from screen (V, 3)."""
    height, width = size
    side = min(height, width)
    hits = [[[] for _ in range(width)] for _ in range(height)]
    for f, corners in enumerate(faces):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = v = screen[corners].astype(np.float64)
        doubled = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if not np.isfinite(v).all() or min(az, bz, cz) <= 1e-6 or abs(doubled) < 1e-9:
            continue
        for i in range(height):
            for j in range(width):
                px, py = (2 * j + 1 - width) / side, (height - 1 - 2 * i) / side
                w = np.array([(bx - px) * (cy - py) - (cx - px) * (by - py), (cx - px) * (ay - py) - (ax - px) * (cy - py),
                              (ax - px) * (by - py) - (bx - px) * (ay - py)]) / doubled  # fmt: skip
                if w.min() > 0:
                    z = w @ v[:, 2] if orthographic else 1 / (w / v[:, 2]).sum()
                    hits[i][j].append((z, f, w if orthographic else w * z / v[:, 2]))
    return [[sorted(pixel, key=lambda hit: hit[:2]) for pixel in row] for row in hits]
