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
from d2lite.utils.extras import import_extra
from d2lite.utils.file_io import PathManager

logger = logging.getLogger(__name__)

# The lowest operator set that torch's exporter writes without a conversion.
STABLE_ONNX_OPSET_VERSION = 18

# torch 2.6 and 2.8 cannot export the top k of a list of unknown length; 2.10 can.
OLDEST_TORCH = (2, 10)


@dataclass
class ExportedDetector:
    """A detector as a graph from one image to named tensors."""

    program: torch.export.ExportedProgram
    output_names: list[str]  # in the order of the outputs of the graph

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return the outputs of `detect` for a (C, H, W) image of the exported size."""
        return dict(zip(self.output_names, self.program.module()(image), strict=True))

    def save(self, filename: str) -> None:
        """Save the program, for `torch.export.load`. Its inputs and outputs are plain tensors."""
        with PathManager.open(filename, "wb") as f:
            torch.export.save(self.program, f)

    def save_onnx(self, filename: str, opset_version: int = STABLE_ONNX_OPSET_VERSION) -> None:
        """Write an ONNX model with the input "image" and the outputs `output_names`.

        Args:
            filename: a local path; weights above 2 GB go into a file next to it.
            opset_version: 18 or higher.
        Raises:
            ImportError: the packages onnx and onnxscript are not installed.
        """
        import_extra("onnxscript", "onnx", "writing ONNX")
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
    """Export a detector as a graph with `torch.export`.

    The graph is for the size of `image`; the number of detections is dynamic. Like the model, it
    takes pixels and normalizes them itself. Boxes are in pixels of that image, and masks are
    relative to their boxes (N, 1, M, M): see `d2lite.modeling.detector_postprocess` for the rest.

    Tested with Faster, Mask and Keypoint R-CNN, RetinaNet and FCOS. Rotated boxes and panoptic
    models are not supported: their loops depend on the values of the boxes.

    Args:
        model: in evaluation mode.
        image: (C, H, W) example, on the model's device.
        inference_func: maps model and image to named tensors, instead of `detect`.
    Raises:
        RuntimeError: torch is too old to export a detector.
        ValueError: the model is in training mode.
    """
    if TORCH_VERSION < OLDEST_TORCH:
        raise RuntimeError(
            f"exporting a detector needs torch 2.10 or newer, this is {torch.__version__}; "
            "upgrade it: pip install -U torch torchvision"
        )
    if model.training:
        raise ValueError("only inference can be exported; call model.eval() first")
    adapter = TracingAdapter(model, image, inference_func or detect)
    adapter(image)  # stores the output schema: torch.export reverts attributes set on modules
    with exportable(), torch.no_grad():
        # torch's bytecode analysis (strict mode) does not support Instances; tracing does.
        program = torch.export.export(adapter, (image,), strict=False)
    return ExportedDetector(program, list(adapter.outputs_schema.keys))


def detect(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Return the outputs of a detector for one image as tensors.

    Args:
        model: in evaluation mode; returns "instances", "proposals" or "sem_seg".
        image: (C, H, W).
    Returns:
        The fields of the detections as tensors, such as "pred_boxes" (N, 4); or {"sem_seg"}.
    """
    inputs = [{"image": image}]
    if isinstance(model, GeneralizedRCNN):
        # Pasting masks into the image needs loops over boxes.
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
