"""The mapper against detectron2's figures, and what it leaves alone."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.config import get_cfg
from d2lite.data import DatasetMapper, transforms as T
from d2lite.data.dataset_mapper import to_chw_tensor
from d2lite.data.detection_utils import SizeMismatchError
from d2lite.structures import BitMasks, BoxMode, PolygonMasks
from tests.golden import case_names, load_case


def _golden_dict(case, folder) -> dict:
    Image.fromarray(case.inputs["image_rgb"]).save(folder / "a.png")
    Image.fromarray(case.inputs["sem_seg"]).save(folder / "seg.png")
    height, width = case.inputs["sem_seg"].shape
    return {
        "file_name": str(folder / "a.png"),
        "sem_seg_file_name": str(folder / "seg.png"),
        "height": height,
        "width": width,
        "image_id": 1,
        "annotations": [
            {**anno, "bbox_mode": BoxMode[anno["bbox_mode"]]} for anno in case.inputs["annotations"]
        ],
    }


def _golden_mapper(params: dict) -> DatasetMapper:
    return DatasetMapper(
        params["is_train"],
        augmentations=[getattr(T, one["name"])(**one["kwargs"]) for one in params["augmentations"]],
        image_format=params["format"],
        use_instance_mask=True,
        instance_mask_format=params["mask_format"],
        recompute_boxes=params["recompute_boxes"],
    )


@pytest.mark.parametrize("name", case_names("dataset_mapper."))
def test_golden_mapper(name, tmp_path):
    case = load_case(name)
    dataset_dict = _golden_dict(case, tmp_path)
    before = copy.deepcopy(dataset_dict)
    got = _golden_mapper(case.params)(dataset_dict)
    assert dataset_dict == before
    assert sorted(got) == case.outputs["keys"]
    assert str(got["image"].dtype) == case.outputs["image_dtype"]
    assert got["image"].is_contiguous()
    case.check("image", got["image"])
    case.check("sem_seg", got["sem_seg"])
    if "instances" in got:
        instances = got["instances"]
        assert sorted(instances.get_fields()) == case.outputs["fields"]
        assert list(instances.image_size) == case.outputs["image_size"]
        case.check("gt_boxes", instances.gt_boxes.tensor)
        case.check("gt_classes", instances.gt_classes)


def _write(folder, suffix="png") -> dict:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / f"a.{suffix}")
    anno = {
        "bbox": [10, 10, 20, 20],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 2,
        "segmentation": [[10.0, 10, 30, 10, 30, 30, 10, 30]],
        "keypoints": [15.0, 15, 2],
    }
    return {"file_name": str(folder / f"a.{suffix}"), "annotations": [anno]}


def test_what_the_model_does_not_want_is_dropped(tmp_path):
    mapper = DatasetMapper(True, augmentations=[], image_format="RGB")
    got = mapper(_write(tmp_path))
    assert set(got["instances"].get_fields()) == {"gt_boxes", "gt_classes"}
    assert (got["height"], got["width"]) == (40, 60)


def test_crowds_are_no_instances(tmp_path):
    one = _write(tmp_path)
    one["annotations"].append({**one["annotations"][0], "iscrowd": 1})
    mapper = DatasetMapper(True, augmentations=[], image_format="RGB")
    assert len(mapper(one)["instances"]) == 1


@pytest.mark.parametrize("format, channels", [("RGB", 3), ("L", 1)])
def test_the_tensor_owns_its_memory(tmp_path, format, channels):
    image = DatasetMapper(False, augmentations=[], image_format=format)(_write(tmp_path))["image"]
    assert image.shape == (channels, 40, 60) and image.dtype == torch.uint8
    image.fill_(0)  # would fail, or change the source, on a view of it


def test_gray_images_with_a_resize(tmp_path):
    mapper = DatasetMapper(False, augmentations=[T.Resize((20, 30))], image_format="L")
    assert mapper(_write(tmp_path))["image"].shape == (1, 20, 30)


def test_from_config_takes_the_keys(tmp_path):
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (20,)
    cfg.INPUT.CROP.ENABLED = True
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT = "bitmask"
    mapper = DatasetMapper(cfg, True)
    assert [type(aug).__name__ for aug in mapper.augmentations.augs] == [
        "RandomCrop",
        "ResizeShortestEdge",
        "RandomFlip",
    ]
    assert mapper.recompute_boxes and mapper.proposal_topk is None
    got = mapper(_write(tmp_path))
    assert isinstance(got["instances"].gt_masks, BitMasks)
    assert min(got["image"].shape[1:]) == 20
    test_mapper = DatasetMapper(cfg, False)
    assert len(test_mapper.augmentations.augs) == 1 and not test_mapper.is_train


def test_from_config_with_keypoints_and_proposals():
    cfg = get_cfg()
    cfg.MODEL.KEYPOINT_ON = cfg.MODEL.LOAD_PROPOSALS = True
    cfg.DATASETS.TRAIN = ("keypoints_coco_2017_train",)
    mapper = DatasetMapper(cfg, is_train=True)
    assert len(mapper.keypoint_hflip_indices) == 17 and mapper.proposal_topk == 2000
    assert DatasetMapper(cfg, is_train=False).proposal_topk == 1000


def test_explicit_arguments_win_over_the_config():
    mapper = DatasetMapper(get_cfg(), True, augmentations=[], image_format="L")
    assert mapper.augmentations.augs == [] and mapper.image_format == "L"


def test_boxes_cannot_come_from_masks_that_are_not_used():
    with pytest.raises(ValueError, match="use_instance_mask"):
        DatasetMapper(True, augmentations=[], image_format="RGB", recompute_boxes=True)


def test_subclasses_may_change_annotations(tmp_path):
    class Renaming(DatasetMapper):
        def _transform_annotations(self, dataset_dict, transforms, image_shape):
            for anno in dataset_dict["annotations"]:
                anno["category_id"] = 7
            super()._transform_annotations(dataset_dict, transforms, image_shape)

    one = _write(tmp_path)
    mapper = Renaming(True, augmentations=[], image_format="RGB", use_instance_mask=True)
    instances = mapper(one)["instances"]
    assert instances.gt_classes.tolist() == [7]
    assert isinstance(instances.gt_masks, PolygonMasks)
    assert one["annotations"][0]["category_id"] == 2


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(
    "view",
    [
        lambda image: image,
        lambda image: image[:, ::-1],
        lambda image: image[::-1],
        lambda image: image[2:5, 1:4],
        lambda image: image[:0],
        lambda image: image.astype(np.float32)[:, ::-1],
        lambda image: image[:, :, 0],
    ],
)
def test_channels_come_first_from_any_layout(view, channels):
    image = view(np.random.default_rng(0).integers(0, 256, (6, 8, channels), dtype=np.uint8))
    got = to_chw_tensor(image)
    want = np.atleast_3d(image).transpose(2, 0, 1)
    np.testing.assert_array_equal(got.numpy(), want)
    assert got.is_contiguous() and not np.shares_memory(got.numpy(), image)


@pytest.mark.parametrize(
    ("bbox", "mode", "expected"),
    [
        # Mirrored in an image of width 40, then twice as large.
        ([10.0, 12.0, 8.0, 4.0, 30.0], BoxMode.XYWHA_ABS, [60.0, 24.0, 16.0, 8.0, -30.0]),
        ([6.0, 10.0, 14.0, 14.0], BoxMode.XYXY_ABS, [60.0, 24.0, 16.0, 8.0, 0.0]),
        ([6.0, 10.0, 8.0, 4.0], BoxMode.XYWH_ABS, [60.0, 24.0, 16.0, 8.0, 0.0]),
    ],
)
def test_rotated_boxes(bbox, mode, expected, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    mapper = DatasetMapper(
        True,
        augmentations=[T.RandomFlip(prob=1.0), T.Resize((60, 80))],
        image_format="BGR",
        use_rotated_boxes=True,
    )
    anno = {"bbox": bbox, "bbox_mode": mode, "category_id": 3}
    instances = mapper({"file_name": str(tmp_path / "a.png"), "annotations": [anno]})["instances"]
    torch.testing.assert_close(instances.gt_boxes.tensor, torch.tensor([expected]))
    assert instances.gt_classes.tolist() == [3]
    assert anno["bbox"] == bbox


def test_rotated_boxes_follow_from_five_regression_weights():
    cfg = get_cfg()
    assert not DatasetMapper(cfg).use_rotated_boxes
    cfg.MODEL.RPN.BBOX_REG_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0)
    assert DatasetMapper(cfg).use_rotated_boxes
    cfg.MODEL.MASK_ON = True
    with pytest.raises(ValueError, match=r"set MODEL\.MASK_ON and MODEL\.KEYPOINT_ON to False"):
        DatasetMapper(cfg)


@pytest.mark.parametrize("shape, fits", [((40, 60), True), ((30, 60), False)])
def test_labels_have_the_size_of_their_image(tmp_path, shape, fits):
    record = {**_write(tmp_path), "sem_seg_file_name": str(tmp_path / "labels.png")}
    Image.fromarray(np.full(shape, 300, np.uint16)).save(tmp_path / "labels.png")
    mapper = DatasetMapper(True, augmentations=[], image_format="RGB")
    if fits:
        assert mapper(record)["sem_seg"].unique().tolist() == [300]
        return
    with pytest.raises(SizeMismatchError, match=r"labels\.png: the label image is 30 x 60 .* 40 x"):
        mapper(record)
