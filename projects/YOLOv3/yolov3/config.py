"""The settings of YOLOv3: MODEL.YOLOV3, MODEL.DARKNET and INPUT.YOLOV3."""

from d2lite.config import CfgNode


def add_yolov3_config(cfg: CfgNode) -> None:
    """Add the settings; the defaults are those of the paper on COCO, at 416 pixels."""
    _add_darknet(cfg.MODEL)
    _add_model(cfg.MODEL)

    # Settings of yolov3_augmentation, which changes training images.
    augmentation = cfg.INPUT.YOLOV3 = CfgNode()
    # Maximum relative change of width and of height; 0 for none.
    augmentation.JITTER = 0.3
    # Minimum and maximum factor on the size that just fits into the square. Smaller images are
    # placed anywhere in it, larger ones are cropped. (1.0, 1.0) without jitter: the letterbox.
    augmentation.SCALE_RANGE = (0.25, 2.0)
    # Maximum rotation of the hue, as a share of the full circle.
    augmentation.HUE = 0.1
    # Maximum factors on saturation and brightness; the minimum is their inverse. 1.0 for none.
    augmentation.SATURATION = 1.5
    augmentation.EXPOSURE = 1.5


def _add_darknet(model: CfgNode) -> None:
    darknet = model.DARKNET = CfgNode()
    # Factor on all channels, which stay multiples of 8.
    darknet.WIDTH = 1.0
    # Number of residual blocks in the five stages, with stride 2 to 32; these are Darknet-53's.
    darknet.BLOCKS = [1, 2, 8, 8, 4]
    # res1 to res5, with stride 2 to 32.
    darknet.OUT_FEATURES = ["res3", "res4", "res5"]
    # Norm after each convolution of backbone and head except the last ones. Darknet's weights need
    # "BN".
    darknet.NORM = "BN"


def _add_model(model: CfgNode) -> None:
    yolo = model.YOLOV3 = CfgNode()
    # Features for the heads, by ascending stride; each has twice the stride of the one before.
    yolo.IN_FEATURES = ["res3", "res4", "res5"]
    # Number of classes, without the background; -1: as many as the dataset has.
    yolo.NUM_CLASSES = 80
    # (width, height) in pixels, by ascending size; each feature gets an equal share of them.
    # tools/fit_anchors.py --formats yolo finds anchors for a dataset.
    yolo.ANCHORS = [
        *([10, 13], [16, 30], [33, 23]),
        *([30, 61], [62, 45], [59, 119]),
        *([116, 90], [156, 198], [373, 326]),
    ]
    # Side of the square into which images are put, in pixels; a multiple of the largest stride.
    yolo.IMAGE_SIZE = 416
    # Sides from which one is chosen in training (empty: IMAGE_SIZE), and the number of iterations
    # for which it is kept.
    yolo.TRAIN_SIZES = []
    yolo.TRAIN_SIZE_PERIOD = 10

    # Predictions without an object whose IoU with any object is above this have no objectness loss.
    yolo.IGNORE_THRESHOLD = 0.5
    # Objectness predicted by an untrained model.
    yolo.PRIOR_PROB = 0.01

    # Detections with lower scores (objectness times class probability) are dropped.
    yolo.SCORE_THRESH_TEST = 0.005
    # Number of candidates per image before non-maximum suppression.
    yolo.TOPK_CANDIDATES_TEST = 1000
    # IoU above which the lower-scoring of two boxes of a class is dropped.
    yolo.NMS_THRESH_TEST = 0.45
