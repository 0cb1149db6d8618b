"""The settings of RetinaFace: MODEL.RETINAFACE."""

from d2lite.config import CfgNode


def add_retinaface_config(cfg: CfgNode) -> None:
    """Add MODEL.RETINAFACE to the defaults.

    Anchors are those of MODEL.ANCHOR_GENERATOR; the pyramid is that of MODEL.FPN. The landmarks
    are keypoints, so MODEL.KEYPOINT_ON False leaves them out.
    """
    face = cfg.MODEL.RETINAFACE = CfgNode()
    # The backbone of the pyramid: any registered one that has MODEL.FPN.IN_FEATURES.
    face.BOTTOM_UP = "build_mobilenet_v1_backbone"
    # Factor on the channels of MobileNetV1.
    face.MOBILENET_WIDTH = 0.25
    # Slope below 0 of the activations of MobileNetV1, pyramid and context modules. 0.0 is ReLU, as
    # in the weights of Face-Detector-1MB-with-landmark; those of Pytorch_Retinaface need 0.1.
    face.NEGATIVE_SLOPE = 0.0
    # Levels of the pyramid that the heads use.
    face.IN_FEATURES = ["p3", "p4", "p5"]

    # Number of classes without the background.
    face.NUM_CLASSES = 1
    # Number of landmarks per face.
    face.NUM_LANDMARKS = 5

    # An anchor is background if its IoU with its best face is below the first threshold, a face if
    # it is at least the second, and ignored in between (sec. 3.3). The best anchors of each face
    # always count as faces.
    face.IOU_THRESHOLDS = [0.3, 0.5]
    face.IOU_LABELS = [0, -1, 1]
    # Factors on (dx, dy, dw, dh): 1 / 0.1 and 1 / 0.2, the "variances" of SSD.
    face.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
    # The same for the offsets of landmarks.
    face.LANDMARK_REG_WEIGHT = 10.0

    # Number of background anchors per face anchor: those with the highest loss. At least 3 in the
    # paper.
    face.NEGATIVE_RATIO = 7.0
    # Weights of the losses relative to that of the classes (lambda 1 and 2 of eq. 1: 0.25 and 0.1).
    face.BOX_LOSS_WEIGHT = 2.0
    face.LANDMARK_LOSS_WEIGHT = 1.0

    # Detections with lower scores are dropped.
    face.SCORE_THRESH_TEST = 0.02
    # Number of candidates per image before non-maximum suppression.
    face.TOPK_CANDIDATES_TEST = 5000
    # IoU above which the lower-scoring of two faces is dropped.
    face.NMS_THRESH_TEST = 0.4
