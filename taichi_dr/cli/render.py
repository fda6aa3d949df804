"""A mesh from all around, as an animation, or from one side, as a picture.

The mesh is moved and scaled so that it fits, whatever its unit. It may be a file, or one of the packed meshes: bunny, teapot.
"""

import argparse
import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets, pictures
from ..arrays import read
from ..camera import Camera
from ..deferred import DeferredRenderer
from ..lights import AmbientLight, DirectionalLight
from ..mesh import Mesh
from ..render import SoftRenderer
from .console import MOST, Parser, add_arch, at_least, bar, nearest, picture_size, say_written, start

USAGE = "MESH -o FILE [options]"
EXAMPLES = """\
  taichi-dr render bunny -o bunny.gif
  taichi-dr render mesh.obj -o turn.mp4 --size 640x480 --frames 120 --elevation 30
  taichi-dr render mesh.glb -o front.png --azimuth 0 --background transparent
  taichi-dr render mesh.obj -o soft.png --renderer soft --sigma 1e-3"""
SUFFIXES = (".gif", ".mp4", ".png")
FOV = 40.0
MARGIN = 1.08  # of the distance at which the mesh would touch the border


def add_arguments(parser: Parser) -> None:
    parser.add_argument("mesh", metavar="MESH", help="obj, ply, off, stl or glb file; or bunny, teapot")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="x.gif, x.mp4 or x.png; mp4 needs the extra 'video'")
    parser.add_argument("--size", type=picture_size, default=(256, 256), metavar="N", help="pixels, 256 or 320x240 (default: 256)")
    parser.add_argument("--frames", "--views", type=at_least(1), default=60, metavar="N", help="of a turn (default: 60)")
    parser.add_argument("--fps", type=at_least(0.1, float), default=20.0, metavar="X", help="frames per second (default: 20)")
    parser.add_argument("--azimuth", type=float, default=30.0, metavar="X", help="where the turn begins, degrees from the front (default: 30)")
    parser.add_argument("--elevation", type=float, default=20.0, metavar="X", help="degrees above the horizon (default: 20)")
    parser.add_argument("--distance", type=float, metavar="X", help="of the camera, where the mesh's longest side is 2; as it fits where left out")
    parser.add_argument("--light", type=_light, default="studio", metavar="L", help="studio, from the upper left of the camera; sun, which stands "
                        "still; none, colors as they are; or x,y,z, where it comes from (default: studio)")  # fmt: skip
    parser.add_argument("--background", type=_color, default="white", metavar="C", help="a color such as white or #203040; transparent, in a png "
                        "(default: white)")  # fmt: skip
    parser.add_argument(
        "--renderer", choices=("deferred", "soft"), default="deferred", help="visible surface, or SoftRas's blend (default: deferred)"
    )
    parser.add_argument("--sigma", type=float, default=1e-5, metavar="X", help="softness of edges of the soft renderer (default: 1e-5)")
    parser.add_argument("--antialias", type=at_least(1), default=2, metavar="N", help="N x N samples per pixel (default: 2)")
    add_arch(parser)


