"""Evaluators, which turn predictions on a dataset into metrics."""

from d2lite.evaluation.build import evaluator_for
from d2lite.evaluation.cityscapes_evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
)
from d2lite.evaluation.class_names import MatchClasses, match_classes, match_names
from d2lite.evaluation.coco_evaluation import COCOEvaluator
from d2lite.evaluation.drawing import DrawDetections
from d2lite.evaluation.evaluator import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_context,
    inference_on_dataset,
)
from d2lite.evaluation.lvis_evaluation import LVISEvaluator
from d2lite.evaluation.panoptic_evaluation import COCOPanopticEvaluator
from d2lite.evaluation.pascal_voc_evaluation import PascalVOCDetectionEvaluator
from d2lite.evaluation.rotated_coco_evaluation import RotatedCOCOEvaluator
from d2lite.evaluation.sem_seg_evaluation import SemSegEvaluator
from d2lite.evaluation.testing import print_csv_format, verify_results

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
