"""Draw a fixed number of labeled examples with a bounded share of foreground.

Nearly all anchors and proposals are background, which would dominate the loss (Faster R-CNN, sec.
3.1.3; Fast R-CNN, sec. 2.3).
"""

import torch
from torch import Tensor


def subsample_labels(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Draw at random up to `num_samples` examples, foreground first, without replacement.

    Args:
        labels: (R,) integers: -1 is ignored, `bg_label` background, anything else foreground.
        num_samples: how many to draw; fewer when there are not enough.
        positive_fraction: at most int(num_samples * positive_fraction) are foreground; the
            rest is filled with background.
        bg_label: the label of the background.

    Returns:
        Indices of the drawn foreground and background examples, in random order.
    """
    positive = torch.nonzero((labels != -1) & (labels != bg_label)).squeeze(1)
    negative = torch.nonzero(labels == bg_label).squeeze(1)
    num_positive = min(positive.numel(), int(num_samples * positive_fraction))
    num_negative = min(negative.numel(), num_samples - num_positive)
    return _draw(positive, num_positive), _draw(negative, num_negative)


def _draw(candidates: Tensor, number: int) -> Tensor:
    order = torch.randperm(candidates.numel(), device=candidates.device)
    return candidates[order[:number]]
