"""The default of every config key: one full key per line, so that searching for it ends here.

The comment above a key says what it means, its unit, and which values are allowed. A value from a
file or the command line must have the type of the default (lists and tuples turn into each other).
"(d2lite)" marks keys that detectron2 does not have; their defaults keep its behavior.
"""

from d2lite.config.cfg_node import CfgNode
from d2lite.config.compat import CURRENT_VERSION

_C = CfgNode()

# Version of the key names. Files of an older version are upgraded when they are merged.
_C.VERSION = CURRENT_VERSION

# ---------------------------------------------------------------------------------------------
# The model as a whole
# ---------------------------------------------------------------------------------------------
_C.MODEL = CfgNode()
# Name in META_ARCH_REGISTRY: GeneralizedRCNN, ProposalNetwork, RetinaNet, FCOS, PanopticFPN,
# SemanticSegmentor, or one that a project adds.
_C.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
# A torch device: "cuda", "cuda:1", "mps", "cpu"; or "auto" for the best one present, which
# replaces it as soon as it is set.
_C.MODEL.DEVICE = "auto"
# Weights to start from: a path, an https://, detectron2:// or torchvision:// address, or "" for
# random weights.
_C.MODEL.WEIGHTS = ""

# Build a mask head, and read masks from the dataset. True or False.
_C.MODEL.MASK_ON = False
# Build a keypoint head, and read keypoints from the dataset. True or False.
_C.MODEL.KEYPOINT_ON = False
# Read proposals from DATASETS.PROPOSAL_FILES_* instead of computing them. True or False.
_C.MODEL.LOAD_PROPOSALS = False

# (d2lite) Patterns such as ("backbone.*", "*.bias") of names of parameters to freeze. Batch norms
# among them keep their running statistics. A pattern that matches nothing is an error.
_C.MODEL.FREEZE = ()

# Mean of the pixels, which is subtracted: one value per channel in the order of INPUT.FORMAT, for
# pixels in [0, 255]. The default suits BGR images and weights converted from Caffe2; torchvision's
# weights expect [123.675, 116.280, 103.530] with INPUT.FORMAT "RGB".
_C.MODEL.PIXEL_MEAN = [103.530, 116.280, 123.675]
# Standard deviation of the pixels, by which they are divided afterward. Caffe2's weights have it
# absorbed in their first layer; torchvision's expect [58.395, 57.120, 57.375].
_C.MODEL.PIXEL_STD = [1.0, 1.0, 1.0]

# ---------------------------------------------------------------------------------------------
# Backbone and feature pyramid
# ---------------------------------------------------------------------------------------------
_C.MODEL.BACKBONE = CfgNode()
# Name in BACKBONE_REGISTRY: build_resnet_backbone, build_resnet_fpn_backbone,
# build_retinanet_resnet_fpn_backbone, one of timm (MODEL.TIMM_MODEL), or one that a project adds.
_C.MODEL.BACKBONE.NAME = "build_resnet_backbone"
# Number of stages to freeze, from 0 to 5: 0 trains everything, 1 freezes the stem, 2 also res2,
# and so on.
_C.MODEL.BACKBONE.FREEZE_AT = 2

_C.MODEL.FPN = CfgNode()
# Names of the backbone's feature maps that the pyramid is built on, finest first.
_C.MODEL.FPN.IN_FEATURES = []
# Channels of every level of the pyramid.
_C.MODEL.FPN.OUT_CHANNELS = 256
# Normalization of its convolutions: "" for none, or BN, SyncBN, FrozenBN, GN, LN, naiveSyncBN.
_C.MODEL.FPN.NORM = ""
# How a coarse level and the next finer one are merged: "sum" or "avg".
_C.MODEL.FPN.FUSE_TYPE = "sum"

_C.MODEL.RESNETS = CfgNode()
# Number of layers: 18, 34, 50, 101 or 152.
_C.MODEL.RESNETS.DEPTH = 50
# Feature maps to return, out of "stem", "res2", "res3", "res4", "res5".
_C.MODEL.RESNETS.OUT_FEATURES = ["res4"]
# Groups of the 3x3 convolutions: 1 for ResNet, 32 or 64 for ResNeXt.
_C.MODEL.RESNETS.NUM_GROUPS = 1
# Channels per group in res2, doubled at each stage: 64 for ResNet, 4 or 8 for ResNeXt.
_C.MODEL.RESNETS.WIDTH_PER_GROUP = 64
# Normalization of all convolutions: "" for none, or FrozenBN, BN, SyncBN, GN, LN, naiveSyncBN.
_C.MODEL.RESNETS.NORM = "FrozenBN"
# Where a bottleneck block has its stride: True for the first 1x1 convolution (weights of Caffe2
# and MSRA), False for the 3x3 one (weights of torchvision).
_C.MODEL.RESNETS.STRIDE_IN_1X1 = True
# Dilation of res5: 1, or 2 to keep the stride of res4 (DC5).
_C.MODEL.RESNETS.RES5_DILATION = 1
# Channels of the output of res2, doubled at each stage: 256, or 64 for depths 18 and 34.
_C.MODEL.RESNETS.RES2_OUT_CHANNELS = 256
# Channels of the stem.
_C.MODEL.RESNETS.STEM_OUT_CHANNELS = 64
# Whether res2, res3, res4 and res5 have deformable convolutions.
_C.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False, False, False, False]
# Deformable convolution with a learned mask (version 2) if True, without (version 1) if False.
_C.MODEL.RESNETS.DEFORM_MODULATED = False
# Number of groups of channels, each of which has offsets of its own.
_C.MODEL.RESNETS.DEFORM_NUM_GROUPS = 1

