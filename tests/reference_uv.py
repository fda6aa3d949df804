"""Textures in NumPy, one sample at a time, and the PNG format as its specification has it; imports nothing of ours."""

import math
import struct
import zlib

import numpy as np


def sample(image, u, v, wrap="repeat"):
    """Bilinear look-up with (0, 0) at the top left corner and texel centers at half-integers, v down."""
    height, width = image.shape[:2]
    x, y = u * width - 0.5, v * height - 0.5
    column, row = math.floor(x), math.floor(y)
    color = np.zeros(image.shape[2])
    for di in (0, 1):
        for dj in (0, 1):
            weight = (1 - abs(x - column - dj)) * (1 - abs(y - row - di))
            i, j = row + di, column + dj
            i, j = (i % height, j % width) if wrap == "repeat" else (min(max(i, 0), height - 1), min(max(j, 0), width - 1))
            color += weight * image[i, j]
    return color


def colors_at(texture, uv, uv_faces, weights, wrap="clamp"):
    """(F, N, 3) colors of the points with barycentric coordinates (N, 3) on each face."""
    points = np.einsum("nk,fkc->fnc", weights, uv[uv_faces])
    return np.array([[sample(texture, u, v, wrap) for u, v in face] for face in points])


def mip(image):
    """The next level: means of 2 x 2 texels."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    image = image[:height, :width]
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def png(values, filters=(0, 1, 2)):
    """The PNG of (H, W, C) uint16 values, rows filtered by none, left and up in turn."""
    height, width, channels = values.shape
    rows = np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    stream = b""
    for i, row in enumerate(rows):
        kind = filters[i % len(filters)]
        before = np.zeros_like(row)
        if kind == 1:
            before[2 * channels :] = row[: -2 * channels]
        if kind == 2 and i:
            before = rows[i - 1]
        stream += bytes([kind]) + (row - before).astype(np.uint8).tobytes()
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(stream)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)


def harmonic(values, seen, wrap):
    """Laplace's equation on the unseen texels of (H, W, C), one row of a dense matrix for each."""
    height, width = seen.shape
    number = -np.ones((height, width), int)
    number[~seen] = np.arange((~seen).sum())
    matrix, right = np.zeros(((~seen).sum(),) * 2), np.zeros(((~seen).sum(), values.shape[2]))
    for i, j in np.argwhere(~seen):
        row = number[i, j]
        for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            a, b = i + di, j + dj
            if wrap:
                a, b = a % height, b % width
            elif not (0 <= a < height and 0 <= b < width):
                continue
            matrix[row, row] += 1
            if seen[a, b]:
                right[row] += values[a, b]
            else:
                matrix[row, number[a, b]] -= 1
    out = values.copy()
    out[~seen] = np.linalg.solve(matrix, right)
    return out
