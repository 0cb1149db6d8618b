"""Detectors as graphs: `torch.export` programs and ONNX models."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from d2lite.export.flatten import TracingAdapter
from d2lite.export.patches import exportable
from d2lite.modeling import GeneralizedRCNN
from d2lite.structures import Instances
from d2lite.utils.env import TORCH_VERSION
from d2lite.utils.file_io import PathManager

logger = logging.getLogger(__name__)

# The lowest operator set that torch's exporter writes without a lossy conversion.
STABLE_ONNX_OPSET_VERSION = 18

# torch 2.6 and 2.8 cannot cut a list of unknown length to the best k; 2.10 can.
OLDEST_TORCH = (2, 10)


@dataclass
class ExportedDetector:
    """A detector as a graph from one image to named tensors."""

    program: torch.export.ExportedProgram
    output_names: list[str]  # of what the graph returns, in its order

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """(C, H, W) image of the size that was exported -> what `detect` gives."""
        return dict(zip(self.output_names, self.program.module()(image), strict=True))

    def save(self, filename: str) -> None:
        """Write the program, for `torch.export.load`. Its inputs and outputs are bare tensors."""
        with PathManager.open(filename, "wb") as f:
            torch.export.save(self.program, f)

    def save_onnx(self, filename: str, opset_version: int = STABLE_ONNX_OPSET_VERSION) -> None:
        """Write an ONNX model with the input "image" and the outputs `output_names`.

        Args:
            filename: a local path; weights above 2 GB go into a file beside it.
            opset_version: 18 or higher.
        Raises:
            ImportError: without the packages onnx and onnxscript.
        """
        try:
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ImportError("writing ONNX needs: pip install 'd2lite[onnx]'") from error
        os.makedirs(os.path.dirname(os.path.abspath(filename)), exist_ok=True)
        model = torch.onnx.export(
            self.program,
            dynamo=True,
            input_names=["image"],
            output_names=self.output_names,
            opset_version=opset_version,
        )
        model.save(filename)
        logger.info("Wrote the ONNX model %s", filename)


def export_program(
    model: nn.Module,
    image: Tensor,
    inference_func: Callable[[nn.Module, Tensor], dict[str, Tensor]] | None = None,
) -> ExportedDetector:
    """Turn a detector into a graph by `torch.export`.

    The graph is made for the size of `image`; the number of detections is free. It takes pixels
    as the model does and normalizes them itself. Boxes are in pixels of that image, and masks
    stay in their boxes (N, 1, M, M): see `d2lite.modeling.detector_postprocess` for the rest.

    Tested with Faster, Mask and Keypoint R-CNN, RetinaNet and FCOS. Rotated boxes and panoptic
    models are not supported: their loops depend on the values of the boxes.

    Args:
        model: in evaluation mode.
        image: (C, H, W) example, on the model's device.
        inference_func: from model and image to named tensors, in place of `detect`.
    Raises:
        RuntimeError: torch is too old to export a detector.
        ValueError: for a model in training mode.
    """
    if TORCH_VERSION < OLDEST_TORCH:
        raise RuntimeError(
            f"exporting a detector needs torch 2.10 or newer, this is {torch.__version__}; "
            "upgrade it: pip install -U torch torchvision"
        )
    if model.training:
        raise ValueError("only inference can be exported; call model.eval() first")
    adapter = TracingAdapter(model, image, inference_func or detect)
    adapter(image)  # learns the form of the outputs: torch.export undoes what it sets on modules
    with exportable(), torch.no_grad():
        # torch's analysis of bytecode (strict mode) cannot follow Instances; tracing can.
        program = torch.export.export(adapter, (image,), strict=False)
    return ExportedDetector(program, list(adapter.outputs_schema.keys))


def detect(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Return the tensors that a detector finds in one image.

    Args:
        model: in evaluation mode; gives "instances", "proposals" or "sem_seg".
        image: (C, H, W).
    Returns:
        The fields of the detections as tensors, such as "pred_boxes" (N, 4); or {"sem_seg"}.
    """
    inputs = [{"image": image}]
    if isinstance(model, GeneralizedRCNN):
        # Pasting masks into the image takes loops over boxes.
        (found,) = model.inference(inputs, do_postprocess=False)
        return tensors_of(found)
    (outputs,) = model(inputs)
    for name in ("instances", "proposals"):
        if name in outputs:
            return tensors_of(outputs[name])
    return {"sem_seg": outputs["sem_seg"]}


def tensors_of(instances: Instances) -> dict[str, Tensor]:
    """Return the fields of Instances, boxes as their tensors."""
    fields: dict[str, Any] = instances.get_fields()
    return {name: getattr(value, "tensor", value) for name, value in fields.items()}
