#!/usr/bin/env python3
"""Measure data, training and evaluation speed, alone or compared with torchvision and Pillow.

    python tools/benchmark.py --task data  --config-file configs/quick_start.yaml
    python tools/benchmark.py --task train --config-file configs/quick_start.yaml
    python tools/benchmark.py --task eval  --config-file configs/quick_start.yaml
    python tools/benchmark.py --task torchvision --threads 2
    python tools/benchmark.py --task pillow

`torchvision` runs Faster R-CNN R50-FPN of both packages in turn on the same work: one image of
320 x 426, 1000 proposals, the same stages frozen, random weights. `pillow` maps a 640 x 480
photograph to a short side of 800 in both ways. Values are medians; ratios below 1 are in favor of
d2lite.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from d2lite import model_zoo
from d2lite.config import CfgNode
from d2lite.data import (
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
    transforms as T,
)
from d2lite.engine import SimpleTrainer, check_class_counts, config_from_args
from d2lite.modeling import build_model
from d2lite.solver import build_optimizer
from d2lite.structures import Boxes, Instances
from d2lite.utils.cli import report_user_errors
from d2lite.utils.events import EventStorage

HEIGHT, WIDTH, PROPOSALS, NUM_CLASSES = 320, 426, 1000, 80


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--task", required=True, choices=["data", "train", "eval", "torchvision", "pillow"]
    )
    parser.add_argument("--config-file", default="", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=20, help="measured rounds (default 20)")
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads; 0 leaves torch's choice"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the results to this file")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="overrides KEY VALUE, at the end")
    return parser.parse_args()


def median_seconds(function: Callable[[], object], rounds: int, warmup: int = 2) -> float:
    """Return the median time of a call in seconds."""
    return medians_in_turn({"": function}, rounds, warmup)[""]


def medians_in_turn(
    functions: dict[str, Callable[[], object]], rounds: int, warmup: int = 2, block: int = 1
) -> dict[str, float]:
    """Return median times of functions called in turn, so that changes in speed affect all.

    Args:
        warmup: number of rounds that are not counted.
        block: number of calls of one function before the next one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(warmup + rounds):
        for name, function in functions.items():
            times = [_seconds_of(function) for _ in range(block)]
            if number >= warmup:
                seconds[name] += times
    return {name: statistics.median(values) for name, values in seconds.items()}


