"""From one format to another, as the names say.

mesh to mesh             obj, ply, off, stl, glb; what a format cannot hold is left out, and said
cameras to cameras       transforms.json to a folder for COLMAP's cameras and images, and back
SoftRas's views          source.npy and camera.npy, or their folder, to a folder with transforms.json and images
a face model             ICT-FaceKit's folder to .h5, which fit-face reads; needs the extra 'face'
"""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .. import io
from ..camera import Camera
from ..io import cameras, colmap, ict, morphable
from ..mesh import Mesh
from ..photos import Photos
from .console import Parser, say, say_written, shown, start

USAGE = "IN OUT [options]"
EXAMPLES = """\
  taichi-dr convert mesh.obj mesh.glb
  taichi-dr convert photos/transforms.json photos/sparse/0
  taichi-dr convert photos/sparse/0 photos/transforms.json
  taichi-dr convert softras/source.npy photos
  taichi-dr convert ICT-FaceKit face.h5 --vertices 9409"""
KEPT = {".obj": "uv", ".glb": "uv", ".ply": "vertex", ".off": None, ".stl": None}  # how materials are read for a format
NERF = ("transforms.json", "transforms_train.json")


def add_arguments(parser: Parser) -> None:
    parser.add_argument("source", metavar="IN", help="file or folder to read")
    parser.add_argument("target", metavar="OUT", help="file or folder to write; what is there is replaced")
    parser.add_argument("--binary", action="store_true", help="COLMAP's files as .bin, not .txt")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("W", "H"), help="of a transforms.json without w and h, pixels")
    parser.add_argument("--viewing-angle", type=float, default=15.0, metavar="X", help="half of SoftRas's field of view, degrees (default: 15)")
    parser.add_argument("--vertices", type=int, metavar="N", help="of ICT-FaceKit: keep the first N")
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="of ICT-FaceKit: of lengths (default: 1)")


def run(options: Any, parser: Parser) -> None:
    source, target = Path(options.source), Path(options.target)
    if not source.exists():
        raise FileNotFoundError(f"no such file or folder: {shown(source)}; check the path")
    suffix, wanted = source.suffix.lower(), target.suffix.lower()
    convert: Any = None
    if suffix in io.SUFFIXES and wanted in io.SUFFIXES:
        convert = _mesh
    elif source.is_dir() and wanted in (".h5", ".hdf5"):
        convert = _face_model
    elif _is_colmap(source) and wanted == ".json":
        convert = _colmap_to_nerf
    elif _softras(source) is not None and not wanted:
        convert = _softras_to_photos
    elif _nerf(source) is not None and not wanted:
        convert = _nerf_to_colmap
    if convert is None:
        parser.error(f"do not know how to make {target.name!r} of {source.name!r}; see --help for what can be converted")
    start("cpu")  # for arrays alone
    if target.parent != target:
        target.parent.mkdir(parents=True, exist_ok=True)
    convert(source, target, options)


def _mesh(source: Path, target: Path, options: Any) -> None:
    mesh = Mesh.load(source, texture=KEPT[target.suffix.lower()])
    mesh.save(target)
    say(options, f"{mesh.vertices.shape[1]:,} vertices, {mesh.faces.shape[0]:,} faces")
    beside = [target.with_suffix(suffix) for suffix in (".mtl", ".png")] if target.suffix.lower() == ".obj" and mesh.texture is not None else []
    say_written(options, [target, *(path for path in beside if path.exists())])


# --- Cameras -----------------------------------------------------------------------------------------------------------


def _nerf(source: Path) -> Path | None:
    """The transforms.json that is meant."""
    if source.is_dir():
        return next((source / name for name in NERF if (source / name).is_file()), None)
    return source if source.suffix.lower() == ".json" else None


def _is_colmap(source: Path) -> bool:
    return source.is_dir() and any((source / f"cameras{suffix}").is_file() for suffix in (".bin", ".txt"))


def _nerf_to_colmap(source: Path, target: Path, options: Any) -> None:
    """Names are relative to the folder `images` there, as COLMAP has them."""
    path = _nerf(source)
    size = None if options.image_size is None else (options.image_size[1], options.image_size[0])
    views = cameras.from_nerf(path, size)
    names = tuple(name if PurePosixPath(name).suffix else name + ".png" for name in views.names)
    if all(name.removeprefix("./").startswith("images/") for name in names):
        names = tuple(name.removeprefix("./").removeprefix("images/") for name in names)
    colmap.to_colmap(views._replace(names=names), target, binary=options.binary)
    say(options, f"{len(names)} views")
    say_written(options, [target / f"{name}.{'bin' if options.binary else 'txt'}" for name in ("cameras", "images", "points3D")])


def _colmap_to_nerf(source: Path, target: Path, options: Any) -> None:
    """Images are named in the folder `images` beside the file, where `fit` looks for them."""
    views = colmap.from_colmap(source)
    cameras.to_nerf(views._replace(names=tuple(f"images/{name}" for name in views.names)), target)
    say(options, f"{len(views.names)} views")
    missing = [name for name in views.names if not (target.parent / "images" / name).is_file()]
    if missing:
        say(options, f"{len(missing)} of its images are not in {shown(target.parent / 'images')}, such as {missing[0]}; `fit` looks for them there")
    say_written(options, [target])


# --- SoftRas, ICT-FaceKit ----------------------------------------------------------------------------------------------


def _softras(source: Path) -> Path | None:
    if source.is_dir():
        return source / "source.npy" if (source / "source.npy").is_file() else None
    return source if source.suffix.lower() == ".npy" else None


def _softras_to_photos(source: Path, target: Path, options: Any) -> None:
    """SoftRas's frame is mirrored, which other formats cannot say: pictures are turned over, left and right, and cameras are not mirrored."""
    path = _softras(source)
    photos = Photos.load(path, viewing_angle=options.viewing_angle)
    distance, elevation, azimuth = np.load(path.with_name("camera.npy"), allow_pickle=False).astype(np.float64).T
    camera = Camera.orbit(distance, elevation, 180 - azimuth, fov=2 * options.viewing_angle, size=photos.sizes[0])
    images = np.stack([photos.image(k)[:, ::-1] for k in range(len(photos))])
    Photos.save(target, images, camera)
    say(options, f"{len(photos)} views of {photos.sizes[0][1]} x {photos.sizes[0][0]} pixels")
    say_written(options, [target / "transforms.json"])


def _face_model(source: Path, target: Path, options: Any) -> None:
    model = ict.read_ict(source, options.vertices, options.scale)
    morphable.write(target, model)
    expressions = 0 if model.expression is None else len(model.expression.stddev)
    say(options, f"{len(model.mean) // 3:,} vertices, {len(model.shape.stddev)} shape and {expressions} expression modes")
    say_written(options, [target])
