"""A detector and a schedule that are small enough to train in a test."""

import os
import subprocess
import sys
from pathlib import Path

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


def run(arguments: list[str], **extra: str) -> subprocess.CompletedProcess:
    """Run a program to its end."""
    return subprocess.run(
        arguments, env=environment(**extra), capture_output=True, text=True, check=False
    )
