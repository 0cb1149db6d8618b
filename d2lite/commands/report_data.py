"""The data of `d2lite report`: read from the folders of runs, and computed from detections."""

import base64
import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import yaml

from d2lite.config import CfgNode, get_cfg
from d2lite.config.changes import changed_settings
from d2lite.data import MetadataCatalog
from d2lite.data.catalog import file_stem
from d2lite.data.detection_utils import read_image
from d2lite.evaluation import error_analysis as analysis
from d2lite.evaluation.class_names import distinct_names
from d2lite.evaluation.coco_evaluation import (
    evaluate_predictions_on_coco,
    per_category_metrics,
    summarize_boxes,
)
from d2lite.evaluation.coco_json import load_coco_api
from d2lite.projects import add_projects
from d2lite.utils.file_io import read_text
from d2lite.utils.registry import did_you_mean
from d2lite.utils.run_curves import METRICS, read_runs

logger = logging.getLogger(__name__)

THRESHOLDS = np.arange(1, 100) / 100
CONFUSION_THRESHOLDS = np.arange(1, 20) / 20
MOST_CLASSES = 40  # in confusion matrices
MOST_POINTS = 400  # of a curve
THUMBNAIL = 360  # pixels of the long side
LEAST_SCORE = 0.05  # of detections that are stored for the images
LIMIT_MIB = 8.0  # of the images, so that the page stays below 10
RESULTS = "coco_instances_results.json"
_AREAS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass
class _Detections:
    """The detections of a run on a test set, matched with its ground truth."""

    results: list[dict]  # in COCO's format
    truth: Any  # COCO
    classes: list[str]
    categories: dict[int, int]  # category id -> class index
    matched: dict[Any, analysis.MatchedImage]  # by image id


def collect(runs: Sequence[str], dataset: str | None, num_images: int) -> dict[str, Any]:
    """Gather the data of the page.

    Args:
        runs: one or two folders.
        dataset: test set; None: the first of DATASETS.TEST.
        num_images: maximum number of images to show.

    Raises:
        FileNotFoundError: a folder is not the folder of a run.
    """
    for run in runs:
        if not os.path.isfile(os.path.join(run, "config.yaml")):
            raise FileNotFoundError(f"{run} is not the folder of a run: it has no config.yaml")
    with_curves = [run for run in runs if os.path.isfile(os.path.join(run, METRICS))]
    panels = dict(zip(with_curves, read_runs(with_curves).values(), strict=True))
    names = distinct_names([os.path.basename(os.path.abspath(run)) for run in runs])
    pages, found = [], []
    for run, name in zip(runs, names, strict=True):
        page, detections = _page_of(run, name, dataset)
        page["curves"] = {title: {} for title in panels.get(run, {})}
        for title, group in panels.get(run, {}).items():
            for label, curve in group.items():
                count = len(curve[0])
                kept = np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int)
                page["curves"][title][label] = [axis[kept].tolist() for axis in curve]
        pages.append(page)
        found.append(detections)
    content: dict[str, Any] = {"runs": pages, "kinds": analysis.KINDS, "images": []}
    content["thresholds"] = THRESHOLDS.tolist()
    content["confusion_thresholds"] = CONFUSION_THRESHOLDS.tolist()
    usable = [d for d in found if d is not None]
    of_same_images = all(
        d.classes == usable[0].classes and d.truth.imgs.keys() == usable[0].truth.imgs.keys()
        for d in usable
    )
    if usable and len(usable) == len(runs) and of_same_images:
        content["images"] = _images(usable, num_images)
        content["classes"] = usable[0].classes
    elif usable:
        pages[0]["notes"].append(
            "The runs were evaluated on different images, so no images are shown"
        )
    return content


def _page_of(run: str, name: str, dataset: str | None) -> tuple[dict, _Detections | None]:
    """Return the data of one run, except its curves and images."""
    notes: list[str] = []
    page: dict[str, Any] = {"name": name, "folder": os.path.abspath(run), "notes": notes}
    page["environment"] = ""
    log = os.path.join(run, "log.txt")
    if os.path.isfile(log):  # the table of the environment, up to PyTorch's build options
        with open(log, encoding="utf-8", errors="replace") as file:
            head = file.read(50_000)
        match = re.search(r"Environment:\s*\n(.*?)(?:\nPyTorch built with|\n\[)", head, re.DOTALL)
        page["environment"] = match[1].strip() if match else ""
    cfg = _config_of(run)
    if cfg is None:
        page["config"] = []
        notes.append("The config is a lazy config and is not shown; see config.yaml")
        return page, None
    page["config"] = _changes(cfg)
    tests = list(cfg.DATASETS.TEST)
    if dataset is not None and dataset not in tests:
        raise ValueError(
            f"--dataset {dataset} is not among DATASETS.TEST of {run}."
            f"{did_you_mean(dataset, tests)} It has: {', '.join(tests)}"
        )
    chosen = dataset or (tests[0] if tests else None)
    if chosen is None:
        notes.append("DATASETS.TEST is empty, so there are no detections")
        return page, None
    page["dataset"] = chosen
    folder = os.path.join(run, "inference")
    path = os.path.join(folder, *([file_stem(chosen)] if len(tests) > 1 else []), RESULTS)
    if not os.path.isfile(path):
        notes.append(f"{path} not found: evaluate the run with `d2lite eval`")
        return page, None
    detections = _read_detections(path, chosen, notes)
    if detections is not None:
        page |= _analysis(detections)
    return page, detections


