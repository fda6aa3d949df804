"""A morphable model of ICT-FaceKit's meshes, converted to one HDF5 file in Basel's layout.

python -m taichi_dr.io.ict FOLDER OUT.h5        FOLDER: a checkout of ICT-FaceKit, or its FaceXModel
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import numpy as np

from .morphable import Modes, MorphableData, counted, write
from .obj import load_obj


def read_ict(folder: str | os.PathLike, vertices: int | None = None, scale: float = 1.0) -> MorphableData:
    """The model of an ICT-FaceKit checkout.

        mode k = vertices of identity k - vertices of the neutral mesh,   standard deviation 1

    The offsets stay as they are: ICT's weights of identities have unit normal distributions, so coefficient k is ICT's own weight k, and
    the singular vectors of all offsets, which would be orthonormal, are another basis of the very same distribution. Expressions likewise, in
    the order of their names: they are blend shapes, so a coefficient of 1 is the whole expression, 0 none of it.

    Args:
        folder: the checkout, or the folder FaceXModel in it: generic_neutral_mesh.obj, identity000.obj, ..., and a mesh per expression.
        vertices: keep the first so many, and the faces between them; ICT's parts follow one another, the face first.
        scale: of lengths.

    Raises:
        ValueError: meshes missing or malformed, or not of one topology.
    """
    folder = Path(folder)
    folder = folder / "FaceXModel" if (folder / "FaceXModel").is_dir() else folder
    neutral = folder / "generic_neutral_mesh.obj"
    if not neutral.is_file():
        raise ValueError(f"{folder}: expected generic_neutral_mesh.obj of ICT-FaceKit, found none; give the checkout or its folder FaceXModel")
    mesh = load_obj(neutral, None, 1)
    count = len(mesh.vertices) if counted("vertices", vertices) is None else min(vertices, len(mesh.vertices))
    faces = mesh.faces[(mesh.faces < count).all(axis=1)]
    others = sorted(path for path in folder.glob("*.obj") if path != neutral)
    is_identity = re.compile(r"identity\d+\Z").match
    identities = [path for path in others if is_identity(path.stem)]
    expressions = [path for path in others if not is_identity(path.stem)]
    if not identities:
        raise ValueError(f"{folder}: expected identity000.obj and so on of ICT-FaceKit, found none; give the checkout or its folder FaceXModel")

    def modes(paths: list[Path]) -> Modes:
        basis = np.empty((3 * count, len(paths)), np.float32)
        for k, path in enumerate(paths):
            moved = load_obj(path, None, 1).vertices
            if moved.shape != mesh.vertices.shape:
                raise ValueError(
                    f"{path}: expected {len(mesh.vertices)} vertices, as {neutral.name} has, got {len(moved)}; use files of one checkout"
                )
            basis[:, k] = scale * (moved - mesh.vertices)[:count].reshape(-1)
        return Modes(basis, np.ones(len(paths)))

    mean = scale * mesh.vertices[:count].reshape(-1)
    return MorphableData(mean, faces, modes(identities), modes(expressions) if expressions else None)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m taichi_dr.io.ict", description="ICT-FaceKit's meshes as one HDF5 file in Basel's layout")
    parser.add_argument("folder", help="checkout of ICT-FaceKit, or its folder FaceXModel")
    parser.add_argument("out", help="HDF5 file to write")
    parser.add_argument("--vertices", type=int, help="keep the first so many")
    parser.add_argument("--scale", type=float, default=1.0, help="of lengths")
    options = parser.parse_args(arguments)
    try:
        model = read_ict(options.folder, options.vertices, options.scale)
        write(options.out, model)
    except (ValueError, ImportError, OSError) as error:
        parser.error(str(error))
    expressions = 0 if model.expression is None else len(model.expression.stddev)
    print(f"{options.out}: {len(model.mean) // 3:,} vertices, {len(model.shape.stddev)} shape and {expressions} expression modes")


if __name__ == "__main__":
    main()