# (d2lite) A network of timm as the backbone: BACKBONE.NAME build_timm_model_backbone,
# build_timm_model_fpn_backbone or build_retinanet_timm_model_fpn_backbone. Its feature map of
# stride 4 is named res2, that of stride 8 res3, and so on; BACKBONE.FREEZE_AT freezes everything up
# to the feature map with that number. The keys of RESNETS have no effect on it.
_C.MODEL.TIMM_MODEL = CfgNode()
# (d2lite) Name of the timm model, such as "convnext_tiny" or "mobilenetv3_small_100".
_C.MODEL.TIMM_MODEL.NAME = "resnet50"
# (d2lite) Start from timm's pretrained weights, which it downloads. They expect RGB pixels: set
# INPUT.FORMAT, PIXEL_MEAN and PIXEL_STD. True or False.
_C.MODEL.TIMM_MODEL.PRETRAINED = False
# (d2lite) Indices of timm's feature maps to return, finest first; [] for one of each stride.
_C.MODEL.TIMM_MODEL.OUT_INDICES = []
# (d2lite) Its batch norms: "" leaves them as they are, "FrozenBN" freezes all, "SyncBN" computes
# their statistics over all GPUs.
_C.MODEL.TIMM_MODEL.NORM = ""

# ---------------------------------------------------------------------------------------------
# Anchors and proposals
# ---------------------------------------------------------------------------------------------
_C.MODEL.PROPOSAL_GENERATOR = CfgNode()
# Name in PROPOSAL_GENERATOR_REGISTRY: RPN, RRPN (rotated boxes) or PrecomputedProposals.
_C.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
# Drop proposals with a side of this many pixels or less, measured in the network's input.
_C.MODEL.PROPOSAL_GENERATOR.MIN_SIZE = 0

_C.MODEL.ANCHOR_GENERATOR = CfgNode()
# Name in ANCHOR_GENERATOR_REGISTRY: DefaultAnchorGenerator or RotatedAnchorGenerator.
_C.MODEL.ANCHOR_GENERATOR.NAME = "DefaultAnchorGenerator"
# Anchor sizes, the square roots of their areas, in pixels of the network's input: one list per
# feature map, or a single list for all of them.
_C.MODEL.ANCHOR_GENERATOR.SIZES = [[32, 64, 128, 256, 512]]
# Ratios of height to width: one list per feature map, or a single list for all of them.
_C.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
# Angles in degrees, counterclockwise, for RotatedAnchorGenerator: one list per feature map, or a
# single list for all of them.
_C.MODEL.ANCHOR_GENERATOR.ANGLES = [[-90, 0, 90]]
# Where an anchor's center lies in its cell, as a fraction of the stride in [0, 1): 0 the top left
# corner, 0.5 the middle.
_C.MODEL.ANCHOR_GENERATOR.OFFSET = 0.0

_C.MODEL.RPN = CfgNode()
# Name in RPN_HEAD_REGISTRY: StandardRPNHead, or one that a project adds.
_C.MODEL.RPN.HEAD_NAME = "StandardRPNHead"
# Feature maps to predict on.
_C.MODEL.RPN.IN_FEATURES = ["res4"]
# In training, leave out anchors that reach more than this many pixels beyond the image; -1 keeps
# all of them.
_C.MODEL.RPN.BOUNDARY_THRESH = -1
# Limits, ascending in [0, 1], of an anchor's IoU with the best ground-truth box; they separate the
# ranges that IOU_LABELS names.
_C.MODEL.RPN.IOU_THRESHOLDS = [0.3, 0.7]
# Labels of those ranges, lowest first: 0 background, -1 ignored, 1 object.
_C.MODEL.RPN.IOU_LABELS = [0, -1, 1]
# Number of anchors per image that the loss is computed on.
_C.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 256
# Maximum fraction of objects among them, in [0, 1].
_C.MODEL.RPN.POSITIVE_FRACTION = 0.5
# Box loss: "smooth_l1" on deltas, or "giou", "diou" or "ciou" on decoded boxes.
_C.MODEL.RPN.BBOX_REG_LOSS_TYPE = "smooth_l1"
# Weight of the box loss, besides LOSS_WEIGHT.
_C.MODEL.RPN.BBOX_REG_LOSS_WEIGHT = 1.0
# Factors of the deltas (dx, dy, dw, dh), or of (dx, dy, dw, dh, da) for RRPN.
_C.MODEL.RPN.BBOX_REG_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
# Where smooth L1 changes from quadratic to linear, at least 0; 0 is plain L1.
_C.MODEL.RPN.SMOOTH_L1_BETA = 0.0
# Weight of the losses of the RPN.
_C.MODEL.RPN.LOSS_WEIGHT = 1.0
# In training, number of top-scoring proposals per feature map that go into NMS.
_C.MODEL.RPN.PRE_NMS_TOPK_TRAIN = 12000
# The same at test time.
_C.MODEL.RPN.PRE_NMS_TOPK_TEST = 6000
# In training, number of top-scoring proposals per image, over all feature maps, kept after NMS.
_C.MODEL.RPN.POST_NMS_TOPK_TRAIN = 2000
# The same at test time.
_C.MODEL.RPN.POST_NMS_TOPK_TEST = 1000
# IoU in [0, 1] above which NMS drops the lower-scoring one of two proposals.
_C.MODEL.RPN.NMS_THRESH = 0.7
# Output channels of the convolutions before the predictions; -1 for as many as the input has.
_C.MODEL.RPN.CONV_DIMS = [-1]

