"""Panoptic quality on COCO, or on any dataset with panoptic ground truth."""

import io
import itertools
import json
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from d2lite.data.catalog import MetadataCatalog
from d2lite.data.datasets.coco_panoptic import load_coco_panoptic_json
from d2lite.data.ground_truth import load_ground_truth
from d2lite.data.image_schemes import find_image_reader
from d2lite.data.missing_files import missing_files
from d2lite.evaluation.evaluator import DatasetEvaluator, Settings
from d2lite.evaluation.panoptic_quality import PanopticQuality
from d2lite.evaluation.result_files import going_on_without
from d2lite.evaluation.tables import grid
from d2lite.utils import comm
from d2lite.utils.file_io import PathManager
from d2lite.utils.image_files import image_errors, open_image
from d2lite.utils.segment_colors import id_to_rgb, rgb_to_id

GROUPS = {"": "All", "_th": "Things", "_st": "Stuff"}


class _TrueImage(NamedTuple):
    image_id: Any
    png: str  # file, or `scheme://` name, of the colored segment ids
    segments: list[dict]  # with the dataset's category ids


class COCOPanopticEvaluator(DatasetEvaluator):
    """PQ, SQ and RQ over all categories, things and stuff.

    The ground truth is the `pan_seg_file_name` and `segments_info` of the dataset's dicts. If these
    have instances and semantic labels instead, it is read from `panoptic_json` and `panoptic_root`
    of the metadata.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None):
        """
        Args:
            dataset_name: its metadata has `thing_dataset_id_to_contiguous_id` and
                `stuff_dataset_id_to_contiguous_id`.
            output_dir: for `predictions.json` and the folder `panoptic_predictions` of PNG files,
                in COCO's format of results.
        """
        self._logger = logging.getLogger(__name__)
        self._dataset_name = dataset_name
        self._metadata = MetadataCatalog.get(dataset_name)
        self._thing_contiguous_id_to_dataset_id = _inverted(
            self._metadata.thing_dataset_id_to_contiguous_id
        )
        self._stuff_contiguous_id_to_dataset_id = _inverted(
            self._metadata.stuff_dataset_id_to_contiguous_id
        )
        self._output_dir = output_dir
        self.reset()

    @classmethod
    def from_settings(cls, dataset_name: str, settings: Settings) -> "COCOPanopticEvaluator":
        """See `DatasetEvaluator.from_settings`."""
        return cls(dataset_name, output_dir=settings.output_dir)

    def reset(self) -> None:
        self._predictions: list[dict] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Process the predictions of one batch.

        Args:
            inputs: dicts with "image_id" and "file_name".
            outputs: dicts with "panoptic_seg": (H, W) segment ids, and the segments' dicts or
                None, which means that ids are category * `label_divisor` + a number, -1 for none.
        """
        for inp, output in zip(inputs, outputs, strict=True):
            ids, segments = output["panoptic_seg"]
            ids = ids.cpu().numpy().astype(np.int64)
            if segments is None:
                divisor = self._metadata.label_divisor
                things = set(self._thing_contiguous_id_to_dataset_id)
                segments = [
                    {"id": i + 1, "category_id": i // divisor, "isthing": i // divisor in things}
                    for i in np.unique(ids).tolist()
                    if i != -1
                ]
                ids = ids + 1  # in official files, 0 means pixels without a label
            content = io.BytesIO()
            Image.fromarray(id_to_rgb(ids)).save(content, format="PNG")
            stem = os.path.splitext(os.path.basename(inp["file_name"]))[0]
            self._predictions.append(
                {
                    "image_id": inp["image_id"],
                    "file_name": f"{stem}.png",
                    "png_string": content.getvalue(),
                    "segments_info": [self._convert_category_id(s) for s in segments],
                }
            )

    def _convert_category_id(self, segment_info: dict) -> dict:
        """Return a new dict of a segment with the category id of the dataset.

        A model that already uses these ids omits "isthing".
        """
        segment = dict(segment_info)
        isthing = segment.pop("isthing", None)
        if isthing is not None:
            ids = (
                self._thing_contiguous_id_to_dataset_id
                if isthing
                else self._stuff_contiguous_id_to_dataset_id
            )
            segment["category_id"] = ids[segment["category_id"]]
        return segment

    def evaluate(self) -> dict | None:
        """Return {"panoptic_seg": {"PQ", "SQ", "RQ", "PQ_th", ..., "RQ_st"}} in percent."""
        comm.synchronize()
        gathered = comm.gather(self._predictions)
        if not comm.is_main_process():
            return None
        predictions = {p["image_id"]: p for p in itertools.chain.from_iterable(gathered)}
        categories, images = self._categories(), self._true_images()
        if self._output_dir:
            with going_on_without(self._output_dir):
                self._save(list(predictions.values()), categories)
        quality = PanopticQuality(c["id"] for c in categories)
        for image in images:
            if image.image_id not in predictions:
                raise ValueError(
                    f"dataset {self._dataset_name!r}: no prediction for image {image.image_id!r}"
                )
            pred = predictions[image.image_id]
            pred_ids = rgb_to_id(np.asarray(Image.open(io.BytesIO(pred["png_string"]))))
            true_ids = _read_ids(image.png)
            quality.add(true_ids, image.segments, pred_ids, pred["segments_info"], image.png)
        return OrderedDict(panoptic_seg=self._report(quality, categories))

    def check(self, tasks: Collection[str] = ("bbox",)) -> set[str] | None:
        """Compare images and segments with the dataset; see `DatasetEvaluator.check`.

        The segment ids of the first image are read; for the others, only the files must exist.
        """
        images = self._true_images()
        where = f"dataset {self._dataset_name!r}"
        counts = Counter(image.image_id for image in images)
        records = load_ground_truth(self._dataset_name, sizes=False)
        unknown = counts.keys() - {record["image_id"] for record in records}
        if unknown or max(counts.values(), default=0) > 1:
            image_id, count = counts.most_common(1)[0]
            problem = (
                f"image {min(unknown, key=str)!r}, which is not among its images"
                if unknown
                else f"image {image_id!r} {count} times"
            )
            raise ValueError(f"{where}: its panoptic annotations have {problem}")
        if missing := missing_files(image.png for image in images):
            raise FileNotFoundError(
                f"{where}: {len(missing)} of the {len(images)} images of segment ids do not exist, "
                f"the first is {missing[0]}"
            )
        for image in images[:1]:
            found = set(np.unique(_read_ids(image.png)).tolist())
            if found and not found & {segment["id"] for segment in image.segments}:
                raise ValueError(
                    f"{image.png}: has the segment ids {sorted(found)[:6]} (red + 256 green + "
                    f"65536 blue), of which none is in the list of its segments"
                )
        return {f"panoptic_seg/{m}{suffix}" for m in ("PQ", "SQ", "RQ") for suffix in GROUPS}

    def _categories(self) -> list[dict]:
        """Return things and stuff, each with "id", "name" and "isthing"."""
        categories = [
            {"id": ids[index], "name": names[index], "isthing": isthing}
            for ids, names, isthing in (
                (self._thing_contiguous_id_to_dataset_id, self._metadata.thing_classes, 1),
                (self._stuff_contiguous_id_to_dataset_id, self._metadata.stuff_classes, 0),
            )
            for index in ids
        ]
        kept: dict[int, dict] = {}  # a category listed as both thing and stuff is a thing
        for category in categories:
            kept.setdefault(category["id"], category)
        return list(kept.values())

    def _true_images(self) -> list[_TrueImage]:
        records = load_ground_truth(self._dataset_name, sizes=False)
        if not all("segments_info" in record for record in records):
            # Dicts for training Panoptic FPN have instances and semantic labels instead.
            meta = self._metadata
            if meta.get("panoptic_json") is None:
                raise ValueError(
                    f"dataset {self._dataset_name!r}: its dicts have no segments_info, and its "
                    "metadata no panoptic_json to read them from"
                )
            records = load_coco_panoptic_json(
                meta.panoptic_json, meta.get("image_root") or "", meta.panoptic_root, meta.as_dict()
            )
        return [
            _TrueImage(
                record["image_id"],
                record["pan_seg_file_name"],
                [self._convert_category_id(s) for s in record["segments_info"]],
            )
            for record in records
        ]

    def _save(self, predictions: list[dict], categories: list[dict]) -> None:
        folder = os.path.join(self._output_dir, "panoptic_predictions")
        PathManager.mkdirs(folder)
        for prediction in predictions:
            with PathManager.open(os.path.join(folder, prediction["file_name"]), "wb") as f:
                f.write(prediction["png_string"])
        annotations = [{k: v for k, v in p.items() if k != "png_string"} for p in predictions]
        path = os.path.join(self._output_dir, "predictions.json")
        self._logger.info("Saving panoptic predictions to %s and %s", path, folder)
        with PathManager.open(path, "w", encoding="utf-8") as f:
            f.write(json.dumps({"annotations": annotations, "categories": categories}))

    def _report(self, quality: PanopticQuality, categories: list[dict]) -> dict[str, float]:
        members = {
            "": [c["id"] for c in categories],
            "_th": [c["id"] for c in categories if c["isthing"]],
            "_st": [c["id"] for c in categories if not c["isthing"]],
        }
        averages = {suffix: quality.average(ids) for suffix, ids in members.items()}
        rows = [
            [name, *(f"{averages[s][k] * 100:.3f}" for k in ("pq", "sq", "rq")), averages[s]["n"]]
            for s, name in GROUPS.items()
        ]
        table = grid(["", "PQ", "SQ", "RQ", "#categories"], [[str(c) for c in r] for r in rows])
        self._logger.info("Panoptic Evaluation Results:\n%s", table)
        return {
            f"{metric}{suffix}": 100 * averages[suffix][metric.lower()]
            for suffix in GROUPS
            for metric in ("PQ", "SQ", "RQ")
        }


def _inverted(mapping: dict[int, int]) -> dict[int, int]:
    return {value: key for key, value in mapping.items()}


def _read_ids(path: str) -> np.ndarray:
    """Return the (H, W) segment ids of a colored PNG file, or of an image drawn on demand."""
    reader = find_image_reader(path)
    if reader is not None:
        return rgb_to_id(np.asarray(reader(path)))
    with PathManager.open(path, "rb") as f, image_errors(path):
        return rgb_to_id(np.asarray(open_image(f, path).convert("RGB")))
