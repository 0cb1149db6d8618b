"""Settings of Panoptic-DeepLab, under detectron2's keys."""

from d2lite.config import CfgNode
from d2lite.projects.deeplab import add_deeplab_config


def add_panoptic_deeplab_config(cfg: CfgNode) -> None:
    """Add the settings of the two heads, the targets and the grouping, and those of DeepLab."""
    add_deeplab_config(cfg)

    # Standard deviation in pixels of the peak that marks the center of an object.
    cfg.INPUT.GAUSSIAN_SIGMA = 10
    # Train offsets on things only, not on stuff, where they are 0.
    cfg.INPUT.IGNORE_STUFF_IN_OFFSET = True
    # Objects of fewer pixels than this, after resizing and cropping, are small;
    cfg.INPUT.SMALL_INSTANCE_AREA = 4096
    # the semantic loss of their pixels is multiplied by this.
    cfg.INPUT.SMALL_INSTANCE_WEIGHT = 3
    # Leave crowds out of the semantic loss.
    cfg.INPUT.IGNORE_CROWD_IN_SEMANTIC = False

    # "ADAM" or "SGD", for this project's trainer.
    cfg.SOLVER.OPTIMIZER = "ADAM"

    # Channels between the decoder and the semantic predictor.
    cfg.MODEL.SEM_SEG_HEAD.HEAD_CHANNELS = 256
    # Share of the pixels, those with the largest losses, that LOSS_TYPE "hard_pixel_mining"
    # averages over.
    cfg.MODEL.SEM_SEG_HEAD.LOSS_TOP_K = 0.2

    # The head for centers and offsets; keys of the same names mean the same as in SEM_SEG_HEAD.
    head = cfg.MODEL.INS_EMBED_HEAD = type(cfg)()
    head.NAME = "PanopticDeepLabInsEmbedHead"
    head.IN_FEATURES = ["res2", "res3", "res5"]
    head.PROJECT_FEATURES = ["res2", "res3"]
    head.PROJECT_CHANNELS = [32, 64]
    head.ASPP_CHANNELS = 256
    head.ASPP_DILATIONS = [6, 12, 18]
    head.ASPP_DROPOUT = 0.1
    # Channels between the decoder and each of the two predictors.
    head.HEAD_CHANNELS = 32
    head.CONVS_DIM = 128
    head.COMMON_STRIDE = 4
    head.NORM = "SyncBN"
    # Factors on the losses of centers and offsets.
    head.CENTER_LOSS_WEIGHT = 200.0
    head.OFFSET_LOSS_WEIGHT = 0.01

    panoptic = cfg.MODEL.PANOPTIC_DEEPLAB = type(cfg)()
    # Stuff of a class that covers fewer pixels of the image than this is dropped.
    panoptic.STUFF_AREA = 2048
    # Minimum value of a center.
    panoptic.CENTER_THRESHOLD = 0.1
    # A center is the maximum of a window with this side, an odd number of pixels.
    panoptic.NMS_KERNEL = 7
    # Maximum number of centers in an image.
    panoptic.TOP_K_INSTANCE = 200
    # Also return things as instances with boxes, masks and scores, to evaluate them.
    panoptic.PREDICT_INSTANCES = True
    # Must equal SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV, which is the one that is read.
    panoptic.USE_DEPTHWISE_SEPARABLE_CONV = False
    # Pad images to multiples of this many pixels; -1: as the backbone requires. Training crops that
    # are pooled by their size (INPUT.CROP) need images padded to that size.
    panoptic.SIZE_DIVISIBILITY = -1
    # Return nothing at inference, to time the network without the grouping.
    panoptic.BENCHMARK_NETWORK_SPEED = False