# ---------------------------------------------------------------------------------------------
# ROI heads
# ---------------------------------------------------------------------------------------------
_C.MODEL.ROI_HEADS = CfgNode()
# Name in ROI_HEADS_REGISTRY: Res5ROIHeads, StandardROIHeads, CascadeROIHeads, RROIHeads, or one
# that a project adds.
_C.MODEL.ROI_HEADS.NAME = "Res5ROIHeads"
# Number of object classes, without background; -1 for as many as the training dataset has.
_C.MODEL.ROI_HEADS.NUM_CLASSES = 80
# Feature maps that the heads crop from.
_C.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
# Limits, ascending in [0, 1], of a proposal's IoU with the best ground-truth box; they separate
# the ranges that IOU_LABELS names.
_C.MODEL.ROI_HEADS.IOU_THRESHOLDS = [0.5]
# Labels of those ranges, lowest first: 0 background, -1 ignored, 1 object.
_C.MODEL.ROI_HEADS.IOU_LABELS = [0, 1]
# Number of proposals per image that the heads train on.
_C.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 512
# Maximum fraction of objects among them, in [0, 1].
_C.MODEL.ROI_HEADS.POSITIVE_FRACTION = 0.25
# Drop detections with a lower score, in [0, 1]. A higher value speeds up inference and lowers AP.
_C.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.05
# IoU in [0, 1] above which NMS drops the lower-scoring one of two detections of a class.
_C.MODEL.ROI_HEADS.NMS_THRESH_TEST = 0.5
# In training, add the ground-truth boxes to the proposals. True or False.
_C.MODEL.ROI_HEADS.PROPOSAL_APPEND_GT = True

_C.MODEL.ROI_BOX_HEAD = CfgNode()
# Name in ROI_BOX_HEAD_REGISTRY: FastRCNNConvFCHead, or one that a project adds; Res5ROIHeads needs
# none.
_C.MODEL.ROI_BOX_HEAD.NAME = ""
# Box loss: "smooth_l1" on deltas, or "giou", "diou" or "ciou" on decoded boxes.
_C.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE = "smooth_l1"
# Weight of the box loss.
_C.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT = 1.0
# Factors of the deltas (dx, dy, dw, dh), which bring them to a similar scale.
_C.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
# Where smooth L1 changes from quadratic to linear, at least 0; 0 is plain L1.
_C.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA = 0.0
# Side of the pooled feature map, in cells.
_C.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 14
# Samples per cell along each axis; 0 for a number that depends on the size of the box.
_C.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO = 0
# "ROIAlignV2", "ROIAlign" (the older one, off by half a pixel), "ROIPool" or "ROIAlignRotated".
_C.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIAlignV2"
# Number of fully connected layers.
_C.MODEL.ROI_BOX_HEAD.NUM_FC = 0
# Channels of the fully connected layers.
_C.MODEL.ROI_BOX_HEAD.FC_DIM = 1024
# Number of 3x3 convolutions before the fully connected layers.
_C.MODEL.ROI_BOX_HEAD.NUM_CONV = 0
# Channels of those convolutions.
_C.MODEL.ROI_BOX_HEAD.CONV_DIM = 256
# Normalization of those convolutions: "" for none, or BN, SyncBN, FrozenBN, GN, LN, naiveSyncBN.
_C.MODEL.ROI_BOX_HEAD.NORM = ""
# Predict one box per proposal for all classes (True), or one for each class (False).
_C.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = False
# Train the mask and keypoint heads on the boxes predicted here (True), or on the proposals (False).
_C.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES = False
# Compute the classification loss on a sample of the classes in each step (federated loss, for
# LVIS); needs USE_SIGMOID_CE. True or False.
_C.MODEL.ROI_BOX_HEAD.USE_FED_LOSS = False
# Classify by one sigmoid per class (True), or by a softmax over all classes (False).
_C.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE = False
# The federated loss samples classes in proportion to their image count raised to this power.
_C.MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER = 0.5
# Minimum number of classes in the sample of the federated loss.
_C.MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES = 50