def _config_of(run: str) -> CfgNode | None:
    path = os.path.join(run, "config.yaml")
    content = yaml.safe_load(read_text(path))
    if not isinstance(content, dict) or "MODEL" not in content:
        return None
    cfg = get_cfg()
    add_projects(cfg, path)
    cfg.set_new_allowed(True)  # keys added by code that is not imported here
    cfg.merge_from_file(path)
    return cfg


def _changes(cfg: CfgNode) -> list[list[str]]:
    """Return rows of key, value and default, for the settings that differ from the default."""
    rows: list[list[str]] = []

    def walk(node: CfgNode, defaults: Any, prefix: str) -> None:
        for key, value in sorted(node.items()):
            before = defaults.get(key) if isinstance(defaults, CfgNode) else None
            if isinstance(value, CfgNode):
                walk(value, before, f"{prefix}{key}.")
            else:
                rows.append([f"{prefix}{key}", str(value), "" if before is None else str(before)])

    defaults = get_cfg()
    walk(changed_settings(cfg, defaults), defaults, "")
    return rows


def _read_detections(path: str, dataset: str, notes: list[str]) -> _Detections | None:
    truth = load_coco_api(dataset)
    metadata = MetadataCatalog.get(dataset)
    if "annotations" not in truth.dataset:
        notes.append(f"Dataset {dataset} has no annotations to compare the detections with")
        return None
    results = json.loads(read_text(path))
    if any(len(row["bbox"]) != 4 for row in [*results[:1], *truth.dataset["annotations"][:1]]):
        notes.append("Rotated boxes are not analyzed")
        return None
    unknown = {row["image_id"] for row in results} - truth.imgs.keys()
    if unknown:
        notes.append(f"{path} has images that dataset {dataset} lacks: evaluate the run again")
        return None
    categories = [row["id"] for row in truth.dataset["categories"]]
    index = metadata.get("thing_dataset_id_to_contiguous_id") or {
        category: i for i, category in enumerate(categories)
    }
    return _Detections(
        results,
        truth,
        distinct_names(metadata.thing_classes),
        dict(index),
        _match_all(truth, results, index),
    )


def _match_all(truth: Any, results: list[dict], index: dict[int, int]) -> dict:
    by_image: dict[Any, list[dict]] = {image_id: [] for image_id in truth.imgs}
    for row in results:
        if row["category_id"] in index:
            by_image[row["image_id"]].append(row)
    matched = {}
    for image_id, found in by_image.items():
        own = [a for a in truth.imgToAnns.get(image_id, ()) if a["category_id"] in index]
        found.sort(key=lambda row: -row["score"])
        objects = analysis.ImageObjects(
            _corners(own),
            np.array([index[a["category_id"]] for a in own], int),
            np.array([bool(a.get("iscrowd")) for a in own], bool),
            _corners(found),
            np.array([index[row["category_id"]] for row in found], int),
            np.array([row["score"] for row in found], float),
        )
        matched[image_id] = analysis.match_image(objects)
    return matched


def _corners(rows: list[dict]) -> np.ndarray:
    boxes = np.array([row["bbox"] for row in rows], float).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _analysis(found: _Detections) -> dict[str, Any]:
    """Return tables and curves of the detections of a run."""
    matched, count = list(found.matched.values()), len(found.classes)
    precision, recall = analysis.scores_by_threshold(matched, count, THRESHOLDS)
    objects = np.zeros(count, int)
    for image in matched:
        np.add.at(objects, image.objects.gt_classes[~image.objects.gt_crowd], 1)
    tasks = ["bbox"]
    has_masks = all("segmentation" in a for a in found.truth.dataset["annotations"])
    if has_masks and found.results and "segmentation" in found.results[0]:
        tasks.append("segm")
    tables, curves = {}, {}
    for task in tasks:
        tables[task], curves[task] = _ap_table(found, task)
    shown = np.argsort(-objects, kind="stable")[:MOST_CLASSES]
    matrices = analysis.confusion_matrices(matched, count, CONFUSION_THRESHOLDS)
    kept = [*shown.tolist(), count]  # the other classes are left out
    costs = analysis.error_costs(matched, count)
    return {
        "classes": found.classes,
        "objects": objects,
        "num_images": len(matched),
        "num_detections": len(found.results),
        "ap": tables,
        "pr": curves,
        "precision": precision,
        "recall": recall,
        "confusion": {
            "classes": [found.classes[i] for i in shown],
            "matrices": matrices[:, kept][:, :, kept],
        },
        "calibration": analysis.calibration(matched),
        "errors": [[name, number, gain] for name, (number, gain) in costs.items()],
    }