def _seconds_of(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_megabytes(function: Callable[..., object], *args: object) -> float:
    """Return the peak memory of `function(*args)` in its own process, relative to its start."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_peak, args=(sender, function, args))
    process.start()
    peak = receiver.recv()
    process.join()
    return peak


def _measure_peak(sender, function: Callable[..., object], args: tuple) -> None:
    start = _peak_kilobytes()
    function(*args)
    sender.send((_peak_kilobytes() - start) / 1024)


def _peak_kilobytes() -> int:
    """Return the peak memory of this process.

    With Linux's getrusage, a new process starts with the peak of its parent; with the status file,
    it does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(
            x for x in status.read_text(encoding="utf-8").splitlines() if x.startswith("VmHWM:")
        )
        return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# ---------------------------------------------------------------- alone


def benchmark_data(cfg: CfgNode, rounds: int) -> dict[str, float]:
    """Measure images per second of the training loader, after its workers have started."""
    batches = iter(build_detection_train_loader(cfg))
    next(batches)
    start = time.perf_counter()
    for _ in range(rounds):
        next(batches)
    images = rounds * cfg.SOLVER.IMS_PER_BATCH
    return {"images per second": images / (time.perf_counter() - start)}


def benchmark_train(cfg: CfgNode, rounds: int) -> dict[str, float]:
    """Measure seconds per step, on batches that are already in memory."""
    model = build_model(cfg)
    batches = iter(build_detection_train_loader(cfg))
    ready = [next(batches) for _ in range(5)]

    def forever():
        while True:
            yield from ready

    trainer = SimpleTrainer(model, forever(), build_optimizer(cfg, model))
    with EventStorage():
        seconds = median_seconds(trainer.run_step, rounds)
    return {"seconds per step": seconds, "images per second": cfg.SOLVER.IMS_PER_BATCH / seconds}


def benchmark_eval(cfg: CfgNode, rounds: int) -> dict[str, float]:
    """Measure seconds of inference per image, on data that is already in memory."""
    model = build_model(cfg).eval()
    loader = iter(build_detection_test_loader(cfg, cfg.DATASETS.TEST[0]))
    ready = [next(loader) for _ in range(10)]
    turn = iter(range(1 << 30))
    with torch.inference_mode():
        seconds = median_seconds(lambda: model(ready[next(turn) % len(ready)]), rounds)
    return {"seconds per batch": seconds, "images per second": len(ready[0]) / seconds}


# ---------------------------------------------------------------- compared with torchvision


def our_model() -> torch.nn.Module:
    """Return Faster R-CNN R50-FPN with the same number of proposals and frozen stages."""
    cfg = model_zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml")
    for key in ("PRE_NMS_TOPK_TRAIN", "PRE_NMS_TOPK_TEST"):
        cfg.MODEL.RPN[key] = PROPOSALS
    for key in ("POST_NMS_TOPK_TRAIN", "POST_NMS_TOPK_TEST"):
        cfg.MODEL.RPN[key] = PROPOSALS
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    torch.manual_seed(0)
    return build_model(cfg)


def their_model() -> torch.nn.Module:
    """Return torchvision's fasterrcnn_resnet50_fpn, with frozen BatchNorm as with pretrained
    weights; the image already has the right size, so nothing is resized."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=torchvision.ops.FrozenBatchNorm2d,
        trainable_layers=3,
    )
    tops = {
        f"rpn_{when}_nms_top_n_{phase}": PROPOSALS
        for when in ("pre", "post")
        for phase in ("train", "test")
    }
    return FasterRCNN(backbone, NUM_CLASSES + 1, min_size=HEIGHT, max_size=WIDTH, **tops)


def the_image() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a noise image (3, H, W) uint8, ten boxes in it, and their classes."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
    size = torch.tensor([WIDTH, HEIGHT])
    corners = torch.rand(10, 2, 2, generator=generator) * size
    boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1) + 4], dim=1).clamp(
        max=torch.cat([size, size])
    )
    return image, boxes, torch.randint(0, NUM_CLASSES, (10,), generator=generator)


def our_work(training: bool) -> Callable[[], object]:
    """Return a training step or an inference of d2lite."""
    image, boxes, classes = the_image()
    instances = Instances((HEIGHT, WIDTH), gt_boxes=Boxes(boxes), gt_classes=classes)
    model = our_model().train(training)
    batch = [{"image": image, "instances": instances, "height": HEIGHT, "width": WIDTH}]
    return _step(model, lambda: model(batch)) if training else _inference(lambda: model(batch))


def their_work(training: bool) -> Callable[[], object]:
    """Return the same work with torchvision."""
    image, boxes, classes = the_image()
    model = their_model().train(training)
    targets = [{"boxes": boxes, "labels": classes + 1}]
    if training:
        # torchvision takes floats in 0..1: the conversion is part of the work, as it is here.
        return _step(model, lambda: model([image.float().div_(255)], targets))
    return _inference(lambda: model([image.float().div_(255)]))


def _step(model: torch.nn.Module, losses: Callable[[], dict]) -> Callable[[], None]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.0, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        sum(losses().values()).backward()
        optimizer.step()

    return step


def _inference(forward: Callable[[], object]) -> Callable[[], object]:
    def infer() -> object:
        with torch.inference_mode():
            return forward()

    return infer


def _repeat(work: Callable[[bool], Callable[[], object]], training: bool, threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)
    function = work(training)
    for _ in range(3):
        with EventStorage():
            function()


def benchmark_torchvision(rounds: int, threads: int) -> dict[str, float]:
    """Return times and peak memory of both, for inference and a training step, and their ratios."""
    results: dict[str, float] = {}
    for phase, training in (("inference", False), ("training step", True)):
        works = {"d2lite": our_work(training), "torchvision": their_work(training)}
        with EventStorage():
            seconds = medians_in_turn(works, rounds)
        peaks = {
            "d2lite": peak_megabytes(_repeat, our_work, training, threads),
            "torchvision": peak_megabytes(_repeat, their_work, training, threads),
        }
        for unit, values in (("seconds", seconds), ("peak MB", peaks)):
            for name, value in values.items():
                results[f"{phase}, {unit}, {name}"] = value
            results[f"{phase}, {unit}, ratio"] = values["d2lite"] / values["torchvision"]
    return results


# ---------------------------------------------------------------- compared with Pillow


def benchmark_pillow(rounds: int) -> dict[str, float]:
    """Measure the mapping of a photograph of 640 x 480 to a short side of 800, in both ways."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "photograph.jpg")
        cv2.imwrite(path, _photograph(), [cv2.IMWRITE_JPEG_QUALITY, 90])
        sample = {"file_name": path, "height": 480, "width": 640, "image_id": 0}
        resize = T.ResizeShortestEdge([800, 800], 1333)
        mapper = DatasetMapper(is_train=False, augmentations=[resize], image_format="BGR")
        works = {"d2lite": lambda: mapper(sample), "pillow": lambda: _map_with_pillow(path)}
        # As in a loader, which maps one image after another, with warm caches.
        seconds = medians_in_turn(works, rounds, block=20)
    results = {f"mapping, milliseconds, {name}": 1000 * value for name, value in seconds.items()}
    return {**results, "mapping, ratio": seconds["d2lite"] / seconds["pillow"]}


def _photograph() -> np.ndarray:
    """Return an image with smooth parts and edges, like a photograph."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)


def _map_with_pillow(path: str) -> torch.Tensor:
    """Decode, resize, and convert to BGR with channels first, as detectron2 does for testing."""
    with Image.open(path) as image:
        resized = image.convert("RGB").resize((1067, 800), Image.Resampling.BILINEAR)
    array = np.asarray(resized)[:, :, ::-1]
    return torch.as_tensor(np.ascontiguousarray(array.transpose(2, 0, 1)))


# ---------------------------------------------------------------- the program


def main(args: argparse.Namespace) -> None:
    """Run one task and print its results."""
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.task == "torchvision":
        results = benchmark_torchvision(args.rounds, args.threads)
    elif args.task == "pillow":
        results = benchmark_pillow(args.rounds)
    else:
        cfg = config_from_args(args)
        check_class_counts(cfg)
        tasks = {"data": benchmark_data, "train": benchmark_train, "eval": benchmark_eval}
        results = tasks[args.task](cfg, args.rounds)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {args.rounds} rounds")
    for name, value in results.items():
        print(f"{name:40s} {value:10.4g}")
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    with report_user_errors():
        main(parse_arguments())