_C.MODEL.ROI_BOX_CASCADE_HEAD = CfgNode()
# Factors of the deltas (dx, dy, dw, dh), for each stage. The first entry must be equal to
# ROI_BOX_HEAD.BBOX_REG_WEIGHTS.
_C.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS = (
    (10.0, 10.0, 5.0, 5.0),
    (20.0, 20.0, 10.0, 10.0),
    (30.0, 30.0, 15.0, 15.0),
)
# IoU in [0, 1] from which a proposal counts as an object, for each stage. The first entry must be
# equal to ROI_HEADS.IOU_THRESHOLDS.
_C.MODEL.ROI_BOX_CASCADE_HEAD.IOUS = (0.5, 0.6, 0.7)

_C.MODEL.ROI_MASK_HEAD = CfgNode()
# Name in ROI_MASK_HEAD_REGISTRY: MaskRCNNConvUpsampleHead, or one that a project adds.
_C.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
# Side of the pooled feature map, in cells; the predicted mask is twice as large.
_C.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 14
# Samples per cell along each axis; 0 for a number that depends on the size of the box.
_C.MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO = 0
# Number of 3x3 convolutions before upsampling.
_C.MODEL.ROI_MASK_HEAD.NUM_CONV = 0
# Channels of those convolutions.
_C.MODEL.ROI_MASK_HEAD.CONV_DIM = 256
# Normalization of those convolutions: "" for none, or BN, SyncBN, FrozenBN, GN, LN, naiveSyncBN.
_C.MODEL.ROI_MASK_HEAD.NORM = ""
# Predict one mask per box for all classes (True), or one for each class (False).
_C.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = False
# See ROI_BOX_HEAD.POOLER_TYPE.
_C.MODEL.ROI_MASK_HEAD.POOLER_TYPE = "ROIAlignV2"

_C.MODEL.ROI_KEYPOINT_HEAD = CfgNode()
# Name in ROI_KEYPOINT_HEAD_REGISTRY: KRCNNConvDeconvUpsampleHead, or one that a project adds.
_C.MODEL.ROI_KEYPOINT_HEAD.NAME = "KRCNNConvDeconvUpsampleHead"
# Side of the pooled feature map, in cells; the predicted heatmap is four times as large.
_C.MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION = 14
# Samples per cell along each axis; 0 for a number that depends on the size of the box.
_C.MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO = 0
# Channels of the 3x3 convolutions, one value for each of them.
_C.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = (512, 512, 512, 512, 512, 512, 512, 512)
# Number of keypoints per object; 17 for COCO's persons.
_C.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 17
# Leave out training images that have fewer annotated keypoints than this.
_C.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 1
# Divide the loss by the number of visible keypoints in the batch (True), or by the largest number
# that a batch can have (False), which gives less weight to images with few keypoints.
_C.MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = True
# Weight of the keypoint loss.
_C.MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT = 1.0
# See ROI_BOX_HEAD.POOLER_TYPE.
_C.MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE = "ROIAlignV2"

# ---------------------------------------------------------------------------------------------
# Semantic and panoptic segmentation
# ---------------------------------------------------------------------------------------------
_C.MODEL.SEM_SEG_HEAD = CfgNode()
# Name in SEM_SEG_HEADS_REGISTRY: SemSegFPNHead, or one that a project adds.
_C.MODEL.SEM_SEG_HEAD.NAME = "SemSegFPNHead"
# Feature maps to predict on.
_C.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p2", "p3", "p4", "p5"]
# Label of pixels that are left out of the loss.
_C.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 255
# Number of classes, including class 0 "things" in panoptic data; -1 for as many as the training
# dataset has.
_C.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 54
# Channels of the convolutions.
_C.MODEL.SEM_SEG_HEAD.CONVS_DIM = 128
# Stride, in pixels, to which all feature maps are brought before they are added.
_C.MODEL.SEM_SEG_HEAD.COMMON_STRIDE = 4
# Normalization of the convolutions: "" for none, or GN, BN, SyncBN, FrozenBN, LN, naiveSyncBN.
_C.MODEL.SEM_SEG_HEAD.NORM = "GN"
# Weight of the semantic segmentation loss.
_C.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT = 1.0

_C.MODEL.PANOPTIC_FPN = CfgNode()
# Weight of the losses of the ROI heads.
_C.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT = 1.0
_C.MODEL.PANOPTIC_FPN.COMBINE = CfgNode()
# Merge instances and semantic segmentation at test time. True or False; as in detectron2, they are
# always merged.
_C.MODEL.PANOPTIC_FPN.COMBINE.ENABLED = True
# Drop an instance if more than this fraction of it, in [0, 1], is covered by higher-scoring ones.
_C.MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH = 0.5
# Drop stuff segments with fewer pixels than this.
_C.MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT = 4096
# Drop instances with a lower score, in [0, 1].
_C.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = 0.5

