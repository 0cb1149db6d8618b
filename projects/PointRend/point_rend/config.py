"""Settings of PointRend and Implicit PointRend."""

from d2lite.config import CfgNode


def add_pointrend_config(cfg: CfgNode) -> None:
    """Add MODEL.POINT_HEAD, MODEL.IMPLICIT_POINTREND and keys of MODEL.ROI_MASK_HEAD and INPUT."""
    # Training of semantic segmentation (INPUT.DATASET_MAPPER pointrend_sem_seg_mapper): whether to
    # change colors at random as in SSD, and the maximum share of a crop that one category may cover
    # (1.0: any). In detectron2, the project's `train_net.py` reads both.
    cfg.INPUT.COLOR_AUG_SSD = False
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0

    # The head of the coarse mask, or with Implicit PointRend of the parameters of the point head.
    head = cfg.MODEL.ROI_MASK_HEAD
    # Features that are sampled on a regular grid in each box.
    head.IN_FEATURES = ("p2",)
    # Width and number of the fully connected layers.
    head.FC_DIM = 1024
    head.NUM_FC = 2
    # Side of the coarse mask, in cells.
    head.OUTPUT_SIDE_RESOLUTION = 7
    # Whether the point head refines the coarse mask. Implicit PointRend always has a point head.
    head.POINT_HEAD_ON = False

    cfg.MODEL.POINT_HEAD = CfgNode()
    _add_point_head(cfg.MODEL.POINT_HEAD)

    cfg.MODEL.IMPLICIT_POINTREND = CfgNode()
    # Inputs of the point head: features of the image, an encoding of the point's position in the
    # box, or both. At least one must be on.
    cfg.MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED = True
    cfg.MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED = True
    # Weight of the loss "loss_l2", the mean square of the predicted parameters.
    cfg.MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER = 0.00001


def _add_point_head(head: CfgNode) -> None:
    # Name in POINT_HEAD_REGISTRY of the network that classifies points.
    head.NAME = "StandardPointHead"
    # Number of classes; must equal MODEL.ROI_HEADS.NUM_CLASSES, or MODEL.SEM_SEG_HEAD.NUM_CLASSES.
    head.NUM_CLASSES = 80
    # Features that are sampled at the points.
    head.IN_FEATURES = ("p2",)
    # Number of training points per box, or per image in semantic segmentation.
    head.TRAIN_NUM_POINTS = 14 * 14
    # This many times more points are drawn for training, of which the most uncertain are kept.
    head.OVERSAMPLE_RATIO = 3
    # Share of the training points that are chosen by uncertainty; the others are random.
    head.IMPORTANCE_SAMPLE_RATIO = 0.75
    # Inference: how often the prediction is doubled in size, and how many points are predicted each
    # time.
    head.SUBDIVISION_STEPS = 5
    head.SUBDIVISION_NUM_POINTS = 28 * 28
    # Width and number of the hidden layers.
    head.FC_DIM = 256
    head.NUM_FC = 3
    # Predict one mask for all classes.
    head.CLS_AGNOSTIC_MASK = False
    # Whether every hidden layer sees the coarse prediction, not only the first one.
    head.COARSE_PRED_EACH_LAYER = True
    # Name in SEM_SEG_HEADS_REGISTRY of the head for PointRendSemSegHead's coarse prediction.
    head.COARSE_SEM_SEG_HEAD_NAME = "SemSegFPNHead"
