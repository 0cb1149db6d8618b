"""Losses of semantic segmentation, with pixel weights and hard pixel mining."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DeepLabCE(nn.Module):
    """Cross entropy of the hardest pixels: the mean over the largest losses."""

    def __init__(
        self,
        ignore_label: int = -1,
        top_k_percent_pixels: float = 1.0,
        weight: Tensor | None = None,
    ):
        """
        Args:
            ignore_label: label of pixels whose loss is 0. The mean includes them.
            top_k_percent_pixels: share of all pixels to average over, in (0, 1].
            weight: (K,) factors of the classes.

        Raises:
            ValueError: `top_k_percent_pixels` is not in (0, 1].
        """
        super().__init__()
        if not 0 < top_k_percent_pixels <= 1:
            raise ValueError(
                f"top_k_percent_pixels is {top_k_percent_pixels} (MODEL.SEM_SEG_HEAD.LOSS_TOP_K); "
                "it must be a share of the pixels, above 0 and at most 1"
            )
        self.top_k_percent_pixels = top_k_percent_pixels
        self.ignore_label = ignore_label
        self.criterion = nn.CrossEntropyLoss(
            weight=weight, ignore_index=ignore_label, reduction="none"
        )

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar.

        Args:
            logits: (N, K, H, W).
            labels: (N, H, W) int64.
            weights: (N, H, W) factors of the pixels' losses.
        """
        losses = self.criterion(logits, labels)  # (N, H, W)
        if weights is not None:
            losses = losses * weights
        if self.top_k_percent_pixels == 1.0:
            return losses.mean()
        k = max(int(self.top_k_percent_pixels * losses.numel()), 1)
        return torch.topk(losses.flatten(), k, sorted=False).values.mean()


class MeanCrossEntropy(nn.CrossEntropyLoss):
    """Cross entropy averaged over the pixels that are not ignored; 0 if there are none."""

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; the arguments are those of `DeepLabCE`."""
        losses = F.cross_entropy(logits, labels, ignore_index=self.ignore_index, reduction="none")
        if weights is not None:
            losses = losses * weights
        return losses.sum() / (labels != self.ignore_index).sum().clamp(min=1)


def build_sem_seg_loss(loss_type: str, ignore_value: int, top_k: float = 0.2) -> nn.Module:
    """Build the loss named by MODEL.SEM_SEG_HEAD.LOSS_TYPE.

    Args:
        loss_type: "cross_entropy" or "hard_pixel_mining".
        ignore_value: label of ignored pixels.
        top_k: share of the pixels that hard pixel mining averages over.

    Raises:
        ValueError: the name is unknown.
    """
    if loss_type == "cross_entropy":
        return MeanCrossEntropy(ignore_index=ignore_value)
    if loss_type == "hard_pixel_mining":
        return DeepLabCE(ignore_label=ignore_value, top_k_percent_pixels=top_k)
    raise ValueError(
        f"MODEL.SEM_SEG_HEAD.LOSS_TYPE is {loss_type!r}; use 'cross_entropy' or 'hard_pixel_mining'"
    )
