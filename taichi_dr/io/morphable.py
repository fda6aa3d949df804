"""Files of morphable models: HDF5 of the Basel Face Models, .npz of FLAME, and a converter from ICT-FaceKit's meshes.

    python -m taichi_dr.io.morphable ICT_FOLDER OUT.h5        ICT_FOLDER: a checkout of ICT-FaceKit, or its FaceXModel

A row is one coordinate of one vertex, or one channel of its color: row 3 v + c is component c of vertex v.
"""

from __future__ import annotations

import argparse
import os
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .obj import load_obj

FLAME_SHAPE_MODES = 300  # of FLAME's modes the first are of shape, the rest of expression
BYTE_SCALE = 255.0  # Basel 2009 stores colors from 0 to 255
SUFFIXES = (".h5", ".hdf5", ".npz")


class Modes(NamedTuple):
    """Directions to move in: one column per mode, and how far one standard deviation goes along it."""

    basis: np.ndarray  # (3 V, K)
    stddev: np.ndarray  # (K,)


class MorphableData(NamedTuple):
    """A morphable model as read; what the file has not is None."""

    mean: np.ndarray  # (3 V,), the mean expression included
    faces: np.ndarray  # (F, 3) int32, counter-clockwise seen from outside
    shape: Modes
    expression: Modes | None = None
    color_mean: np.ndarray | None = None  # (3 V,), in [0, 1]
    color: Modes | None = None


