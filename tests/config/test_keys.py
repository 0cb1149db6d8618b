"""Dotted keys, in configs of each kind."""

import pytest
from omegaconf import OmegaConf

from d2lite.config import CfgNode
from d2lite.config.keys import first_key, get_key, has_key, put_key, rename_key

TREE = {"A": {"B": {"C": 3}, "NONE": None}, "D": 4}
KINDS = [dict, CfgNode, OmegaConf.create]


@pytest.mark.parametrize("kind", KINDS)
def test_keys_are_found_at_any_depth(kind):
    cfg = kind(TREE)
    assert get_key(cfg, "D") == 4 and get_key(cfg, "A.B.C") == 3
    assert dict(get_key(cfg, "A.B")) == {"C": 3}
    assert get_key(cfg, "A.NONE") is None and has_key(cfg, "A.NONE")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["E", "A.E", "A.B.E", "A.B.C.E", "D.E", "A.NONE.E", ""])
def test_keys_that_are_not_there_give_the_default_or_an_error(kind, key):
    cfg = kind(TREE)
    assert not has_key(cfg, key) and get_key(cfg, key, 7) == 7
    with pytest.raises(KeyError, match=f"no key {key}"):
        get_key(cfg, key)


def test_the_first_key_that_is_there_counts():
    assert first_key(TREE, "A.E", "A.NONE", "D", default=5) is None
    assert first_key(TREE, "E", "D", "A.B.C") == 4
    assert first_key(TREE, "E", "F", default=5) == 5 and first_key(TREE, "E") is None


def test_renaming_makes_the_groups_on_the_way_and_removes_empty_ones():
    cfg = CfgNode(TREE)
    assert rename_key(cfg, "A.B.C", "X.Y.Z") is cfg
    assert cfg == {"A": {"NONE": None}, "D": 4, "X": {"Y": {"Z": 3}}}
    assert rename_key(cfg, "A.B.C", "D") == cfg and cfg.D == 4  # there is none of that name
    put_key(cfg, "A.F", 6)
    assert cfg.A == {"NONE": None, "F": 6}
