"""Two processes report what one would."""

import json
import os

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from d2lite.evaluation import COCOEvaluator, SemSegEvaluator
from d2lite.structures import Boxes, Instances


def _predictions(record):
    """Boxes that are right for all but every third object."""
    import torch

    boxes = [a["bbox"] for a in record["annotations"]]
    found = Instances((record["height"], record["width"]))
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    tensor[::3] += 4
    found.pred_boxes = Boxes(tensor)
    found.scores = torch.linspace(0.9, 0.3, len(boxes))
    classes = [a["category_id"] for a in record["annotations"]]
    found.pred_classes = torch.tensor(classes, dtype=torch.int64)
    return found


def _run(rank: int, world_size: int, folder: str) -> dict | None:
    import torch

    from d2lite.data import DatasetCatalog

    boxes, labels = COCOEvaluator("shapes_val"), SemSegEvaluator("shapes_sem_seg_val")
    for evaluator, name in ((boxes, "shapes_val"), (labels, "shapes_sem_seg_val")):
        evaluator.reset()
        records = DatasetCatalog.get(name)[:8]
        per_process = len(records) // world_size
        for record in records[rank * per_process : (rank + 1) * per_process]:
            scores = torch.zeros(5, record["height"], record["width"])
            scores[1 + record["image_id"] % 3] = 1
            output = {"sem_seg": scores}
            if name == "shapes_val":
                output = {"instances": _predictions(record)}
            evaluator.process([record], [output])
    results = {**(boxes.evaluate() or {}), **(labels.evaluate() or {})}
    with open(os.path.join(folder, f"{world_size}_{rank}.json"), "w", encoding="utf-8") as f:
        json.dump(results, f)


def _worker(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/meet", world_size=2, rank=rank)
    from d2lite.utils import comm

    comm.create_local_process_group(2)
    _run(rank, 2, folder)
    comm.leave_process_groups()


def test_two_processes_give_the_figures_of_one(tmp_path):
    folder = str(tmp_path)
    _run(0, 1, folder)
    mp.spawn(_worker, (folder,), nprocs=2)
    names = ("1_0", "2_0", "2_1")
    alone, main, other = (json.loads((tmp_path / f"{n}.json").read_text()) for n in names)
    assert other == {}
    assert alone["bbox"]["AP"] > 1 and alone["sem_seg"]["mIoU"] > 1
    for task in alone:
        assert main[task] == pytest.approx(alone[task], nan_ok=True, rel=1e-12)