def read(
    path: str | os.PathLike, shape_modes: int | None = None, expression_modes: int | None = None, color_modes: int | None = None
) -> MorphableData:
    """Read a morphable model; basis and means as float32.

    HDF5 (.h5, .hdf5), told apart by its contents:
        Basel 2017 and 2019     shape/model/mean, pcaBasis, pcaVariance, shape/representer/cells; color and expression likewise, if there
        Basel 2009              the same, or representer/cells; or the names of its MATLAB file: shapeMU, shapePC, shapeEV (standard
                                deviations), texMU, texPC, texEV, tl, axes in either order
    NumPy (.npz), FLAME         v_template (V, 3), shapedirs (V, 3, K), f (F, 3); modes from 300 on are expressions, standard deviations 1

    Colors from 0 to 255 are divided by 255. Faces that are clockwise seen from outside are turned over.

    Args:
        path: the file.
        shape_modes, expression_modes, color_modes: keep the first so many; all where left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, one that is damaged, a dataset missing, sizes that do not agree, values that are not finite.
        ImportError: HDF5 without the package h5py.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: expected a morphable model, {', '.join(SUFFIXES)}, got {path.suffix or 'no suffix'!r}; convert it to one of these")
    if not path.is_file():
        raise FileNotFoundError(f"no such morphable model: {path}; check the path")
    kept = tuple(_count(f"{name}_modes", n) for name, n in (("shape", shape_modes), ("expression", expression_modes), ("color", color_modes)))
    try:
        return checked((_read_npz if path.suffix.lower() == ".npz" else _read_hdf5)(path, *kept))
    except ValueError as problem:  # the readers leave the file's name to this place
        raise ValueError(f"{path}: {problem}") from None


def _count(name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1):
        raise ValueError(f"{name}: expected a whole number of at least 1, or None for all, got {value!r}")
    return value


def checked(model: MorphableData) -> MorphableData:
    """The model with float32 rows and int32 faces, sizes and values checked."""
    mean = _rows("mean", model.mean)
    faces = np.asarray(model.faces)
    count = len(mean) // 3
    if faces.ndim != 2 or faces.shape[1] != 3 or len(faces) == 0 or faces.dtype.kind not in "iu":
        raise ValueError(
            f"faces: expected whole numbers of shape (F, 3), at least one, got {faces.dtype} of shape {faces.shape}; triangulate the mesh"
        )
    if faces.min() < 0 or faces.max() >= count:
        raise ValueError(
            f"faces: expected indices from 0 to {count - 1}, got {faces.min()} to {faces.max()}; mean and faces belong to different meshes"
        )
    color_mean = None if model.color_mean is None else _rows("color mean", model.color_mean, len(mean))
    if model.color is not None and color_mean is None:
        raise ValueError("color basis: expected a color mean with it, got none; give both or none")
    expression = None if model.expression is None else _modes("expression", model.expression, len(mean))
    color = None if model.color is None else _modes("color", model.color, len(mean))
    faces = _outward(mean.reshape(-1, 3), faces.astype(np.int32))
    return MorphableData(mean, faces, _modes("shape", model.shape, len(mean)), expression, color_mean, color)


def modes(name: str, basis: Any, stddev: Any) -> Modes | None:
    """The modes of a basis, (V, 3, K) or (3 V, K), with standard deviations of 1 where they are None; not checked yet."""
    if basis is None:
        if stddev is not None:
            raise ValueError(f"{name}_stddev: expected a basis with it, got none; give {name}_basis, (V, 3, K), or leave it out")
        return None
    basis = np.asarray(basis)
    return Modes(basis, np.ones(basis.shape[-1:] or 1) if stddev is None else np.asarray(stddev))


def _rows(name: str, values: Any, count: int | None = None) -> np.ndarray:
    with np.errstate(over="ignore"):
        rows = np.asarray(values, np.float32).reshape(-1)
    if rows.size == 0 or rows.size % 3 or count not in (None, rows.size):
        raise ValueError(
            f"{name}: expected {count or 'three'} numbers{'' if count else ' per vertex'}, got shape {np.shape(values)}; use arrays of one model"
        )
    _require_finite(name, rows)
    return rows


def _modes(name: str, modes: Modes, rows: int) -> Modes:
    with np.errstate(over="ignore"):
        basis, stddev = np.asarray(modes.basis, np.float32), np.asarray(modes.stddev, np.float32).reshape(-1)
    if basis.ndim == 3 and basis.shape[:2] == (rows // 3, 3):
        basis = basis.reshape(rows, -1)
    if basis.ndim != 2 or len(basis) != rows or basis.shape[1] == 0:
        raise ValueError(
            f"{name} basis: expected shape ({rows}, K) or ({rows // 3}, 3, K), as the mean has {rows} rows, got {np.shape(modes.basis)}; "
            "use the mean and the basis of one model"
        )
    if len(stddev) != basis.shape[1]:
        raise ValueError(f"{name} stddev: expected one per mode, {basis.shape[1]}, got {len(stddev)}; use the basis and the deviations of one model")
    _require_finite(f"{name} basis", basis)
    _require_finite(f"{name} stddev", stddev)
    if stddev.min() < 0:
        raise ValueError(
            f"{name} stddev: expected numbers of at least 0, got {stddev.min():g} in mode {int(stddev.argmin())}; give standard deviations"
        )
    return Modes(basis, stddev)


def _require_finite(name: str, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        first = np.argwhere(~np.isfinite(values))[0].tolist()
        raise ValueError(f"{name}: expected finite float32 numbers, got {values[tuple(first)]} at {first}; make the model again, or scale it")


def _outward(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The faces, turned over if they enclose a negative volume with the middle of the mesh."""
    corners = (vertices.astype(np.float64) - vertices.mean(axis=0, dtype=np.float64))[faces]
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return np.ascontiguousarray(faces[:, ::-1]) if volume < 0 else faces


# --- HDF5 --------------------------------------------------------------------------------------------------------


def _h5py(path: Path) -> Any:
    try:
        import h5py  # here, since only this format needs it
    except ImportError as error:
        raise ImportError(f"{path}: HDF5 files take the package h5py: pip install taichi_dr[face]") from error
    return h5py


def _read_hdf5(path: Path, shape: int | None, expression: int | None, color: int | None) -> MorphableData:
    h5py = _h5py(path)
    try:
        with h5py.File(path, "r") as file:
            if "shapeMU" in file:
                return _read_2009(file, shape, color)
            return _read_basel(file, shape, expression, color)
    except (OSError, RuntimeError, KeyError) as error:  # also of a dataset whose bytes are damaged
        raise ValueError(f"expected a complete HDF5 file, got one that cannot be read ({error}); download or convert it again") from None


def _dataset(file: Any, name: str, columns: int | None = None) -> np.ndarray:
    data = file.get(name)
    if data is None or not hasattr(data, "shape"):
        found: list[str] = []
        file.visititems(lambda key, value: found.append(key) if hasattr(value, "shape") else None)
        raise ValueError(
            f"expected a dataset {name}, found {', '.join(found[:12]) or 'none'}; "
            "it takes the layout of the Basel Face Model 2009 (shapeMU, ...), 2017 or 2019 (shape/model/mean, ...)"
        )
    if data.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected numbers, got {data.dtype}; convert the file again")
    return data[...] if columns is None or len(data.shape) != 2 else data[:, :columns]


