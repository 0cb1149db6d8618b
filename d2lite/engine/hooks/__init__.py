"""Hooks: everything that happens around the training steps, one file per purpose."""

from d2lite.engine.hooks.activations import ActivationStatistics
from d2lite.engine.hooks.by_name import HOOK_REGISTRY, build_named_hooks
from d2lite.engine.hooks.callbacks import CallbackHook
from d2lite.engine.hooks.checkpoints import BestCheckpointer, PeriodicCheckpointer
from d2lite.engine.hooks.early_stop import EarlyStop
from d2lite.engine.hooks.ema import ModelEMA
from d2lite.engine.hooks.epoch_losses import EpochLosses
from d2lite.engine.hooks.evaluation import EvalHook
from d2lite.engine.hooks.lr_schedule import LRScheduler
from d2lite.engine.hooks.plot_results import PlotResults
from d2lite.engine.hooks.profiling import TorchMemoryStats, TorchProfiler
from d2lite.engine.hooks.statistics import PreciseBN, SyncBuffers
from d2lite.engine.hooks.timing import IterationTimer
from d2lite.engine.hooks.validation_loss import ValidationLoss
from d2lite.engine.hooks.writing import PeriodicWriter
from d2lite.utils.periods import is_due

__all__ = [
    "HOOK_REGISTRY",
    "ActivationStatistics",
    "BestCheckpointer",
    "CallbackHook",
    "EarlyStop",
    "EpochLosses",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "ModelEMA",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PlotResults",
    "PreciseBN",
    "SyncBuffers",
    "TorchMemoryStats",
    "TorchProfiler",
    "ValidationLoss",
    "build_named_hooks",
    "is_due",
]
