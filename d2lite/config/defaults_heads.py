"""Defaults of MODEL: ROI heads, dense detectors and segmentation."""

from fvcore.common.config import CfgNode as _CfgNode

__all__ = ["add_head_defaults"]


def add_head_defaults(cfg: _CfgNode) -> None:
    """Add the groups of MODEL that predict; `cfg` has MODEL."""
    model, node = cfg.MODEL, type(cfg)
    for group, add in (
        ("ROI_HEADS", _add_roi_heads),
        ("ROI_BOX_HEAD", _add_box_head),
        ("ROI_BOX_CASCADE_HEAD", _add_cascade_head),
        ("ROI_MASK_HEAD", _add_mask_head),
        ("ROI_KEYPOINT_HEAD", _add_keypoint_head),
        ("SEM_SEG_HEAD", _add_sem_seg_head),
        ("PANOPTIC_FPN", _add_panoptic_fpn),
        ("RETINANET", _add_retinanet),
    ):
        model[group] = node()
        add(model[group])


def _add_roi_heads(heads: _CfgNode) -> None:
    # Name in ROI_HEADS_REGISTRY: Res5ROIHeads, StandardROIHeads, CascadeROIHeads, RROIHeads.
    heads.NAME = "Res5ROIHeads"
    # Classes of objects, without background; -1: as many as the training data have.
    heads.NUM_CLASSES = 80
    # Feature maps that the heads crop from.
    heads.IN_FEATURES = ["res4"]
    # IoU with the best ground-truth box from which on a proposal is an object; labels of the
    # ranges below and above.
    heads.IOU_THRESHOLDS = [0.5]
    heads.IOU_LABELS = [0, 1]
    # Proposals that the heads train on, per image.
    heads.BATCH_SIZE_PER_IMAGE = 512
    # The greatest share of objects among them, in [0, 1].
    heads.POSITIVE_FRACTION = 0.25
    # Drop detections of a lower score, in [0, 1]. Raising it makes inference faster, AP lower.
    heads.SCORE_THRESH_TEST = 0.05
    # IoU above which NMS drops the lower of two detections of one class.
    heads.NMS_THRESH_TEST = 0.5
    # Train on the ground-truth boxes as if they were proposals too.
    heads.PROPOSAL_APPEND_GT = True


def _add_box_head(head: _CfgNode) -> None:
    # Name in ROI_BOX_HEAD_REGISTRY, such as FastRCNNConvFCHead; Res5ROIHeads needs none.
    head.NAME = ""
    # Box loss: smooth_l1, or on decoded boxes giou, diou, ciou.
    head.BBOX_REG_LOSS_TYPE = "smooth_l1"
    head.BBOX_REG_LOSS_WEIGHT = 1.0
    # Factors of (dx, dy, dw, dh), which bring them to a similar size.
    head.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
    # Where smooth L1 turns from quadratic to linear; 0 is plain L1.
    head.SMOOTH_L1_BETA = 0.0
    # Side of the pooled map, in cells.
    head.POOLER_RESOLUTION = 14
    # Samples per cell and axis; 0: as many as the box's size asks for.
    head.POOLER_SAMPLING_RATIO = 0
    # ROIAlignV2, ROIAlign (the older one, off by half a pixel), ROIPool, ROIAlignRotated.
    head.POOLER_TYPE = "ROIAlignV2"
    # Fully connected layers, and their width.
    head.NUM_FC = 0
    head.FC_DIM = 1024
    # 3x3 convolutions before them, their channels and normalization ("" or a name).
    head.NUM_CONV = 0
    head.CONV_DIM = 256
    head.NORM = ""
    # One box per proposal for all classes, or one for each class.
    head.CLS_AGNOSTIC_BBOX_REG = False
    # Train the mask and keypoint heads on the boxes predicted here, not on the proposals.
    head.TRAIN_ON_PRED_BOXES = False
    # Federated loss (for LVIS): a sample of classes counts in each step; needs USE_SIGMOID_CE.
    head.USE_FED_LOSS = False
    # One sigmoid per class instead of a softmax over all.
    head.USE_SIGMOID_CE = False
    # Classes are drawn in proportion to their image count to this power.
    head.FED_LOSS_FREQ_WEIGHT_POWER = 0.5
    # The least number of classes in the sample.
    head.FED_LOSS_NUM_CLASSES = 50


def _add_cascade_head(head: _CfgNode) -> None:
    # One entry per stage. The first ones must equal ROI_BOX_HEAD.BBOX_REG_WEIGHTS and
    # ROI_HEADS.IOU_THRESHOLDS, which serve the first stage.
    head.BBOX_REG_WEIGHTS = (
        (10.0, 10.0, 5.0, 5.0),
        (20.0, 20.0, 10.0, 10.0),
        (30.0, 30.0, 15.0, 15.0),
    )
    # IoU from which on a box is an object.
    head.IOUS = (0.5, 0.6, 0.7)


