"""Settings of DetNet."""

from d2lite.config import CfgNode


def add_detnet_config(cfg: CfgNode) -> None:
    """Add MODEL.DETNET; the defaults are those of DetNet-59."""
    detnet = cfg.MODEL.DETNET = CfgNode()
    # stem, res2 to res6: of stride 4, 4, 8, 16, 16, 16.
    detnet.OUT_FEATURES = ["res2", "res3", "res4", "res5", "res6"]
    # Bottleneck blocks of res2 to res6.
    detnet.NUM_BLOCKS = [3, 4, 6, 3, 3]
    # Channels behind the stem and behind res2; res3 and res4 each have twice as many.
    detnet.STEM_OUT_CHANNELS = 64
    detnet.RES2_OUT_CHANNELS = 256
    # Channels within the blocks of res2; in res3 and res4 twice as many each.
    detnet.RES2_BOTTLENECK_CHANNELS = 64
    # Channels behind res5 and res6, and within their blocks.
    detnet.DILATED_OUT_CHANNELS = 1024
    detnet.DILATED_BOTTLENECK_CHANNELS = 256
    # Cells between the taps of the 3x3 convolutions of res5 and res6.
    detnet.DILATION = 2
    # Norm of all blocks: "BN", "FrozenBN", "SyncBN", "GN".
    detnet.NORM = "FrozenBN"
    # Norm of res5 and res6; "" for that of all. A frozen norm is of use only behind weights that
    # were trained with it, and a ResNet's have none for these two.
    detnet.DILATED_NORM = ""
    # Whether blocks of res3 and res4 shrink in their first convolution (MSRA's weights) or in the
    # 3x3 one (torchvision's weights).
    detnet.STRIDE_IN_1X1 = True
