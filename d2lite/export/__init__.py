"""Models as graphs: `torch.export` and ONNX.

    exported = export_program(model.eval(), image)
    exported.save("detector.pt2")
    exported.save_onnx("detector.onnx")

These replace detectron2's TorchScript and Caffe2 export.
"""

from d2lite.export.flatten import TracingAdapter, flatten_to_tuple
from d2lite.export.patches import exportable
from d2lite.export.program import STABLE_ONNX_OPSET_VERSION, ExportedDetector, export_program

__all__ = [
    "STABLE_ONNX_OPSET_VERSION",
    "ExportedDetector",
    "TracingAdapter",
    "export_program",
    "exportable",
    "flatten_to_tuple",
]
