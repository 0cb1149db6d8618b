"""Matching, mining, default boxes, augmentations and the configs of SSD."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import get_cfg
from d2lite.data import DatasetMapper, transforms as T
from d2lite.data.augmentation import build_augmentation
from d2lite.engine import check_class_counts
from d2lite.layers import ShapeSpec
from d2lite.modeling import build_model
from d2lite.projects import add_projects
from d2lite.projects.ssd import (
    SSDVGG,
    VGG16,
    DefaultBoxGenerator,
    SSDMobileNet,
    VGGBoxHead,
    convert_mobilenet,
    convert_vgg16,
    match_default_boxes,
    multibox_loss,
)
from d2lite.projects.ssd.augmentation import (
    CentreCropTransform,
    ExpandCanvas,
    ObjectCrop,
    PhotometricDistortion,
)
from d2lite.structures import Boxes, BoxMode, Instances
from tests.project_checks import project_config

CONFIGS = Path(__file__).parents[1] / "configs"


def load_config(name: str, *opts):
    return project_config(CONFIGS / name, "MODEL.SSD.NUM_CLASSES", 6, *opts)


def test_matching_by_hand():
    iou = torch.tensor(
        [
            [0.6, 0.2, 0.0, 0.5],  # its favorite is box 0
            [0.7, 0.3, 0.1, 0.0],  # wants box 0 too, and overlaps it more
            [0.0, 0.1, 0.2, 0.0],  # overlaps none enough, but gets its favorite
        ]
    )
    assert match_default_boxes(iou, 0.5).tolist() == [1, -1, 2, 0]


def test_favorite_beats_a_better_overlap_of_the_box():
    """Box 0 overlaps object 0 best, but is the only one that object 1 can get."""
    iou = torch.tensor([[0.6, 0.9], [0.3, 0.0]])
    assert match_default_boxes(iou, 0.5).tolist() == [1, 0]


def test_image_without_objects_is_all_background():
    assert match_default_boxes(torch.zeros(0, 3), 0.5).tolist() == [-1, -1, -1]


def test_loss_by_hand():
    """Equal logits: log 2 for the foreground box and three of four background boxes."""
    labels = torch.tensor([[0, 1, 0, 0, 0]])
    deltas = torch.zeros(1, 5, 4)
    losses = multibox_loss(torch.zeros(1, 5, 2), deltas, labels, torch.tensor([[0.5, 2, 0, 0]]))
    assert losses["loss_cls"].item() == pytest.approx(4 * np.log(2))
    assert losses["loss_box_reg"].item() == pytest.approx(0.5 * 0.25 + 1.5)


def test_loss_without_objects_is_zero_with_finite_gradients():
    logits = torch.zeros(1, 5, 2, requires_grad=True)
    deltas = torch.zeros(1, 5, 4, requires_grad=True)
    labels = torch.zeros(1, 5, dtype=torch.int64)
    losses = multibox_loss(logits, deltas, labels, torch.zeros(0, 4))
    sum(losses.values()).backward()
    assert float(losses["loss_cls"]) == float(losses["loss_box_reg"]) == 0
    assert torch.isfinite(logits.grad).all() and torch.isfinite(deltas.grad).all()


def test_default_boxes_by_hand():
    generator = DefaultBoxGenerator(image_size=100, scales=[0.2, 0.8], aspect_ratios=[[4]])
    assert generator.num_anchors == [4]
    boxes = generator([torch.zeros(1, 1, 2, 2)])[0].tensor
    assert len(boxes) == 16
    expected = [
        [15, 15, 35, 35],  # side 20 around (25, 25)
        [5, 5, 45, 45],  # side sqrt(20 * 80)
        [5, 20, 45, 30],  # 20 * 2 by 20 / 2
        [20, 5, 30, 45],
    ]
    torch.testing.assert_close(boxes[:4], torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(boxes[4:5], torch.tensor([[65.0, 15, 85, 35]]))


@pytest.mark.parametrize("size, total", [(300, 8732), (512, 24564)])
def test_number_of_default_boxes_is_the_papers(size, total):
    """Table 7 of the paper."""
    cfg = load_config(f"ssd{size}_VGG16.yaml")
    cells = [38, 19, 10, 5, 3, 1] if size == 300 else [64, 32, 16, 8, 4, 2, 1]
    shapes = [ShapeSpec(channels=1)] * len(cells)
    boxes = DefaultBoxGenerator(cfg, shapes)([torch.zeros(1, 1, n, n) for n in cells])
    assert sum(len(x) for x in boxes) == total


@pytest.mark.parametrize("size", [300, 512])
def test_sizes_of_the_maps_are_the_papers(size):
    with torch.device("meta"):
        backbone = SSDVGG(size)
        maps = backbone(torch.zeros(1, 3, size, size))
    cells = [38, 19, 10, 5, 3, 1] if size == 300 else [64, 32, 16, 8, 4, 2, 1]
    assert [x.shape[-1] for x in maps.values()] == cells
    assert list(maps)[:3] == ["conv4_3", "fc7", "conv8_2"]


def test_wrong_settings_are_told():
    with pytest.raises(ValueError, match="IMAGE_SIZE is 320"):
        SSDVGG(320)
    with pytest.raises(ValueError, match="MOBILENET_ARCH is 'mobilenet_v4'"):
        SSDMobileNet("mobilenet_v4")
    with pytest.raises(ValueError, match=r"OUT_FEATURES has 'conv6'.*Did you mean"):
        VGG16(["conv6"])
    with pytest.raises(ValueError, match="SCALES needs 3 values"):
        DefaultBoxGenerator(image_size=9, scales=[0.1], aspect_ratios=[[2], [2]])
    cfg = load_config("ssdlite320_mobilenet_v3_large.yaml", "MODEL.SSD.ASPECT_RATIOS", "[[2]]")
    with pytest.raises(ValueError, match="has 1 levels, but the backbone returns 6"):
        build_model(cfg)


def vgg16_classifier(fc6: torch.Tensor) -> dict[str, torch.Tensor]:
    """The state dict of torchvision's VGG-16; units of fc7 weigh their inputs by number."""
    units = torch.arange(4096.0)
    return {
        **{f"features.{k}": v for k, v in VGG16().features.state_dict().items()},
        "classifier.0.weight": fc6.expand(4096, 25088),
        "classifier.0.bias": units,
        "classifier.3.weight": units.expand(4096, 4096),
        "classifier.3.bias": units,
        "classifier.6.weight": torch.zeros(10, 4096),
        "classifier.6.bias": torch.zeros(10),
    }


