"""A model of a few hundred numbers, trained by the program that trains detectors.

It has what makes exactness hard: BatchNorm statistics, dropout, momentum, a moving average. The
images, their augmentation, the loader with its workers, the hooks, the writers and the checkpoints
are those of every training.
"""

import functools
import json
import multiprocessing
import os
import threading
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.config import CfgNode
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.shapes import load_shapes
from d2lite.engine import (
    DefaultTrainer,
    HookBase,
    default_argument_parser,
    launch,
    train_or_evaluate,
)
from d2lite.engine.hooks import HOOK_REGISTRY
from d2lite.evaluation import DatasetEvaluator
from d2lite.evaluation.result_files import save_results
from d2lite.modeling import META_ARCH_REGISTRY
from d2lite.utils import comm
from d2lite.utils.cli import report_user_errors
from d2lite.utils.events import get_event_storage
from tests.reliability.places import Places

MAX_ITER = 14
PERIOD = 3  # of evaluations
# The score of each evaluation in turn, before what the weights add: up, down, and up again.
SCORES = [10.0, 30.0, 20.0, 40.0, 35.0]

BAD_STEP = "TOY_BAD_STEP"  # environment variable: the iteration whose loss is not finite

SETTINGS = {
    "MODEL.META_ARCHITECTURE": "ToyOfTheKills",
    "MODEL.DEVICE": "cpu",
    "INPUT.MIN_SIZE_TRAIN": (24, 32),
    "INPUT.MIN_SIZE_TEST": 32,
    "DATASETS.TRAIN": ("toy_train",),
    "DATASETS.TEST": ("toy_val",),
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.WARMUP_ITERS": 4,
    "SOLVER.MAX_ITER": MAX_ITER,
    "SOLVER.STEPS": (9,),
    "SOLVER.CHECKPOINT_PERIOD": 3,
    "TEST.EVAL_PERIOD": PERIOD,
    "TEST.BEST_METRIC": "toy/score",
    "SEED": 3,
}


@META_ARCH_REGISTRY.register()
class ToyOfTheKills(nn.Module):
    """Learns how many objects there are in an image."""

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(4 * 4 * 4, 2)

    def forward(self, batch: list[dict]) -> dict[str, Tensor] | list[dict]:
        images = [F.adaptive_avg_pool2d(x["image"].float() / 255, (17, 17)) for x in batch]
        features = F.relu(self.norm(self.conv(torch.stack(images))))
        features = F.adaptive_avg_pool2d(features, (4, 4)).flatten(1)
        predicted = self.fc(self.dropout(features))  # (N, 2)
        if not self.training:
            return [{"predicted": x} for x in predicted]
        counts = torch.tensor([float(len(x["instances"])) for x in batch])
        extents = torch.stack(
            [x["instances"].gt_boxes.area().sum().sqrt() / x["image"].shape[-1] for x in batch]
        )
        bad = os.environ.get(BAD_STEP) == str(get_event_storage().iter)
        return {
            "loss_count": F.smooth_l1_loss(predicted[:, 0], counts) * (float("nan") if bad else 1),
            "loss_extent": F.smooth_l1_loss(predicted[:, 1], extents),
        }


class ToyEvaluator(DatasetEvaluator):
    """A score that goes up and down, and tells in its last digits which weights were evaluated."""

    def __init__(self, places: Places, results: str):
        self._places, self._results = places, results

    def reset(self) -> None:
        self._places.reach("evaluator.reset")
        self._sums: list[float] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        self._places.reach("evaluator.process")
        self._sums += [float(x["predicted"].double().sum()) for x in outputs]

    def evaluate(self) -> dict:
        self._places.reach("evaluator.evaluate")
        gathered = comm.gather(self._sums)
        if not comm.is_main_process():
            return {}
        mean = sum(map(sum, gathered)) / sum(map(len, gathered))
        turn = get_event_storage().iter // PERIOD
        wave = SCORES[turn % len(SCORES)]
        save_results(self._results, json.dumps(self._sums))
        return {"toy": {"score": wave + mean / (1 + abs(mean)), "mean": mean}}


