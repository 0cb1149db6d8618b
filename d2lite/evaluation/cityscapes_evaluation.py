"""Cityscapes' own evaluation of instances and of semantic segmentation."""

import glob
import logging
import os
import tempfile
from collections import OrderedDict
from collections.abc import Collection
from types import ModuleType
from unittest import mock

import numpy as np
import torch
from PIL import Image

from d2lite.data.catalog import MetadataCatalog
from d2lite.evaluation.evaluator import DatasetEvaluator
from d2lite.evaluation.numpy_names import removed_numpy_names
from d2lite.utils import comm
from d2lite.utils.extras import import_extra
from d2lite.utils.file_io import PathManager


class CityscapesEvaluator(DatasetEvaluator):
    """Base class, with a folder to which all processes write predictions for Cityscapes' scripts.

    All processes must run on one machine. Subclasses name the script in `cityscapesscripts` and
    the ground truth files that it takes, in the folders of `gt_dir`.
    """

    _script_name: str
    _truth_pattern: str

    def __init__(self, dataset_name: str):
        """dataset_name: its metadata has `gt_dir` and, for instances, `thing_classes`."""
        self._metadata = MetadataCatalog.get(dataset_name)
        self._cpu_device = torch.device("cpu")
        self._logger = logging.getLogger(__name__)
        self._working_dir: tempfile.TemporaryDirectory | None = None

    def reset(self) -> None:
        if comm.get_local_size() != comm.get_world_size():
            raise RuntimeError("Cityscapes is evaluated through files: use one machine only")
        self._working_dir = tempfile.TemporaryDirectory(prefix="cityscapes_eval_")
        # All processes use the folder of the first one.
        self._temp_dir = comm.all_gather(self._working_dir.name)[0]
        if self._temp_dir != self._working_dir.name:
            self._working_dir.cleanup()
        self._logger.info("Writing Cityscapes predictions to %s", self._temp_dir)

    def check(self, tasks: Collection[str] = ("bbox",)) -> None:
        """Check that the script and its ground truth files exist; see `DatasetEvaluator.check`."""
        if self._metadata.get("gt_dir") is None:
            raise ValueError(
                f"dataset {self._metadata.name!r}: its metadata has no gt_dir, the folder of the "
                "ground truth that Cityscapes' scripts read; set it, or another evaluator_type"
            )
        _script(self._script_name)
        self._true_files()

    def _true_files(self) -> list[str]:
        gt_dir = PathManager.get_local_path(self._metadata.gt_dir)
        pattern = os.path.join("*", self._truth_pattern)
        truth = sorted(glob.glob(os.path.join(gt_dir, pattern)))
        if not truth:
            raise FileNotFoundError(f"{gt_dir}: found no file {pattern}")
        return truth

    def _run_script(self, script: ModuleType) -> dict | None:
        """Run a script that compares all predictions with the ground truth files.

        Returns None on processes other than the main one.
        """
        comm.synchronize()
        if not comm.is_main_process():
            return None
        script.args.predictionPath = os.path.abspath(self._temp_dir)
        script.args.predictionWalk = None
        script.args.JSONOutput = False
        script.args.colorized = False
        script.args.quiet = True
        truth = self._true_files()
        predictions = [self._prediction_of(script, path) for path in truth]
        # The scripts use np.in1d, and leave unused files in the working directory.
        quiet = mock.patch.object(script, "writeDict2JSON", lambda *_: None)
        with removed_numpy_names(script), quiet:
            return script.evaluateImgLists(predictions, truth, script.args)

    def _prediction_of(self, script: ModuleType, gt_file: str) -> str:
        raise NotImplementedError(f"{type(self).__name__} must define _prediction_of")

    def _path(self, file_name: str, ending: str) -> str:
        """Return the path for the predictions on an image."""
        stem = os.path.splitext(os.path.basename(file_name))[0]
        return os.path.join(self._temp_dir, stem + ending)


class CityscapesInstanceEvaluator(CityscapesEvaluator):
    """AP and AP50 of instance masks, by Cityscapes' script."""

    _script_name = "evalInstanceLevelSemanticLabeling"
    _truth_pattern = "*_gtFine_instanceIds.png"

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Write the masks of each image, and a list of them."""
        name2label = _labels().name2label
        for inp, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to(self._cpu_device)
            lines = []
            for i in range(len(instances)):
                name = self._metadata.thing_classes[int(instances.pred_classes[i])]
                png = self._path(inp["file_name"], f"_{i}_{name}.png")
                mask = instances.pred_masks[i].numpy().astype(np.uint8)
                Image.fromarray(mask * 255).save(png)
                score = float(instances.scores[i])
                lines.append(f"{os.path.basename(png)} {name2label[name].id} {score}\n")
            # An image without detections has an empty list.
            with open(self._path(inp["file_name"], "_pred.txt"), "w", encoding="utf-8") as f:
                f.writelines(lines)

    def evaluate(self) -> dict | None:
        """Return {"segm": {"AP", "AP50"}} in percent."""
        script = _script(self._script_name)
        # The script would reuse the ground truth in the file of an earlier run.
        script.args.gtInstancesFile = os.path.join(self._temp_dir, "gtInstances.json")
        results = self._run_script(script)
        if results is None:
            return None
        averages = results["averages"]
        self._working_dir.cleanup()
        return OrderedDict(segm={"AP": averages["allAp"] * 100, "AP50": averages["allAp50%"] * 100})

    def _prediction_of(self, script: ModuleType, gt_file: str) -> str:
        return script.getPrediction(gt_file, script.args)


class CityscapesSemSegEvaluator(CityscapesEvaluator):
    """IoU and iIoU of classes and of their groups, by Cityscapes' script."""

    _script_name = "evalPixelLevelSemanticLabeling"
    _truth_pattern = "*_gtFine_labelIds.png"

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Write the label map of each image, with Cityscapes' ids."""
        ids = np.full(256, 255, np.uint8)
        for train_id, label in _labels().trainId2label.items():
            if not label.ignoreInEval:
                ids[train_id] = label.id
        for inp, output in zip(inputs, outputs, strict=True):
            pred = output["sem_seg"].argmax(dim=0).to(self._cpu_device).numpy()
            Image.fromarray(ids[pred]).save(self._path(inp["file_name"], "_pred.png"))

    def evaluate(self) -> dict | None:
        """Return {"sem_seg": {"IoU", "iIoU", "IoU_sup", "iIoU_sup"}} in percent; sup: groups."""
        results = self._run_script(_script(self._script_name))
        if results is None:
            return None
        keys = {
            "IoU": "averageScoreClasses",
            "iIoU": "averageScoreInstClasses",
            "IoU_sup": "averageScoreCategories",
            "iIoU_sup": "averageScoreInstCategories",
        }
        self._working_dir.cleanup()
        return OrderedDict(sem_seg={metric: 100.0 * results[key] for metric, key in keys.items()})

    def _prediction_of(self, script: ModuleType, gt_file: str) -> str:
        return script.getPrediction(script.args, gt_file)


def _labels() -> ModuleType:
    return _import("cityscapesscripts.helpers.labels")


def _script(name: str) -> ModuleType:
    return _import(f"cityscapesscripts.evaluation.{name}")


def _import(name: str) -> ModuleType:
    return import_extra(name, "cityscapes", "the evaluation of Cityscapes")