def test_vgg16_weights_start_ssd():
    """Every entry fits, and only the layers behind fc7 stay as they are."""
    weights = vgg16_classifier(torch.zeros(1))
    converted = convert_vgg16(weights)
    with torch.device("meta"):
        own = SSDVGG(300).state_dict()
    for name, value in converted.items():
        assert value.shape == own[name.removeprefix("backbone.")].shape
    rest = own.keys() - {name.removeprefix("backbone.") for name in converted}
    assert all(name == "scale_weight" or name.startswith("extra.") for name in rest)
    assert len(rest) == 1 + 4 * 4
    assert converted["backbone.extra.0.1.weight"] is weights["features.24.weight"]


def test_fully_connected_layers_are_decimated_by_hand():
    by_unit = convert_vgg16(vgg16_classifier(torch.arange(4096.0)[:, None]))
    by_input = convert_vgg16(vgg16_classifier(torch.arange(25088.0)))
    assert by_unit["backbone.extra.0.7.1.weight"][2, 9, 1, 2] == 8
    # Channel 2, row 3, column 6.
    assert by_input["backbone.extra.0.7.1.weight"][5, 2, 1, 2] == 2 * 49 + 3 * 7 + 6
    assert by_unit["backbone.extra.0.7.1.bias"][3] == 12
    assert by_unit["backbone.extra.0.7.3.weight"][5, 7, 0, 0] == 28


