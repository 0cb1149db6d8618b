"""A detector and a schedule that are small enough to train in a test."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from d2lite.config import CfgNode, get_cfg

ROOT = Path(__file__).parents[2]
TRAIN_NET = str(ROOT / "tools/train_net.py")

SETTINGS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16], [32], [64], [96]],
    "MODEL.RPN.IN_FEATURES": ["p3", "p4", "p5", "p6"],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 100,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 50,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["p3", "p4", "p5"],
    "MODEL.ROI_HEADS.NUM_CLASSES": -1,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 4,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MIN_SIZE_TEST": 64,
    "DATASETS.TRAIN": ("shapes_train",),
    "DATASETS.TEST": (),
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 0.002,
    "SOLVER.WARMUP_ITERS": 4,
    "SOLVER.MAX_ITER": 12,
    "SOLVER.STEPS": (9,),
    "SOLVER.CHECKPOINT_PERIOD": 4,
    "SEED": 3,
}


def overrides(**changes) -> list:
    """KEY VALUE list of the tiny settings; `SOLVER__MAX_ITER=4` changes SOLVER.MAX_ITER."""
    settings = {**SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
    return [part for pair in settings.items() for part in pair]


def tiny_cfg(output_dir, **changes) -> CfgNode:
    """The config of a tiny run in `output_dir`."""
    cfg = get_cfg()
    cfg.merge_from_list(overrides(OUTPUT_DIR=str(output_dir), **changes))
    return cfg


def command(output_dir, *flags: str, tool: str = TRAIN_NET, **changes) -> list[str]:
    """The command line of the same run."""
    settings = [str(part) for part in overrides(OUTPUT_DIR=str(output_dir), **changes)]
    return [sys.executable, tool, *flags, *settings]


def environment(**extra: str) -> dict[str, str]:
    """One thread, no terminal, no GPU."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **extra}


@contextlib.contextmanager
def started(
    arguments: list[str], output: Path, errors: Path, *, until: str, seconds: float
) -> Iterator[subprocess.Popen]:
    """Start a program in a session of its own; wait until `until` is in its output. Kill the
    session at the end of the block."""
    # Both may be the same file.
    with output.open("a", encoding="utf-8") as out, errors.open("a", encoding="utf-8") as err:
        process = subprocess.Popen(
            arguments,
            env=environment(),
            stdout=out,
            stderr=err,
            start_new_session=True,
            # Programs in the background of a script are started with Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        deadline = time.monotonic() + seconds
        while until not in output.read_text(encoding="utf-8"):
            assert process.poll() is None, errors.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, f"no {until!r}"
            time.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Weight(nn.Module):
    """A model of one parameter: its squared distance from the data is the loss."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return {"loss": (self.weight - x) ** 2}


def run(arguments: list[str], **extra: str) -> subprocess.CompletedProcess:
    """Run a program to its end."""
    return subprocess.run(
        arguments, env=environment(**extra), capture_output=True, text=True, check=False
    )
