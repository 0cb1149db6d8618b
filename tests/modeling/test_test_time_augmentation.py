"""The versions of an image and their merging; the golden case is in test_golden_other_models."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from d2lite.config import get_cfg
from d2lite.data import transforms as T
from d2lite.modeling import DatasetMapperTTA, GeneralizedRCNN, GeneralizedRCNNWithTTA
from d2lite.structures import Boxes, Instances
from tests.modeling.tiny import PIXELS, TinyBackbone

LEFT_HALF = [0.0, 0.0, 20.0, 30.0]


class Heads(nn.Module):
    """Only has the switch that is turned off while boxes are found."""

    mask_on = True


class Oracle(GeneralizedRCNN):
    """Finds the bright half of the image, and gives its mask a bright left column."""

    def __init__(self):
        super().__init__(
            backbone=TinyBackbone(),
            proposal_generator=None,
            roi_heads=Heads(),
            input_format="BGR",
            **PIXELS,
        )
        self.calls: list[tuple[int, bool]] = []

    def inference(self, batched_inputs, detected_instances=None, do_postprocess=True):
        assert not do_postprocess
        self.calls.append((len(batched_inputs), self.roi_heads.mask_on))
        if detected_instances is None:
            return [self._find(x["image"]) for x in batched_inputs]
        for x, known in zip(batched_inputs, detected_instances, strict=True):
            known.pred_masks = torch.zeros(len(known), 1, 2, 2)
            bright_left = x["image"][0, :, 0].float().mean() > 128
            known.pred_masks[..., 0 if bright_left else 1] = 1.0
        return detected_instances

    def _find(self, image):
        height, width = image.shape[1:]
        bright = (image[0].float().mean(dim=0) > 128).nonzero()[:, 0]
        box = [float(bright.min()), 0.0, float(bright.max() + 1), float(height)]
        score = torch.tensor([width / 1000])
        return Instances(
            (height, width),
            pred_boxes=Boxes([box]),
            scores=score,
            pred_classes=torch.tensor([1]),
        )


def half_bright() -> torch.Tensor:
    image = torch.zeros(3, 30, 40, dtype=torch.uint8)
    image[:, :, :20] = 255
    return image


def config(**changes):
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.TEST.AUG.MIN_SIZES = (30, 60)
    cfg.TEST.AUG.MAX_SIZE = 100
    for key, value in changes.items():
        cfg.MODEL[key] = value
    return cfg


def test_the_mapper_makes_every_size_and_mirrors_it():
    versions = DatasetMapperTTA(config())({"image": half_bright(), "image_id": 7})
    assert [x["image"].shape for x in versions] == [(3, 30, 40)] * 2 + [(3, 60, 80)] * 2
    assert versions[0]["image"][0, 0, 0] == 255 and versions[1]["image"][0, 0, 0] == 0
    assert all(x["image_id"] == 7 for x in versions)
    moved = versions[3]["transforms"].apply_box(np.array([LEFT_HALF]))
    assert moved.tolist() == [[40, 0, 80, 60]]


def test_transforms_start_at_the_original_size():
    mapper = DatasetMapperTTA([30], 100, flip=False)
    (version,) = mapper({"image": half_bright(), "height": 60, "width": 80})
    assert version["transforms"].apply_box(np.array([[0.0, 0, 80, 60]])).tolist() == [
        [0, 0, 40, 30]
    ]


def test_boxes_of_all_versions_merge_and_the_best_score_stays():
    model = Oracle()
    (x,) = GeneralizedRCNNWithTTA(config(), model)([{"image": half_bright()}])
    found = x["instances"]
    assert found.pred_boxes.tensor[0].tolist() == pytest.approx(LEFT_HALF, abs=1)
    assert len(found) == 1 and found.scores.tolist() == pytest.approx([0.08])
    assert found.pred_classes.tolist() == [1] and not found.has("pred_masks")
    assert model.calls == [(3, False), (1, False)] and model.roi_heads.mask_on


def test_masks_of_mirrored_versions_are_turned_back():
    model = Oracle()
    tta = GeneralizedRCNNWithTTA(config(MASK_ON=True), model, batch_size=2)
    (x,) = tta([{"image": half_bright()}])
    mask = x["instances"].pred_masks[0]
    # Left half of the box, which is the left half of the image.
    assert mask[10, 2:8].all() and not mask[10, 13:].any()
    assert model.calls == [(2, False), (2, False), (2, True), (2, True)]


def test_results_have_the_wanted_size_and_images_may_be_files(tmp_path):
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, half_bright().permute(1, 2, 0).numpy())
    tta = GeneralizedRCNNWithTTA(config(), Oracle(), DatasetMapperTTA([30], 100, flip=True))
    from_file, larger = tta(
        [{"file_name": path}, {"image": half_bright(), "height": 60, "width": 80}]
    )
    assert from_file["instances"].image_size == (30, 40)
    assert larger["instances"].image_size == (60, 80)
    assert larger["instances"].pred_boxes.tensor[0].tolist() == pytest.approx([0, 0, 40, 60], abs=2)


def test_models_that_it_cannot_augment_are_refused():
    with pytest.raises(ValueError, match="not with Linear"):
        GeneralizedRCNNWithTTA(config(), nn.Linear(1, 1))
    for key in ("KEYPOINT_ON", "LOAD_PROPOSALS"):
        with pytest.raises(ValueError, match=f"MODEL.{key}"):
            GeneralizedRCNNWithTTA(config(**{key: True}), Oracle())


def test_a_mapper_of_its_own_may_be_given():
    class Once:
        def __call__(self, dataset_dict):
            return [{**dataset_dict, "transforms": T.TransformList([])}]

    (x,) = GeneralizedRCNNWithTTA(config(), Oracle(), Once())([{"image": half_bright()}])
    assert x["instances"].pred_boxes.tensor.tolist() == [LEFT_HALF]
