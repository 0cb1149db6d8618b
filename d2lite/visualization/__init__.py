"""Drawing: boxes, masks, keypoints and segments, with their labels, on images and videos.

Names, colors and keypoint connections are arguments; nothing here depends on datasets.
"""

from d2lite.visualization.canvas import VisImage
from d2lite.visualization.colors import distinct_color
from d2lite.visualization.masks import GenericMask, PanopticSegments
from d2lite.visualization.video import VideoVisualizer
from d2lite.visualization.visualizer import ColorMode, Visualizer, create_text_labels

__all__ = [
    "ColorMode",
    "GenericMask",
    "PanopticSegments",
    "VideoVisualizer",
    "VisImage",
    "Visualizer",
    "create_text_labels",
    "distinct_color",
]
