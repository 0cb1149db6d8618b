"""Base class of the RPN and the region heads of TridentNet: the number of branches."""

from d2lite.config import CfgNode, configurable
from d2lite.layers import ShapeSpec


class Branched:
    """Mixin for a module that works on B * N images of B branches; list it before the module."""

    @configurable
    def __init__(self, *, num_branch: int, trident_fast: bool, **kwargs):
        """Set the number of branches.

        Args:
            num_branch: number of branches in training.
            trident_fast: whether there is a single branch at inference.
            kwargs: arguments of the module.
        """
        super().__init__(**kwargs)
        self.num_branch = num_branch
        self.trident_fast = trident_fast

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Read MODEL.TRIDENT in addition to the keys of the module."""
        return {
            **super().from_config(cfg, input_shape),
            "num_branch": cfg.MODEL.TRIDENT.NUM_BRANCH,
            "trident_fast": cfg.MODEL.TRIDENT.TEST_BRANCH_IDX != -1,
        }

    def present_branches(self) -> int:
        """Return the current number of branches, B."""
        return 1 if self.trident_fast and not self.training else self.num_branch
