"""Every config of ViTDet loads and builds the model of the paper."""

import functools
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from d2lite.config import LazyConfig, instantiate

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = {
    str(path.relative_to(CONFIGS)): path
    for folder in ("COCO", "LVIS")
    for path in sorted((CONFIGS / folder).glob("*.py"))
}
# Millions of parameters, "Exploring Plain Vision Transformer Backbones for Object Detection"
# (Li et al. 2022, tables 5 and 6); without the class names of LVIS.
PUBLISHED = {
    "mask_rcnn_vitdet_b_100ep": 111,
    "mask_rcnn_vitdet_l_100ep": 331,
    "mask_rcnn_vitdet_h_75ep": 662,
    "cascade_mask_rcnn_vitdet_b_100ep": 141,
    "cascade_mask_rcnn_vitdet_l_100ep": 361,
    "cascade_mask_rcnn_vitdet_h_75ep": 692,
    "cascade_mask_rcnn_swin_b_in21k_50ep": 139,
    "cascade_mask_rcnn_mvitv2_b_in21k_100ep": 103,
    "cascade_mask_rcnn_mvitv2_h_in21k_36ep": 718,
}


@functools.cache
def load(name: str):
    return LazyConfig.load(str(FILES[name]))


def build(model):
    with torch.device("meta"):
        return instantiate(model)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("COCO/")])
def test_model_has_the_size_of_the_paper(name):
    cfg = load(name)
    model = build(cfg.model)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    published = PUBLISHED.get(Path(name).stem)
    if published is not None:
        assert millions == pytest.approx(published, abs=0.9)
    assert model.backbone.padding_constraints["square_size"] == 1024
    assert [s.stride for s in model.backbone.output_shape().values()] == [4, 8, 16, 32, 64]
    depth = len(getattr(getattr(model.backbone, "net", None), "blocks", []))
    if depth:
        whole = [i for i, b in enumerate(model.backbone.net.blocks) if b.window_size == 0]
        assert whole == [depth * k // 4 - 1 for k in (1, 2, 3, 4)]
        # The rate falls from block to block, from that of the blocks' end to the embeddings.
        factor = cfg.optimizer.params.lr_factor_func
        rates = [factor(f"backbone.net.blocks.{i}.attn.qkv.weight") for i in range(depth)]
        assert rates == pytest.approx([rates[0] * (rates[1] / rates[0]) ** i for i in range(depth)])
        assert rates[-1] < 1 == factor("roi_heads.box_head.fc1.weight")
        assert rates[-1] == pytest.approx({12: 0.7, 24: 0.8, 32: 0.9}[depth])


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("LVIS/")])
def test_lvis_has_its_classes_losses_and_sampling(name):
    cfg = load(name)
    heads = cfg.model.roi_heads
    predictors = heads.box_predictors if "cascade" in name else [heads.box_predictor]
    assert len(predictors) == (3 if "cascade" in name else 1)
    for node in predictors:
        predictor = build(node)
        assert predictor.num_classes == 1203
        assert predictor.use_sigmoid_ce and predictor.use_fed_loss
        assert predictor.fed_loss_cls_weights.shape == (1203,)
        assert (predictor.test_score_thresh, predictor.test_topk_per_image) == (0.02, 300)
    assert build(heads.mask_head).predictor.out_channels == 1203
    assert cfg.dataloader.test.dataset.names == "lvis_v1_val"
    sampled = cfg.dataloader.train.sampler.repeat_factors.dataset_dicts
    assert sampled == cfg.dataloader.train.dataset and sampled.names == "lvis_v1_train"


@pytest.mark.parametrize("name", FILES)
def test_schedule_has_the_epochs_of_the_name(name):
    cfg = load(name)
    images = {"COCO": 118000, "LVIS": 100000}[name[:4]]
    epochs = cfg.train.max_iter * cfg.dataloader.train.total_batch_size / images
    assert f"{epochs:.0f}ep" == Path(name).stem.rpartition("_")[2]
    schedule = instantiate(cfg.lr_multiplier)
    assert schedule(0) == pytest.approx(0.001)
    assert schedule(250 / cfg.train.max_iter) == 1.0
    assert [schedule(x) for x in (0.88, 0.9, 0.96, 0.97)] == pytest.approx([1, 0.1, 0.1, 0.01])
    assert OmegaConf.select(cfg, "train.amp.enabled")


def test_crops_are_what_the_model_pads():
    cfg = load("COCO/mask_rcnn_vitdet_b_100ep.py")
    flip, scale, crop = instantiate(cfg.dataloader.train.mapper.augmentations)
    assert flip.horizontal and crop.crop_size == (1024, 1024) and not crop.pad
    assert (scale.min_scale, scale.max_scale, scale.target_height) == (0.1, 2.0, 1024)
    (resize,) = instantiate(cfg.dataloader.test.mapper.augmentations)
    assert resize.max_size == 1024
    assert cfg.dataloader.train.mapper.image_format == cfg.model.input_format == "RGB"
    assert cfg.dataloader.train.mapper.recompute_boxes