# ---------------------------------------------------------------------------------------------
# RetinaNet
# ---------------------------------------------------------------------------------------------
_C.MODEL.RETINANET = CfgNode()
# Number of object classes; -1 for as many as the training dataset has.
_C.MODEL.RETINANET.NUM_CLASSES = 80
# Feature maps to predict on.
_C.MODEL.RETINANET.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
# Number of 3x3 convolutions before the predictions, in each of the two branches.
_C.MODEL.RETINANET.NUM_CONVS = 4
# Limits, ascending in [0, 1], of an anchor's IoU with the best ground-truth box; they separate the
# ranges that IOU_LABELS names.
_C.MODEL.RETINANET.IOU_THRESHOLDS = [0.4, 0.5]
# Labels of those ranges, lowest first: 0 background, -1 ignored, 1 object.
_C.MODEL.RETINANET.IOU_LABELS = [0, -1, 1]
# Probability of each class, in (0, 1), that the untrained network predicts everywhere.
_C.MODEL.RETINANET.PRIOR_PROB = 0.01
# Drop detections with a lower score, in [0, 1].
_C.MODEL.RETINANET.SCORE_THRESH_TEST = 0.05
# Number of top-scoring detections per feature map that go into NMS.
_C.MODEL.RETINANET.TOPK_CANDIDATES_TEST = 1000
# IoU in [0, 1] above which NMS drops the lower-scoring one of two detections of a class.
_C.MODEL.RETINANET.NMS_THRESH_TEST = 0.5
# Factors of the deltas (dx, dy, dw, dh).
_C.MODEL.RETINANET.BBOX_REG_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
# Focal loss: exponent that reduces the loss of easy examples, at least 0; 0 treats all alike.
_C.MODEL.RETINANET.FOCAL_LOSS_GAMMA = 2.0
# Focal loss: weight of objects, in [0, 1]; background has 1 minus this.
_C.MODEL.RETINANET.FOCAL_LOSS_ALPHA = 0.25
# Where smooth L1 changes from quadratic to linear, at least 0; 0 is plain L1.
_C.MODEL.RETINANET.SMOOTH_L1_LOSS_BETA = 0.1
# Box loss: "smooth_l1" on deltas, or "giou", "diou" or "ciou" on decoded boxes.
_C.MODEL.RETINANET.BBOX_REG_LOSS_TYPE = "smooth_l1"
# Normalization of the two branches: "" for none, or GN, BN, SyncBN, FrozenBN, LN, naiveSyncBN. BN
# and SyncBN keep separate statistics for each feature map.
_C.MODEL.RETINANET.NORM = ""

# ---------------------------------------------------------------------------------------------
# Images as the model sees them
# ---------------------------------------------------------------------------------------------
_C.INPUT = CfgNode()
# (d2lite) Name in AUGMENTATION_REGISTRY of the function that lists the augmentations for training
# and testing: resize_and_flip, which follows the keys below, or one that a project adds.
_C.INPUT.AUGMENTATION = "resize_and_flip"
# (d2lite) Name in DATASET_MAPPER_REGISTRY of what turns a dataset dict into an input of the model:
# DatasetMapper, or one that a project adds.
_C.INPUT.DATASET_MAPPER = "DatasetMapper"
# Short side of training images after resizing, in pixels: several values to choose from, or a
# minimum and a maximum, as MIN_SIZE_TRAIN_SAMPLING says.
_C.INPUT.MIN_SIZE_TRAIN = (800,)
# "choice" draws one of MIN_SIZE_TRAIN, "range" any length between its two values.
_C.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice"
# Maximum of the long side after resizing, in pixels; the short side becomes shorter to meet it.
_C.INPUT.MAX_SIZE_TRAIN = 1333
# Short side of test images after resizing, in pixels; 0 keeps their size.
_C.INPUT.MIN_SIZE_TEST = 800
# Maximum of the long side of test images, in pixels.
_C.INPUT.MAX_SIZE_TEST = 1333
# Flip each training image with probability 0.5: "horizontal", "vertical" or "none".
_C.INPUT.RANDOM_FLIP = "horizontal"

_C.INPUT.CROP = CfgNode()
# Cut a random part out of each training image before it is resized. True or False.
_C.INPUT.CROP.ENABLED = False
# What SIZE means: "relative" (fractions of the image's sides), "relative_range" (minimum of those;
# drawn between it and 1), "absolute" (pixels), "absolute_range" (minimum and maximum in pixels,
# between which each side is drawn).
_C.INPUT.CROP.TYPE = "relative_range"
# Size of the part as (height, width), in the unit that TYPE names.
_C.INPUT.CROP.SIZE = [0.9, 0.9]

# Color channels that the model sees, in order: "BGR", "RGB", or a mode of Pillow such as "L".
_C.INPUT.FORMAT = "BGR"
# (d2lite) The value of 16-bit images that the model sees as 255: 65535, or 4095 for images with
# 12 bits of content, 255 for 8 bits.
_C.INPUT.MAX_VALUE_16_BIT = 65535
# Form of masks in training: "polygon", or "bitmask", which also reads RLE and is exact under
# rotation and cropping.
_C.INPUT.MASK_FORMAT = "polygon"

