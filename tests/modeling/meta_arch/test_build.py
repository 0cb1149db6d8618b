"""Models by name."""

import pytest

from d2lite.config import get_cfg
from d2lite.modeling import build_model


def test_an_open_class_count_says_what_to_do():
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = -1
    with pytest.raises(ValueError, match=r"^MODEL\.ROI_HEADS\.NUM_CLASSES is -1.*check_class_cou"):
        build_model(cfg)
