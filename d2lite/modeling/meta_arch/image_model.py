"""What all meta-architectures are: a backbone, and images that they normalise themselves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2lite.data.detection_utils import convert_image_to_rgb
from d2lite.modeling.backbone import Backbone
from d2lite.modeling.meta_arch.inputs import (
    batch_images,
    check_classes,
    check_pixel_statistics,
    output_sizes,
    per_channel,
    required_field,
    takes_any_layout,
)
from d2lite.modeling.postprocessing import detector_postprocess
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils.events import get_event_storage, has_event_storage, log_image
from d2lite.visualization import Visualizer

MAX_DRAWN_BOXES = 20


class ImageModel(nn.Module):
    """A model from a list of dicts, one for each image, to losses or results.

    A subclass defines `forward`.
    """

    # Only models that are told how their images look can draw them.
    vis_period: int = 0
    input_format: str | None = None

    backbone: Backbone

    # No constructor: models that skip the one of their base (`super(Base, self).__init__()`) get
    # nn.Module's, and set their parts themselves.
    def set_pixel_statistics(self, pixel_mean: Sequence[float], pixel_std: Sequence[float]) -> None:
        """Register what `preprocess_image` normalizes with: one value for each channel.

        Raises:
            ValueError: the pixel statistics differ in length.
        """
        check_pixel_statistics(pixel_mean, pixel_std)
        self.register_buffer("pixel_mean", per_channel(pixel_mean), persistent=False)
        self.register_buffer("pixel_std", per_channel(pixel_std), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.pixel_mean.device

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise the images and pad them into a batch that the backbone can take."""
        return batch_images(
            [self._move_to_current_device(x) for x in required_field(batched_inputs, "image")],
            self.pixel_mean,
            self.pixel_std,
            self.backbone.size_divisibility,
            self.backbone.padding_constraints,
            any_layout=takes_any_layout(self),
        )

    def _on_device(self, batched_inputs: list[dict[str, Any]], name: str) -> list[Any]:
        """Entry `name` of every input, where the model computes."""
        return [x.to(self.device) for x in required_field(batched_inputs, name)]

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        return x.to(self.pixel_mean.device, non_blocking=True)

    def _ground_truth(self, batched_inputs: list[dict[str, Any]]) -> list[Instances] | None:
        """The "instances" of all inputs; None where the first has none.

        A model whose heads need no ground truth trains without.

        Raises:
            ValueError: an object has a class that the model does not have.
        """
        if "instances" not in batched_inputs[0]:
            return None
        num_classes = self._num_label_classes()
        if num_classes is not None:
            keys = list(getattr(self, "class_count_keys", {}))
            check_classes(batched_inputs, num_classes, keys[0] if keys else "NUM_CLASSES")
        return self._on_device(batched_inputs, "instances")

    def _num_label_classes(self) -> int | None:
        """How many classes objects may have in training; None where their classes don't matter."""
        return getattr(self, "num_classes", None)

    @staticmethod
    def _postprocess(
        instances: list[Instances],
        batched_inputs: list[dict[str, Any]],
        image_sizes: list[tuple[int, int]],
        name: str = "instances",
    ) -> list[dict[str, Instances]]:
        """The results of each image, scaled to the size that its input wants, under `name`."""
        sizes = output_sizes(batched_inputs, image_sizes)
        return [
            {name: detector_postprocess(x, *size)} for x, size in zip(instances, sizes, strict=True)
        ]

    def _is_time_to_draw(self) -> bool:
        if self.vis_period <= 0 or not has_event_storage():
            return False
        return get_event_storage().iter % self.vis_period == 0

    def _draw_with_truth(
        self, batched_input: dict[str, Any], boxes: Boxes, name: str, axis: int
    ) -> None:
        """Put one image twice into the event storage: with its ground truth, and with `boxes`.

        Args:
            boxes: in the size of the image, best first; the best 20 are drawn.
            name: of the picture in the event storage.
            axis: 0 puts the ground truth on top, 1 to the left.
        """
        image = convert_image_to_rgb(batched_input["image"].permute(1, 2, 0), self.input_format)
        best = boxes.tensor[:MAX_DRAWN_BOXES].cpu().numpy()
        drawn = [
            Visualizer(image, None).overlay_instances(boxes=x).get_image()
            for x in (batched_input["instances"].gt_boxes, best)
        ]
        log_image(name, np.concatenate(drawn, axis=axis).transpose(2, 0, 1))