@pytest.mark.parametrize("arch", ["mobilenet_v2", "mobilenet_v3_small"])
@torch.no_grad()
def test_mobilenet_weights_start_ssdlite(arch):
    theirs = models.get_model(arch, weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3  # SSDLite's, whatever the network was trained with
    ours = SSDMobileNet(arch, reduced_tail=False).eval()
    converted = convert_mobilenet(theirs.state_dict())
    result = ours.load_state_dict(
        {k.removeprefix("backbone."): v for k, v in converted.items()}, strict=False
    )
    assert not result.unexpected_keys
    assert all(name.startswith("extra.") for name in result.missing_keys)
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(ours(image)["c5"], theirs.features(image))


def test_other_weights_are_refused():
    with pytest.raises(ValueError, match="mobilenet_v3_small"):
        convert_mobilenet({"features.0.0.weight": torch.zeros(1)})


def test_vgg_classifier_fits_faster_rcnn_by_endings(tmp_path):
    model = nn.ModuleDict(
        {"backbone": VGG16(), "box_head": VGGBoxHead(ShapeSpec(2, 7, 7), width=5)}
    )
    source = {f"features.{k}": v + 1 for k, v in model["backbone"].features.state_dict().items()}
    head = model["box_head"].classifier.state_dict()
    source |= {f"classifier.{k}": v + 1 for k, v in head.items()}
    torch.save(source, tmp_path / "vgg.pth")
    DetectionCheckpointer(model).load(f"{tmp_path}/vgg.pth?matching_heuristics=True")
    assert torch.equal(model["box_head"].classifier[3].weight, source["classifier.3.weight"])
    assert torch.equal(model["backbone"].features[28].bias, source["features.28.bias"])


def test_freezing_stops_behind_the_block():
    trained = [p.requires_grad for p in VGG16(freeze_at=2).parameters()]
    assert trained == [False] * 8 + [True] * 18  # four layers with weight and bias


def target(size: int = 96) -> Instances:
    boxes = Boxes(torch.tensor([[8.0, 8, 60, 50]]))
    return Instances((size, size), gt_boxes=boxes, gt_classes=torch.tensor([1]))


def test_ssdlite_trains_on_images_of_any_size():
    cfg = load_config("shapes_ssdlite.yaml", "MODEL.SSD.IMAGE_SIZE", 96)
    model = build_model(cfg).train()
    images = [torch.randint(0, 256, (3, *size)).byte() for size in ((96, 96), (64, 128))]
    none = target()[torch.zeros(1, dtype=torch.bool)]
    losses = model(
        [
            {"image": images[0], "instances": target()},
            {"image": images[1], "instances": none},
        ]
    )
    sum(losses.values()).backward()
    assert losses["loss_cls"] > 0 and losses["loss_box_reg"] > 0
    assert next(model.backbone.parameters()).grad.abs().sum() > 0


def test_class_beyond_the_models_is_told():
    model = build_model(load_config("shapes_ssdlite.yaml", "MODEL.SSD.NUM_CLASSES", 1)).train()
    image = torch.zeros(3, 96, 96, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"label of class 1, .*set MODEL\.SSD\.NUM_CLASSES"):
        model([{"image": image, "instances": target()}])


def test_ground_truth_follows_the_resize():
    """An object of a 192 x 96 image gets the same boxes as in the square of 96 x 96."""
    model = build_model(load_config("shapes_ssdlite.yaml", "MODEL.SSD.IMAGE_SIZE", 96))
    anchors = Boxes.cat(
        model.anchor_generator([torch.zeros(1, 1, n, n) for n in (6, 3, 2, 1, 1, 1)])
    )
    square = Instances((96, 96), gt_boxes=Boxes([[8.0, 8, 60, 50]]), gt_classes=torch.tensor([1]))
    tall = Instances((192, 96), gt_boxes=Boxes([[8.0, 16, 60, 100]]), gt_classes=torch.tensor([1]))
    for found, expected in zip(
        model.label_boxes(anchors, tall), model.label_boxes(anchors, square), strict=True
    ):
        torch.testing.assert_close(found, expected)
    assert (model.label_boxes(anchors, square)[0] == 2).sum() >= 1
    assert tall.gt_boxes.tensor.tolist() == [[8.0, 16, 60, 100]]  # left alone


def test_faster_rcnn_on_vgg16_trains_and_detects():
    cfg = load_config(
        "faster_rcnn_VGG16.yaml",
        *("MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.ROI_BOX_HEAD.FC_DIM", 8),
        *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16, "MODEL.RPN.POST_NMS_TOPK_TEST", 10),
    )
    model = build_model(cfg).train()
    image = torch.randint(0, 256, (3, 96, 96), dtype=torch.uint8)
    losses = model([{"image": image, "instances": target()}])
    assert all(torch.isfinite(loss) for loss in losses.values())
    with torch.no_grad():
        assert "instances" in model.eval()([{"image": image}])[0]


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_configs_can_be_read(config):
    assert list(load_config(config).PROJECTS) == ["ssd"]


def test_expanded_image_lies_where_its_boxes_say():
    np.random.seed(0)
    image = np.full((10, 20, 3), 200, dtype=np.uint8)
    tfm = ExpandCanvas((1.4, 2, 3), max_ratio=3.0, prob=1.0).get_transform(image)
    canvas = tfm.apply_image(image)
    x0, y0, x1, y1 = tfm.apply_box(np.array([[0.0, 0, 20, 10]]))[0].astype(int)
    assert (x1 - x0, y1 - y0) == (20, 10)
    assert (canvas[y0:y1, x0:x1] == 200).all()
    assert (canvas == 200).all(axis=2).sum() == 200
    assert 1 < canvas.shape[0] / 10 <= 3
    canvas[y0:y1, x0:x1] = [1, 2, 3]
    assert (canvas == [1, 2, 3]).all()


