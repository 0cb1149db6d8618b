"""Annotations move with their images, against detectron2's figures and by hand."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from d2lite.config import get_cfg
from d2lite.data import DatasetCatalog, MetadataCatalog, detection_utils, transforms as T
from d2lite.structures import BitMasks, BoxMode, PolygonMasks
from tests.golden import assert_within, case_names, load_case


def _golden_annotation(anno: dict) -> dict:
    return {**anno, "bbox_mode": BoxMode[anno["bbox_mode"]]}


@pytest.mark.parametrize("name", case_names("annotations."))
def test_golden_annotations(name):
    case = load_case(name)
    parts = [getattr(T, one["name"])(**one["kwargs"]) for one in case.params["transforms"]]
    size = tuple(case.params["out_size"])
    annos = [
        detection_utils.transform_instance_annotations(
            _golden_annotation(anno),
            T.TransformList(parts),
            size,
            keypoint_hflip_indices=case.params.get("keypoint_hflip_indices"),
        )
        for anno in case.inputs["annotations"]
        if anno["iscrowd"] == 0
    ]
    target = detection_utils.annotations_to_instances(annos, size, case.params["mask_format"])
    assert sorted(target.get_fields()) == case.outputs["fields"]
    case.check("gt_boxes", target.gt_boxes.tensor)
    case.check("gt_classes", target.gt_classes)
    case.check("mask_boxes", target.gt_masks.get_bounding_boxes().tensor)
    if "gt_keypoints" in case.outputs:
        case.check("gt_keypoints", target.gt_keypoints.tensor)
    if "bitmasks" in case.outputs:
        bits = np.packbits(target.gt_masks.tensor.numpy().ravel())
        case.check("bitmasks", bits)
    for got, want in zip(
        getattr(target.gt_masks, "polygons", []), case.outputs.get("polygons", []), strict=True
    ):
        for one, expected in zip(got, want, strict=True):
            assert_within(f"{name}: polygons", one, expected, case.tolerance_of("polygons"))
    kept = detection_utils.filter_empty_instances(target)
    case.check("kept_classes", kept.gt_classes)


def test_golden_flip_indices():
    want = load_case("dataset.coco_keypoint_flip_indices").outputs["coco_person"]
    name = "keypoints_coco_2017_train"
    assert detection_utils.create_keypoint_hflip_indices(name) == want
    assert detection_utils.create_keypoint_hflip_indices([name, name]) == want


def test_a_data_set_without_keypoints_is_told():
    with pytest.raises(ValueError, match=r"'no_points' has no keypoint names.*KEYPOINT_ON False"):
        detection_utils.create_keypoint_hflip_indices("no_points")
    MetadataCatalog.remove("no_points")


def _anno(**more) -> dict:
    return {"bbox": [1.0, 2.0, 3.0, 4.0], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, **more}


def test_boxes_are_clipped_to_the_image():
    anno = _anno(bbox=[-5.0, 2.0, 30.0, 40.0])
    detection_utils.transform_instance_annotations(anno, [T.NoOpTransform()], (20, 10))
    assert anno["bbox"].tolist() == [0, 2, 10, 20]
    assert anno["bbox_mode"] == BoxMode.XYXY_ABS


def test_whole_numbers_stay_whole_as_in_detectron2():
    triangle = [1, 1, 2, 1, 2, 3]
    twice_and_a_half = [T.ResizeTransform(8, 8, 20, 20)]
    for bbox, mode in (([1, 3, 2, 5], BoxMode.XYXY_ABS), ([1, 3, 1, 2], BoxMode.XYWH_ABS)):
        anno = _anno(bbox=bbox, bbox_mode=mode, segmentation=[triangle])
        detection_utils.transform_instance_annotations(anno, twice_and_a_half, (20, 20))
        assert anno["bbox"].tolist() == [2, 7, 5, 12]
        assert anno["segmentation"][0].tolist() == [2, 2, 5, 2, 5, 7]
    anno = _anno(bbox=[1, 3, 2.0, 5], bbox_mode=BoxMode.XYXY_ABS)
    detection_utils.transform_instance_annotations(anno, twice_and_a_half, (20, 20))
    assert anno["bbox"].tolist() == [2.5, 7.5, 5, 12.5]


def test_points_that_leave_the_image_are_zero_and_sides_swap():
    points = [1, 1, 2, 9, 1, 2, 5, 5, 0]
    flip = T.TransformList([T.HFlipTransform(10)])
    got = detection_utils.transform_keypoint_annotations(points, flip, (10, 10), [1, 0, 2])
    assert got.tolist() == [[1, 1, 2], [9, 1, 2], [0, 0, 0]]
    crop = T.CropTransform(0, 0, 5, 5)
    got = detection_utils.transform_keypoint_annotations(points, crop, (5, 5), [1, 0, 2])
    assert got.tolist() == [[1, 1, 2], [0, 0, 0], [0, 0, 0]]


def test_flipped_points_need_the_right_indices():
    flip = T.HFlipTransform(10)
    with pytest.raises(ValueError, match="keypoint_flip_map"):
        detection_utils.transform_keypoint_annotations([1, 1, 2], flip, (10, 10))
    with pytest.raises(ValueError, match="1 keypoints, but the metadata have 2"):
        detection_utils.transform_keypoint_annotations([1, 1, 2], flip, (10, 10), [1, 0])


def test_transforms_leave_the_callers_arrays_alone():
    polygon = np.array([1.0, 1, 5, 1, 5, 5])
    points = np.array([[1.0, 1, 2]])
    anno = _anno(segmentation=[polygon], keypoints=points)
    detection_utils.transform_instance_annotations(
        anno, T.HFlipTransform(10), (10, 10), keypoint_hflip_indices=[0]
    )
    assert polygon.tolist() == [1, 1, 5, 1, 5, 5]
    assert points.tolist() == [[1, 1, 2]]
    assert anno["segmentation"][0].tolist() == [9, 1, 5, 1, 5, 5]


@pytest.mark.parametrize("compressed", [True, False])
def test_rle_becomes_a_mask(compressed):
    # Column by column: 5 zeros, 3 ones, and zeros for the rest of 10 x 10.
    rle = {"size": [10, 10], "counts": [5, 3, 92]}
    anno = _anno(segmentation=mask_util.frPyObjects(rle, 10, 10) if compressed else rle)
    detection_utils.transform_instance_annotations(anno, T.NoOpTransform(), (10, 10))
    assert np.argwhere(anno["segmentation"]).tolist() == [[5, 0], [6, 0], [7, 0]]
    masks = detection_utils.annotations_to_instances([anno], (10, 10), "bitmask").gt_masks
    assert isinstance(masks, BitMasks) and masks.tensor.sum() == 3


def test_masks_of_another_size_are_named():
    anno = _anno(segmentation={"size": [10, 10], "counts": [100]})
    with pytest.raises(ValueError, match="different sizes"):
        detection_utils.transform_instance_annotations(anno, T.NoOpTransform(), (10, 12))


def test_segmentations_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match=r"list.list.float"):
        detection_utils.transform_instance_annotations(
            _anno(segmentation="all"), T.NoOpTransform(), (10, 10)
        )
    mask = _anno(segmentation=np.ones((10, 10), np.uint8))
    with pytest.raises(ValueError, match="bitmask"):
        detection_utils.annotations_to_instances([mask], (10, 10), "polygon")
    with pytest.raises(ValueError, match="use 'polygon' or 'bitmask'"):
        detection_utils.annotations_to_instances([mask], (10, 10), "rle")
    with pytest.raises(ValueError, match="str"):
        detection_utils.annotations_to_instances([_anno(segmentation="a")], (9, 9), "bitmask")


def test_annotations_must_agree_in_what_they_have():
    with pytest.raises(ValueError, match=r"1 of the 2 annotations .* 'segmentation'"):
        detection_utils.annotations_to_instances(
            [_anno(segmentation=[[1, 1, 5, 1, 5, 5]]), _anno()], (10, 10)
        )


def test_an_image_without_annotations_has_empty_boxes():
    target = detection_utils.annotations_to_instances([], (10, 10))
    assert target.gt_boxes.tensor.shape == (0, 4) and target.gt_classes.shape == (0,)
    assert target.gt_classes.dtype == torch.int64
    rotated = detection_utils.annotations_to_instances_rotated([], (10, 10))
    assert rotated.gt_boxes.tensor.shape == (0, 5)


def test_rotated_boxes_become_instances():
    anno = {"bbox": [5, 5, 20, 4, 0], "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 3}
    target = detection_utils.annotations_to_instances_rotated([anno], (10, 10))
    assert target.gt_boxes.tensor.tolist() == [[5, 5, 10, 4, 0]]  # clipped
    assert target.gt_classes.tolist() == [3]


def test_empty_boxes_and_masks_are_dropped():
    annos = [
        _anno(segmentation=[np.array([1.0, 1, 5, 1, 5, 5])]),
        _anno(bbox=[1, 1, 0, 4], segmentation=[np.array([1.0, 1, 5, 1, 5, 5])]),
    ]
    target = detection_utils.annotations_to_instances(annos, (10, 10))
    assert isinstance(target.gt_masks, PolygonMasks)
    kept, mask = detection_utils.filter_empty_instances(target, return_mask=True)
    assert len(kept) == 1 and mask.tolist() == [True, False]


def test_proposals_are_moved_clipped_and_cut_to_the_best():
    one = {
        "proposal_boxes": np.array([[0.0, 0, 4, 4], [2, 2, 2, 9], [5, 5, 30, 30]]),
        "proposal_objectness_logits": np.array([3.0, 2.0, 1.0]),
        "proposal_bbox_mode": BoxMode.XYXY_ABS,
    }
    flip = T.HFlipTransform(10)
    detection_utils.transform_proposals(dict(one), (10, 10), flip, proposal_topk=5)
    detection_utils.transform_proposals(one, (10, 10), flip, proposal_topk=5)
    got = one["proposals"]
    assert got.proposal_boxes.tensor.tolist() == [[6, 0, 10, 4], [0, 5, 5, 10]]
    assert got.objectness_logits.tolist() == [3, 1]  # the second had no area
    assert set(one) == {"proposals"}


def test_crop_contains_the_center_of_the_object():
    for _ in range(50):
        crop = detection_utils.gen_crop_transform_with_instance(
            (6, 8), (20, 30), _anno(bbox=[20, 10, 4, 6])
        )
        assert (crop.w, crop.h) == (8, 6)
        assert crop.x0 <= 22 <= crop.x0 + 8 and crop.y0 <= 13 <= crop.y0 + 6
        assert crop.x0 + crop.w <= 30 and crop.y0 + crop.h <= 20
    large = detection_utils.gen_crop_transform_with_instance((99, 99), (20, 30), _anno())
    assert (large.w, large.h) == (30, 20)
    with pytest.raises(ValueError, match="outside"):
        detection_utils.gen_crop_transform_with_instance(
            (6, 8), (20, 30), _anno(bbox=[50, 5, 2, 2])
        )


@pytest.fixture
def two_datasets():
    for name, classes in (("test_du_a", ["x", "y"]), ("test_du_b", ["x", "z"])):
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).set(
            thing_classes=classes,
            class_image_count=[{"id": 2, "image_count": 16}, {"id": 1, "image_count": 4}],
        )
    yield ["test_du_a", "test_du_b"]
    for name in ("test_du_a", "test_du_b"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_different_class_names_are_shown(two_datasets):
    with pytest.raises(ValueError, match=r"'test_du_a' has \['x', 'y'\], 'test_du_b' has"):
        detection_utils.check_metadata_consistency("thing_classes", two_datasets)
    detection_utils.check_metadata_consistency("thing_classes", two_datasets[:1])
    with pytest.raises(AttributeError, match="stuff_classes"):
        detection_utils.check_metadata_consistency("stuff_classes", two_datasets)


def test_federated_weights_are_powers_of_image_counts(two_datasets):
    assert detection_utils.get_fed_loss_cls_weights("test_du_a", 0.5).tolist() == [2, 4]


def test_augmentations_of_the_config():
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (30, 40)
    resize, flip = detection_utils.build_augmentation(cfg, True)
    assert (resize.short_edge_length, resize.max_size, resize.is_range) == ((30, 40), 1333, False)
    assert flip.horizontal
    (resize,) = detection_utils.build_augmentation(cfg, False)
    assert tuple(resize.short_edge_length) == (800, 800)
    cfg.INPUT.RANDOM_FLIP = "vertical"
    assert detection_utils.build_augmentation(cfg, True)[1].vertical
    cfg.INPUT.RANDOM_FLIP = "none"
    assert len(detection_utils.build_augmentation(cfg, True)) == 1
    cfg.INPUT.RANDOM_FLIP = "sideways"
    with pytest.raises(ValueError, match=r"INPUT.RANDOM_FLIP is 'sideways'"):
        detection_utils.build_augmentation(cfg, True)