def _add_mask_head(head: _CfgNode) -> None:
    # Name in ROI_MASK_HEAD_REGISTRY.
    head.NAME = "MaskRCNNConvUpsampleHead"
    # Side of the pooled map, in cells; the mask is twice as large.
    head.POOLER_RESOLUTION = 14
    # Samples per cell and axis; 0: as many as the box's size asks for.
    head.POOLER_SAMPLING_RATIO = 0
    # 3x3 convolutions before upsampling, their channels and normalization ("" or a name).
    head.NUM_CONV = 0
    head.CONV_DIM = 256
    head.NORM = ""
    # One mask for all classes, or one for each class.
    head.CLS_AGNOSTIC_MASK = False
    # As ROI_BOX_HEAD.POOLER_TYPE.
    head.POOLER_TYPE = "ROIAlignV2"


def _add_keypoint_head(head: _CfgNode) -> None:
    # Name in ROI_KEYPOINT_HEAD_REGISTRY.
    head.NAME = "KRCNNConvDeconvUpsampleHead"
    # As those of ROI_BOX_HEAD.
    head.POOLER_RESOLUTION = 14
    head.POOLER_SAMPLING_RATIO = 0
    # Channels of the 3x3 convolutions.
    head.CONV_DIMS = tuple(512 for _ in range(8))
    # Keypoints of an object; 17 in COCO's persons.
    head.NUM_KEYPOINTS = 17
    # Leave out training images with fewer annotated keypoints than this.
    head.MIN_KEYPOINTS_PER_IMAGE = 1
    # Divide the loss by the number of visible keypoints in the batch (True), or by the most that a
    # batch can have (False), which gives images with few keypoints less weight.
    head.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = True
    # Factor of the loss.
    head.LOSS_WEIGHT = 1.0
    # As ROI_BOX_HEAD.POOLER_TYPE.
    head.POOLER_TYPE = "ROIAlignV2"


def _add_sem_seg_head(head: _CfgNode) -> None:
    # Name in SEM_SEG_HEADS_REGISTRY.
    head.NAME = "SemSegFPNHead"
    # Feature maps to predict on.
    head.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    # Label of pixels that do not count.
    head.IGNORE_VALUE = 255
    # Classes, with the "things" class 0 in panoptic data; -1: as many as the training data have.
    head.NUM_CLASSES = 54
    # Channels of the convolutions.
    head.CONVS_DIM = 128
    # Stride that all feature maps are brought to before they are added.
    head.COMMON_STRIDE = 4
    # Normalization: "" or GN, or another name.
    head.NORM = "GN"
    # Factor of the loss.
    head.LOSS_WEIGHT = 1.0


def _add_panoptic_fpn(panoptic: _CfgNode) -> None:
    # Factor of the losses of the instance heads.
    panoptic.INSTANCE_LOSS_WEIGHT = 1.0
    panoptic.COMBINE = type(panoptic)()
    # Merge instances and semantic segmentation at test time. (detectron2 has the key, but always
    # merges; the same here.)
    panoptic.COMBINE.ENABLED = True
    # Drop an instance if more than this share of it is covered by better ones.
    panoptic.COMBINE.OVERLAP_THRESH = 0.5
    # Drop stuff segments of fewer pixels.
    panoptic.COMBINE.STUFF_AREA_LIMIT = 4096
    # Drop instances of a lower score.
    panoptic.COMBINE.INSTANCES_CONFIDENCE_THRESH = 0.5


def _add_retinanet(retinanet: _CfgNode) -> None:
    # Classes of objects; -1: as many as the training data have.
    retinanet.NUM_CLASSES = 80
    # Feature maps to predict on.
    retinanet.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # 3x3 convolutions before the predictions, in each of the two branches.
    retinanet.NUM_CONVS = 4
    # As those of MODEL.RPN.
    retinanet.IOU_THRESHOLDS = [0.4, 0.5]
    retinanet.IOU_LABELS = [0, -1, 1]
    # Probability of an object that the untrained network predicts everywhere.
    retinanet.PRIOR_PROB = 0.01
    # Drop detections of a lower score, in [0, 1].
    retinanet.SCORE_THRESH_TEST = 0.05
    # Best detections of each feature map that go into NMS.
    retinanet.TOPK_CANDIDATES_TEST = 1000
    # IoU above which NMS drops the lower of two detections of one class.
    retinanet.NMS_THRESH_TEST = 0.5
    # Factors of (dx, dy, dw, dh).
    retinanet.BBOX_REG_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
    # Focal loss: how much easy examples are weighed down, and the weight of objects against
    # background, in [0, 1].
    retinanet.FOCAL_LOSS_GAMMA = 2.0
    retinanet.FOCAL_LOSS_ALPHA = 0.25
    # Where smooth L1 turns from quadratic to linear.
    retinanet.SMOOTH_L1_LOSS_BETA = 0.1
    # Box loss: smooth_l1, or on decoded boxes giou, diou, ciou.
    retinanet.BBOX_REG_LOSS_TYPE = "smooth_l1"
    # Normalization of the branches: "", or a name; BN and SyncBN keep separate statistics for each
    # feature map.
    retinanet.NORM = ""
