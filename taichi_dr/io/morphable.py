"""Files of morphable models: HDF5 of the Basel Face Models, .npz of FLAME; `ict.py` converts ICT-FaceKit's meshes.

A row is one coordinate of one vertex, or one channel of its color: row 3 v + c is component c of vertex v.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FLAME_SHAPE_MODES = 300  # of FLAME's modes the first are of shape, the rest of expression
BYTE_SCALE = 255.0  # Basel 2009 stores colors from 0 to 255
SUFFIXES = (".h5", ".hdf5", ".npz")
# What the readers of both formats raise over bytes that are not theirs, beside ValueError.
DAMAGE = (OSError, EOFError, KeyError, TypeError, RuntimeError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error)


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
    kept = tuple(counted(f"{name}_modes", n) for name, n in (("shape", shape_modes), ("expression", expression_modes), ("color", color_modes)))
    try:
        return checked((_read_npz if path.suffix.lower() == ".npz" else _read_hdf5)(path, *kept))
    except ValueError as problem:  # the readers leave the file's name to this place
        raise ValueError(f"{path}: {problem}") from None


def counted(name: str, value: Any) -> int | None:
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
    shape = _modes("shape", model.shape, len(mean))
    expression = None if model.expression is None else _modes("expression", model.expression, len(mean))
    color_mean = None if model.color_mean is None else _rows("color mean", model.color_mean, len(mean))
    if model.color is not None and color_mean is None:
        raise ValueError("color basis: expected a color mean with it, got none; give both or none")
    color = None if model.color is None else _modes("color", model.color, len(mean))
    faces = _outward(mean.reshape(-1, 3), faces.astype(np.int32))
    return MorphableData(mean, faces, shape, expression, color_mean, color)


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
    except DAMAGE as error:
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
    if shape_modes is None:
        raise ValueError("shape/model/pcaBasis: expected at least one mode, got none; a mesh without modes is no morphable model")
    cells = "representer/cells" if "representer/cells" in file else "shape/representer/cells"
    faces = _faces(_dataset(file, cells), cells)
    expression_modes = color_mean = color_modes = None
    if "expression/model" in file:
        expression_mean, expression_modes = _read_model(file, "expression", expression)
        mean = mean + _rows("expression/model/mean", expression_mean, mean.size)
    if "color/model" in file:
        color_mean, color_modes = _read_model(file, "color", color)
    return unit_colors(MorphableData(mean, faces, shape_modes, expression_modes, color_mean, color_modes))


def _read_model(file: Any, kind: str, columns: int | None) -> tuple[np.ndarray, Modes | None]:
    """A mean and its modes, None where there are none."""
    mean = _rows(f"{kind}/model/mean", _dataset(file, f"{kind}/model/mean"))
    basis = _dataset(file, f"{kind}/model/pcaBasis", columns)
    variance = _dataset(file, f"{kind}/model/pcaVariance").reshape(-1)[:columns]
    if not (np.isfinite(variance).all() and (variance >= 0).all()):
        raise ValueError(f"{kind}/model/pcaVariance: expected finite numbers of at least 0, got others; the file is damaged")
    return mean, Modes(basis, np.sqrt(variance)) if basis.ndim != 2 or basis.shape[1] else None


def _read_2009(file: Any, shape: int | None, color: int | None) -> MorphableData:
    mean = _dataset(file, "shapeMU")
    color_mean = color_modes = None
    if "texMU" in file:
        color_mean, color_modes = _dataset(file, "texMU"), _converted_modes(file, "tex", mean.size, color)
    faces = _faces(_dataset(file, "tl"), "tl")
    faces = faces - 1 if faces.min(initial=1) > 0 else faces  # MATLAB counts from 1
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
                basis, stddev = Modes(np.zeros((mean.size, 0), np.float32), np.zeros(0)) if modes is None else modes
                packing = {"compression": "gzip", "shuffle": True} if basis.size else {}
                file[f"{kind}/model/mean"] = mean
                file.create_dataset(f"{kind}/model/pcaBasis", data=basis, **packing)
                file[f"{kind}/model/pcaVariance"] = stddev.astype(np.float64) ** 2
                file[f"{kind}/representer/cells"] = model.faces.T
                file[f"{kind}/representer/points"] = model.mean.reshape(-1, 3).T


# --- FLAME -------------------------------------------------------------------------------------------------------


def _read_npz(path: Path, shape: int | None, expression: int | None, color: int | None) -> MorphableData:
    try:
        with zipfile.ZipFile(path) as file:  # np.load would take other files for a single array, or for a pickle
            template, modes, faces = (_npz_array(file, name) for name in ("v_template", "shapedirs", "f"))
    except DAMAGE as error:
        raise ValueError(f"expected a complete .npz file, got one that cannot be read ({error}); download or convert it again") from None
    if template.ndim != 2 or template.shape[1] != 3:
        raise ValueError(f"v_template: expected shape (V, 3), got {template.shape}; use the arrays of a FLAME model")
    if modes.ndim != 3 or modes.shape[:2] != template.shape:
        raise ValueError(f"shapedirs: expected shape ({len(template)}, 3, K), as v_template has {len(template)} vertices, got {modes.shape}")
    basis = modes.reshape(template.size, -1)
    shapes, expressions = basis[:, :FLAME_SHAPE_MODES][:, :shape], basis[:, FLAME_SHAPE_MODES:][:, :expression]
    return MorphableData(
        template,
        _faces(faces.T, "f"),
        Modes(shapes, np.ones(shapes.shape[1])),
        Modes(expressions, np.ones(expressions.shape[1])) if expressions.shape[1] else None,
    )


def _npz_array(file: zipfile.ZipFile, name: str) -> np.ndarray:
    names = [member.removesuffix(".npy") for member in file.namelist()]
    if name not in names:
        raise ValueError(f"expected an array {name}, found {', '.join(names) or 'none'}; it takes v_template, shapedirs and f of FLAME")
    try:
        with file.open(f"{name}.npy") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        if "pickle" not in str(error):
            raise ValueError(f"{name}: expected a complete array, got one that cannot be read ({error}); download or convert it again") from None
        raise ValueError(
            f"{name}: expected numbers, got Python objects, which run code when they are loaded; where you trust the file, convert it once, with "
            f'the package that wrote it installed: d = np.load("{Path(file.filename or "").name}", allow_pickle=True); '
            "np.savez(new_path, v_template=np.array(d['v_template'], float), shapedirs=np.array(d['shapedirs'], float), f=np.array(d['f'], int))"
        ) from None
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected numbers, got {array.dtype}; convert it with .astype(float)")
    return array
