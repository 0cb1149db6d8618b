"""PointRend for semantic segmentation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.config import CfgNode
from d2lite.layers import ShapeSpec, cat
from d2lite.modeling.meta_arch.semantic_seg import SEM_SEG_HEADS_REGISTRY

from .point_features import get_uncertain_point_coords_with_randomness, point_sample, subdivide
from .point_head import build_point_head


def calculate_uncertainty(sem_seg_logits: Tensor) -> Tensor:
    """Return how close the second-best class is to the best one (sec. 3.1).

    Args:
        sem_seg_logits: (N, K, ...), K at least 2.
    Returns:
        (N, 1, ...): 0 for a tie, and more negative for more certain predictions.
    """
    best, second = sem_seg_logits.topk(2, dim=1).values.unbind(dim=1)
    return (second - best)[:, None]


@SEM_SEG_HEADS_REGISTRY.register()
class PointRendSemSegHead(nn.Module):
    """Head that refines another head's labels at uncertain points (sec. 4.2 of the paper)."""

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]):
        """Build the coarse head, MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME, and the point head.

        Arguments are (cfg, input_shape), since subclasses replace `_init_point_head`.

        Args:
            input_shape: shapes of the features, by name.
        Raises:
            ValueError: the two heads have different numbers of classes.
        """
        super().__init__()
        self.num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        self.ignore_value = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        name = cfg.MODEL.POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME
        self.coarse_sem_seg_head = SEM_SEG_HEADS_REGISTRY.get(name)(cfg, input_shape)
        self._init_point_head(cfg, input_shape)

    def _init_point_head(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        """Build the point head, and read its settings."""
        head, num_classes = cfg.MODEL.POINT_HEAD, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        if num_classes != head.NUM_CLASSES:
            raise ValueError(
                f"MODEL.POINT_HEAD.NUM_CLASSES is {head.NUM_CLASSES} and "
                f"MODEL.SEM_SEG_HEAD.NUM_CLASSES {num_classes}; they must be equal"
            )
        self.in_features = head.IN_FEATURES
        self.train_num_points = head.TRAIN_NUM_POINTS
        self.oversample_ratio = head.OVERSAMPLE_RATIO
        self.importance_sample_ratio = head.IMPORTANCE_SAMPLE_RATIO
        self.subdivision_steps = head.SUBDIVISION_STEPS
        self.subdivision_num_points = head.SUBDIVISION_NUM_POINTS
        channels = sum(input_shape[name].channels for name in self.in_features)
        self.point_head = build_point_head(cfg, ShapeSpec(channels=channels, width=1, height=1))

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return class logits at inference, losses in training.

        Args:
            features: by name, (N, C, Hi, Wi).
            targets: (N, H, W) labels; only needed in training.
        Returns:
            (N, K, H, W) logits and no losses; or None, and the losses of the coarse head and
            "loss_sem_seg_point".
        """
        coarse_logits = self.coarse_sem_seg_head.layers(features)
        if self.training:
            losses = self.coarse_sem_seg_head.losses(coarse_logits, targets)
            losses["loss_sem_seg_point"] = self._point_loss(features, coarse_logits, targets)
            return None, losses
        logits = coarse_logits
        for _ in range(self.subdivision_steps):
            logits = subdivide(
                logits,
                calculate_uncertainty,
                self.subdivision_num_points,
                lambda point_coords: self._point_logits(features, coarse_logits, point_coords),
            )
        return logits, {}

    def _point_loss(
        self, features: dict[str, Tensor], coarse_logits: Tensor, targets: Tensor
    ) -> Tensor:
        with torch.no_grad():
            point_coords = get_uncertain_point_coords_with_randomness(
                coarse_logits,
                calculate_uncertainty,
                self.train_num_points,
                self.oversample_ratio,
                self.importance_sample_ratio,
            )
            targets = targets[:, None].to(torch.float32)  # (N, 1, H, W)
            labels = point_sample(targets, point_coords, mode="nearest", align_corners=False)
            labels = labels[:, 0].to(torch.int64)  # (N, P)
        logits = self._point_logits(features, coarse_logits, point_coords)
        loss = F.cross_entropy(logits, labels, reduction="sum", ignore_index=self.ignore_value)
        # The mean over the labeled points; 0, not NaN, if there are none.
        return loss / (labels != self.ignore_value).sum().clamp(min=1)

    def _point_logits(
        self, features: dict[str, Tensor], coarse_logits: Tensor, point_coords: Tensor
    ) -> Tensor:
        """Return (N, K, P) logits at (N, P, 2) points of the images."""
        fine = [
            point_sample(features[name], point_coords, align_corners=False)
            for name in self.in_features
        ]
        coarse = point_sample(coarse_logits, point_coords, align_corners=False)
        return self.point_head(cat(fine, dim=1), coarse)
