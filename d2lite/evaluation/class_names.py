"""Match the classes of a model with the classes of a dataset by name."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from d2lite.data.catalog import Metadata
from d2lite.evaluation.evaluator import DatasetEvaluator, DatasetEvaluators
from d2lite.structures import Instances
from d2lite.utils.logger import log_first_n
from d2lite.utils.registry import did_you_mean

logger = logging.getLogger(__name__)

NO_CLASS = -1
KINDS = ("thing_classes", "stuff_classes")


def distinct_names(names: Sequence[str]) -> list[str]:
    """Return the names with duplicates numbered: the second "cat" becomes "cat (2)"."""
    counts: Counter = Counter()
    distinct = []
    for name in names:
        counts[name] += 1
        distinct.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return distinct


def match_names(
    model_names: Sequence[str], dataset_names: Sequence[str], dataset: str = "the dataset"
) -> list[int]:
    """Return, for each class of a model, the index of the dataset class with its name, or -1.

    Case is ignored unless two classes of a list differ only by case. If no name matches but both
    have the same number of classes, they are matched by order with a warning. Classes that only
    one of them has give a warning as well.

    Args:
        model_names: by class index of the model. A name may occur twice if it does in both.
        dataset_names: by class index of the dataset.
        dataset: its name, for messages.
    Raises:
        ValueError: no name matches and the numbers of classes differ; or a name occurs more often
            in one than in the other, which is ambiguous.
    """
    if list(model_names) == list(dataset_names):
        return list(range(len(model_names)))
    dataset_names = _in_spelling_of(model_names, dataset_names)
    of_model, of_dataset = Counter(model_names), Counter(dataset_names)
    both = f"the model's are {_listed(model_names)}; those of {dataset} {_listed(dataset_names)}"
    for name in of_model.keys() & of_dataset.keys():
        if of_model[name] != of_dataset[name]:
            raise ValueError(
                f"classes are matched by name, but {name!r} occurs {of_model[name]} times among "
                f"the classes of the model and {of_dataset[name]} times in {dataset}; rename one"
            )
    if not of_model.keys() & of_dataset.keys():
        if len(model_names) != len(dataset_names):
            raise ValueError(f"no class of {dataset} is known to the model: {both}")
        _warn(
            f"the model knows no class name of {dataset}, so classes are matched by order: {both}"
        )
        return list(range(len(model_names)))
    index = {name: i for i, name in enumerate(distinct_names(dataset_names))}
    matched = [index.get(name, NO_CLASS) for name in distinct_names(model_names)]
    unseen = [name for name in of_dataset if name not in of_model]
    if unseen:
        _warn(
            f"the model has no class {unseen[0]!r}{_others(unseen)} of {dataset}, so it finds no "
            f"such object.{did_you_mean(unseen[0], [n for n in of_model if n not in of_dataset])} "
            f"{both[0].upper()}{both[1:]}"
        )
    extra = [name for name in of_model if name not in of_dataset]
    if extra:
        _warn(
            f"{dataset} has no class {extra[0]!r}{_others(extra)} of the model: such detections "
            "are left out of the evaluation"
        )
    return matched


def _in_spelling_of(model_names: Sequence[str], dataset_names: Sequence[str]) -> Sequence[str]:
    """Return a dataset's names in the model's spelling if they differ only in case or whitespace.

    Names that would become equal are kept: 'a' and 'A' in one list are different classes.
    """

    def plain(name: str) -> str:
        return str(name).strip().casefold()

    if any(len(set(map(plain, n))) < len(set(n)) for n in (model_names, dataset_names)):
        return dataset_names
    spelling = {plain(name): name for name in model_names}
    return [spelling.get(plain(name), name) for name in dataset_names]


def _warn(message: str) -> None:
    log_first_n(logging.WARNING, message, key="message", name=__name__)  # only once


def _listed(names: Sequence[str], limit: int = 6) -> str:
    return ", ".join(map(str, names[:limit])) + (", ..." if len(names) > limit else "")


def _others(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} others)" if len(names) > 1 else ""


def unknown_class(index: int, metadata: Metadata) -> ValueError:
    """Return the error for a prediction of a class that the dataset does not have."""
    names = metadata.thing_classes
    return ValueError(
        f"a prediction has class {index}, but dataset {metadata.name!r} has classes 0 to "
        f"{len(names) - 1} ({_listed(names)}); the model has others. Give the dataset the model's "
        "classes (thing_classes=[...] in its metadata when it is registered, or 'classes=' in its "
        "URI), or the model as many as the dataset (NUM_CLASSES)"
    )


class MatchClasses(DatasetEvaluator):
    """Wrapper of an evaluator for a model with other classes than the dataset, or another order.

    Detections and segments of classes that the dataset lacks are dropped; so are those of an index
    without a name, if the model was built with more classes than it was trained on.
    """

    def __init__(self, evaluator: DatasetEvaluator, model_classes: Mapping[str, Sequence[str]]):
        """
        Args:
            evaluator: has the `_metadata` of its dataset.
            model_classes: names by "thing_classes" and "stuff_classes", as far as known.
        Raises:
            ValueError: the names cannot be matched.
        """
        self._evaluator = evaluator
        metadata = evaluator._metadata
        self._names = {k: list(model_classes[k]) for k in KINDS if model_classes.get(k)}
        self._size = {k: len(metadata.get(k) or ()) for k in KINDS}
        self._table = {
            kind: match_names(names, metadata.get(kind), f"dataset {metadata.name!r}")
            for kind, names in self._names.items()
            if metadata.get(kind)
        }

    def reset(self) -> None:
        self._evaluator.reset()

    def check(self, tasks: Collection[str] = ("bbox",)) -> set[str] | None:
        return self._evaluator.check(tasks)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        translated = []
        for output in outputs:
            changed = output
            if isinstance(output, Mapping):
                changed = dict(output)
                if "thing_classes" in self._table and isinstance(
                    output.get("instances"), Instances
                ):
                    changed["instances"] = self._instances(output["instances"])
                if "stuff_classes" in self._table and isinstance(output.get("sem_seg"), Tensor):
                    changed["sem_seg"] = self._sem_seg(output["sem_seg"])
                panoptic = output.get("panoptic_seg")
                if isinstance(panoptic, tuple) and panoptic[1] is not None:
                    changed["panoptic_seg"] = self._panoptic(*panoptic)
            translated.append(changed)
        self._evaluator.process(inputs, translated)

    def evaluate(self) -> dict | None:
        """Evaluate, and report an AP of nan for classes that the dataset lacks."""
        results = self._evaluator.evaluate()
        table = self._table.get("thing_classes", ())
        unknown = [i for i, index in enumerate(table) if index == NO_CLASS]
        for metrics in (results or {}).values():
            if isinstance(metrics, dict) and any(key.startswith("AP-") for key in metrics):
                for index in unknown:
                    metrics.setdefault(f"AP-{self._names['thing_classes'][index]}", float("nan"))
        return results

    def _instances(self, instances: Instances) -> Instances:
        if not instances.has("pred_classes"):
            return instances
        classes = [
            _look_up(self._table["thing_classes"], c) for c in instances.pred_classes.tolist()
        ]
        new = torch.as_tensor(classes, dtype=torch.int64, device=instances.pred_classes.device)
        kept = new != NO_CLASS
        num_named = len(self._table["thing_classes"])
        if max(instances.pred_classes.tolist(), default=0) >= num_named:
            _warn(
                f"the model predicts classes beyond the {num_named} that it was trained on: such "
                "detections are left out of the evaluation (see NUM_CLASSES)"
            )
        if not kept.all():
            instances, new = instances[kept], new[kept]
        return Instances(instances.image_size, **{**instances.get_fields(), "pred_classes": new})

    def _sem_seg(self, scores: Tensor) -> Tensor:
        """Convert (K, H, W) scores of the model's classes to the dataset's classes."""
        table = self._table["stuff_classes"]
        if len(scores) == self._size["stuff_classes"] and table == list(range(len(scores))):
            return scores
        moved = scores.new_full((self._size["stuff_classes"], *scores.shape[1:]), float("-inf"))
        for index, of_model in zip(table, scores, strict=False):
            if index != NO_CLASS:
                moved[index] = of_model
        return moved

    def _panoptic(self, ids: Tensor, segments: list[dict]) -> tuple[Tensor, list[dict]]:
        kept, gone = [], []
        for segment in segments:
            kind = "thing_classes" if segment.get("isthing") else "stuff_classes"
            if kind not in self._table or "isthing" not in segment:
                kept.append(segment)
                continue
            index = _look_up(self._table[kind], segment["category_id"])
            if index == NO_CLASS:
                gone.append(segment["id"])
            else:
                kept.append({**segment, "category_id": index})
        if gone:
            ids = ids.masked_fill(torch.isin(ids, torch.as_tensor(gone, device=ids.device)), 0)
        return ids, kept


def _look_up(table: list[int], index: int) -> int:
    return table[index] if 0 <= index < len(table) else NO_CLASS


def match_classes(
    evaluator: DatasetEvaluator | Sequence[DatasetEvaluator],
    model_classes: Mapping[str, Sequence[str]],
) -> DatasetEvaluator:
    """Make one or several evaluators accept the predictions of a model with these classes.

    Args:
        evaluator: returned unchanged if it has no `_metadata`, which has the dataset's classes.
        model_classes: names by "thing_classes" and "stuff_classes", as far as known.
    Raises:
        ValueError: see `match_names`.
    """
    if isinstance(evaluator, (list, tuple)):
        evaluator = DatasetEvaluators(list(evaluator))
    if isinstance(evaluator, DatasetEvaluators):
        return DatasetEvaluators([match_classes(e, model_classes) for e in evaluator._evaluators])
    metadata = getattr(evaluator, "_metadata", None)
    if not isinstance(metadata, Metadata) or not any(model_classes.get(kind) for kind in KINDS):
        return evaluator
    return MatchClasses(evaluator, model_classes)