class Measure(HookBase):
    """Writes down what this process and its children use, as a line of json."""

    def __init__(self, path: str):
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115
        self._last = time.perf_counter()

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % 20 != 0:
            return
        now = time.perf_counter()
        children = multiprocessing.active_children()
        processes = (os.getpid(), *(child.pid for child in children))
        names = tuple(f"torch_{process}_" for process in processes)
        used = {
            "step ms": (now - self._last) / 20 * 1e3,
            "memory MB": self._resident_mb(os.getpid()),
            "workers' memory MB": sum(self._resident_mb(child.pid) for child in children),
            "open files": len(os.listdir("/proc/self/fd")),
            "shared memory files": sum(name.startswith(names) for name in os.listdir("/dev/shm")),
            "processes": len(processes),
            "threads": threading.active_count(),
        }
        print(json.dumps(used), file=self._file, flush=True)
        self._last = time.perf_counter()

    @staticmethod
    def _resident_mb(process: int) -> float:
        with open(f"/proc/{process}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@HOOK_REGISTRY.register()
class CountImages(HookBase):
    """Counts the images of the training, in a state of its own."""

    def __init__(self, cfg: CfgNode):
        self._batch_size = cfg.SOLVER.IMS_PER_BATCH
        self._count = 0

    def after_step(self) -> None:
        self._count += self._batch_size
        self.trainer.storage.put_scalar("images", self._count, smoothing_hint=False)

    def state_dict(self) -> dict:
        return {"count": self._count}

    def load_state_dict(self, state_dict: dict) -> None:
        self._count = state_dict["count"]


class ToyTrainer(DefaultTrainer):
    """DefaultTrainer, with places between its hooks."""

    places = Places()
    measured_in = ""  # file

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> ToyEvaluator:
        results = os.path.join(cfg.OUTPUT_DIR, "inference", "toy_results.json")
        return ToyEvaluator(cls.places, results)

    def build_hooks(self) -> list[HookBase | None]:
        built = super().build_hooks()
        for hook in built:
            for moment in ("before_train", "before_step", "after_step", "after_train"):
                self._watch(hook, moment)
        return [*built, Measure(self.measured_in)] if self.measured_in else built

    def run_step(self) -> None:
        self.places.reach("before a step")
        super().run_step()
        self.places.reach("after a step")

    def _watch(self, hook: HookBase | None, moment: str) -> None:
        # Most hooks do nothing at most moments.
        if hook is None or getattr(type(hook), moment) is getattr(HookBase, moment):
            return
        call, name = getattr(hook, moment), f"{type(hook).__name__}.{moment}"

        def reach_and_call() -> None:
            self.places.reach(name)
            call()

        setattr(hook, moment, reach_and_call)


@functools.cache
def register_data() -> None:
    """24 images to train on, and 5 to evaluate."""
    for name, length in (("toy_train", 24), ("toy_val", 5)):
        dicts = load_shapes("train")[:length]
        DatasetCatalog.register(name, lambda dicts=dicts: dicts)
        MetadataCatalog.get(name).set(
            thing_classes=MetadataCatalog.get("shapes_train").thing_classes
        )


def train(output_dir: str, *, resume: bool, settings: dict) -> None:
    """Train like `tools/train_net.py` with a config of these settings."""
    register_data()
    settings = {**SETTINGS, **settings, "OUTPUT_DIR": output_dir}
    overrides = [str(part) for pair in settings.items() for part in pair]
    arguments = [*(["--resume"] if resume else []), *overrides]
    train_or_evaluate(default_argument_parser().parse_args(arguments), ToyTrainer)


def start(output_dir: str, *, resume: bool, settings: dict) -> None:
    """The same, in the processes that torchrun or `launch` have prepared, if they have."""
    with report_user_errors():
        launch(functools.partial(train, output_dir, resume=resume, settings=settings), 1)
