"""The lazy configs against the yaml configs of the same names, and the parts of them."""

import functools
import gzip
import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from d2lite.config import CfgNode, LazyConfig, get_cfg, instantiate
from d2lite.data.detection_utils import build_augmentation
from d2lite.data.transforms import FixedSizeCrop, RandomFlip, ResizeScale
from d2lite.modeling import build_model
from d2lite.solver import build_lr_scheduler, build_optimizer
from tests.golden import REFERENCE

CONFIGS = Path(__file__).parents[1] / "configs"
BASELINES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob("*.py")
    if path.relative_to(CONFIGS).parts[0] != "common"
)
# Lazy config to the yaml config that describes the same.
TWINS = {
    name: name.replace(".py", ".yaml")
    for name in BASELINES
    if (CONFIGS / name.replace(".py", ".yaml")).exists()
}
MODEL_TWINS = {
    **TWINS,
    "common/models/cascade_rcnn.py": "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
}
STATE_DICTS = json.loads(gzip.decompress((REFERENCE / "state_dicts.json.gz").read_bytes()))


def load(name: str):
    if "regnet" in name:
        pytest.importorskip("d2lite.modeling.backbone.regnet")
    return LazyConfig.load(str(CONFIGS / name))


def yaml_config(name: str) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / name))
    cfg.MODEL.DEVICE = "meta"
    return cfg


@functools.cache
def lazy_model(name: str) -> nn.Module:
    model = load(name).model
    if "cascade" in name:  # the yaml configs have more proposals, which is not of the model
        model.proposal_generator.post_nms_topk = (2000, 1000)
    with torch.device("meta"):
        return instantiate(model)


@functools.cache
def yaml_model(name: str) -> nn.Module:
    with torch.device("meta"):
        return build_model(yaml_config(name))