def _read_basel(file: Any, shape: int | None, expression: int | None, color: int | None) -> MorphableData:
    mean, shape_modes = _read_model(file, "shape", shape)
    cells = "representer/cells" if "representer/cells" in file else "shape/representer/cells"
    faces = _faces(_dataset(file, cells), cells)
    expression_modes = color_mean = color_modes = None
    if "expression/model" in file:
        expression_mean, expression_modes = _read_model(file, "expression", expression)
        mean = mean + _rows("expression/model/mean", expression_mean, mean.size)
    if "color/model" in file:
        color_mean, color_modes = _read_model(file, "color", color)
    return unit_colors(MorphableData(mean, faces, shape_modes, expression_modes, color_mean, color_modes))


def _read_model(file: Any, kind: str, columns: int | None) -> tuple[np.ndarray, Modes]:
    mean = _rows(f"{kind}/model/mean", _dataset(file, f"{kind}/model/mean"))
    basis = _dataset(file, f"{kind}/model/pcaBasis", columns)
    variance = _dataset(file, f"{kind}/model/pcaVariance").reshape(-1)[:columns]
    if not (np.isfinite(variance).all() and (variance >= 0).all()):
        raise ValueError(f"{kind}/model/pcaVariance: expected finite numbers of at least 0, got others; the file is damaged")
    return mean, Modes(basis, np.sqrt(variance))


def _read_2009(file: Any, shape: int | None, color: int | None) -> MorphableData:
    mean = _dataset(file, "shapeMU")
    color_mean = color_modes = None
    if "texMU" in file:
        color_mean, color_modes = _dataset(file, "texMU"), _converted_modes(file, "tex", mean.size, color)
    faces = _faces(_dataset(file, "tl"), "tl")
    faces = faces - 1 if faces.min() == 1 else faces  # MATLAB counts from 1
    return unit_colors(MorphableData(mean, faces, _converted_modes(file, "shape", mean.size, shape), None, color_mean, color_modes))


def _converted_modes(file: Any, kind: str, rows: int, columns: int | None) -> Modes:
    basis = _dataset(file, f"{kind}PC")
    if basis.ndim == 2 and basis.shape[1] == rows != basis.shape[0]:  # MATLAB stores columns first
        basis = basis.T
    return Modes(basis[..., :columns], _dataset(file, f"{kind}EV").reshape(-1)[:columns])


def _faces(cells: np.ndarray, name: str) -> np.ndarray:
    """(F, 3) of (3, F) or (F, 3); a square list is (3, F), as Basel's are."""
    if cells.ndim != 2 or 3 not in cells.shape:
        raise ValueError(f"{name}: expected the three vertices of every face, (3, F), got shape {cells.shape}; triangulate the mesh")
    cells = cells.T if cells.shape[0] == 3 else cells
    whole = np.rint(cells).astype(np.int64) if cells.dtype.kind == "f" and np.isfinite(cells).all() else cells
    if not np.array_equal(whole, cells):
        raise ValueError(f"{name}: expected whole numbers, got {cells.dtype} that are not; the file is damaged")
    return whole


def unit_colors(model: MorphableData) -> MorphableData:
    """The model with colors in [0, 1], where it has them from 0 to 255."""
    if model.color_mean is None or not np.nanmax(np.abs(model.color_mean)) > 2:
        return model
    color = None if model.color is None else model.color._replace(stddev=model.color.stddev / BYTE_SCALE)
    return model._replace(color_mean=model.color_mean / BYTE_SCALE, color=color)


