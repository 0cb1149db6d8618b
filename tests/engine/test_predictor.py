"""Detecting in single images, batches and tiles."""

import pytest
import torch
from pycocotools import mask as mask_util

from d2lite.engine import DefaultPredictor
from d2lite.engine.predictor import SlicedPredictor
from tests.engine.serving import mask_rcnn_run, picture


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return mask_rcnn_run(tmp_path_factory.mktemp("run"))


def test_one_tile_finds_what_the_predictor_finds(run):
    predictor = DefaultPredictor(f"{run}/model_final.pth")
    image = picture(3)
    expected = predictor(image)["instances"]
    got = SlicedPredictor(predictor, 200)(image)["instances"]
    # Sorted by score; NMS of tiles is stricter than none and keeps what is far apart.
    kept = {tuple(box) for box in got.pred_boxes.tensor.tolist()}
    assert kept and kept <= {tuple(box) for box in expected.pred_boxes.tensor.tolist()}
    for box, rle in zip(got.pred_boxes.tensor.tolist(), got.pred_masks, strict=True):
        index = expected.pred_boxes.tensor.tolist().index(box)
        assert (mask_util.decode(rle) == expected.pred_masks[index].numpy()).all()


def test_whole_image_is_one_more_window_unless_it_is_not_wanted(run, monkeypatch):
    predictor = DefaultPredictor(f"{run}/model_final.pth")
    given = []
    detect = predictor.predict_batch

    def look(images):
        given.extend(image.shape[:2] for image in images)
        return detect(images)

    monkeypatch.setattr(predictor, "predict_batch", look)
    SlicedPredictor(predictor, 96, overlap=0, batch=2)(picture(0, (96, 180)))
    assert given == [(96, 96), (96, 96), (96, 180)]
    given.clear()
    SlicedPredictor(predictor, 96, overlap=0, whole=False)(picture(0, (96, 180)))
    assert given == [(96, 96), (96, 96)]


def test_batches_find_what_single_images_find(run):
    predictor = DefaultPredictor(f"{run}/model_final.pth")
    images = [picture(number) for number in range(3)]
    for image, output in zip(images, predictor.predict_batch(images), strict=True):
        expected = predictor(image)["instances"]
        torch.testing.assert_close(
            output["instances"].pred_boxes.tensor, expected.pred_boxes.tensor, atol=1e-3, rtol=1e-3
        )