def run(options: Any, parser: Parser) -> None:
    out = Path(options.out)
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        parser.error(f"-o: expected a name that ends in {', '.join(SUFFIXES)}, got {out.name!r}")
    if not abs(options.elevation) < 90:
        parser.error(f"--elevation: expected degrees between -90 and 90, got {options.elevation:g}")
    if options.background == "transparent" and suffix != ".png":
        parser.error(f"--background: transparent is for png files, got {out.name!r}")
    if suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ImportError('mp4 files need imageio-ffmpeg: pip install "taichi_dr[video]", or write a gif')
    if options.antialias * max(options.size) > MOST:
        parser.error(f"--antialias: expected at most {MOST // max(options.size)} of pictures of this size, got {options.antialias}")
    path = Path(options.mesh)
    packed = options.mesh in datasets.PACKED and not path.exists()
    if path.is_dir():
        raise ValueError(f"{options.mesh}: expected a mesh file, got a folder; give a file in it, such as mesh.glb of a fit")
    if not (packed or path.suffix or path.exists()):
        raise FileNotFoundError(f"no such mesh: {options.mesh}{nearest(options.mesh, datasets.PACKED)}")
    start(options.arch)
    mesh = Mesh.load(datasets.load(options.mesh) if packed else options.mesh, texture="uv").normalized()
    turn = [options.azimuth] if suffix == ".png" else options.azimuth + np.arange(options.frames) * 360 / options.frames
    draw = _Drawing(mesh, options)
    frames = [draw(azimuth) for azimuth in bar(options, turn, out.name)]
    out.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".png":
        pictures.save(out, frames[0])
    elif suffix == ".gif":
        pictures.save_gif(out, frames, frames_per_second=options.fps)
    else:
        _save_mp4(out, frames, options.fps)
    say_written(options, [out])


class _Drawing:
    """The picture from an azimuth."""

    def __init__(self, mesh: Mesh, options: Any) -> None:
        self.mesh, self.options, self.clear = mesh, options, options.background == "transparent"
        vertices = read(mesh.vertices)[0]
        radius = float(np.linalg.norm(vertices, axis=1).max())
        self.distance = MARGIN * radius / math.sin(math.radians(FOV / 2)) if options.distance is None else options.distance
        settings = {
            "near": max(self.distance - 1.5 * radius, 1e-3 * self.distance), "far": self.distance + 1.5 * radius, "antialias": options.antialias,
            "background": (0.0, 0.0, 0.0) if self.clear else options.background, "two_sided": True,
        }  # fmt: skip
        self.renderer = DeferredRenderer(**settings) if options.renderer == "deferred" else SoftRenderer(sigma=options.sigma, **settings)

    def __call__(self, azimuth: float) -> np.ndarray:
        camera = Camera.orbit(self.distance, self.options.elevation, azimuth, fov=FOV, size=self.options.size)
        image = read(self.renderer(self.mesh, camera, self._lights(azimuth)))[0]
        if self.clear:  # colors of a png are not times alpha
            image = np.concatenate([image[..., :3] / np.maximum(image[..., 3:], 1e-6), image[..., 3:]], axis=-1)
        return pictures.to_uint8(image if self.clear else image[..., :3])

    def _lights(self, azimuth: float) -> list[Any] | None:
        light = self.options.light
        if light == "none":
            return None
        direction = np.array((0.5, 0.8, 0.5) if light == "sun" else (-0.5, 0.7, 0.8) if light == "studio" else light)
        if light == "studio":  # turns with the camera
            c, s = math.cos(math.radians(azimuth)), math.sin(math.radians(azimuth))
            direction = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ direction
        return [AmbientLight(0.45), DirectionalLight(direction, 0.65)]


def _save_mp4(path: Path, frames: list[np.ndarray], fps: float) -> None:
    """H.264 as every player takes it, which wants sides of even length: the last row or column is repeated."""
    import imageio.v3 as iio

    height, width = frames[0].shape[:2]
    even = np.pad(np.stack(frames), ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    iio.imwrite(path, even, plugin="FFMPEG", fps=fps, codec="libx264", macro_block_size=2, ffmpeg_log_level="error", output_params=["-crf", "18"])


def _light(text: str) -> Any:
    if text in ("studio", "sun", "none"):
        return text
    try:
        direction = tuple(float(part) for part in text.split(","))
    except ValueError:
        direction = ()
    if len(direction) != 3 or not all(map(math.isfinite, direction)) or not any(direction):
        raise argparse.ArgumentTypeError(f"expected studio, sun, none, or a direction such as 1,2,1, got {text!r}")
    return direction


def _color(text: str) -> Any:
    from PIL import ImageColor

    if text == "transparent":
        return text
    try:
        return tuple(part / 255 for part in ImageColor.getrgb(text)[:3])
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a color such as white or #203040, or transparent, got {text!r}") from None
