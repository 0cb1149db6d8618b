"""Settings of TridentNet."""

from d2lite.config import CfgNode


def add_tridentnet_config(cfg: CfgNode) -> None:
    """Add MODEL.TRIDENT."""
    cfg.MODEL.TRIDENT = CfgNode()
    # Number of branches of the trident stage, and the dilation of the 3x3 convolutions in each.
    cfg.MODEL.TRIDENT.NUM_BRANCH = 3
    cfg.MODEL.TRIDENT.BRANCH_DILATIONS = [1, 2, 3]
    # The stage of the ResNet that has branches.
    cfg.MODEL.TRIDENT.TRIDENT_STAGE = "res4"
    # The branch that is used at inference (TridentNet Fast), counted from 0; -1 for all of them.
    cfg.MODEL.TRIDENT.TEST_BRANCH_IDX = 1
