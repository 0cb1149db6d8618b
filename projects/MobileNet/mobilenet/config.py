"""Settings of the MobileNet backbones."""

from d2lite.config import CfgNode


def add_mobilenet_config(cfg: CfgNode) -> None:
    """Add MODEL.MOBILENET."""
    cfg.MODEL.MOBILENET = CfgNode()
    # mobilenet_v2, mobilenet_v3_large or mobilenet_v3_small.
    cfg.MODEL.MOBILENET.ARCH = "mobilenet_v2"
    # Factor on the channels of all layers; released weights are for 1.0.
    cfg.MODEL.MOBILENET.WIDTH_MULT = 1.0
    # "BN", "FrozenBN" (with the statistics of the loaded weights) or "SyncBN".
    cfg.MODEL.MOBILENET.NORM = "BN"
    # res1 to res5: the deepest feature with stride 2, 4, ..., 32 before the last convolution;
    # last: the feature that the classifier uses, with stride 32 (1280 channels in V2).
    cfg.MODEL.MOBILENET.OUT_FEATURES = ["last"]
