import numpy as np
import pytest
import torch

from d2lite.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from d2lite.structures import Boxes, Instances, ROIMasks
from tests.golden import load_case


@pytest.fixture(scope="module")
def case():
    return load_case("structures.detector_postprocess")


def _detections(case):
    return Instances(
        tuple(case.params["image_size"]),
        pred_boxes=Boxes(case.tensor("boxes")),
        scores=case.tensor("scores"),
        pred_masks=case.tensor("masks"),
        pred_keypoints=case.tensor("keypoints"),
    )


@pytest.mark.parametrize("i", range(3))
def test_detections_equal_detectron2(case, i):
    got = detector_postprocess(_detections(case), *case.params["out_sizes"][i])
    case.check(f"out{i}.boxes", got.pred_boxes.tensor)
    case.check(f"out{i}.scores", got.scores)
    case.check(f"out{i}.keypoints", got.pred_keypoints)
    case.check(f"out{i}.masks", np.packbits(got.pred_masks.numpy()))


def test_semantic_scores_equal_detectron2(case):
    got = sem_seg_postprocess(
        case.tensor("sem_seg"), case.params["sem_img_size"], *case.params["sem_out"]
    )
    case.check("sem_seg", got)


def test_boxes_of_the_input_are_scaled_in_place_and_nothing_else(case):
    detections = _detections(case)
    raw_boxes = detections.pred_boxes.tensor
    got = detector_postprocess(detections, 100, 120)
    torch.testing.assert_close(raw_boxes, case.tensor("boxes") * 2)
    clipped = detections.pred_boxes
    assert torch.equal(got.pred_boxes.tensor, clipped[clipped.nonempty()].tensor)
    assert torch.equal(detections.pred_keypoints, case.tensor("keypoints"))
    assert detections.image_size == (50, 60)


def test_roi_masks_are_pasted_like_tensors(case):
    plain, wrapped = _detections(case), _detections(case)
    wrapped.pred_masks = ROIMasks(wrapped.pred_masks[:, 0])
    masks = [detector_postprocess(d, 50, 60).pred_masks for d in (plain, wrapped)]
    assert torch.equal(*masks)


def test_proposals_are_scaled_too():
    proposals = Instances((10, 10), proposal_boxes=Boxes([[0, 0, 5, 5], [1, 1, 1, 3]]))
    got = detector_postprocess(proposals, 20, 40)
    assert got.proposal_boxes.tensor.tolist() == [[0, 0, 20, 10]]


def test_no_detections_stay_none():
    none = Instances((10, 10), pred_boxes=Boxes([]), pred_masks=torch.zeros(0, 1, 28, 28))
    assert detector_postprocess(none, 20, 30).pred_masks.shape == (0, 20, 30)
