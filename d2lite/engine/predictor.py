"""Detect on images with a trained model."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from d2lite.checkpoint import DetectionCheckpointer, require_loaded
from d2lite.config import CfgNode
from d2lite.data import transforms as T
from d2lite.data.detection_utils import build_augmentation
from d2lite.data.image_io import scale_16_bits
from d2lite.engine.classes import check_class_counts
from d2lite.engine.from_checkpoint import about_weights, config_from_checkpoint, model_metadata
from d2lite.modeling import build_model
from d2lite.modeling.tiles import merge_windows, tile_windows
from d2lite.structures import Boxes, Instances

logger = logging.getLogger(__name__)


class DefaultPredictor:
    """Predictor that runs the model of a config on its device, on one image at a time.

    A checkpoint of d2lite contains its config and class names, so the checkpoint is enough::

        predictor = DefaultPredictor("output/model_final.pth")

    It loads `MODEL.WEIGHTS`, converts to `INPUT.FORMAT`, and resizes as the test loader does
    (`INPUT.AUGMENTATION`). For many images, a data loader with batches is faster.

    Example::

        predictor = DefaultPredictor(cfg)
        instances = predictor(cv2.imread("street.jpg"))["instances"]

    Attributes:
        cfg: a copy of the config.
        model: in evaluation mode.
        metadata: class names and colors, from the checkpoint or else from the first dataset in
            `DATASETS.TEST`.
    """

    def __init__(self, cfg: CfgNode | str | os.PathLike) -> None:
        """
        Args:
            cfg: a config, or the path or URL of a checkpoint that contains one.

        Raises:
            ValueError: the weights have another number of classes or other shapes than the model;
                or the checkpoint contains no config.
        """
        if isinstance(cfg, (str, os.PathLike)):
            cfg = config_from_checkpoint(cfg)
        self.cfg = cfg.clone()  # since programs modify theirs afterward
        about = about_weights(self.cfg.MODEL.WEIGHTS)
        check_class_counts(self.cfg, only_open=True, about=about)
        self.model = build_model(self.cfg)
        self.model.eval()
        self.metadata = model_metadata(self.cfg, about)
        DetectionCheckpointer(self.model).load(self.cfg.MODEL.WEIGHTS)
        require_loaded(self.model)
        augs = build_augmentation(self.cfg, is_train=False)
        # A single augmentation is not wrapped, since callers use its get_transform.
        self.aug = augs[0] if len(augs) == 1 else T.AugmentationList(augs)
        self.input_format = self.cfg.INPUT.FORMAT
        if self.input_format not in ("RGB", "BGR", "L"):
            raise ValueError(f"INPUT.FORMAT is {self.input_format!r}; use 'RGB', 'BGR' or 'L'")

    @torch.no_grad()  # not inference_mode: callers may modify the results in place
    def __call__(self, original_image: np.ndarray) -> dict:
        """Detect on one image.

        Args:
            original_image: (H, W, 3) in BGR order, 0 to 255, as from cv2.imread; for models of gray
                images (INPUT.FORMAT "L") also (H, W) or (H, W, 1). uint16 images are scaled by
                INPUT.MAX_VALUE_16_BIT.

        Returns:
            The output of the model, such as {"instances": Instances} in pixels of the original
            image.

        Raises:
            ValueError: the image has the wrong number of channels.
        """
        return self.model([self.model_input(original_image)])[0]

    @torch.no_grad()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[dict]:
        """Detect on several images in one batch, padded to the same size."""
        return list(self.model([self.model_input(image) for image in images]))

    def model_input(self, original_image: np.ndarray) -> dict[str, Any]:
        """Return the input of the model for an image; see `__call__`."""
        shape = original_image.shape if isinstance(original_image, np.ndarray) else ()
        is_gray = len(shape) == 2 or (len(shape) == 3 and shape[2] == 1)
        if not (len(shape) == 3 and shape[2] == 3) and not (is_gray and self.input_format == "L"):
            found = getattr(original_image, "shape", type(original_image).__name__)
            raise ValueError(
                f"expected an image (H, W, 3) in BGR order, got {found}; cv2.imread returns None "
                "for a file that it cannot read"
            )
        if original_image.dtype == np.uint16:
            original_image = scale_16_bits(original_image, self.cfg.INPUT.MAX_VALUE_16_BIT)
        if self.input_format == "RGB":
            original_image = original_image[:, :, ::-1]
        elif self.input_format == "L" and not is_gray:
            # The weights of BT.601, as in read_image for "L".
            gray = original_image @ np.array([0.114, 0.587, 0.299])
            original_image = gray.round().astype(original_image.dtype)
        if original_image.ndim == 2:
            original_image = original_image[:, :, None]
        height, width = original_image.shape[:2]
        aug_input = T.AugInput(original_image)
        self.aug(aug_input)
        image = torch.as_tensor(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        if image.dtype != torch.uint8:
            image = image.float()  # models compute in float32; numpy's default is float64
        image = image.to(self.cfg.MODEL.DEVICE)
        return {"image": image, "height": height, "width": width}


class SlicedPredictor:
    """Predictor that detects in overlapping tiles of large images and merges the detections.

    Masks of the results are RLE dicts of the whole image (`d2lite.modeling.tiles`).
    """

    def __init__(
        self,
        predictor: DefaultPredictor,
        size: int,
        overlap: float = 0.2,
        batch: int = 1,
        whole: bool = True,
    ) -> None:
        """
        Args:
            size: side of the tiles in pixels.
            overlap: overlap of neighboring tiles, as a fraction of `size`; objects should fit into
                it.
            batch: number of tiles in a batch.
            whole: also detect in the whole image, for objects larger than a tile.
        """
        tile_windows(size, size, size, overlap)  # raises if out of range
        self._predictor = predictor
        self._size, self._overlap, self._batch, self._whole = size, overlap, batch, whole

    def __call__(self, image: np.ndarray) -> dict[str, Instances]:
        """Detect on one image; see DefaultPredictor.

        Raises:
            ValueError: the model does not return instances with boxes.
        """
        height, width = image.shape[:2]
        windows = tile_windows(height, width, self._size, self._overlap)
        if self._whole and len(windows) > 1:
            windows.append((0, 0, width, height))
        found = []
        for start in range(0, len(windows), self._batch):
            chosen = windows[start : start + self._batch]
            tiles = [image[y0:y1, x0:x1] for x0, y0, x1, y1 in chosen]
            for output in self._predictor.predict_batch(tiles):
                instances = output.get("instances")
                if instances is None or not isinstance(instances.get("pred_boxes"), Boxes):
                    raise ValueError(
                        "tiles are for models that detect objects in boxes; this one returns "
                        f"{', '.join(output)}"
                    )
                found.append(instances)
        return {"instances": merge_windows(found, windows, (height, width))}
