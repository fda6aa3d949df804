"""Meshes to try the renderer on: two come with the package, larger ones are downloaded once and checked."""

import os
import pathlib

# SoftRas (MIT license), at one fixed commit; spot is by Keenan Crane (public domain).
SOURCE = "https://raw.githubusercontent.com/ShichenLiu/SoftRas/b569bed5759cf2014f9b79c12ad10eef7b80ec34/data"

PACKED = {"bunny": "bunny.obj", "teapot": "teapot.obj"}

# name -> {path below SOURCE: SHA-256 of the file}; the first file is the main one.
REMOTE = {
    "spot": {
        "obj/spot/spot_triangulated.obj": "edceffe20092832e8d27956193816ab311507daf00510cce360d7e497613945d",
        "obj/spot/spot_triangulated.mtl": "dacfb2ea87a0081bfb27f1c70decb129cda57cf71c41b72c418830ec827d0857",
        "obj/spot/spot_texture.png": "cddabbae52a666173e7953e238b88340d285044dc20b36f8ed3f1a41db534fa5",
    },
    "sphere_642": {
        "obj/sphere/sphere_642.obj": "104a83de46e321a096f51287fb5dcf8dc2037194b0f98df9b46ede89be7db551",
    },
    "sphere_1352": {
        "obj/sphere/sphere_1352.obj": "9d8105cd6a65a06e08cb47f0dd08d93dab927b0fd405ac7d98ef94cc276c36b4",
    },
    "plane_views": {
        "source.npy": "cb2335a88d0440e35f701dee0cbcf2e9135a296d1b8fad5109e7d82e90207e8d",
        "camera.npy": "19b2be0c5eaff923c9f7d7df188b5351628647ccac8ac2939cb02113155ddf10",
    },
}


def load(name: str) -> pathlib.Path:
    """Return the path of a mesh or data file, downloading it into a cache folder on first use.

    Args:
        name: "bunny" or "teapot" (packed, no network needed); "spot" (OBJ with MTL and texture), "sphere_642",
            "sphere_1352" (OBJ), or "plane_views" (source.npy: 120 RGBA views as (120, 4, 64, 64) uint8; beside it
            camera.npy: distance, elevation and azimuth of each).

    Returns:
        Path of the main file; the files that belong to it lie in the same folder. Downloads go to the user's cache
        folder for "taichi_dr", or to the folder in the environment variable TAICHI_DR_DATA.

    Raises:
        ValueError: there is no data set of this name.
        RuntimeError: a file is neither in the cache nor can it be downloaded; the message says what to put where.
    """
    if name in PACKED:
        return packed_file(PACKED[name])
    if name in REMOTE:
        return [fetch(f"{SOURCE}/{path}", sha256, cache_folder() / name) for path, sha256 in REMOTE[name].items()][0]
    raise ValueError(f"name: no data set is called {name!r}; choose one of {', '.join([*PACKED, *REMOTE])}")


def packed_file(filename: str) -> pathlib.Path:
    """Return the path of a file that comes with the package, in an installed wheel or in a source checkout."""
    package = pathlib.Path(__file__).resolve().parent
    for folder in (package / "assets", package.parent / "assets"):
        if (folder / filename).is_file():
            return folder / filename
    raise RuntimeError(f"{filename} should have come with taichi_dr but is not in {package / 'assets'}; reinstall the package")


def cache_folder() -> pathlib.Path:
    """Return the folder that downloads are kept in: TAICHI_DR_DATA if set, else the user's cache folder."""
    import pooch

    return pathlib.Path(os.environ.get("TAICHI_DR_DATA") or pooch.os_cache("taichi_dr")).expanduser()


def fetch(url: str, sha256: str, folder: pathlib.Path) -> pathlib.Path:
    """Return the path of a file in folder, downloading it unless it is there with the right SHA-256."""
    import pooch

    filename = url.rsplit("/", 1)[1]
    try:
        return pathlib.Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=filename, path=folder, progressbar=True))
    except (OSError, ValueError) as error:  # no network, no such page, folder not writable; wrong content
        raise RuntimeError(f"{filename} could not be downloaded: fetch {url} by other means and put it in {folder}") from error
