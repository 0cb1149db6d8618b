"""The defaults against those of detectron2, key by key."""

import ast

import yaml

from d2lite.config import CfgNode, get_cfg
from docs.building.config_reference import read_settings
from tests.golden import REFERENCE

EXPECTED = yaml.safe_load((REFERENCE / "config_defaults.yaml").read_text())
TYPES = yaml.safe_load((REFERENCE / "config_types.yaml").read_text())

# The keys that this package adds.
NEW_KEYS = {
    "ACTIVATION_PERIOD": 0,
    "DATALOADER.ON_BAD_SAMPLE": "raise",
    "DATALOADER.RANDOM_SUBSET_RATIO": 1.0,
    "HOOKS": (),
    "INPUT.ALBUMENTATIONS": [],
    "INPUT.AUGMENTATION": "resize_and_flip",
    "INPUT.DATASET_MAPPER": "DatasetMapper",
    "INPUT.MAX_VALUE_16_BIT": 65535,
    "INPUT.MIX.COPY_PASTE_PROB": 0.0,
    "INPUT.MIX.COPY_PASTE_SCALE": (0.5, 1.0),
    "INPUT.MIX.MIN_VISIBLE": 0.2,
    "INPUT.MIX.MIXUP_ALPHA": 32.0,
    "INPUT.MIX.MIXUP_PROB": 0.0,
    "INPUT.MIX.MOSAIC_PROB": 0.0,
    "INPUT.MIX.MOSAIC_SCALE": (0.5, 1.0),
    "INPUT.MIX.UNTIL": 0.9,
    "MODEL_EMA.DECAY": 0.999,
    "MODEL_EMA.ENABLED": False,
    "MODEL.FREEZE": (),
    "MODEL.TIMM_MODEL.NAME": "resnet50",
    "MODEL.TIMM_MODEL.NORM": "",
    "MODEL.TIMM_MODEL.OUT_INDICES": [],
    "MODEL.TIMM_MODEL.PRETRAINED": False,
    "PLOT_RESULTS": False,
    "PROJECTS": [],
    "SOLVER.ACCUMULATE_STEPS": 1,
    "SOLVER.AMP.DTYPE": "float16",
    "SOLVER.AUTO_SCALE_LR": False,
    "SOLVER.BACKBONE_LR_FACTOR": 1.0,
    "SOLVER.BAD_STEPS.ACTION": "raise",
    "SOLVER.BAD_STEPS.CHECK_GRADIENTS": False,
    "SOLVER.BAD_STEPS.KEEP": 3,
    "SOLVER.BAD_STEPS.MAX_IN_A_ROW": 10,
    "SOLVER.BETAS": (0.9, 0.999),
    "SOLVER.CHECKPOINT_EPOCHS": 0.0,
    "SOLVER.CHECKPOINT_KEEP": 0,
    "SOLVER.EPOCH_LOSSES": False,
    "SOLVER.OPTIMIZER_NAME": "SGD",
    "SOLVER.REFERENCE_BATCH": 16,
    "TEST.BEST_METRIC": "",
    "TEST.DRAW_IMAGES": 0,
    "TEST.EVAL_EPOCHS": 0.0,
    "TEST.LOSS_PERIOD": 0,
    "TEST.PATIENCE": 0,
    "WRITERS": (),
}
# The one default that differs, on purpose: the best device present.
DIFFERENT = {"MODEL.DEVICE"}


def flat(tree, prefix=""):
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = value
    return found


def as_lists(value):
    return [as_lists(x) for x in value] if isinstance(value, list | tuple) else value


def test_keys_are_those_of_detectron2_and_the_new_ones():
    assert set(flat(get_cfg())) == set(flat(EXPECTED)) | set(NEW_KEYS)


def test_values_and_types_are_those_of_detectron2():
    got, expected = flat(get_cfg()), flat(EXPECTED)
    assert set(TYPES) == set(expected)
    differing = [
        f"{key}: {got[key]!r} is not {expected[key]!r} of type {TYPES[key]}"
        for key in expected
        if key not in DIFFERENT
        and (as_lists(got[key]) != expected[key] or type(got[key]).__name__ != TYPES[key])
    ]
    assert not differing


def test_new_keys_keep_the_behavior_of_detectron2():
    got = flat(get_cfg())
    assert {key: got[key] for key in NEW_KEYS} == NEW_KEYS


def test_copies_are_independent():
    first, second = get_cfg(), get_cfg()
    first.MODEL.PIXEL_MEAN[0] = 0.0
    first.SOLVER.STEPS = (1,)
    assert second.MODEL.PIXEL_MEAN[0] == 103.53 and second.SOLVER.STEPS == (30000,)
    assert type(first.MODEL) is CfgNode


def test_every_default_has_its_full_key_on_its_line_and_a_comment_above():
    found = [setting for setting in read_settings() if setting.default]
    assert sorted(setting.key for setting in found) == sorted(flat(get_cfg()))
    assert [setting.key for setting in found if len(setting.comment) < 10] == []
    written = {setting.key: ast.literal_eval(setting.default) for setting in found}
    assert {**written, "MODEL.DEVICE": get_cfg().MODEL.DEVICE} == flat(get_cfg())


def test_comments_mark_the_keys_that_detectron2_does_not_have():
    marked = {setting.key for setting in read_settings() if setting.is_new and setting.default}
    assert marked == set(NEW_KEYS)


def test_defaults_hold_plain_values_only():
    for value in flat(get_cfg()).values():
        assert ast.literal_eval(repr(value)) == value
