"""Checks that the tests of several projects share, and the models and data for them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from d2lite.config import CfgNode, get_cfg
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.engine import DefaultTrainer
from d2lite.projects import add_projects
from d2lite.structures import Boxes, Instances


def project_config(path: Path, *opts) -> CfgNode:
    """Return the config of a project's file, on the CPU and without weights, with overrides."""
    cfg = get_cfg()
    opts = ("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *opts)
    add_projects(cfg, str(path), opts)
    cfg.merge_from_file(str(path))
    cfg.merge_from_list(list(opts))
    return cfg


def truth(boxes: list, classes: list, size: tuple[int, int] = (64, 80)) -> Instances:
    """Return the ground truth of an image."""
    return Instances(
        size,
        gt_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        gt_classes=torch.tensor(classes, dtype=torch.int64),
    )


def batch(*targets: Instances) -> list[dict]:
    """Return random images with these ground truths; the same ones in every call."""
    generator = torch.Generator().manual_seed(3)
    return [
        {
            "image": torch.randint(
                0, 256, (3, *x.image_size), dtype=torch.uint8, generator=generator
            ),
            "instances": x,
        }
        for x in targets
    ]


@contextlib.contextmanager
def few_images(dataset: str, count: int = 4) -> Iterator[str]:
    """Register a dataset of the first images of another one, and give its name."""
    name = f"{dataset}_first_{count}"
    DatasetCatalog.register(name, lambda: DatasetCatalog.get(dataset)[:count])
    metadata = MetadataCatalog.get(dataset).as_dict()
    MetadataCatalog.get(name).set(**{k: v for k, v in metadata.items() if k != "name"})
    try:
        yield name
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def check_resumes_exactly(folder: Path, make_cfg: Callable[[Path], CfgNode]) -> Mapping:
    """Check that a training that draws an image and stops halfway ends with the weights of one
    that does not stop.

    Args:
        make_cfg: called with OUTPUT_DIR; saves a checkpoint after half of its iterations.

    Returns:
        The metrics of the whole training.
    """
    whole = DefaultTrainer(make_cfg(folder / "whole"))
    results = whole.train()
    assert len(list((folder / "whole/visualizations").iterdir())) == 1
    cfg = make_cfg(folder / "parts")
    stopped = DefaultTrainer(cfg)
    stopped.max_iter = cfg.SOLVER.MAX_ITER // 2
    stopped.train()
    resumed = DefaultTrainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == stopped.max_iter
    resumed.train()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    return results


def train_on(
    model: nn.Module, images: list[dict], optimizer: torch.optim.Optimizer, steps: int
) -> list[float]:
    """Train on the same images, with the same random draws in each step; return the total losses.

    The gradients of the last step are left in the model.
    """
    totals = []
    for _ in range(steps):
        torch.manual_seed(0)
        total = sum(model(images).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    return totals


def check_every_weight_learns(model: nn.Module, part: nn.Module | None = None) -> None:
    """Check that all parameters have gradients, and that those of weights are not all zero.

    Args:
        part: whose weights are looked at; default: the whole model.
    """
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    weights = [(n, p) for n, p in (part or model).named_parameters() if n.endswith("weight")]
    assert not [name for name, p in weights if not p.grad.any()]


def check_detections(found: Instances, size: tuple[int, int], most: int) -> None:
    """Check that there are detections, inside an image of this size and by falling score."""
    height, width = size
    assert found.image_size == size and 1 <= len(found) <= most
    boxes = found.pred_boxes.tensor
    assert (boxes >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
    assert (found.scores[:-1] >= found.scores[1:]).all()
