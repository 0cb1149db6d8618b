"""Every config of MViTv2 loads and builds its model."""

from pathlib import Path

import pytest
import torch

from d2lite.config import LazyConfig, instantiate
from d2lite.modeling.roi_heads import CascadeROIHeads, StandardROIHeads

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = {path.stem: path for path in sorted(CONFIGS.glob("*.py"))}
# "MViTv2: Improved Multiscale Vision Transformers" (Li et al. 2022), table 1 and sec. 5: channels
# of the first stage, blocks of the four stages.
SIZES = {
    "t": (96, [1, 2, 5, 2]),
    "s": (96, [1, 2, 11, 2]),
    "b": (96, [2, 3, 16, 3]),
    "l": (144, [2, 6, 36, 4]),
    "h": (192, [4, 8, 60, 8]),
}
# Parameters of the detectors in millions (the paper's tables of COCO; L is not in them).
MILLIONS = {
    "mask_rcnn_mvitv2_t_3x": 44,
    "cascade_mask_rcnn_mvitv2_t_3x": 76,
    "cascade_mask_rcnn_mvitv2_s_3x": 87,
    "cascade_mask_rcnn_mvitv2_b_3x": 103,
    "cascade_mask_rcnn_mvitv2_b_in21k_3x": 103,
    "cascade_mask_rcnn_mvitv2_h_in21k_lsj_3x": 718,
}


@pytest.mark.parametrize("name", FILES)
def test_config_builds_the_network_of_the_paper(name):
    cfg = LazyConfig.load(str(FILES[name]))
    with torch.device("meta"):
        model = instantiate(cfg.model)
    size = name.partition("mvitv2_")[2][0]
    channels, blocks = SIZES[size]
    net = model.backbone.bottom_up
    dims = [block.mlp.fc2.out_features for block in net.blocks]
    assert [dims.count(channels * 2**i) for i in range(4)] == blocks
    assert net.use_act_checkpoint == (size == "h")
    kind = CascadeROIHeads if name.startswith("cascade") else StandardROIHeads
    assert type(model.roi_heads) is kind
    if name in MILLIONS:
        assert round(sum(p.numel() for p in model.parameters()) / 1e6) == MILLIONS[name]
    assert list(model.backbone.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]

    pretrained = "in21k" if "in21k" in name else "in1k"
    weights = f"detectron2://ImageNetPretrained/mvitv2/MViTv2_{size.upper()}_{pretrained}.pyth"
    assert cfg.train.init_checkpoint == weights
    epochs = cfg.train.max_iter * cfg.dataloader.train.total_batch_size / 118000
    assert round(epochs) == (50 if "50ep" in name else 37)  # 3x: 36 of somewhat more images
    schedule = instantiate(cfg.lr_multiplier)
    assert schedule(250 / cfg.train.max_iter) == 1.0
    assert [schedule(x) for x in (0.77, 0.9, 0.97)] == pytest.approx([1, 0.1, 0.01])
    resize = instantiate(cfg.dataloader.test.mapper.augmentations)[0]
    assert resize.max_size == (1024 if "lsj" in name else 1333)


def test_half_of_the_images_are_cropped_before_they_are_resized():
    cfg = LazyConfig.load(str(FILES["mask_rcnn_mvitv2_t_3x"]))
    maybe, resize, flip = instantiate(cfg.dataloader.train.mapper.augmentations)
    assert maybe.prob == 0.5
    first, crop = maybe.aug.augs
    assert first.short_edge_length == [400, 500, 600]
    assert (crop.crop_type, tuple(crop.crop_size)) == ("absolute_range", (384, 600))
    assert (min(resize.short_edge_length), max(resize.short_edge_length)) == (480, 800)
    assert flip.horizontal


def test_positions_have_no_weight_decay():
    cfg = LazyConfig.load(str(FILES["mask_rcnn_mvitv2_t_3x"]))
    with torch.device("meta"):
        cfg.optimizer.params.model = instantiate(cfg.model)
        groups = instantiate(cfg.optimizer).param_groups
    names = {id(p): n for n, p in cfg.optimizer.params.model.named_parameters()}
    for group in groups:
        positions = [names[id(p)] for p in group["params"] if "rel_pos" in names[id(p)]]
        assert not positions or group["weight_decay"] == 0
