"""The engine: training loop, hooks, the standard trainer and predictor, and launching."""

from d2lite.engine import hooks
from d2lite.engine.bad_steps import BadSteps
from d2lite.engine.checks import (
    check_evaluation_settings,
    check_evaluators,
    check_keypoints,
    check_test_classes,
    check_training_settings,
)
from d2lite.engine.classes import (
    check_class_counts,
    check_model_classes,
    dataset_classes,
    trained_classes,
)
from d2lite.engine.defaults import (
    DefaultPredictor,
    DefaultTrainer,
    create_ddp_model,
    default_argument_parser,
    default_setup,
    default_writers,
)
from d2lite.engine.from_checkpoint import about_weights, config_from_checkpoint, weights_to_load
from d2lite.engine.hooks import (
    BestCheckpointer,
    CallbackHook,
    EarlyStop,
    EvalHook,
    IterationTimer,
    LRScheduler,
    ModelEMA,
    PeriodicCheckpointer,
    PeriodicWriter,
    PreciseBN,
    SyncBuffers,
    TorchMemoryStats,
    TorchProfiler,
)
from d2lite.engine.launch import DEFAULT_TIMEOUT, launch
from d2lite.engine.program import TrainerWithTTA, launch_program, run_program, train_or_evaluate
from d2lite.engine.setup import config_from_args
from d2lite.engine.train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase

__all__ = [
    "DEFAULT_TIMEOUT",
    "AMPTrainer",
    "BadSteps",
    "BestCheckpointer",
    "CallbackHook",
    "DefaultPredictor",
    "DefaultTrainer",
    "EarlyStop",
    "EvalHook",
    "HookBase",
    "IterationTimer",
    "LRScheduler",
    "ModelEMA",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
    "SimpleTrainer",
    "SyncBuffers",
    "TorchMemoryStats",
    "TorchProfiler",
    "TrainerBase",
    "TrainerWithTTA",
    "about_weights",
    "check_class_counts",
    "check_evaluation_settings",
    "check_evaluators",
    "check_keypoints",
    "check_model_classes",
    "check_test_classes",
    "check_training_settings",
    "config_from_args",
    "config_from_checkpoint",
    "create_ddp_model",
    "dataset_classes",
    "default_argument_parser",
    "default_setup",
    "default_writers",
    "hooks",
    "launch",
    "launch_program",
    "run_program",
    "train_or_evaluate",
    "trained_classes",
    "weights_to_load",
]
