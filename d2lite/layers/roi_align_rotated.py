"""ROIAlign of rotated boxes."""

import torch
from torch import Tensor, nn


def multilevel_roi_align_rotated(features, rois, levels, scales, output_size, sampling_ratio):
    raise RuntimeError("being written")
