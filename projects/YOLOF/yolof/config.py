"""Settings of YOLOF."""

from d2lite.config import CfgNode


def add_yolof_config(cfg: CfgNode) -> None:
    """Add MODEL.YOLOF and INPUT.SHIFT; the defaults are those of the paper."""
    yolof = cfg.MODEL.YOLOF = CfgNode()
    # The one feature of the backbone that is used.
    yolof.IN_FEATURE = "res5"
    _add_encoder(yolof)
    _add_decoder(yolof)
    # Factors on (dx, dy, dw, dh).
    yolof.BBOX_REG_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
    # Maximum distance of the center of a box from that of its anchor along each axis, in pixels.
    yolof.CTR_CLAMP = 32.0

    yolof.MATCHER = CfgNode()
    # Each object gets this many nearest anchors, and the anchors of this many nearest predictions.
    yolof.MATCHER.TOPK = 4
    # Of these, anchors whose IoU with the object is lower are ignored.
    yolof.MATCHER.POS_IGNORE_THRESHOLD = 0.15
    # Of all others, those whose prediction has a higher IoU with an object are ignored.
    yolof.MATCHER.NEG_IGNORE_THRESHOLD = 0.7

    # Focal loss: the weight of foreground entries, and the exponent that lowers the weight of
    # entries that are already correct.
    yolof.FOCAL_LOSS_ALPHA = 0.25
    yolof.FOCAL_LOSS_GAMMA = 2.0

    # Detections with lower scores are dropped.
    yolof.SCORE_THRESH_TEST = 0.05
    # Number of candidates before non-maximum suppression.
    yolof.TOPK_CANDIDATES_TEST = 1000
    # IoU above which the lower-scoring of two boxes of a class is dropped.
    yolof.NMS_THRESH_TEST = 0.6

    # For INPUT.AUGMENTATION resize_shift_and_flip: the probability that a training image is
    # shifted, and the maximum shift along each axis in pixels.
    cfg.INPUT.SHIFT = CfgNode()
    cfg.INPUT.SHIFT.PROB = 0.5
    cfg.INPUT.SHIFT.MAX_PIXELS = 32


def _add_encoder(yolof: CfgNode) -> None:
    encoder = yolof.ENCODER = CfgNode()
    # Output channels of the encoder, and channels within its residual blocks.
    encoder.NUM_CHANNELS = 512
    encoder.BLOCK_MID_CHANNELS = 128
    # A residual block for each of these dilations.
    encoder.BLOCK_DILATIONS = [2, 4, 6, 8]
    # "BN", "SyncBN", "GN".
    encoder.NORM = "BN"


def _add_decoder(yolof: CfgNode) -> None:
    decoder = yolof.DECODER = CfgNode()
    # Number of classes, without the background; -1: as many as the dataset has.
    decoder.NUM_CLASSES = 80
    # Number of 3x3 convolutions before the classes, and before boxes and objectness.
    decoder.CLS_NUM_CONVS = 2
    decoder.REG_NUM_CONVS = 4
    # "BN", "SyncBN", "GN".
    decoder.NORM = "BN"
    # Score of every class before training, in (0, 1).
    decoder.PRIOR_PROB = 0.01