def described(value):
    """A setting of a module as something to compare; modules inside are compared on their own."""
    if isinstance(value, (nn.Module, torch.Tensor)):
        return type(value).__name__
    if isinstance(value, dict):
        # A loss without a weight has the weight 1.
        return {str(k): described(v) for k, v in value.items() if (k, v) != ("loss_cls", 1.0)}
    if OmegaConf.is_config(value):
        return described(OmegaConf.to_container(value))
    if isinstance(value, (list, tuple)):
        return [described(item) for item in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    if hasattr(value, "__dict__"):
        return [type(value).__name__, described(vars(value))]
    return value


def settings(model: nn.Module) -> dict[str, dict]:
    """By module, its class and all that it keeps beside parameters and submodules."""
    left_out = {*vars(nn.Module()), "built_from"}  # the latter is of build_model
    return {
        name: {"class": type(module).__name__}
        | {k: described(v) for k, v in vars(module).items() if k not in left_out}
        for name, module in model.named_modules()
    }


def test_there_are_twins_of_each_task():
    assert {name.split("/")[0] for name in TWINS} == {
        "COCO-Detection",
        "COCO-InstanceSegmentation",
        "COCO-Keypoints",
        "COCO-PanopticSegmentation",
    }


@pytest.mark.parametrize("name", TWINS)
def test_names_and_shapes_equal_detectron2(name):
    layout = STATE_DICTS["layouts"][STATE_DICTS["configs"][TWINS[name]]["layout"]]
    want = [tuple(entry[:2]) for entry in layout["entries"]]
    got = [(key, list(value.shape)) for key, value in lazy_model(name).state_dict().items()]
    assert sorted(got) == sorted((key, list(shape)) for key, shape in want)


@pytest.mark.parametrize("name", MODEL_TWINS)
def test_every_module_has_the_settings_of_the_yaml_config(name):
    got, want = settings(lazy_model(name)), settings(yaml_model(MODEL_TWINS[name]))
    assert got.keys() == want.keys()
    differing = {m: (got[m], want[m]) for m in got if got[m] != want[m]}
    assert not differing


@pytest.mark.parametrize("name", TWINS)
def test_frozen_parameters_are_those_of_the_yaml_config(name):
    got, want = lazy_model(name), yaml_model(TWINS[name])
    assert [k for k, p in got.named_parameters() if not p.requires_grad] == [
        k for k, p in want.named_parameters() if not p.requires_grad
    ]


@pytest.mark.parametrize("name", TWINS)
def test_learning_rates_are_those_of_the_yaml_config(name):
    lazy, cfg = load(name), yaml_config(TWINS[name])
    assert lazy.train.max_iter == cfg.SOLVER.MAX_ITER
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    lazy.optimizer.params.model = model
    got, want = instantiate(lazy.optimizer), build_optimizer(cfg, model)
    for key in ("lr", "momentum", "weight_decay", "nesterov"):
        assert [g[key] for g in got.param_groups] == [g[key] for g in want.param_groups]
    multiplier = instantiate(lazy.lr_multiplier)
    schedule = build_lr_scheduler(cfg, want)
    for iteration in (0, 1, 500, 999, 1000, 59999, 60000, 79999, 80000, 89999):
        schedule.last_epoch = iteration
        rate = lazy.optimizer.lr * multiplier(iteration / lazy.train.max_iter)
        assert rate == pytest.approx(schedule.get_lr()[0])


@pytest.mark.parametrize("name", TWINS)
def test_data_are_those_of_the_yaml_config(name):
    data, cfg = load(name).dataloader, yaml_config(TWINS[name])
    assert [data.train.dataset.names] == list(cfg.DATASETS.TRAIN)
    assert [data.test.dataset.names] == list(cfg.DATASETS.TEST)
    for loader, is_train in ((data.train, True), (data.test, False)):
        mapper = instantiate(loader.mapper)
        assert described(mapper.augmentations.augs) == described(build_augmentation(cfg, is_train))
        assert mapper.is_train is is_train
        assert mapper.image_format == cfg.INPUT.FORMAT
    mapper = instantiate(data.train.mapper)
    assert mapper.use_instance_mask == cfg.MODEL.MASK_ON
    assert mapper.use_keypoint == cfg.MODEL.KEYPOINT_ON
    assert data.train.total_batch_size == cfg.SOLVER.IMS_PER_BATCH
    assert data.train.dataset.get("filter_empty", True) == cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS


@pytest.mark.parametrize("length, steps", [(1, (60, 80)), (2, (120, 160)), (3, (210, 250))])
def test_longer_schedules_equal_those_of_the_yaml_configs(length, steps):
    # detectron2's 1x and 3x yaml configs; 2x by Detectron's rule. Steps in thousands.
    schedules = LazyConfig.load(str(CONFIGS / "common/coco_schedule.py"), "default_X_scheduler")
    multiplier = instantiate(schedules(length))
    total = 90000 * length
    first, second = (1000 * step for step in steps)
    values = [multiplier(i / total) for i in (1000, first - 1, first, second - 1, second)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert multiplier(500 / total) == pytest.approx(0.5005)


@pytest.mark.parametrize("name", BASELINES)
def test_every_config_has_what_the_tool_needs_and_builds(name):
    cfg = load(name)
    assert {"model", "dataloader", "optimizer", "lr_multiplier", "train"} <= set(cfg)
    assert sum(p.numel() for p in lazy_model(name).parameters()) > 1e7
    instantiate(cfg.lr_multiplier)
    assert cfg.dataloader.evaluator is not None


@pytest.mark.parametrize("name", BASELINES)
def test_config_can_be_saved_and_loaded(name, tmp_path):
    cfg = load(name)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    again = LazyConfig.load(str(tmp_path / "config.yaml"))
    with torch.device("meta"):
        model = instantiate(again.model)
    assert settings(model) == settings(lazy_model(name))
    assert again.train.max_iter == cfg.train.max_iter


def test_loading_a_config_leaves_its_parts_as_they_are():
    fcos = load("COCO-Detection/fcos_R_50_FPN_1x.py")
    assert "anchor_generator" not in fcos.model
    assert "anchor_generator" in load("COCO-Detection/retinanet_R_50_FPN_1x.py").model


def test_fcos_by_its_paper():
    model = lazy_model("COCO-Detection/fcos_R_50_FPN_1x.py")
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert shapes["head.cls_score.weight"] == (80, 256, 3, 3)
    assert shapes["head.bbox_pred.weight"] == (4, 256, 3, 3)
    assert shapes["head.ctrness.weight"] == (1, 256, 3, 3)
    assert shapes["backbone.top_block.p6.weight"] == (256, 256, 3, 3)  # of p5, not of res5
    assert sum(key.startswith("head.cls_subnet") for key in shapes) == 4 * 4  # conv and GN


@pytest.mark.parametrize("epochs", [50, 100, 200, 400])
def test_large_scale_jitter_schedules(epochs):
    # 118000 images of COCO and 64 a step; steps at 8/9 and 26/27 of the training
    train, multiplier = map(
        load(f"new_baselines/mask_rcnn_R_50_FPN_{epochs}ep_LSJ.py").get, ("train", "lr_multiplier")
    )
    assert train.max_iter * 64 / 118000 == pytest.approx(epochs, rel=0.001)
    schedule = instantiate(multiplier)
    values = [schedule(where) for where in (0.01, 0.888, 0.8895, 0.962, 0.9635)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_large_scale_jitter_data_and_norms():
    cfg = load("new_baselines/mask_rcnn_R_101_FPN_100ep_LSJ.py")
    mapper = instantiate(cfg.dataloader.train.mapper)
    assert mapper.recompute_boxes
    kinds = [type(a) for a in mapper.augmentations.augs]
    assert kinds == [ResizeScale, FixedSizeCrop, RandomFlip]
    model = lazy_model("new_baselines/mask_rcnn_R_101_FPN_100ep_LSJ.py")
    assert len(model.backbone.bottom_up.stages[2]) == 23  # ResNet-101's res4
    assert not any(p.requires_grad is False for p in model.parameters())
    norms = {type(m).__name__ for m in model.modules() if "BatchNorm" in type(m).__name__}
    assert norms == {"SyncBatchNorm", "NaiveSyncBatchNorm"}
    assert len(model.proposal_generator.rpn_head.conv) == 2


@pytest.mark.parametrize("kind, depth", [("x", 23), ("y", 22)])
def test_regnets_of_four_gigaflops(kind, depth):
    name = f"COCO-InstanceSegmentation/mask_rcnn_regnet{kind}_4gf_dds_fpn_1x.py"
    body = load(name) and lazy_model(name).backbone.bottom_up
    stages = [len(list(getattr(body, f"s{i}").children())) for i in (1, 2, 3, 4)]
    # tables of the RegNet paper, 4.0 GF: X has 2, 5, 14, 2 blocks, Y has 2, 6, 12, 2
    assert stages == {"x": [2, 5, 14, 2], "y": [2, 6, 12, 2]}[kind] and sum(stages) == depth


def test_vitdet_takes_a_picture():
    pytest.importorskip("d2lite.modeling.backbone.vit")
    cfg = load("common/models/mask_rcnn_vitdet.py")
    assert cfg.model.backbone.net.embed_dim == 768 and cfg.model.backbone.net.depth == 12
    cfg.model.backbone.net.update(embed_dim=16, num_heads=2, depth=2, img_size=64)
    cfg.model.backbone.square_pad = 64
    model = instantiate(cfg.model).eval()
    image = torch.zeros(3, 50, 64, dtype=torch.uint8)
    (result,) = model([{"image": image, "height": 50, "width": 64}])
    assert result["instances"].image_size == (50, 64)