_C.INPUT.MIX = CfgNode()
# (d2lite) Probability in [0, 1] with which a training image is a mosaic of four
# (docs/augmentations.md); 0 for none.
_C.INPUT.MIX.MOSAIC_PROB = 0.0
# (d2lite) Range, above 0, of the random factor of each image in a mosaic; at 1 it just fits into
# the whole.
_C.INPUT.MIX.MOSAIC_SCALE = (0.5, 1.0)
# (d2lite) Probability in [0, 1] of mixup with another image; 0 for none.
_C.INPUT.MIX.MIXUP_PROB = 0.0
# (d2lite) The weight in mixup is drawn from Beta(ALPHA, ALPHA), ALPHA above 0: near 0.5 if it is
# large.
_C.INPUT.MIX.MIXUP_ALPHA = 32.0
# (d2lite) Probability in [0, 1] with which objects of another image are pasted into it; 0 for none.
_C.INPUT.MIX.COPY_PASTE_PROB = 0.0
# (d2lite) Range, in (0, 1], of the random factor of the image that objects are taken from; at 1 it
# just fits into the other.
_C.INPUT.MIX.COPY_PASTE_SCALE = (0.5, 1.0)
# (d2lite) Objects of which a mosaic or a pasted object leaves less than this share, in [0, 1],
# are left out: of their masks, or of their boxes where they have none.
_C.INPUT.MIX.MIN_VISIBLE = 0.2
# (d2lite) Share of the iterations, in [0, 1], in which images are mixed: 0.9 trains with single
# images in the last tenth.
_C.INPUT.MIX.UNTIL = 0.9

# (d2lite) Augmentations of the package albumentations for training images, applied in order after
# they are mixed and before crop, resizing and flip. Each is a name, a name with its arguments such
# as {"Blur": {"blur_limit": 5, "p": 0.2}}, or the path of a pipeline saved as .yaml or .json.
_C.INPUT.ALBUMENTATIONS = []

# ---------------------------------------------------------------------------------------------
# Datasets and data loading
# ---------------------------------------------------------------------------------------------
_C.DATASETS = CfgNode()
# Datasets to train on, joined: registered names, or URIs such as "coco:train.json?images=DIR" and
# "voc:DIR?split=train".
_C.DATASETS.TRAIN = ()
# Files with precomputed proposals, one for each dataset of TRAIN, for MODEL.LOAD_PROPOSALS.
_C.DATASETS.PROPOSAL_FILES_TRAIN = ()
# Number of top-scoring precomputed proposals used per training image.
_C.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN = 2000
# Datasets to evaluate, each on its own: names or URIs as in TRAIN.
_C.DATASETS.TEST = ()
# Files with precomputed proposals, one for each dataset of TEST, for MODEL.LOAD_PROPOSALS.
_C.DATASETS.PROPOSAL_FILES_TEST = ()
# Number of top-scoring precomputed proposals used per test image.
_C.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST = 1000

_C.DATALOADER = CfgNode()
# Processes that read images, for each training process; 0 reads in the training process itself.
# What is read does not depend on it.
_C.DATALOADER.NUM_WORKERS = 4
# Put wide and tall images into separate batches, which then need less padding. True or False.
_C.DATALOADER.ASPECT_RATIO_GROUPING = True
# Order of training images: "TrainingSampler" (shuffled), "RepeatFactorTrainingSampler" (shuffled,
# with images of rare classes repeated) or "RandomSubsetTrainingSampler" (a random part, shuffled).
_C.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"
# RepeatFactorTrainingSampler: repeat images of classes that occur in less than this fraction of the
# images, in [0, 1]; 0 repeats none.
_C.DATALOADER.REPEAT_THRESHOLD = 0.0
# RepeatFactorTrainingSampler: repeat by the square root of (threshold / fraction) if True, by that
# ratio itself if False.
_C.DATALOADER.REPEAT_SQRT = True
# (d2lite) RandomSubsetTrainingSampler: fraction of the images to draw from, in (0, 1].
_C.DATALOADER.RANDOM_SUBSET_RATIO = 1.0
# Leave out training images without objects. True or False.
_C.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True
# (d2lite) What to do with an image that cannot be read: "raise" stops and names its path; "skip"
# logs and counts it, and reads another one in its place in training and none in testing.
_C.DATALOADER.ON_BAD_SAMPLE = "raise"

