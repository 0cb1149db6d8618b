"""FCOS: RetinaNet's pyramid and towers, without anchors."""

from d2lite.modeling.meta_arch.fcos import FCOS, FCOSHead

from .retinanet import model

model._target_ = FCOS
for _key in ("anchor_generator", "box2box_transform", "anchor_matcher", "input_format"):
    model.pop(_key)

# The two coarsest levels are made of p5 rather than of res5.
model.backbone.top_block.in_feature = "p5"
model.backbone.top_block.in_channels = 256

# Scores are sqrt(class score * centerness), which is greater than their product.
model.test_score_thresh = 0.2
model.test_nms_thresh = 0.6

model.head._target_ = FCOSHead
model.head.pop("num_anchors")
model.head.norm = "GN"
