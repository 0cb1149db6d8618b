"""The settings of YOLOv3: MODEL.YOLOV3, MODEL.DARKNET and INPUT.YOLOV3."""

from d2lite.config import CfgNode


def add_yolov3_config(cfg: CfgNode) -> None:
    """Add the settings; the defaults are those of the paper on COCO, at 416 pixels."""
    _add_darknet(cfg.MODEL)
    _add_model(cfg.MODEL)

    # Of yolov3_augmentation, which changes training images.
    augmentation = cfg.INPUT.YOLOV3 = CfgNode()
    # How far width and height may change against each other, as a share of them; 0 for not.
    augmentation.JITTER = 0.3
    # Least and largest factor on the size that just fits the square. What fits less is put
    # somewhere into it, what does not fit is cut off. (1.0, 1.0) with no jitter: the letterbox.
    augmentation.SCALE_RANGE = (0.25, 2.0)
    # Largest turn of the hue, as a share of the circle.
    augmentation.HUE = 0.1
    # Largest factors (and their inverses the least) on saturation and brightness; 1.0 for none.
    augmentation.SATURATION = 1.5
    augmentation.EXPOSURE = 1.5


def _add_darknet(model: CfgNode) -> None:
    darknet = model.DARKNET = CfgNode()
    # Factor on all channels, which stay multiples of 8.
    darknet.WIDTH = 1.0
    # Residual blocks of the five stages, of stride 2 to 32; these are Darknet-53's.
    darknet.BLOCKS = [1, 2, 8, 8, 4]
    # res1 to res5, of stride 2 to 32.
    darknet.OUT_FEATURES = ["res3", "res4", "res5"]
    # After each convolution of backbone and head, but the last ones. Darknet's weights need a
    # batch norm.
    darknet.NORM = "BN"


def _add_model(model: CfgNode) -> None:
    yolo = model.YOLOV3 = CfgNode()
    # Features that the heads stand on, by ascending stride; each twice the one before it.
    yolo.IN_FEATURES = ["res3", "res4", "res5"]
    # Classes; -1: as many as the dataset has. There is none for the background.
    yolo.NUM_CLASSES = 80
    # (width, height) in pixels, by size: an equal share for each feature.
    # tools/fit_anchors.py --formats yolo finds those of a dataset.
    yolo.ANCHORS = [
        *([10, 13], [16, 30], [33, 23]),
        *([30, 61], [62, 45], [59, 119]),
        *([116, 90], [156, 198], [373, 326]),
    ]
    # Side of the square that images are put into, in pixels; a multiple of the largest stride.
    yolo.IMAGE_SIZE = 416
    # Sides to choose from in training, anew every so many iterations; empty for IMAGE_SIZE alone.
    yolo.TRAIN_SIZES = []
    yolo.TRAIN_SIZE_PERIOD = 10

    # Predictions with no object whose box overlaps one by more than this IoU are not told so.
    yolo.IGNORE_THRESHOLD = 0.5
    # Objectness that an untrained model predicts.
    yolo.PRIOR_PROB = 0.01

    # Detections with lower scores (objectness times class probability) are dropped.
    yolo.SCORE_THRESH_TEST = 0.005
    # Candidates of an image before non-maximum suppression.
    yolo.TOPK_CANDIDATES_TEST = 1000
    # IoU above which the lower-scoring of two boxes of a class is dropped.
    yolo.NMS_THRESH_TEST = 0.45