# ---------------------------------------------------------------------------------------------
# Schedule and optimizer
# ---------------------------------------------------------------------------------------------
_C.SOLVER = CfgNode()
# Schedule: "WarmupMultiStepLR", "WarmupCosineLR" or "WarmupStepWithFixedGammaLR".
_C.SOLVER.LR_SCHEDULER_NAME = "WarmupMultiStepLR"
# Number of training iterations, at least 1.
_C.SOLVER.MAX_ITER = 40000
# Learning rate after warm-up.
_C.SOLVER.BASE_LR = 0.001
# Learning rate at the end of WarmupCosineLR, from 0 to BASE_LR.
_C.SOLVER.BASE_LR_END = 0.0
# Factor by which the learning rate changes at each step.
_C.SOLVER.GAMMA = 0.1
# Iterations at which WarmupMultiStepLR changes the learning rate, ascending.
_C.SOLVER.STEPS = (30000,)
# Number of changes by GAMMA, evenly spaced, of WarmupStepWithFixedGammaLR.
_C.SOLVER.NUM_DECAYS = 3
# Warm-up starts at this fraction of the learning rate.
_C.SOLVER.WARMUP_FACTOR = 1.0 / 1000
# Number of warm-up iterations; 0 for no warm-up.
_C.SOLVER.WARMUP_ITERS = 1000
# "linear" raises the learning rate evenly, "constant" keeps it at WARMUP_FACTOR until warm-up ends.
_C.SOLVER.WARMUP_METHOD = "linear"
# Start the schedule when warm-up ends (True), or together with it (False).
_C.SOLVER.RESCALE_INTERVAL = False
# Iterations between checkpoints.
_C.SOLVER.CHECKPOINT_PERIOD = 5000
# (d2lite) Epochs between checkpoints, such as 1.0 or 0.5, instead of CHECKPOINT_PERIOD; 0 for that.
_C.SOLVER.CHECKPOINT_EPOCHS = 0.0
# (d2lite) Number of the latest checkpoints to keep; 0 keeps all.
_C.SOLVER.CHECKPOINT_KEEP = 0
# (d2lite) After each epoch, log the mean of each loss over it, as epoch/NAME. True or False.
_C.SOLVER.EPOCH_LOSSES = False

# Images per iteration, over all GPUs together.
_C.SOLVER.IMS_PER_BATCH = 16
# (d2lite) Number of parts, at least 1, in which the images of an iteration go through the model,
# one part after the other: their gradients add up to one update, and memory has to hold one part
# only. Learning rate, iterations and IMS_PER_BATCH stay what they are.
_C.SOLVER.ACCUMULATE_STEPS = 1
# Number of GPUs that this schedule was made for. If another number is used, batch size, learning
# rate and iterations are scaled to it; 0 turns this off.
_C.SOLVER.REFERENCE_WORLD_SIZE = 0
# (d2lite) If IMS_PER_BATCH differs from REFERENCE_BATCH, multiply the learning rate by their ratio
# and divide the iterations by it (steps, warm-up, evaluation and checkpoint periods too). True or
# False.
_C.SOLVER.AUTO_SCALE_LR = False
# (d2lite) Batch size that this schedule was made for, for AUTO_SCALE_LR.
_C.SOLVER.REFERENCE_BATCH = 16

# (d2lite) "SGD" or "AdamW".
_C.SOLVER.OPTIMIZER_NAME = "SGD"
# Momentum of SGD, in [0, 1).
_C.SOLVER.MOMENTUM = 0.9
# Nesterov momentum of SGD. True or False.
_C.SOLVER.NESTEROV = False
# (d2lite) Decay rates of AdamW's averages of the gradient and of its square, each in [0, 1).
_C.SOLVER.BETAS = (0.9, 0.999)
# Weight decay of weights.
_C.SOLVER.WEIGHT_DECAY = 0.0001
# Weight decay of the parameters of normalization layers.
_C.SOLVER.WEIGHT_DECAY_NORM = 0.0
# Weight decay of biases; None for WEIGHT_DECAY.
_C.SOLVER.WEIGHT_DECAY_BIAS = None
# Factor of the learning rate for biases; 2.0 in Detectron.
_C.SOLVER.BIAS_LR_FACTOR = 1.0
# (d2lite) Factor of the learning rate for the backbone, besides the others.
_C.SOLVER.BACKBONE_LR_FACTOR = 1.0

_C.SOLVER.CLIP_GRADIENTS = CfgNode()
# Limit the gradient of each parameter on its own. True or False.
_C.SOLVER.CLIP_GRADIENTS.ENABLED = False
# What is limited: "value" each entry of the gradient, "norm" its norm.
_C.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "value"
# The limit, greater than 0.
_C.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 1.0
# Which p-norm "norm" limits; float("inf") for the largest entry.
_C.SOLVER.CLIP_GRADIENTS.NORM_TYPE = 2.0

_C.SOLVER.AMP = CfgNode()
# Automatic mixed precision in training: half the memory and time on GPUs, about the same AP. True
# or False.
_C.SOLVER.AMP.ENABLED = False
# (d2lite) "float16" with loss scaling, or "bfloat16", which needs none and which CPUs always use.
_C.SOLVER.AMP.DTYPE = "float16"

# (d2lite) Iterations whose loss or gradients are not finite (docs/bad_steps.md).
_C.SOLVER.BAD_STEPS = CfgNode()
# (d2lite) "raise" a FloatingPointError, or "skip": the weights stay as they are, on all GPUs.
_C.SOLVER.BAD_STEPS.ACTION = "raise"
# (d2lite) Look at the gradients of each iteration, too, and not at the losses alone. With float16,
# gradients that overflow are left to loss scaling. True or False.
_C.SOLVER.BAD_STEPS.CHECK_GRADIENTS = False
# (d2lite) Number of iterations that are skipped one after the other before training stops.
_C.SOLVER.BAD_STEPS.MAX_IN_A_ROW = 10
# (d2lite) Number of the latest such iterations to keep in OUTPUT_DIR/bad_steps, for
# tools/replay_step.py. Each takes as much room as a checkpoint; 0 keeps none.
_C.SOLVER.BAD_STEPS.KEEP = 3

