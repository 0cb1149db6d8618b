"""Point supervision: points made of masks, moved with their image, and learned from."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fvcore.transforms.transform import HFlipTransform, TransformList

from d2lite.config import get_cfg
from d2lite.data import DatasetCatalog, DatasetMapper, MetadataCatalog, transforms as T
from d2lite.data.dataset_mapper import build_dataset_mapper
from d2lite.layers import ShapeSpec
from d2lite.modeling import build_model
from d2lite.projects import add_projects
from d2lite.projects.point_sup import (
    MaskRCNNConvUpsamplePointSupHead,
    PointSupDatasetMapper,
    get_point_coords_from_point_annotation,
    get_point_coords_wrt_box,
    register_coco_instances_with_points,
    sample_point_annotation,
)
from d2lite.projects.point_sup.detection_utils import (
    annotations_to_instances,
    transform_instance_annotations,
)
from d2lite.structures import Boxes, BoxMode, Instances
from tests.project_checks import project_config, train_on

CONFIGS = Path(__file__).parents[1] / "configs"
TOOL = Path(__file__).parents[1] / "tools/prepare_coco_point_annotations_without_masks.py"
SQUARE = [[2, 1, 6, 1, 6, 5, 2, 5]]  # of an image of 8 x 10: columns 2 to 5, rows 1 to 4


def load_config(name: str, *opts):
    tiny = ["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64]
    return project_config(CONFIGS / name, *tiny, *opts)


def shapes_with_points(count: int) -> list[dict]:
    """The first records of shapes_points_train, without making all 2000."""
    from d2lite.projects.point_sup import register_point_annotations as module

    records = DatasetCatalog.get("shapes_val")[:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.DatasetCatalog, "get", lambda name: records)
        return module._load_shapes()


def test_sampled_points_lie_in_the_box_and_know_the_mask():
    generator = np.random.default_rng(0)
    got = sample_point_annotation(SQUARE, (0.0, 0.0, 10.0, 8.0), (8, 10), 300, generator)
    coords, labels = np.array(got["point_coords"]), np.array(got["point_labels"])
    on_square = ((coords >= (2, 1)) & (coords < (6, 5))).all(axis=1)
    assert labels.tolist() == on_square.tolist()
    assert coords.min(axis=0).tolist() == [0, 0] and coords.max(axis=0).tolist() == [9, 7]
    assert 0.1 < labels.mean() < 0.3  # 16 of 80 pixels
    beyond = sample_point_annotation(SQUARE, (8.0, 6.0, 9.0, 9.0), (8, 10), 50, generator)
    assert np.array(beyond["point_coords"]).max(axis=0).tolist() == [9, 7]
    assert json.loads(json.dumps(got)) == got


def test_points_move_with_the_image_and_those_outside_count_no_more():
    anno = {"bbox": [2, 1, 6, 5], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    anno |= {"point_coords": [[2.5, 1.5], [9.5, 0.5]], "point_labels": [1, 0]}
    flipped = transform_instance_annotations(
        dict(anno), TransformList([HFlipTransform(10)]), (8, 10)
    )
    assert flipped["point_coords"].tolist() == [[7.5, 1.5], [0.5, 0.5]]
    assert flipped["point_labels"].tolist() == [1, 0]
    crop = TransformList([T.CropTransform(0, 0, 8, 8)])
    cropped = transform_instance_annotations(dict(anno), crop, (8, 8))
    assert cropped["point_labels"].tolist() == [1, -1]
    assert anno["point_coords"] == [[2.5, 1.5], [9.5, 0.5]]  # not changed


def annos(*counts: int) -> list[dict]:
    return [
        {
            "bbox": [0, 0, 9, 9],
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": i,
            **({"point_coords": np.arange(2.0 * n).reshape(n, 2)} if n else {}),
            **({"point_labels": np.arange(n) % 2} if n else {}),
        }
        for i, n in enumerate(counts)
    ]


def test_points_become_fields_of_instances():
    x = annotations_to_instances(annos(3, 3), (9, 9))
    assert x.gt_point_coords.shape == (2, 3, 2) and x.gt_point_labels.tolist() == [[0, 1, 0]] * 2
    assert not annotations_to_instances([], (9, 9)).has("gt_point_coords")
    np.random.seed(0)
    few = annotations_to_instances(annos(5, 3), (9, 9), sample_points=2)
    rows = few.gt_point_coords[..., 0] / 2
    assert torch.equal(rows % 2, few.gt_point_labels.to(rows.dtype))  # they stay together
    assert all(len(set(one)) == 2 for one in rows.tolist())  # no point twice
    assert annotations_to_instances(annos(3), (9, 9), 7).gt_point_labels.shape == (1, 7)


def test_points_that_do_not_fit_together_are_told():
    with pytest.raises(ValueError, match=r"2 of the 2 objects .* \[2, 3\] each.*SAMPLE_POINTS"):
        annotations_to_instances(annos(3, 2), (9, 9))
    with pytest.raises(ValueError, match=r"1 of the 2 objects of an image have points"):
        annotations_to_instances(annos(3, 0), (9, 9), 2)
    lonely = {**annos(0)[0], "point_coords": [[1, 1]]}
    with pytest.raises(ValueError, match="has 'point_coords' alone"):
        transform_instance_annotations(lonely, TransformList([]), (9, 9))


def test_mapper_takes_the_middle_of_pixels_and_leaves_the_record_alone():
    (record,) = shapes_with_points(1)
    before = json.dumps(record)
    mapper = PointSupDatasetMapper(True, augmentations=[], image_format="RGB")
    x = mapper(record)["instances"]
    assert json.dumps(record) == before
    first = torch.tensor(record["annotations"][0]["point_coords"]) + 0.5
    assert torch.equal(x.gt_point_coords[0], first.double())
    assert not x.has("gt_masks") and not x.has("gt_keypoints")
    crowd = [{**anno, "iscrowd": 1} for anno in record["annotations"][1:]]
    alone = mapper({**record, "annotations": [record["annotations"][0], *crowd]})
    assert len(alone["instances"]) == 1
    assert len(mapper({**record, "annotations": crowd})["instances"]) == 0
    del record["annotations"][0]["point_coords"]
    with pytest.raises(ValueError, match=r"shapes://val/0: an annotation has no 'point_coords'"):
        mapper(record)


def test_config_chooses_the_mapper():
    cfg = load_config("shapes_R_18_FPN.yaml", "INPUT.SAMPLE_POINTS", 4)
    mapper = build_dataset_mapper(cfg, True)
    assert type(mapper) is PointSupDatasetMapper and mapper.sample_points == 4
    assert type(build_dataset_mapper(cfg, False)) is DatasetMapper
    cfg.INPUT.CROP.ENABLED = True
    with pytest.raises(ValueError, match=r"set INPUT\.CROP\.ENABLED False"):
        build_dataset_mapper(cfg, True)
    cfg.INPUT.POINT_SUP = False
    assert type(build_dataset_mapper(cfg, True)) is DatasetMapper


def proposals(boxes, points, labels) -> Instances:
    boxes = torch.tensor(boxes)
    return Instances(
        (20, 20),
        proposal_boxes=Boxes(boxes),
        gt_classes=torch.zeros(len(boxes), dtype=torch.int64),
        gt_point_coords=torch.tensor(points, dtype=torch.float64),
        gt_point_labels=torch.tensor(labels, dtype=torch.float64),
    )


def test_points_are_seen_from_the_box_and_ignored_outside():
    box = torch.tensor([[4.0, 2.0, 8.0, 10.0]])
    points = torch.tensor([[[4.0, 2.0], [8.0, 10.0], [5.0, 6.0], [3.0, 6.0]]])
    wanted = [[0, 0], [1, 1], [0.25, 0.5], [-0.25, 0.5]]
    assert get_point_coords_wrt_box(box, points).tolist() == [wanted]
    x = proposals(box.tolist(), points.tolist(), [[1, 0, 1, 1]])
    coords, labels = get_point_coords_from_point_annotation([x, x[:0]])
    assert coords.tolist() == [wanted] and labels.tolist() == [[1, 0, 1, -1]]
    coords, labels = get_point_coords_from_point_annotation([x[:0]])
    assert coords.shape[0] == labels.shape[0] == 0
    flat = proposals([[4.0, 2.0, 4.0, 2.0]], [[[4.0, 2.0], [9.0, 1.0]]], [[1, 0]])
    coords, labels = get_point_coords_from_point_annotation([flat])
    assert torch.isfinite(coords).all() and labels.tolist() == [[-1, -1]]


def test_loss_of_the_mask_head_by_hand():
    """A mask of logits 1, left, and -1, right: a point in the middle of each half."""
    head = MaskRCNNConvUpsamplePointSupHead(
        ShapeSpec(channels=2, width=2, height=2), num_classes=1, conv_dims=[2]
    ).train()
    masks = torch.tensor([1.0, 1.0, -1.0, -1.0]).expand(1, 1, 4, 4)
    head.layers = lambda x: masks[: len(x)]
    x = proposals([[0.0, 0.0, 8.0, 8.0]], [[[2.0, 4.0], [6.0, 4.0], [9.0, 9.0]]], [[1, 1, 1]])
    loss = head(torch.zeros(1, 2, 2, 2), [x])["loss_mask"]
    right, wrong = np.log1p(np.exp(-1)), np.log1p(np.exp(1))
    assert loss.item() == pytest.approx((right + wrong) / 3)  # the third is outside of the box
    assert head(torch.zeros(0, 2, 2, 2), [x[:0]])["loss_mask"] == 0


@pytest.mark.parametrize("name", ["shapes_R_18_FPN.yaml", "implicit_shapes_R_18_FPN.yaml"])
def test_losses_fall(name):
    cfg = load_config(name)
    mapper = build_dataset_mapper(cfg, True)
    batch = [mapper(record) for record in shapes_with_points(2)]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 6
    model = build_model(cfg).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    assert model(batch).keys() & {"loss_mask", "loss_mask_point"}
    totals = train_on(model, batch, optimizer, 5)
    assert all(map(math.isfinite, totals)) and totals[-1] < totals[0]


def test_implicit_config_differs_from_that_of_masks_in_the_points_alone():
    """Its values are not among detectron2's stored ones, but its model is that of PointRend."""
    cfg = load_config("implicit_pointrend_R_50_FPN_3x_point_sup_point_aug_coco.yaml")
    masks = get_cfg()
    path = "PointRend/configs/InstanceSegmentation/implicit_pointrend_R_50_FPN_3x_coco.yaml"
    path = str(CONFIGS.parents[1] / path)
    add_projects(masks, path)
    masks.merge_from_file(path)
    assert cfg.MODEL.ROI_MASK_HEAD.pop("NAME") == "ImplicitPointRendPointSupHead"
    assert masks.MODEL.ROI_MASK_HEAD.pop("NAME") == "ImplicitPointRendMaskHead"
    for key in ("ROI_MASK_HEAD", "POINT_HEAD", "IMPLICIT_POINTREND", "ROI_BOX_HEAD", "RESNETS"):
        assert cfg.MODEL[key] == masks.MODEL[key]
    assert cfg.SOLVER == masks.SOLVER and cfg.INPUT.SAMPLE_POINTS == 5