def _ap_table(found: _Detections, task: str) -> tuple[dict, list]:
    """Return a table of the AP overall and per class, and the precision-recall curve of each class
    at IoU 0.5."""
    if not found.results:
        return {}, []
    evaluation = evaluate_predictions_on_coco(found.truth, found.results, task)
    stats = summarize_boxes(evaluation)
    percent = [100 * value if value >= 0 else float("nan") for value in stats[:6]]
    rows = {"all classes": dict(zip(_AREAS, percent, strict=True))}
    ids = evaluation.params.catIds
    names = {category: found.classes[found.categories[category]] for category in ids}
    rows |= per_category_metrics(evaluation, names)
    precision = evaluation.eval["precision"][0, :, :, 0, -1]  # (R, K) at IoU 0.5
    curves: list = [None] * len(found.classes)
    for k, category in enumerate(ids):
        if precision[:, k].max(initial=-1) >= 0:
            curves[found.categories[category]] = precision[:, k].clip(min=0)
    return rows, curves


# ---------------------------------------------------------------- images


def _images(found: Sequence[_Detections], count: int) -> list[dict[str, Any]]:
    """Return the worst and the best images of the first run, with thumbnails."""
    first = found[0]
    chosen = _choose(first, count)
    records, size = [], 0
    for image_id in chosen:
        info = first.truth.imgs[image_id]
        try:
            image = read_image(info["file_name"], "BGR")
        except (OSError, ValueError) as error:
            logger.warning("%s is not shown: %s", info["file_name"], error)
            continue
        scale = min(THUMBNAIL / max(image.shape[:2]), 1.0)
        width, height = (max(round(side * scale), 1) for side in image.shape[1::-1])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes()
        record = {
            "name": os.path.basename(info["file_name"]),
            "width": round(image.shape[1] * scale),
            "height": round(image.shape[0] * scale),
            "picture": f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}",
            "objects": _objects(first.matched[image_id], scale),
            "found": [_found(d.matched[image_id], scale) for d in found],
            "found_by": [d.matched[image_id].found_by.tolist() for d in found],
        }
        size += len(json.dumps(record))
        if size > LIMIT_MIB * 2**20:
            logger.warning("only %d images are shown, to limit the size of the page", len(records))
            break
        records.append(record)
    return records


def _badness(image: analysis.MatchedImage) -> float:
    """Return the sum of the scores of false detections, plus 1 for each missed object."""
    false = ~np.isin(image.kinds, (analysis.CORRECT, analysis.IGNORED))
    unfound = (image.found_by < 0) & ~image.objects.gt_crowd
    return float(image.objects.scores[false].sum() + unfound.sum())


def _choose(found: _Detections, count: int) -> list:
    """Choose images: three quarters are the worst ones, with every class among them, and the rest
    are the best ones."""
    order = sorted(found.matched, key=lambda image_id: -_badness(found.matched[image_id]))
    if len(order) <= count:
        return order
    with_objects = [i for i in reversed(order) if len(found.matched[i].objects.gt_classes)]
    best = with_objects[: count // 4]
    chosen = dict.fromkeys(best)
    seen: set[int] = set()
    for image_id in order:  # the worst image of each class
        kinds = set(found.matched[image_id].objects.gt_classes.tolist())
        if not kinds <= seen and len(chosen) < count:
            chosen[image_id] = None
            seen |= kinds
    for image_id in order:
        if len(chosen) >= count:
            break
        chosen[image_id] = None
    return sorted(chosen, key=lambda image_id: -_badness(found.matched[image_id]))


def _objects(image: analysis.MatchedImage, scale: float) -> list[list]:
    """Return rows of x0, y0, x1, y1 (in the thumbnail), class, whether it is a crowd."""
    objects = image.objects
    boxes = (objects.gt_boxes * scale).round(1).tolist()
    flags = objects.gt_crowd.astype(int).tolist()
    rows = zip(boxes, objects.gt_classes.tolist(), flags, strict=True)
    return [[*box, kind, crowd] for box, kind, crowd in rows]


def _found(image: analysis.MatchedImage, scale: float) -> list[list]:
    """Return rows of x0, y0, x1, y1, class, score, kind (a number), object."""
    objects = image.objects
    count = int((objects.scores >= LEAST_SCORE).sum())  # they are sorted by score
    boxes = (objects.boxes[:count] * scale).round(1).tolist()
    columns = (objects.classes, objects.scores.round(3), image.kinds, image.gt_of)
    rows = zip(boxes, *(column[:count].tolist() for column in columns), strict=True)
    return [[*box, *rest] for box, *rest in rows]
