"""Upgrading old configs, against the renames that detectron2 made."""

import pytest
import yaml

from d2lite.config import CfgNode, downgrade_config, get_cfg, upgrade_config
from d2lite.config.compat import ConverterV1, ConverterV2, guess_version
from tests.golden import REFERENCE

RENAMES = yaml.safe_load((REFERENCE / "config_renames.yaml").read_text())


def lookup(cfg, full_key):
    for part in full_key.split("."):
        cfg = cfg[part]
    return cfg


def flat_keys(cfg, prefix=""):
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from flat_keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_renames_are_those_of_detectron2():
    assert dict(ConverterV1.RENAME) == RENAMES["v0_to_v1"]
    assert dict(ConverterV2.RENAME) == RENAMES["v1_to_v2"]


def test_downgraded_config_has_the_keys_of_its_version():
    new = set(flat_keys(get_cfg()))
    version1 = set(flat_keys(downgrade_config(get_cfg(), 1)))
    assert version1 - new == set(RENAMES["keys_only_in_v1"])
    assert new - version1 == set(RENAMES["keys_only_in_v2"])
    version0 = set(flat_keys(downgrade_config(get_cfg(), 0)))
    assert version0 - version1 == set(RENAMES["keys_only_in_v0"])


@pytest.mark.parametrize("version", [0, 1])
def test_way_down_and_up_is_the_identity(version):
    cfg = get_cfg()
    assert upgrade_config(downgrade_config(cfg, version)) == cfg
    assert cfg == get_cfg()  # the argument is left alone


def test_versions_are_not_passed_by():
    cfg = get_cfg()
    assert upgrade_config(downgrade_config(cfg, 0), to_version=1).VERSION == 1
    with pytest.raises(ValueError, match="downgrade_config"):
        upgrade_config(cfg, to_version=1)
    with pytest.raises(ValueError, match="upgrade_config"):
        downgrade_config(downgrade_config(cfg, 0), to_version=1)


@pytest.mark.parametrize("group", ["RPN", "RETINANET"])
def test_anchors_come_from_the_model_in_use(group):
    old = downgrade_config(get_cfg(), 1)
    old.MODEL.META_ARCHITECTURE = "RetinaNet" if group == "RETINANET" else "GeneralizedRCNN"
    old.MODEL[group].ANCHOR_SIZES = [[7]]
    new = upgrade_config(old)
    assert new.MODEL.ANCHOR_GENERATOR.SIZES == [[7]]
    dropped = RENAMES["v1_to_v2_dropped_after_the_anchor_move"]
    assert not set(dropped) & set(flat_keys(new))


@pytest.mark.parametrize(
    "content, version",
    [
        ({"MODEL": {"WEIGHT": "x"}}, 1),
        ({"TEST": {"AUG_ON": True}}, 1),
        ({"MODEL": {"WEIGHTS": "x"}}, 2),
        ({"VERSION": 0, "MODEL": {"WEIGHT": "x"}}, 0),
        ({"MODEL": "text"}, 2),
    ],
)
def test_version_is_guessed_from_the_keys(content, version):
    assert guess_version(CfgNode(content), "a.yaml") == version


def test_old_file_is_merged_under_its_own_names(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(
        "MODEL:\n"
        "  WEIGHT: x.pth\n"
        "  RPN: {ANCHOR_SIZES: [[8, 16]]}\n"
        "  ROI_HEADS: {NMS: 0.25}\n"
        "  PANOPTIC_FPN: {COMBINE_ON: False}\n"
        "TEST: {AUG_ON: True}\n"
    )
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    expected = {
        "VERSION": 2,
        "MODEL.WEIGHTS": "x.pth",
        "MODEL.ANCHOR_GENERATOR.SIZES": [[8, 16]],
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.25,
        "MODEL.PANOPTIC_FPN.COMBINE.ENABLED": False,
        "TEST.AUG.ENABLED": True,
    }
    assert {key: lookup(cfg, key) for key in expected} == expected
    assert set(flat_keys(cfg)) == set(flat_keys(get_cfg()))


def test_misspelled_key_in_an_old_file_is_told(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("VERSION: 1\nMODEL: {ROI_HEADS: {NMSS: 0.25}}\n")
    with pytest.raises(KeyError, match=r"Did you mean 'MODEL.ROI_HEADS.NMS'"):
        get_cfg().merge_from_file(str(path))


def test_file_of_a_later_version_is_refused(tmp_path):
    path = tmp_path / "new.yaml"
    path.write_text("VERSION: 3\n")
    with pytest.raises(ValueError, match=r"new.yaml: VERSION is 3, newer than 2"):
        get_cfg().merge_from_file(str(path))
