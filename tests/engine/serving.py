"""A run of random weights to detect with, and pictures for it."""

from pathlib import Path

import cv2
import numpy as np
import torch

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.data.datasets import shapes
from d2lite.engine import check_class_counts
from d2lite.modeling import build_model
from tests.engine.tiny import tiny_cfg


def picture(number: int, size=(96, 128)) -> np.ndarray:
    """Return a drawing of shapes, (H, W, 3) BGR."""
    drawn = shapes.draw_image(f"shapes://val/{number}")[:, :, ::-1]
    return cv2.resize(np.ascontiguousarray(drawn), size[::-1])


def mask_rcnn_run(folder: Path) -> str:
    """Save a tiny Mask R-CNN as the final weights of a run, and return its folder."""
    cfg = tiny_cfg(folder, MODEL__MASK_ON=True, TEST__DETECTIONS_PER_IMAGE=6)
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    check_class_counts(cfg)
    torch.manual_seed(0)
    model = build_model(cfg)
    DetectionCheckpointer(model, str(folder)).save("model_final")
    return str(folder)