def write(path: str | os.PathLike, model: MorphableData) -> None:
    """Write an HDF5 file in the layout of the Basel Face Model 2017, replacing any of that name.

    Raises:
        ValueError: sizes that do not agree, values that are not finite; nothing is written.
        ImportError: without the package h5py.
        OSError: the file cannot be written.
    """
    path, model = Path(path), checked(model)
    with _h5py(path).File(path, "w") as file:
        parts = [("shape", model.mean, model.shape), ("color", model.color_mean, model.color)]
        parts += [] if model.expression is None else [("expression", np.zeros_like(model.mean), model.expression)]
        for kind, mean, modes in parts:
            if mean is not None:
                basis, stddev = (np.zeros((mean.size, 1)), np.zeros(1)) if modes is None else modes
                file[f"{kind}/model/mean"] = mean
                file.create_dataset(f"{kind}/model/pcaBasis", data=basis.astype(np.float32), compression="gzip", shuffle=True)
                file[f"{kind}/model/pcaVariance"] = stddev.astype(np.float64) ** 2
                file[f"{kind}/representer/cells"] = model.faces.T
                file[f"{kind}/representer/points"] = model.mean.reshape(-1, 3).T


# --- FLAME -------------------------------------------------------------------------------------------------------


def _read_npz(path: Path, shape: int | None, expression: int | None, color: int | None) -> MorphableData:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise ValueError(
                    "expected an .npz of several arrays, got one array; save it with np.savez(path, v_template=..., shapedirs=..., f=...)"
                )
            template, modes, faces = (_npz_array(file, name) for name in ("v_template", "shapedirs", "f"))
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"expected a complete .npz file, got one that cannot be read ({error}); download or convert it again") from None
    if template.ndim != 2 or template.shape[1] != 3:
        raise ValueError(f"v_template: expected shape (V, 3), got {template.shape}; use the arrays of a FLAME model")
    if modes.ndim != 3 or modes.shape[:2] != template.shape:
        raise ValueError(f"shapedirs: expected shape ({len(template)}, 3, K), as v_template has {len(template)} vertices, got {modes.shape}")
    basis = modes.reshape(template.size, -1)
    shapes, expressions = basis[:, :FLAME_SHAPE_MODES][:, :shape], basis[:, FLAME_SHAPE_MODES:][:, :expression]
    has_expressions = expressions.shape[1] > 0
    return MorphableData(
        template,
        _faces(faces if faces.shape[-1:] == (3,) else faces.T, "f") if faces.shape != (3, 3) else faces,
        Modes(shapes, np.ones(shapes.shape[1])),
        Modes(expressions, np.ones(expressions.shape[1])) if has_expressions else None,
    )


def _npz_array(file: Any, name: str) -> np.ndarray:
    if name not in file.files:
        raise ValueError(f"expected an array {name}, found {', '.join(file.files) or 'none'}; it takes v_template, shapedirs and f of FLAME")
    try:
        array = file[name]
    except ValueError as error:
        if "pickle" not in str(error):
            raise ValueError(f"{name}: expected a complete array, got one that cannot be read ({error}); download or convert it again") from None
        raise ValueError(
            f"{name}: expected numbers, got Python objects, which run code when they are loaded; where you trust the file, convert it once, with "
            f'the package that wrote it installed: d = np.load("{Path(file.zip.filename or "").name}", allow_pickle=True); '
            "np.savez(new_path, v_template=np.array(d['v_template'], float), shapedirs=np.array(d['shapedirs'], float), f=np.array(d['f'], int))"
        ) from None
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected numbers, got {array.dtype}; convert it with .astype(float)")
    return array


# --- ICT-FaceKit -------------------------------------------------------------------------------------------------


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
    count = len(mesh.vertices) if _count("vertices", vertices) is None else min(vertices, len(mesh.vertices))
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
    parser = argparse.ArgumentParser(prog="python -m taichi_dr.io.morphable", description="ICT-FaceKit's meshes as one HDF5 file in Basel's layout")
    parser.add_argument("folder", help="checkout of ICT-FaceKit, or its folder FaceXModel")
    parser.add_argument("out", help="HDF5 file to write")
    parser.add_argument("--vertices", type=int, help="keep the first so many")
    parser.add_argument("--scale", type=float, default=1.0, help="of lengths")
    options = parser.parse_args(arguments)
    model = read_ict(options.folder, options.vertices, options.scale)
    write(options.out, model)
    expressions = 0 if model.expression is None else len(model.expression.stddev)
    print(
        f"{options.out}: {len(model.mean) // 3:,} vertices, {len(model.faces):,} faces, {len(model.shape.stddev)} shape, {expressions} expression modes"
    )


if __name__ == "__main__":
    main()
