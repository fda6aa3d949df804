"""taichi_dr: a differentiable mesh renderer; images in, mesh, colors, lights and cameras out.

The names below are in the order of the pipeline: start, arrays, tape, mesh, camera, lights, raster, render, losses, optimizers, fits.
"""

# First, since it quiets the import of Taichi.
from . import runtime as runtime  # isort: skip
from . import arrays as arrays
from . import checkpoint as checkpoint
from . import datasets as datasets
from . import io as io
from . import losses as losses
from . import optim as optim
from . import pictures as pictures
from . import schedules as schedules
from . import shapes as shapes
from .arrays import array as array
from .arrays import read as read
from .arrays import scalar as scalar
from .arrays import write as write
from .camera import Camera as Camera
from .camera import project as project
from .carve import visual_hull as visual_hull
from .deferred import DeferredRenderer as DeferredRenderer
from .diagnose import diagnose as diagnose
from .fit_parameter import Parameter as Parameter
from .fitting import fit as fit
from .gradcheck import gradcheck as gradcheck
from .inpaint import fill_unseen as fill_unseen
from .intersections import self_intersections as self_intersections
from .large_steps import LargeSteps as LargeSteps
from .lens import BrownConrady as BrownConrady
from .lens import Fisheye as Fisheye
from .lights import AmbientLight as AmbientLight
from .lights import DirectionalLight as DirectionalLight
from .lights import PointLight as PointLight
from .lights import SphericalHarmonicsLight as SphericalHarmonicsLight
from .lights import SpotLight as SpotLight
from .materials import Material as Material
from .mesh import Mesh as Mesh
from .morphable import MorphableModel as MorphableModel
from .normals import face_normals as face_normals
from .normals import face_tangents as face_tangents
from .normals import perturb_normals as perturb_normals
from .normals import vertex_normals as vertex_normals
from .photos import Photos as Photos
from .pose import Pose as Pose
from .pose import rotation_from_6d as rotation_from_6d
from .pose import se3_exp as se3_exp
from .pose import se3_log as se3_log
from .pose import so3_exp as so3_exp
from .pose import so3_log as so3_log
from .pose import transform as transform
from .quality import MeshQuality as MeshQuality
from .quality import flipped_faces as flipped_faces
from .quality import mesh_quality as mesh_quality
from .raster.antialias import antialias as antialias
from .raster.attributes import interpolate as interpolate
from .raster.downsample import downsample as downsample
from .raster.microedge import microedges as microedges
from .raster.soft import soft_rasterize as soft_rasterize
from .raster.visible import rasterize as rasterize
from .reconstruct import Reconstruction as Reconstruction
from .reconstruct import Settings as Settings
from .reconstruct import reconstruct as reconstruct
from .recording import Recording as Recording
from .remesh import remesh as remesh
from .render import SoftRenderer as SoftRenderer
from .runtime import Device as Device
from .runtime import device as device
from .runtime import init as init
from .sampling import sample_surface as sample_surface
from .shading import shade as shade
from .shading import shade_points as shade_points
from .shadows import ShadowMaps as ShadowMaps
from .smooth import smooth as smooth
from .subdivide import subdivide as subdivide
from .tape import Tape as Tape
from .unwrap import unwrap as unwrap

__version__ = "0.1.0"
