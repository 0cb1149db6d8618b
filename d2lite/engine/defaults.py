"""The standard training run: from a config to a trainer."""

import logging
import os
import sys
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2lite.checkpoint import DetectionCheckpointer, require_loaded
from d2lite.checkpoint.resuming import log_kept_setting
from d2lite.config import CfgNode
from d2lite.data import build_detection_test_loader, build_detection_train_loader
from d2lite.data.mixing import without_mixing
from d2lite.engine import hooks
from d2lite.engine.checks import (
    check_evaluators,
    check_keypoints,
    check_test_classes,
    check_training_settings,
)
from d2lite.engine.classes import check_class_counts, trained_classes
from d2lite.engine.epochs import count_images, with_periods_of_epochs
from d2lite.engine.hooks.validation_loss import build_loss_loader
from d2lite.engine.named_writers import build_named_writers
from d2lite.engine.predictor import DefaultPredictor as DefaultPredictor
from d2lite.engine.run_folder import claim_output_dir, release_output_dir
from d2lite.engine.scaling import auto_scale
from d2lite.engine.setup import (
    create_ddp_model,
    default_argument_parser as default_argument_parser,
    default_setup as default_setup,
    default_writers,
)
from d2lite.engine.train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase
from d2lite.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    DrawDetections,
    evaluator_for,
    inference_on_dataset,
    match_classes,
    print_csv_format,
    verify_results,
)
from d2lite.modeling import build_model
from d2lite.solver import build_lr_scheduler, build_optimizer
from d2lite.utils import comm
from d2lite.utils.env import seed_all_rng, seed_step
from d2lite.utils.events import EventWriter, ProgressBarWriter, has_event_storage
from d2lite.utils.logger import FILE_ONLY, setup_logger
from d2lite.utils.registry import lookup
from d2lite.utils.stop_signals import StopRequested

AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class DefaultTrainer(TrainerBase):
    """Trainer built from a config: model, optimizer, schedule, loader, checkpoints, evaluation.

    Override the `build_*` methods to change its parts::

        trainer = DefaultTrainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()

    A run is a function of config, data and seed: the random numbers of a step depend only on
    (seed, iteration, rank), and the samples of the loader only on (seed, position). So a run that
    is stopped and resumed ends with the same weights as an uninterrupted one.

    Attributes:
        cfg: the config, with class counts and schedule resolved.
        scheduler: the learning rate schedule.
        checkpointer: saves and loads the whole state of the trainer.
        seed: SEED or, if that is negative, a random one that the checkpoint stores.
    """

    # Class attributes, because a subclass whose constructor does not call ours sets only what
    # detectron2's constructor does.
    seed: int | None = None
    _saved_before = 0
    _asked_to_resume = False
    _ema: hooks.ModelEMA | None = None

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        if not logging.getLogger("d2lite").hasHandlers():  # default_setup was not called
            setup_logger()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        check_training_settings(cfg)
        check_class_counts(cfg)
        # Report problems of the test sets now, not at the first evaluation hours later.
        for name in cfg.DATASETS.TEST:
            self.build_test_loader(cfg, name)
        check_test_classes(cfg)
        check_keypoints(cfg)
        self.cfg = cfg
        # Initial weights are equal on all ranks, and equal to detectron2's for this SEED.
        seed_all_rng(self._chosen_seed())

        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        self.cfg = cfg = with_periods_of_epochs(cfg, data_loader)
        model = create_ddp_model(model, broadcast_buffers=False)
        amp = cfg.SOLVER.AMP
        if amp.ENABLED:
            precision = lookup("SOLVER.AMP.DTYPE", amp.DTYPE, AMP_DTYPES)
            self._trainer = AMPTrainer(model, data_loader, optimizer, precision=precision)
        else:
            self._trainer = SimpleTrainer(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(
            model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())
        if any(isinstance(hook, hooks.EvalHook) for hook in self._hooks):
            try:
                check_evaluators(self.cfg, self.build_evaluator)
            except Exception as error:
                # An overridden `test` may not need them.
                if type(self).test.__func__ is DefaultTrainer.test.__func__:
                    raise
                logging.getLogger(__name__).warning("build_evaluator: %s", error)

    def resume_or_load(self, resume: bool = True) -> None:
        """Load the last checkpoint of OUTPUT_DIR if `resume` is set and there is one, and continue
        after its iteration; otherwise load MODEL.WEIGHTS and start at iteration 0.

        Args:
            resume: whether to look for a checkpoint in OUTPUT_DIR.
        """
        self._asked_to_resume = resume
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            # The checkpoint stores the last completed iteration.
            self.start_iter = self.iter + 1

    def build_hooks(self) -> list[HookBase | None]:
        """Return the hooks in the order in which they run. PeriodicWriter is the last.

        Unless keys that only d2lite has are set, the list matches detectron2's entry by entry,
        because subclasses insert at fixed positions and replace `hooks[-1]`.
        """
        cfg = self.cfg
        ema = None
        if cfg.MODEL_EMA.ENABLED:
            ema = hooks.ModelEMA(self.model, cfg.MODEL_EMA.DECAY, cfg.OUTPUT_DIR)
        self._ema = ema
        built: list[HookBase | None] = [
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            # Before checkpoints and evaluation, which use the statistics.
            self._build_precise_bn() if cfg.TEST.PRECISE_BN.ENABLED else None,
        ]
        if ema is not None:
            built.append(ema)
        if cfg.SOLVER.EPOCH_LOSSES:
            num_images = count_images(self.data_loader)
            built.append(hooks.EpochLosses(num_images, cfg.SOLVER.IMS_PER_BATCH))
        if cfg.ACTIVATION_PERIOD > 0:
            built.append(hooks.ActivationStatistics(self.model, cfg.ACTIVATION_PERIOD))
        # Before the checkpointers, because their state belongs in the checkpoint of the iteration.
        built += hooks.build_named_hooks(cfg)
        if comm.get_world_size() > 1:
            periods = [cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD]
            models = [self.model] if ema is None else [self.model, ema.model]
            built += [hooks.SyncBuffers(model, periods) for model in models]
        if comm.is_main_process():
            # Before the evaluation, which may fail: the checkpoint is safe by then.
            built.append(
                hooks.PeriodicCheckpointer(
                    self.checkpointer,
                    cfg.SOLVER.CHECKPOINT_PERIOD,
                    max_to_keep=cfg.SOLVER.CHECKPOINT_KEEP or None,
                )
            )
        if cfg.TEST.LOSS_PERIOD > 0:
            built.append(self._build_validation_loss())
        built.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._test_and_keep_results))
        built += self._build_best()
        if comm.is_main_process():
            bar = [ProgressBarWriter(self.max_iter)] if sys.stderr.isatty() else []
            # Last, so that the values of all other hooks are written.
            writers = [*bar, *self.build_writers(), *build_named_writers(cfg)]
            built.append(hooks.PeriodicWriter(writers, period=20))
            if cfg.PLOT_RESULTS:  # after the writers, whose file it draws
                built.append(hooks.PlotResults(cfg.OUTPUT_DIR))
        return built

    def _build_best(self) -> list[HookBase]:
        """Build the hooks that depend on the best evaluation; only the main process has those that
        write."""
        test, ema = self.cfg.TEST, self._ema
        built: list[HookBase] = []
        best = None
        if test.BEST_METRIC and comm.is_main_process():
            best = hooks.BestCheckpointer(
                test.EVAL_PERIOD,
                self.checkpointer,
                test.BEST_METRIC,
                also_save=ema.save if ema else None,
            )
            built.append(best)
        if test.PATIENCE:
            built.append(hooks.EarlyStop(test.EVAL_PERIOD, test.PATIENCE, test.BEST_METRIC, best))
        return built

    def _build_precise_bn(self) -> hooks.PreciseBN:
        cfg = without_mixing(self.cfg)  # statistics of images as in testing
        cfg.DATALOADER.NUM_WORKERS = 0  # the cores are for the workers of the training loader
        return hooks.PreciseBN(
            cfg.TEST.EVAL_PERIOD,
            self.model,
            self.build_train_loader(cfg),
            cfg.TEST.PRECISE_BN.NUM_ITER,
        )

    def _build_validation_loss(self) -> hooks.ValidationLoss:
        loaders = {
            name: self.build_loss_loader(self.cfg, name, self.model)
            for name in self.cfg.DATASETS.TEST
        }
        return hooks.ValidationLoss(
            self.cfg.TEST.LOSS_PERIOD, self.model, loaders, self._trainer.forward_context
        )

    def _test_and_keep_results(self) -> Mapping:
        model = self.model if self._ema is None else self._ema.model
        self._last_eval_results = self.test(self.cfg, model)
        return self._last_eval_results

    def build_writers(self) -> list[EventWriter]:
        """Return the event writers of the main process, which run every 20 iterations."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> Mapping | None:
        """Train to SOLVER.MAX_ITER, or until a hook calls `stop`.

        Returns:
            On the main process, the results of the last evaluation, if there was one.

        Raises:
            SystemExit: the results differ from TEST.EXPECTED_RESULTS; with status 143 after
                SIGTERM.
            KeyboardInterrupt: Ctrl-C was pressed; the message says how to continue.
            OutputDirInUseError: another run trains in OUTPUT_DIR.
        """
        folder = self.cfg.OUTPUT_DIR
        new_run = self.start_iter == 0 and not self._asked_to_resume
        claim_output_dir(folder, new_run=new_run, weights=self.cfg.MODEL.WEIGHTS)
        self._saved_before = self._last_save()
        try:
            super().train(self.start_iter, self.max_iter)
        except StopRequested:
            raise
        except KeyboardInterrupt:  # during a step: a second Ctrl-C, or raised by other code
            raise KeyboardInterrupt(self._how_to_go_on()) from None
        finally:
            release_output_dir(folder)
        if comm.is_main_process() and hasattr(self, "_last_eval_results"):
            verify_results(self.cfg, self._last_eval_results)
            return self._last_eval_results
        return None

    def before_train(self) -> None:
        """Call `before_train` of the hooks, and forward `after_backward` to them from the inner
        trainer, which runs the steps."""
        if not any(isinstance(hook, _PassOn) for hook in self._trainer._hooks):
            self._trainer.register_hooks([_PassOn(weakref.proxy(self))])
        if isinstance(self._trainer, SimpleTrainer):
            self._trainer.bad_steps.set_up_from(self.cfg)
            # A config of an older program may lack the key.
            self._trainer.accumulate_steps = self.cfg.SOLVER.get("ACCUMULATE_STEPS", 1)
        super().before_train()

    def _last_save(self) -> int:
        """Return the time of the last checkpoint in OUTPUT_DIR, which may be of another run."""
        path = os.path.join(self.cfg.OUTPUT_DIR, "last_checkpoint")
        return os.stat(path).st_mtime_ns if os.path.isfile(path) else 0

    def _how_to_go_on(self) -> str:
        stopped = super()._how_to_go_on()
        if self.start_iter == 0 and self._last_save() == self._saved_before:
            period = self.cfg.SOLVER.CHECKPOINT_PERIOD
            return f"{stopped} No checkpoint was saved yet (SOLVER.CHECKPOINT_PERIOD is {period})."
        last = self.checkpointer.get_checkpoint_file()
        return f"{stopped} The last checkpoint is {last}; the same command with --resume continues."

    def run_step(self) -> None:
        """Run one step; its random numbers depend only on the seed, the iteration and the rank."""
        self._trainer.iter = self.iter
        # Start the loader before seeding: that draws random numbers, in a resumed run at another
        # iteration.
        _ = getattr(self._trainer, "_data_loader_iter", None)
        seed_step(self._chosen_seed(), self.iter + 1, comm.get_rank())
        self._trainer.run_step()

    def _chosen_seed(self) -> int:
        if self.seed is None:
            self.seed = self.cfg.SEED if self.cfg.SEED >= 0 else comm.shared_random_seed()
        return self.seed

    def state_dict(self) -> dict:
        """Return everything that a checkpoint stores besides the weights."""
        return {
            **super().state_dict(),
            "seed": self.seed,
            "_trainer": self._trainer.state_dict(),
        }

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state from `state_dict`, or one of detectron2, which has no seed."""
        super().load_state_dict(state_dict)
        seed = state_dict.get("seed")
        if seed is not None:
            if self.cfg.SEED >= 0 and seed != self.cfg.SEED:
                log_kept_setting("the SEED", seed, self.cfg.SEED)
            self.seed = seed
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Return the model of the config, and log it to log.txt only: it would flood the
        terminal."""
        model = build_model(cfg)
        logging.getLogger(__name__).info("Model:\n%s", model, extra=FILE_ONLY)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        """Return the optimizer of the config."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
        """Return the learning rate schedule of the config."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable:
        """Return an endless loader of training batches."""
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        """Return a loader that yields every image of a test set once."""
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_loss_loader(cls, cfg: CfgNode, dataset_name: str, model: nn.Module) -> Iterable:
        """Return a loader that yields every image of a test set once, with annotations, for
        TEST.LOSS_PERIOD."""
        return build_loss_loader(cfg, dataset_name, model)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Return the evaluator for the dataset's `evaluator_type` in its metadata."""
        return evaluator_for(dataset_name, cfg)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
    ) -> Mapping:
        """Evaluate the model on every dataset of DATASETS.TEST.

        Args:
            evaluators: one for each dataset, in order; by default those of `build_evaluator`. If
                that raises NotImplementedError for a dataset, it is skipped with a warning and its
                results are empty.

        Returns:
            The metrics if there is one dataset, otherwise a dict of metrics by dataset.
        """
        if not has_event_storage():  # during training, layers may still be random
            require_loaded(model)
        names = cfg.DATASETS.TEST
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(names):
            raise ValueError(
                f"{len(evaluators)} evaluators were given for the {len(names)} datasets of "
                f"DATASETS.TEST {tuple(names)}"
            )
        results: OrderedDict = OrderedDict()
        for index, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            try:
                given = None if evaluators is None else evaluators[index]
                evaluator = given or cls.build_evaluator(cfg, name)
            except NotImplementedError as error:
                logging.getLogger(__name__).warning(
                    "%s is not evaluated: %s.build_evaluator has no evaluator for it (%s)",
                    *(name, cls.__name__, error),
                )
                results[name] = {}
                continue
            if cfg.TEST.DRAW_IMAGES > 0:
                drawing = DrawDetections(
                    name,
                    cfg.OUTPUT_DIR,
                    cfg.TEST.DRAW_IMAGES,
                    max_value_16_bit=cfg.INPUT.MAX_VALUE_16_BIT,
                )
                evaluator = DatasetEvaluators([evaluator, drawing])
            evaluator = match_classes(evaluator, trained_classes(model, cfg))
            results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                logging.getLogger(__name__).info("Results on %s:", name)
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Return the config, with its schedule scaled to the number of processes if
        SOLVER.REFERENCE_WORLD_SIZE or SOLVER.AUTO_SCALE_LR is set."""
        return auto_scale(cfg, num_workers)

    @property
    def model(self) -> nn.Module:
        """The model, wrapped in DDP if there are several processes."""
        return self._trainer.model

    @model.setter
    def model(self, value: nn.Module) -> None:
        self._trainer.model = value

    @property
    def data_loader(self) -> Iterable:
        """The training loader."""
        return self._trainer.data_loader

    @data_loader.setter
    def data_loader(self, value: Iterable) -> None:
        self._trainer.data_loader = value

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer."""
        return self._trainer.optimizer

    @optimizer.setter
    def optimizer(self, value: Optimizer) -> None:
        self._trainer.optimizer = value


class _PassOn(HookBase):
    """Hook that forwards `after_backward` of the inner trainer to the hooks of the outer one."""

    def __init__(self, outer: TrainerBase) -> None:
        self._outer = outer

    def after_backward(self) -> None:
        self._outer.after_backward()
