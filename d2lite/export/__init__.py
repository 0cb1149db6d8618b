"""Models as graphs: `torch.export` and ONNX.

    exported = export_program(model.eval(), image)
    exported.save("detector.pt2")
    exported.save_onnx("detector.onnx")

These replace detectron2's TorchScript and Caffe2 export.
"""

from .flatten import TracingAdapter, flatten_to_tuple
from .patches import exportable
from .program import STABLE_ONNX_OPSET_VERSION, ExportedDetector, export_program

__all__ = [
    "STABLE_ONNX_OPSET_VERSION",
    "ExportedDetector",
    "TracingAdapter",
    "export_program",
    "exportable",
    "flatten_to_tuple",
]
