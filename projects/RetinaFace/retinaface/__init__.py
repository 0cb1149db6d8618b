"""RetinaFace: faces and their five landmarks in one pass (Deng et al. 2020)."""

from .config import add_retinaface_config
from .context_pyramid import ContextPyramid, SSHContext, build_context_pyramid_backbone
from .evaluation import LandmarkEvaluator, match_by_score, normalized_error
from .head import RetinaFaceHead
from .losses import mined_class_loss
from .mobilenet import MobileNetV1, build_mobilenet_v1_backbone
from .model import RetinaFace
from .points import decode_points, encode_points
from .shapes_faces import register_shapes_faces
from .weights import released_name
from .widerface import FACE_METADATA, load_widerface, register_widerface

__all__ = [
    "FACE_METADATA",
    "ContextPyramid",
    "LandmarkEvaluator",
    "MobileNetV1",
    "RetinaFace",
    "RetinaFaceHead",
    "SSHContext",
    "add_retinaface_config",
    "build_context_pyramid_backbone",
    "build_mobilenet_v1_backbone",
    "decode_points",
    "encode_points",
    "load_widerface",
    "match_by_score",
    "mined_class_loss",
    "normalized_error",
    "register_shapes_faces",
    "register_widerface",
    "released_name",
]

register_widerface()
register_shapes_faces()
