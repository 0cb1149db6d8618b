"""Helpers for tests of models and of projects."""

import os
import tempfile
import unittest
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def get_model_no_weights(config_path: str) -> torch.nn.Module:
    """Return the model of a config of the zoo, such as "COCO-Detection/...yaml", with random
    weights."""
    from d2lite import model_zoo
    from d2lite.modeling import build_model

    cfg = model_zoo.get_config(config_path)
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    return build_model(cfg)


def random_boxes(num_boxes: int, max_coord: float = 100, device: str = "cpu") -> torch.Tensor:
    """Return random (N, 4) float32 XYXY boxes within [0, max_coord], with sides of at least 1."""
    corners = torch.rand(num_boxes, 2, device=device) * (max_coord * 0.5)
    # Box regression uses logarithms of sides, so tiny ones would make tests unstable.
    sides = (torch.rand(num_boxes, 2, device=device) * (max_coord * 0.5)).clamp(min=1.0)
    return torch.cat([corners, corners + sides], dim=1)  # (N, 4)


def get_sample_coco_image(tensor: bool = True) -> Any:
    """Return an image of COCO's size, always the same one, which is drawn, not downloaded.

    Args:
        tensor: return a tensor (3, 480, 640) uint8 BGR instead of an array (480, 640, 3).
    """
    height, width = 480, 640
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1)
    image[((x - 200) / 90) ** 2 + ((y - 240) / 150) ** 2 < 1] = (40, 60, 200)  # an ellipse
    image[(x > 380) & (x < 560) & (y > 120) & (y < 300)] = (200, 180, 30)  # a rectangle
    image = image.astype(np.uint8)
    return torch.from_numpy(image.transpose(2, 0, 1).copy()) if tensor else image


def assert_instances_allclose(
    input: Any, other: Any, *, rtol: float = 1e-5, msg: str = "", size_as_tensor: bool = False
) -> None:
    """Assert that two Instances have the same size, the same fields, and nearly the same values.

    Args:
        rtol: relative tolerance of boxes, masks and floats; other values must be equal.
        msg: prefix of the message.
        size_as_tensor: whether the image sizes are tensors.
    """
    msg = f"{msg}: " if msg else ""
    same_size = (
        torch.equal(torch.as_tensor(input.image_size), torch.as_tensor(other.image_size))
        if size_as_tensor
        else input.image_size == other.image_size
    )
    assert same_size, f"{msg}image_size is {input.image_size}, not {other.image_size}"
    names, other_names = sorted(input.get_fields()), sorted(other.get_fields())
    assert names == other_names, f"{msg}fields are {names}, not {other_names}"
    for name in names:
        value, other_value = input.get(name), other.get(name)
        assert type(value) is type(other_value), f"{msg}{name} is a {type(value).__name__}"
        assert _is_close(value, other_value, rtol), f"{msg}{name} differs: {value} {other_value}"


def _is_close(value: Any, other: Any, rtol: float) -> bool:
    value, other = getattr(value, "tensor", value), getattr(other, "tensor", other)
    if not isinstance(value, torch.Tensor):
        return bool(value == other)
    if value.shape != other.shape:
        return False
    if not value.is_floating_point():
        return torch.equal(value, other)
    # As in detectron2: an absolute tolerance relative to the largest value, for boxes near 0.
    atol = value.abs().max().item() * rtol if value.numel() else 0.0
    return torch.allclose(value, other, rtol=rtol, atol=atol)


def reload_lazy_config(cfg: Any) -> Any:
    """Save a lazy config to a file, and return it as loaded again."""
    from d2lite.config import LazyConfig

    with tempfile.TemporaryDirectory() as folder:
        filename = os.path.join(folder, "config.yaml")
        LazyConfig.save(cfg, filename)
        return LazyConfig.load(filename)


def has_dynamic_axes(onnx_model: Any) -> bool:
    """Return whether an ONNX model has an input with a dimension of any size."""
    return any(
        dim.HasField("dim_param")
        for entry in onnx_model.graph.input
        for dim in entry.type.tensor_type.shape.dim
    )


def skipIfUnsupportedMinTorchVersion(min_version: str) -> Callable:
    """Decorate a test that needs PyTorch of this version or newer."""
    reason = f"needs PyTorch {min_version} or newer, this is {torch.__version__}"
    return unittest.skipIf(torch.__version__ < min_version, reason)


def skipIfUnsupportedMinOpsetVersion(
    min_opset_version: int, current_opset_version: int | None = None
) -> Callable:
    """Decorate a test that needs an ONNX operator set of this version or newer.

    Args:
        current_opset_version: the version in use; by default, the attribute `opset_version` of the
            test case when the test runs.
    """

    def decorate(test: Callable) -> Callable:
        def wrapped(self: unittest.TestCase) -> Any:
            current = current_opset_version or self.opset_version
            if current < min_opset_version:
                self.skipTest(f"needs ONNX opset {min_opset_version}, this is {current}")
            return test(self)

        wrapped.__name__ = test.__name__
        return wrapped

    return decorate
