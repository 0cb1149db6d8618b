"""Build proposal generators by name."""

from collections.abc import Mapping

from torch import nn

from d2lite.config import CfgNode
from d2lite.layers import ShapeSpec
from d2lite.utils.registry import Registry

PROPOSAL_GENERATOR_REGISTRY = Registry(
    "PROPOSAL_GENERATOR", config_key="MODEL.PROPOSAL_GENERATOR.NAME"
)
PROPOSAL_GENERATOR_REGISTRY.__doc__ = """Callables (cfg, input_shape by feature name) -> nn.Module.

The module is called with (images: ImageList, features by name, gt_instances or None) and returns
(proposals: list[Instances], losses by name).
"""


def build_proposal_generator(
    cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]
) -> nn.Module | None:
    """Build the module named by MODEL.PROPOSAL_GENERATOR.NAME; None for "PrecomputedProposals".

    Raises:
        KeyError: the name is not registered.
    """
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "PrecomputedProposals":
        return None
    return PROPOSAL_GENERATOR_REGISTRY.get(name)(cfg, input_shape)
