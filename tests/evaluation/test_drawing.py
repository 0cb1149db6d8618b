"""Pictures of the first images, deterministic, in the folder and in the event storage."""

import cv2
import numpy as np
import pytest
import torch

from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.evaluation import DrawDetections
from d2lite.evaluation.drawing import draw_output, picture_name, side_by_side
from d2lite.structures import Boxes, Instances
from d2lite.utils.events import EventStorage


def detection(record, score):
    found = Instances((record["height"], record["width"]))
    found.pred_boxes = Boxes(torch.tensor([[5.0, 5.0, 60.0, 60.0]]))
    found.scores, found.pred_classes = torch.tensor([score]), torch.tensor([1])
    return {"instances": found}


def test_first_images_are_drawn_next_to_the_truth(tmp_path):
    records = DatasetCatalog.get("shapes_val")
    drawing = DrawDetections("shapes_val", str(tmp_path), 2)
    storage = EventStorage()
    with storage:
        drawing.reset()
        inputs = [{k: r[k] for k in ("file_name", "image_id")} for r in records[:3]]
        drawing.process(inputs[:1], [detection(records[0], 0.9)])
        drawing.process(inputs[1:], [detection(r, 0.9) for r in records[1:3]])
        assert drawing.evaluate() == {}
    files = sorted((tmp_path / "visualizations").iterdir())
    assert [f.name for f in files] == ["shapes_val_0.jpg", "shapes_val_1.jpg"]
    picture = cv2.imread(str(files[0]))
    height, width = records[0]["height"], records[0]["width"]
    assert picture.shape[1] == 2 * width + 6
    assert height < picture.shape[0] < height + 40
    names = [name for name, _, _ in storage._vis_data]
    assert names == ["visualizations/shapes_val_0", "visualizations/shapes_val_1"]
    assert storage._vis_data[0][1].shape == (3, *picture.shape[:2])


def test_detections_below_the_threshold_are_not_drawn():
    record = DatasetCatalog.get("shapes_val")[0]
    metadata = MetadataCatalog.get("shapes_val")
    image = np.full((record["height"], record["width"], 3), 128, np.uint8)
    weak = draw_output(image, detection(record, 0.3), metadata, 0.5)
    np.testing.assert_array_equal(weak, image)
    strong = draw_output(image, detection(record, 0.7), metadata, 0.5)
    assert (strong != image).any()


@pytest.mark.parametrize("kind", ["sem_seg", "panoptic_seg", "proposals"])
def test_other_outputs_are_drawn(kind):
    metadata = MetadataCatalog.get("shapes_panoptic_val")
    image = np.full((60, 80, 3), 128, np.uint8)
    ids = torch.zeros(60, 80, dtype=torch.int64)
    ids[:, :40] = 1
    proposals = Instances((60, 80), proposal_boxes=Boxes(torch.tensor([[5.0, 5.0, 40.0, 40.0]])))
    output = {
        "sem_seg": torch.nn.functional.one_hot(ids, 5).permute(2, 0, 1).float(),
        "panoptic_seg": (ids, [{"id": 1, "isthing": True, "category_id": 0}]),
        "proposals": proposals,
    }[kind]
    assert (draw_output(image, {kind: output}, metadata) != image).any()


def test_pictures_side_by_side_keep_their_content():
    left, right = np.full((50, 40, 3), 10, np.uint8), np.full((50, 30, 3), 200, np.uint8)
    both = side_by_side({"left": left, "right": right})
    assert (both[-50:, :40] == 10).all() and (both[-50:, -30:] == 200).all()


def test_names_of_pictures_differ():
    taken = set()
    names = [picture_name(f, i, taken) for i, f in enumerate(["a/1.jpg", "b/1.png", "x://val/1"])]
    assert names == ["1", "1_1", "1_2"]
