"""Training and detection on one channel, from files of 16 bits."""

import cv2
import numpy as np
import pytest
import torch

from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.engine import DefaultPredictor, DefaultTrainer
from tests.engine.tiny import tiny_cfg


@pytest.fixture
def x_rays(tmp_path):
    """Two pictures of 12 bits, with an object each."""
    image = np.full((64, 80), 512, np.uint16)
    image[10:40, 10:40] = 4000
    box = {"bbox": [10, 10, 40, 40], "bbox_mode": 0, "category_id": 0}
    records = []
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        record = {"file_name": str(tmp_path / f"{i}.png"), "image_id": i, "height": 64, "width": 80}
        records.append({**record, "annotations": [dict(box)]})
    DatasetCatalog.register("x_rays", lambda: records)
    MetadataCatalog.get("x_rays").set(thing_classes=["bone"])
    yield image
    DatasetCatalog.remove("x_rays")
    MetadataCatalog.remove("x_rays")


def test_one_channel_trains_and_detects(x_rays, tmp_path):
    cfg = tiny_cfg(
        tmp_path,
        DATASETS__TRAIN=("x_rays",),
        INPUT__FORMAT="L",
        INPUT__MAX_VALUE_16_BIT=4095,
        INPUT__RANDOM_FLIP="none",
        MODEL__PIXEL_MEAN=[100.0],
        MODEL__PIXEL_STD=[50.0],
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0,
        SOLVER__MAX_ITER=1,
        SOLVER__STEPS=(),
    )
    trainer = DefaultTrainer(cfg)
    (first, _) = next(iter(trainer.data_loader))
    # The upper 8 of 12 bits: 512 // 16 and 4000 // 16.
    assert first["image"].shape == (1, 64, 80) and first["image"].dtype == torch.uint8
    assert first["image"].unique().tolist() == [32, 250]
    trainer.train()

    predictor = DefaultPredictor(str(tmp_path / "model_final.pth"))
    gray = (x_rays // 16).astype(np.uint8)
    boxes = [
        predictor(image)["instances"].pred_boxes.tensor
        for image in (gray, gray[:, :, None], np.repeat(gray[:, :, None], 3, axis=2), x_rays)
    ]
    assert len(boxes[0]) > 0
    assert all(torch.equal(boxes[0], other) for other in boxes[1:])
    with pytest.raises(ValueError, match=r"expected an image .*, got \(64, 80, 2\)"):
        predictor(np.zeros((64, 80, 2), np.uint8))
