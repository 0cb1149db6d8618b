"""Whole models: from a list of input dicts to losses or results."""

from d2lite.modeling.meta_arch.build import META_ARCH_REGISTRY, build_model
from d2lite.modeling.meta_arch.rcnn import GeneralizedRCNN, ProposalNetwork

__all__ = ["META_ARCH_REGISTRY", "GeneralizedRCNN", "ProposalNetwork", "build_model"]