def test_crop_drops_objects_whose_center_is_outside():
    crop = CentreCropTransform(10, 10, 20, 20)
    boxes = np.array([[12.0, 12, 18, 18], [5, 12, 16, 18], [0, 0, 16, 16]])
    expected = [[2, 2, 8, 8], [0, 2, 6, 8], [0, 0, 0, 0]]
    assert crop.apply_box(boxes).tolist() == expected


def test_object_crop_keeps_an_object():
    np.random.seed(1)
    image = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[20.0, 20, 60, 60], [70, 70, 90, 90]])
    changed = 0
    for _ in range(20):
        tfm = ObjectCrop().get_transform(image, boxes)
        kept = tfm.apply_box(boxes)
        height, width = tfm.apply_image(image).shape[:2]
        assert ((kept[:, 2:] - kept[:, :2]).prod(axis=1) > 0).any()
        assert (kept <= np.array([width, height, width, height])).all() and (kept >= 0).all()
        changed += (height, width) != (100, 100)
    assert changed > 5


def test_colors_change_and_stay_bytes():
    np.random.seed(0)
    image = np.random.randint(0, 256, (8, 8, 3)).astype(np.uint8)
    changed = [PhotometricDistortion(1.0).get_transform(image).apply_image(image) for _ in range(3)]
    assert all(x.dtype == np.uint8 and x.shape == image.shape for x in changed)
    assert not np.array_equal(changed[0], changed[1])
    same = PhotometricDistortion(0.0).get_transform(image).apply_image(image)
    assert np.array_equal(same, image)


def test_hue_and_saturation_leave_gray_pixels():
    np.random.seed(0)
    gray = np.full((4, 4, 3), 77, dtype=np.uint8)
    for _ in range(5):
        changed = PhotometricDistortion(1.0).get_transform(gray).apply_image(gray)
        assert int(np.ptp(changed, axis=2).max()) <= 1


@pytest.fixture
def record(tmp_path):
    """A black image of 80 x 40 pixels with an object of 20 x 20 and a crowd."""
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(tmp_path / "a.png")
    annotation = {"bbox": [10, 10, 20, 20], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 2}
    crowd = {**annotation, "iscrowd": 1}
    return {"file_name": str(tmp_path / "a.png"), "annotations": [annotation, crowd]}


def test_training_images_are_squares_with_their_boxes(record):
    opts = ["INPUT.SSD.EXPAND_PROB", 0.0, "INPUT.SSD.CROP_MIN_IOUS", "()"]
    cfg = load_config("shapes_ssdlite.yaml", *opts, "INPUT.RANDOM_FLIP", "none")
    mapped = DatasetMapper(cfg)(record)
    assert mapped["image"].shape == (3, 224, 224)
    assert mapped["instances"].gt_classes.tolist() == [2]
    expected = [[10 * 2.8, 10 * 5.6, 30 * 2.8, 30 * 5.6]]
    torch.testing.assert_close(mapped["instances"].gt_boxes.tensor, torch.tensor(expected))
    empty = DatasetMapper(load_config("shapes_ssdlite.yaml"))({**record, "annotations": []})
    assert len(empty["instances"]) == 0


def test_all_of_the_papers_augmentations_are_in_the_config():
    cfg = load_config("ssd300_VGG16.yaml")
    kinds = [type(x).__name__ for x in build_augmentation(cfg, is_train=True)]
    expected = ["PhotometricDistortion", "ExpandCanvas", "ObjectCrop", "Resize", "RandomFlip"]
    assert kinds == expected


def test_test_images_keep_their_size(record):
    mapped = DatasetMapper(load_config("shapes_ssdlite.yaml"), is_train=False)(record)
    assert mapped["image"].shape == (3, 40, 80)


def test_mapper_drops_objects_whose_center_was_cut_off(record):
    """Of x from 10 to 30, the crops keep 10 to 19 and 10 to 21."""
    for width, expected in ((19, []), (21, [[20.0, 20, 42, 60]])):
        augmentations = [CentreCropTransform(0, 0, width, 40), T.Resize((80, width * 2))]
        mapper = DatasetMapper(is_train=True, augmentations=augmentations, image_format="RGB")
        mapped = mapper(record)
        assert mapped["instances"].gt_boxes.tensor.tolist() == expected
        assert len(mapped["instances"].gt_classes) == len(expected)


def test_classes_are_counted_in_the_data():
    cfg = get_cfg()
    add_projects(cfg, str(CONFIGS / "shapes_ssdlite.yaml"))
    cfg.merge_from_file(str(CONFIGS / "shapes_ssdlite.yaml"))
    check_class_counts(cfg)
    assert cfg.MODEL.SSD.NUM_CLASSES == 6
