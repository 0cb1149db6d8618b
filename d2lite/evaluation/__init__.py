"""Evaluators, which turn predictions on a dataset into metrics."""

from .build import evaluator_for
from .cityscapes_evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from .class_names import MatchClasses, match_classes, match_names
from .coco_evaluation import COCOEvaluator
from .drawing import DrawDetections
from .evaluator import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_context,
    inference_on_dataset,
)
from .lvis_evaluation import LVISEvaluator
from .panoptic_evaluation import COCOPanopticEvaluator
from .pascal_voc_evaluation import PascalVOCDetectionEvaluator
from .rotated_coco_evaluation import RotatedCOCOEvaluator
from .sem_seg_evaluation import SemSegEvaluator
from .testing import print_csv_format, verify_results

__all__ = [
    "COCOEvaluator",
    "COCOPanopticEvaluator",
    "CityscapesInstanceEvaluator",
    "CityscapesSemSegEvaluator",
    "DatasetEvaluator",
    "DatasetEvaluators",
    "DrawDetections",
    "LVISEvaluator",
    "MatchClasses",
    "PascalVOCDetectionEvaluator",
    "RotatedCOCOEvaluator",
    "SemSegEvaluator",
    "evaluator_for",
    "inference_context",
    "inference_on_dataset",
    "match_classes",
    "match_names",
    "print_csv_format",
    "verify_results",
]
