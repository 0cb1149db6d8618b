"""Settings of point supervision."""

from d2lite.config import CfgNode


def add_point_sup_config(cfg: CfgNode) -> None:
    """Add INPUT.POINT_SUP and INPUT.SAMPLE_POINTS."""
    # Train on labeled points, with INPUT.DATASET_MAPPER point_sup_mapper. In detectron2, the
    # project's `train_net.py` reads it.
    cfg.INPUT.POINT_SUP = False
    # Number of points per object to train on, drawn again whenever an image is read, as an
    # augmentation; 0 for all.
    cfg.INPUT.SAMPLE_POINTS = 0
