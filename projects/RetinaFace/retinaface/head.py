"""Prediction head of RetinaFace."""

from torch import Tensor, nn


class RetinaFaceHead(nn.Module):
    """1x1 convolutions for classes, boxes and landmarks, separate for each level."""

    def __init__(
        self,
        *,
        in_channels: list[int],
        num_anchors: list[int],
        num_classes: int,
        num_landmarks: int,
    ):
        """
        Args:
            in_channels: channels of each level.
            num_anchors: A, number of anchors per cell, for each level.
            num_classes: K; the background has its own logit, the first one.
            num_landmarks: L, number of landmarks per face; 0 predicts none.
        """
        super().__init__()
        levels = list(zip(in_channels, num_anchors, strict=True))
        self.num_landmarks = num_landmarks
        self.cls_score = _predictors(levels, num_classes + 1)
        self.bbox_pred = _predictors(levels, 4)
        if num_landmarks:
            self.landmark_pred = _predictors(levels, num_landmarks * 2)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Map L levels of (N, C, Hi, Wi) to levels of (N, A * (1 + K), Hi, Wi) logits,
        (N, A * 4, Hi, Wi) deltas and, with landmarks, (N, A * L * 2, Hi, Wi) offsets."""
        kinds = [self.cls_score, self.bbox_pred]
        if self.num_landmarks:
            kinds.append(self.landmark_pred)
        return tuple(
            [predict(x) for predict, x in zip(kind, features, strict=True)] for kind in kinds
        )


def _predictors(levels: list[tuple[int, int]], dims: int) -> nn.ModuleList:
    convs = nn.ModuleList(nn.Conv2d(channels, anchors * dims, 1) for channels, anchors in levels)
    for conv in convs:
        nn.init.normal_(conv.weight, std=0.01)
        nn.init.zeros_(conv.bias)
    return convs