def test_tool_writes_points_in_place_of_masks_that_the_dataset_reads(tmp_path, monkeypatch, capsys):
    image = {"id": 7, "file_name": "a.jpg", "height": 8, "width": 10}
    shared = {"image_id": 7, "category_id": 1, "bbox": [2, 1, 4, 4], "area": 16}
    rle = {"size": [8, 10], "counts": [17, 4, 4, 4, 4, 4, 4, 4, 35]}  # the same square, by columns
    data = {
        "info": {"year": 2017},
        "images": [image],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": 1, "segmentation": SQUARE, "iscrowd": 0, **shared},
            {"id": 2, "segmentation": rle, "iscrowd": 1, **shared},
            {"id": 3, "segmentation": rle, "iscrowd": 0, **shared},
        ],
    }
    source = tmp_path / "instances.json"
    source.write_text(json.dumps(data))
    spec = importlib.util.spec_from_file_location("prepare_points", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, "argv", ["prepare", "10", "2", "--json", str(source)])
    tool.main()
    names = [f"instances_n10_v{i}_without_masks.json" for i in (1, 2)]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
    first, second = (json.loads((tmp_path / name).read_text()) for name in names)
    assert first["info"] == data["info"] and first != second
    assert [("segmentation" in x, "point_coords" in x) for x in first["annotations"]] == [
        (False, True),
        (False, False),
        (False, True),
    ]
    name = "test_point_sup_tool"
    register_coco_instances_with_points(name, {}, tmp_path / names[0], "")
    try:
        (record,) = DatasetCatalog.get(name)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    for anno in record["annotations"][::2]:
        assert anno["point_labels"] == [1] * 10  # the box is the object
        assert np.array(anno["point_coords"]).shape == (10, 2)
    del data["annotations"][0]["segmentation"]
    with pytest.raises(ValueError, match="annotation 1 has no 'segmentation'"):
        tool.with_points(data, 10, 0)


def test_datasets_are_registered():
    assert "coco_2017_train_points_n10_v1_without_masks" in DatasetCatalog.list()
    metadata = MetadataCatalog.get("coco_2017_train_points_n10_v1_without_masks")
    assert len(metadata.thing_classes) == 80 and metadata.evaluator_type == "coco"
    assert MetadataCatalog.get("shapes_points_train").evaluator_type == "coco"
    for record in shapes_with_points(3):
        for anno in record["annotations"]:
            assert len(anno["point_labels"]) == 10 and "segmentation" not in anno
