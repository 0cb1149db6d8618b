"""Defaults of MODEL: what the detector is made of, up to its proposals."""

from fvcore.common.config import CfgNode as _CfgNode

__all__ = ["add_model_defaults"]


def add_model_defaults(cfg: _CfgNode) -> None:
    """Add MODEL with its backbone, neck, anchors and proposals."""
    node = type(cfg)
    cfg.MODEL = node()
    _add_general(cfg.MODEL)
    _add_backbones(cfg.MODEL, node)
    _add_proposals(cfg.MODEL, node)


def _add_general(model: _CfgNode) -> None:
    # Name in META_ARCH_REGISTRY: GeneralizedRCNN, ProposalNetwork, RetinaNet, FCOS, PanopticFPN,
    # SemanticSegmentor, or one of a project.
    model.META_ARCHITECTURE = "GeneralizedRCNN"
    # Device string of torch: "cuda", "cuda:1", "mps", "cpu". "auto" means the best one present.
    model.DEVICE = "auto"
    # Weights to start from: a path, https://, detectron2://, torchvision://, or "" for random ones.
    model.WEIGHTS = ""

    # Train and use a mask head. It also makes the loader read masks.
    model.MASK_ON = False
    # Train and use a keypoint head. It also makes the loader read keypoints.
    model.KEYPOINT_ON = False
    # Take proposals from files (DATASETS.PROPOSAL_FILES_*) instead of computing them.
    model.LOAD_PROPOSALS = False

    # Subtracted from the pixels, then they are divided by PIXEL_STD; one value per channel, in the
    # order of INPUT.FORMAT, for pixels in [0, 255]. These suit BGR and weights converted from
    # Caffe2. Weights of torchvision want mean [123.675, 116.280, 103.530] and
    # std [58.395, 57.120, 57.375] with INPUT.FORMAT "RGB".
    model.PIXEL_MEAN = [103.530, 116.280, 123.675]
    model.PIXEL_STD = [1.0, 1.0, 1.0]


def _add_backbones(model: _CfgNode, node: type[_CfgNode]) -> None:
    model.BACKBONE = node()
    # Name in BACKBONE_REGISTRY.
    model.BACKBONE.NAME = "build_resnet_backbone"
    # Freeze the stem and the stages below this number: 0 nothing, 1 the stem, 2 also res2, and so
    # on to 5.
    model.BACKBONE.FREEZE_AT = 2

    model.FPN = node()
    # Names of the backbone's maps that the pyramid is built on, finest first.
    model.FPN.IN_FEATURES = []
    # Channels of every level.
    model.FPN.OUT_CHANNELS = 256
    # Normalization of its convolutions: "" (none), BN, SyncBN, FrozenBN, GN, LN, ...
    model.FPN.NORM = ""
    # How a coarse level and its finer neighbour are merged: "sum" or "avg".
    model.FPN.FUSE_TYPE = "sum"

    model.RESNETS = node()
    # Layers: 18, 34, 50, 101 or 152.
    model.RESNETS.DEPTH = 50
    # Maps to return, out of stem and res2 to res5.
    model.RESNETS.OUT_FEATURES = ["res4"]
    # Groups of the 3x3 convolutions: 1 for ResNet, 32 or 64 for ResNeXt.
    model.RESNETS.NUM_GROUPS = 1
    # Channels of one group in res2: 64 for ResNet, 4 or 8 for ResNeXt; doubled at each stage.
    model.RESNETS.WIDTH_PER_GROUP = 64
    # Normalization of all convolutions: FrozenBN, BN, SyncBN, GN, ...
    model.RESNETS.NORM = "FrozenBN"
    # Where a bottleneck block strides: in its first 1x1 (weights of Caffe2 and MSRA), or in its 3x3
    # (weights of torchvision).
    model.RESNETS.STRIDE_IN_1X1 = True
    # Dilation of res5: 1, or 2, which keeps the stride of res4 (DC5).
    model.RESNETS.RES5_DILATION = 1
    # Channels of res2's output: 256, or 64 for depths 18 and 34; doubled at each stage.
    model.RESNETS.RES2_OUT_CHANNELS = 256
    # Channels of the stem.
    model.RESNETS.STEM_OUT_CHANNELS = 64
    # Use deformable convolution in res2, res3, res4, res5.
    model.RESNETS.DEFORM_ON_PER_STAGE = [False, False, False, False]
    # Deformable convolution with a learnt mask (version 2), or without (version 1).
    model.RESNETS.DEFORM_MODULATED = False
    # Groups of channels that share their offsets.
    model.RESNETS.DEFORM_NUM_GROUPS = 1

    _add_timm(model, node)


