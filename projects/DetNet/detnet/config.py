"""Settings of DetNet."""

from d2lite.config import CfgNode


def add_detnet_config(cfg: CfgNode) -> None:
    """Add MODEL.DETNET; the defaults are those of DetNet-59."""
    detnet = cfg.MODEL.DETNET = CfgNode()
    # stem, res2 to res6: with strides 4, 4, 8, 16, 16, 16.
    detnet.OUT_FEATURES = ["res2", "res3", "res4", "res5", "res6"]
    # Number of bottleneck blocks in res2 to res6.
    detnet.NUM_BLOCKS = [3, 4, 6, 3, 3]
    # Channels after the stem and after res2; res3 and res4 each double those of the stage before.
    detnet.STEM_OUT_CHANNELS = 64
    detnet.RES2_OUT_CHANNELS = 256
    # Channels within the blocks of res2; res3 and res4 each double those of the stage before.
    detnet.RES2_BOTTLENECK_CHANNELS = 64
    # Channels after res5 and res6, and within their blocks.
    detnet.DILATED_OUT_CHANNELS = 1024
    detnet.DILATED_BOTTLENECK_CHANNELS = 256
    # Dilation of the 3x3 convolutions of res5 and res6.
    detnet.DILATION = 2
    # Norm of all blocks: "BN", "FrozenBN", "SyncBN", "GN".
    detnet.NORM = "FrozenBN"
    # Norm of res5 and res6; "" for NORM. A frozen norm is only useful with weights that were
    # trained with it, and those of a ResNet do not contain these two stages.
    detnet.DILATED_NORM = ""
    # Whether blocks of res3 and res4 have their stride in the first convolution (MSRA's weights) or
    # in the 3x3 one (torchvision's weights).
    detnet.STRIDE_IN_1X1 = True
