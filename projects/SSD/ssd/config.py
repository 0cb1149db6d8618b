"""Settings of SSD and of the VGG-16 backbone."""

from d2lite.config import CfgNode


def add_ssd_config(cfg: CfgNode) -> None:
    """Add MODEL.SSD, MODEL.VGG and INPUT.SSD; the defaults are those of SSD300 on COCO."""
    _add_model(cfg.MODEL)
    cfg.MODEL.VGG = CfgNode()
    # conv1 to conv5: the features after the last convolution of each block, with stride 1 to 16.
    cfg.MODEL.VGG.OUT_FEATURES = ["conv5"]

    # Settings of ssd_augmentation, which changes training images.
    cfg.INPUT.SSD = CfgNode()
    # Probability of each change of brightness, contrast, saturation and hue; 0 for none.
    cfg.INPUT.SSD.PHOTOMETRIC_PROB = 0.5
    # Probability that an image is placed on a canvas of the mean color, and the maximum ratio of
    # the sides of the canvas to those of the image.
    cfg.INPUT.SSD.EXPAND_PROB = 0.5
    cfg.INPUT.SSD.EXPAND_RATIO = 4.0
    # Minimum IoUs of a random crop with every object; empty for no crops.
    cfg.INPUT.SSD.CROP_MIN_IOUS = (0.1, 0.3, 0.5, 0.7, 0.9)


def _add_model(model: CfgNode) -> None:
    ssd = model.SSD = CfgNode()
    # Side of the square that all images are resized to, in pixels.
    ssd.IMAGE_SIZE = 300
    # Classes without the background; -1: as many as the dataset has.
    ssd.NUM_CLASSES = 80

    # Default boxes. SCALES: sides as shares of the image's side, one per level and one more.
    # ASPECT_RATIOS: aspect ratios per level in addition to 1; each is also used inverted. STEPS:
    # pixels per cell for each level; empty: the image's side divided by that of the feature map.
    ssd.SCALES = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
    ssd.ASPECT_RATIOS = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
    ssd.STEPS = [8, 16, 32, 64, 100, 300]

    # SSDHead (one convolution) or SSDLiteHead (a depthwise and a pointwise one).
    ssd.HEAD = "SSDHead"
    # The network of build_ssd_mobilenet_backbone: mobilenet_v2, mobilenet_v3_large or
    # mobilenet_v3_small; the factor on its channels; and whether to halve the channels of V3's last
    # layers (table 6 of its paper; False for ImageNet weights).
    ssd.MOBILENET_ARCH = "mobilenet_v3_large"
    ssd.MOBILENET_WIDTH_MULT = 1.0
    ssd.MOBILENET_REDUCED_TAIL = True

    # Minimum IoU with an object for a default box to be foreground.
    ssd.IOU_THRESHOLD = 0.5
    # Factors on (dx, dy, dw, dh).
    ssd.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
    # Number of background boxes trained per foreground box: those with the highest loss.
    ssd.NEGATIVE_RATIO = 3.0
    # Below this difference, the smooth L1 loss of the boxes is quadratic.
    ssd.SMOOTH_L1_BETA = 1.0

    # Detections with lower scores are dropped.
    ssd.SCORE_THRESH_TEST = 0.01
    # Number of candidates per class before non-maximum suppression.
    ssd.TOPK_CANDIDATES_TEST = 400
    # IoU above which the lower-scoring of two boxes of a class is dropped.
    ssd.NMS_THRESH_TEST = 0.45
