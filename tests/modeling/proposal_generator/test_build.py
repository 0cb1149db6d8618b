"""Proposal generators by name."""

import pytest

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling import PROPOSAL_GENERATOR_REGISTRY, build_proposal_generator


def config(name: str):
    cfg = get_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = name
    return cfg


def test_precomputed_proposals_need_no_module():
    assert build_proposal_generator(config("PrecomputedProposals"), {}) is None


def test_the_named_one_gets_the_config_and_the_shapes(monkeypatch):
    registered = PROPOSAL_GENERATOR_REGISTRY._obj_map
    monkeypatch.setitem(registered, "pair", lambda cfg, shapes: (cfg, shapes))
    cfg, shapes = config("pair"), {"p2": ShapeSpec(channels=1)}
    built = build_proposal_generator(cfg, shapes)
    assert built[0] is cfg and built[1] is shapes


def test_unknown_names_are_a_key_error_with_the_nearest_one():
    with pytest.raises(KeyError, match=r"MODEL\.PROPOSAL_GENERATOR\.NAME.*'RPN'"):
        build_proposal_generator(config("RPM"), {})
