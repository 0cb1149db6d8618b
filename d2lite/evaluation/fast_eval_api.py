"""COCOeval with its two slow steps compiled, by the package faster_coco_eval."""

import contextlib
import copy
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# pycocotools adds np.spacing(1) to the denominator of precision. This only matters if precision
# is 1 / 1, at a category's first true positive; the compiled code returns exactly 1 there.
PRECISION_OF_ONE = 1 / (1 + np.spacing(1))


class COCOeval_opt(COCOeval):
    """pycocotools' COCOeval with matching and accumulation in C++.

    `eval["precision"]`, `eval["recall"]`, `eval["scores"]` and `stats` equal those of pycocotools
    bit for bit; `evalImgs` stays empty, because building it is slow.
    """

    def evaluate(self) -> None:
        """Match detections with ground truth in all images."""
        from faster_coco_eval import COCOeval_faster

        p = self.params
        p.imgIds = list(np.unique(p.imgIds))
        if p.useCats:
            p.catIds = list(np.unique(p.catIds))
        p.maxDets = sorted(p.maxDets)
        # Built without datasets, so that it accepts pycocotools' class.
        compiled = COCOeval_faster(iouType=p.iouType, separate_eval=True)
        compiled.cocoGt, compiled.cocoDt = self.cocoGt, self.cocoDt
        names = ["imgIds", "catIds", "iouThrs", "recThrs", "maxDets", "areaRng", "areaRngLbl"]
        names += ["useCats"] + ["kpt_oks_sigmas"] * (p.iouType == "keypoints")
        for name in names:
            setattr(compiled.params, name, copy.copy(getattr(p, name)))
        if not all(isinstance(image_id, (int, float, np.number)) for image_id in p.imgIds):
            # The compiled code needs numeric ids; VOC's, for instance, are names.
            numbers = {image_id: number for number, image_id in enumerate(p.imgIds)}
            compiled.cocoGt = _with_numbers(self.cocoGt, numbers)
            compiled.cocoDt = _with_numbers(self.cocoDt, numbers)
            compiled.params.imgIds = list(numbers.values())
        compiled.evaluate()
        self._compiled = compiled
        self._paramsEval = copy.deepcopy(p)

    def accumulate(self) -> None:
        """Turn the matches into precision, recall and scores, in `self.eval`."""
        if not hasattr(self, "_compiled"):
            raise RuntimeError("call evaluate() before COCOeval_opt.accumulate()")
        if not self.params.useCats:
            self.params.catIds = [-1]  # as in pycocotools
        self.eval = dict(self._accumulate_at(self.params.recThrs), params=self.params)
        self._round_as_pycocotools()

    def _accumulate_at(self, recall_thresholds: np.ndarray) -> dict:
        self._compiled._paramsEval.recThrs = np.asarray(recall_thresholds)
        self._compiled.accumulate()
        return self._compiled.eval

    def _round_as_pycocotools(self) -> None:
        """Replace a precision of 1 that is due to a single detection by pycocotools' value.

        It is due to a single one if precision is below 1 at a recall between those of one and two
        true positives, so the matches are accumulated once more at such recalls.
        """
        p = self.params
        categories = {c: k for k, c in enumerate(self._paramsEval.catIds)}
        ground_truth = self._compiled.cocoGt
        anns = ground_truth.loadAnns(ground_truth.getAnnIds(imgIds=self._compiled.params.imgIds))
        anns = [a for a in anns if a["category_id"] in categories and not a["ignore"]]
        # Objects that count, by category and area range.
        counts = np.zeros((len(categories) if p.useCats else 1, len(p.areaRng)), np.int64)  # (K, A)
        if anns:
            area = np.array([a["area"] for a in anns], float)[:, None]
            low, high = np.array(p.areaRng, float).T
            index = [categories[a["category_id"]] if p.useCats else 0 for a in anns]
            np.add.at(counts, index, (area >= low) & (area <= high))
        distinct = np.unique(counts[counts > 0])[::-1]
        if not len(distinct):
            return
        between = self._accumulate_at(1.5 / distinct)["precision"]  # (T, D, K, A, M)
        row = np.searchsorted(-distinct, -counts).clip(max=len(distinct) - 1)  # (K, A)
        at_second = np.take_along_axis(between, row[None, None, :, :, None], axis=1)
        precision = self.eval["precision"]  # (T, R, K, A, M)
        first_recall = 1 / np.maximum(counts, 1)
        of_first = p.recThrs[:, None, None] <= first_recall  # (R, K, A)
        single = (precision == 1) & (at_second < 1) & of_first[None, ..., None]
        precision[single] = PRECISION_OF_ONE


def _with_numbers(coco: COCO, numbers: dict) -> COCO:
    """Return a copy of a dataset whose image ids are looked up in `numbers`; others are left
    out."""
    copied = COCO()
    copied.dataset = {
        **coco.dataset,
        "images": [
            {**image, "id": numbers[image["id"]]}
            for image in coco.dataset["images"]
            if image["id"] in numbers
        ],
        "annotations": [
            {**annotation, "image_id": numbers[annotation["image_id"]]}
            for annotation in coco.dataset["annotations"]
            if annotation["image_id"] in numbers
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        copied.createIndex()
    return copied
