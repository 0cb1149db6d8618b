"""Settings of DeepLab, under detectron2's keys."""

from d2lite.config import CfgNode


def add_deeplab_config(cfg: CfgNode) -> None:
    """Add the settings of the backbone, the heads, the crops and the schedule."""
    # Training crops in which one class covers more than this share of the labeled pixels are drawn
    # again, up to ten times; 1.0 accepts every crop.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0

    # For the schedule WarmupPolyLR: the rate is (1 - iteration / MAX_ITER) to this power,
    cfg.SOLVER.POLY_LR_POWER = 0.9
    # and not below this factor of BASE_LR once the warm-up is over; 0.0: no lower limit.
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0

    head = cfg.MODEL.SEM_SEG_HEAD
    # "hard_pixel_mining" averages the largest fifth of the pixels' cross entropies,
    # "cross_entropy" all of them.
    head.LOSS_TYPE = "hard_pixel_mining"
    # Features of the decoder. They are not read: all IN_FEATURES but the one with the largest
    # stride are used.
    head.PROJECT_FEATURES = ["res2"]
    # Channels to which each of these is reduced, smallest stride first.
    head.PROJECT_CHANNELS = [48]
    # Atrous spatial pyramid pooling: output channels, dilations of its three 3x3 branches, and
    # dropout of its output in training.
    head.ASPP_CHANNELS = 256
    head.ASPP_DILATIONS = [6, 12, 18]
    head.ASPP_DROPOUT = 0.1
    # Use depthwise separable convolutions in the pyramid pooling and the decoder.
    head.USE_DEPTHWISE_SEPARABLE_CONV = False

    resnets = cfg.MODEL.RESNETS
    # Dilation of res4, 1 or 2. With 2, RES5_DILATION must be 4: the output stride is 8.
    resnets.RES4_DILATION = 1
    # Dilation of each block of res5, as a multiple of RES5_DILATION (DeepLabV3, sec. 3.2.1).
    resnets.RES5_MULTI_GRID = [1, 2, 4]
    # First layers: "deeplab" has three 3x3 convolutions, "basic" one 7x7.
    resnets.STEM_TYPE = "deeplab"