def _add_timm(model: _CfgNode, node: type[_CfgNode]) -> None:
    # New in d2lite: any network of timm, by the names build_timm_model_backbone,
    # build_timm_model_fpn_backbone and build_retinanet_timm_model_fpn_backbone in BACKBONE.NAME.
    # Its feature of stride 4 is called res2, of stride 8 res3, and so on. BACKBONE.FREEZE_AT
    # freezes all up to the feature of that number. RESNETS has no effect on it.
    model.TIMM_MODEL = node()
    # Name of the timm model, such as "convnext_tiny" or "mobilenetv3_small_100".
    model.TIMM_MODEL.NAME = "resnet50"
    # Start from timm's pretrained weights, which it downloads. They expect RGB pixels: set
    # INPUT.FORMAT, PIXEL_MEAN and PIXEL_STD.
    model.TIMM_MODEL.PRETRAINED = False
    # Indices of timm's feature maps to return, finest first. Empty: one of each stride.
    model.TIMM_MODEL.OUT_INDICES = []
    # Its batch norms: "" leaves them, FrozenBN freezes them all, SyncBN computes the statistics
    # over all GPUs.
    model.TIMM_MODEL.NORM = ""


def _add_proposals(model: _CfgNode, node: type[_CfgNode]) -> None:
    model.PROPOSAL_GENERATOR = node()
    # Name in PROPOSAL_GENERATOR_REGISTRY: RPN, RRPN (rotated boxes), or PrecomputedProposals.
    model.PROPOSAL_GENERATOR.NAME = "RPN"
    # Drop proposals with a side of this many pixels or less, in the network's input.
    model.PROPOSAL_GENERATOR.MIN_SIZE = 0

    model.ANCHOR_GENERATOR = node()
    # Name in ANCHOR_GENERATOR_REGISTRY: DefaultAnchorGenerator or RotatedAnchorGenerator.
    model.ANCHOR_GENERATOR.NAME = "DefaultAnchorGenerator"
    # Anchor sizes, the square roots of their areas, in pixels of the network's input: one list per
    # feature map, or a single list for all maps.
    model.ANCHOR_GENERATOR.SIZES = [[32, 64, 128, 256, 512]]
    # Ratios of height to width: one list per feature map, or a single list for all maps.
    model.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    # Angles in degrees, for RotatedAnchorGenerator: as above.
    model.ANCHOR_GENERATOR.ANGLES = [[-90, 0, 90]]
    # Where the first anchor's centre lies in a cell, in strides: 0 its corner, 0.5 its middle.
    # In [0, 1).
    model.ANCHOR_GENERATOR.OFFSET = 0.0

    model.RPN = node()
    _add_rpn(model.RPN)


def _add_rpn(rpn: _CfgNode) -> None:
    # Name in RPN_HEAD_REGISTRY.
    rpn.HEAD_NAME = "StandardRPNHead"
    # Feature maps to predict on.
    rpn.IN_FEATURES = ["res4"]
    # Leave out anchors that reach further than this many pixels over the image's border in
    # training; -1 keeps all.
    rpn.BOUNDARY_THRESH = -1
    # IoU with the best ground-truth box: below the first an anchor is background, from the second
    # on an object; IOU_LABELS holds the labels of the three ranges (0, ignored -1, 1).
    rpn.IOU_THRESHOLDS = [0.3, 0.7]
    rpn.IOU_LABELS = [0, -1, 1]
    # Anchors that count in the loss, per image.
    rpn.BATCH_SIZE_PER_IMAGE = 256
    # The greatest share of objects among them, in [0, 1].
    rpn.POSITIVE_FRACTION = 0.5
    # Box loss: smooth_l1, or on decoded boxes giou, diou, ciou.
    rpn.BBOX_REG_LOSS_TYPE = "smooth_l1"
    rpn.BBOX_REG_LOSS_WEIGHT = 1.0
    # Factors of (dx, dy, dw, dh); five values with RRPN.
    rpn.BBOX_REG_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
    # Where smooth L1 turns from quadratic to linear; 0 is plain L1.
    rpn.SMOOTH_L1_BETA = 0.0
    # Factor of both losses.
    rpn.LOSS_WEIGHT = 1.0
    # Best proposals of each feature map that go into NMS.
    rpn.PRE_NMS_TOPK_TRAIN = 12000
    rpn.PRE_NMS_TOPK_TEST = 6000
    # Best proposals of an image, over all maps, after NMS.
    rpn.POST_NMS_TOPK_TRAIN = 2000
    rpn.POST_NMS_TOPK_TEST = 1000
    # IoU above which NMS drops the lower of two proposals.
    rpn.NMS_THRESH = 0.7
    # Channels of the convolutions before the predictions; -1 means as many as the input has.
    rpn.CONV_DIMS = [-1]
