"""Private parts of detectron2's visualizers."""

from collections.abc import Iterator

import numpy as np

from d2lite.visualization import PanopticSegments

_SMALL_OBJECT_AREA_THRESH = 1000  # square pixels; labels of smaller objects are outside of them


class _PanopticPrediction(PanopticSegments):
    """The segments of a panoptic segmentation, with bool masks."""

    def _masks(self, isthing: bool) -> Iterator[tuple[np.ndarray, dict]]:
        for mask, info in super()._masks(isthing):
            yield mask.astype(bool), info