# ---------------------------------------------------------------------------------------------
# Evaluation
# ---------------------------------------------------------------------------------------------
_C.TEST = CfgNode()
# Metrics that the evaluation must reach, as [[dataset, task, metric, value, tolerance], ...] such
# as [["coco_2017_val", "bbox", "AP", 38.5, 0.2]]; the run fails if it does not.
_C.TEST.EXPECTED_RESULTS = []
# Iterations between evaluations in training; 0 evaluates only at its end.
_C.TEST.EVAL_PERIOD = 0
# (d2lite) Epochs between evaluations, such as 1.0 or 0.5, instead of EVAL_PERIOD; 0 for that.
_C.TEST.EVAL_EPOCHS = 0.0
# Standard deviations of the keypoints for OKS, one for each keypoint; [] for COCO's 17.
_C.TEST.KEYPOINT_OKS_SIGMAS = []
# Maximum number of detections per image.
_C.TEST.DETECTIONS_PER_IMAGE = 100
# (d2lite) Number of test images to draw with their detections after an evaluation, into
# OUTPUT_DIR/visualizations and the event storage.
_C.TEST.DRAW_IMAGES = 0
# (d2lite) Iterations between evaluations of the losses on the test sets, as val_loss/NAME; the last
# one is after training. 0 for none.
_C.TEST.LOSS_PERIOD = 0
# (d2lite) Metric such as "bbox/AP" whose best checkpoint is kept as model_best.pth; "" for none.
_C.TEST.BEST_METRIC = ""
# (d2lite) Stop training after this many evaluations without a better BEST_METRIC; 0 never stops.
_C.TEST.PATIENCE = 0

_C.TEST.AUG = CfgNode()
# Test-time augmentation: detect at several sizes and merge the results. True or False.
_C.TEST.AUG.ENABLED = False
# Short sides to detect at, in pixels.
_C.TEST.AUG.MIN_SIZES = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)
# Maximum of the long side, in pixels.
_C.TEST.AUG.MAX_SIZE = 4000
# Detect in the mirrored images as well. True or False.
_C.TEST.AUG.FLIP = True

_C.TEST.PRECISE_BN = CfgNode()
# Recompute the statistics of BatchNorm layers before each evaluation. True or False.
_C.TEST.PRECISE_BN.ENABLED = False
# Number of training batches to compute them from.
_C.TEST.PRECISE_BN.NUM_ITER = 200

# ---------------------------------------------------------------------------------------------
# The run as a whole
# ---------------------------------------------------------------------------------------------
_C.GLOBAL = CfgNode()

_C.MODEL_EMA = CfgNode()
# (d2lite) Maintain an exponential moving average of the weights. It is evaluated in their place and
# written as model_final_ema.pth (and model_best_ema.pth with TEST.BEST_METRIC). True or False.
_C.MODEL_EMA.ENABLED = False
# (d2lite) Fraction of the old average that each step keeps, in [0, 1); it spans about
# 1 / (1 - DECAY) steps. After t steps it is at most (1 + t) / (10 + t), so that a short training
# does not retain its first weights.
_C.MODEL_EMA.DECAY = 0.999

# Folder for logs, checkpoints and results.
_C.OUTPUT_DIR = "./output"
# Seed of all random numbers; a negative value draws one, which is logged.
_C.SEED = -1
# Let cuDNN try its algorithms and use the fastest, which helps if images have few different sizes.
# True or False.
_C.CUDNN_BENCHMARK = False
# Precision of float32 matrix products on GPUs: "highest", "high" (TF32), "medium", or "" for
# torch's setting.
_C.FLOAT32_PRECISION = ""
# Iterations between pictures that the model draws of its training; 0 for none.
_C.VIS_PERIOD = 0
# (d2lite) Iterations between statistics of each layer's output: mean, standard deviation and share
# of zeros, as activation/LAYER/mean and so on; 0 for none.
_C.ACTIVATION_PERIOD = 0
# (d2lite) Packages under projects/ to import, so that configs can name their models.
_C.PROJECTS = []
# (d2lite) Names in HOOK_REGISTRY of hooks to add to the training, in their order, such as
# ("MyHook",); they run before checkpoints are saved (docs/training_aids.md).
_C.HOOKS = ()
# (d2lite) More writers of metrics, besides the terminal, metrics.json and TensorBoard: "csv" for
# OUTPUT_DIR/metrics.csv, "wandb" (Weights & Biases), "mlflow" (docs/training_aids.md).
_C.WRITERS = ()
# (d2lite) Draw losses, AP, learning rate and speed into OUTPUT_DIR/results.png when a training
# ends. `d2lite train` turns it on.
_C.PLOT_RESULTS = False
# A value for quick experiments, which code reads through global_cfg. Better not used.
_C.GLOBAL.HACK = 1.0
