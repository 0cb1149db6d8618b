"""The training program for lazy configs: it trains or evaluates the model of a Python config.

The config has `model`, `dataloader`, `optimizer`, `lr_multiplier` and `train`; the parts under
`configs/common/` are made for it. Overrides are KEY=VALUE.
"""

import logging
from argparse import Namespace
from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf
from torch import nn

from d2lite.checkpoint import DetectionCheckpointer, require_loaded
from d2lite.config import LazyConfig, instantiate
from d2lite.config.files import find_config
from d2lite.engine import hooks
from d2lite.engine.classes import check_model_classes, trained_classes
from d2lite.engine.setup import create_ddp_model, default_setup, default_writers
from d2lite.engine.train_loop import AMPTrainer, HookBase, SimpleTrainer
from d2lite.evaluation import (
    DatasetEvaluators,
    inference_on_dataset,
    match_classes,
    print_csv_format,
)
from d2lite.modeling.meta_arch.origin import ModelOrigin
from d2lite.solver import LRMultiplier
from d2lite.utils import comm
from d2lite.utils.cli import report_user_errors
from d2lite.utils.env import seed_step
from d2lite.utils.events import has_event_storage
from d2lite.utils.logger import FILE_ONLY

logger = logging.getLogger(__name__)


class SeedSteps(HookBase):
    """Hook that seeds each step with the seed, the iteration and the rank.

    So a run that is stopped and resumed ends with the same weights as an uninterrupted one.
    """

    def __init__(self, seed: int) -> None:
        """seed: if negative, a random one is drawn and stored in the checkpoint."""
        self._seed = seed if seed >= 0 else comm.shared_random_seed()

    def before_train(self) -> None:
        # Start the loader before seeding: that draws random numbers, in a resumed run at another
        # iteration.
        _ = self.trainer._data_loader_iter

    def before_step(self) -> None:
        seed_step(self._seed, self.trainer.iter, comm.get_rank())

    def state_dict(self) -> dict:
        return {"seed": self._seed}

    def load_state_dict(self, state: dict) -> None:
        """Continue with the seed of the resumed run."""
        self._seed = state["seed"]


def train_datasets(cfg: DictConfig) -> list[str]:
    """Return the names of the training sets, if the config has them in the usual place."""
    names = OmegaConf.select(cfg, "dataloader.train.dataset.names", default=[])
    return [names] if isinstance(names, str) else list(names)


def evaluate(cfg: DictConfig, model: nn.Module) -> Mapping | None:
    """Return the metrics on the test data, if the config has an evaluator."""
    if "evaluator" not in cfg.dataloader:
        return None
    if not has_event_storage():  # during training, layers may still be random
        require_loaded(model)
    loader = instantiate(cfg.dataloader.test)
    evaluator = match_classes(instantiate(cfg.dataloader.evaluator), trained_classes(model))
    results = inference_on_dataset(model, loader, evaluator)
    print_csv_format(results)
    return results


def check_data(cfg: DictConfig, model: nn.Module) -> None:
    """Compare the model with its data, and check the evaluation hours before it runs.

    The data must have been loaded, so that their class names are known.
    """
    check_model_classes(model)
    if "evaluator" in cfg.dataloader:
        instantiate(cfg.dataloader.test)
        evaluator = instantiate(cfg.dataloader.evaluator)
        # Some are not subclasses of DatasetEvaluator; DatasetEvaluators takes care of those.
        DatasetEvaluators([match_classes(evaluator, trained_classes(model))]).check()


def build_trainer(cfg: DictConfig, model: nn.Module) -> SimpleTrainer:
    """Return the loop over the training data, with its optimizer; `model` is not in DDP yet."""
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    data_loader = instantiate(cfg.dataloader.train)
    model = create_ddp_model(model, **cfg.train.ddp)
    kind = AMPTrainer if cfg.train.amp.enabled else SimpleTrainer
    trainer = kind(model, data_loader, optimizer)
    trainer.accumulate_steps = cfg.train.get("accumulate_steps", 1)
    trainer.bad_steps.set_up(cfg.train.output_dir, **cfg.train.get("bad_steps", {}))
    return trainer


def build_hooks(
    cfg: DictConfig, trainer: SimpleTrainer, checkpointer: DetectionCheckpointer
) -> list[HookBase | None]:
    """Build the hooks, which run in this order."""
    model, train = trainer.model, cfg.train
    schedule = LRMultiplier(trainer.optimizer, instantiate(cfg.lr_multiplier), train.max_iter)
    periods = [train.checkpointer.period, train.eval_period]
    is_main = comm.is_main_process()
    writers = default_writers(train.output_dir, train.max_iter) if is_main else []
    return [
        SeedSteps(train.get("seed", -1)),
        hooks.IterationTimer(),
        hooks.LRScheduler(scheduler=schedule),
        hooks.SyncBuffers(model, periods) if comm.get_world_size() > 1 else None,
        # Before the evaluation, which may fail: the checkpoint is safe by then.
        hooks.PeriodicCheckpointer(checkpointer, **train.checkpointer) if is_main else None,
        hooks.EvalHook(train.eval_period, lambda: evaluate(cfg, model)),
        # Last, to write the values of all other hooks.
        hooks.PeriodicWriter(writers, period=train.log_period) if is_main else None,
    ]


def train(cfg: DictConfig, model: nn.Module, resume: bool) -> None:
    """Train to `train.max_iter`, from `train.init_checkpoint` or the last checkpoint."""
    trainer = build_trainer(cfg, model)
    check_data(cfg, model)
    checkpointer = DetectionCheckpointer(trainer.model, cfg.train.output_dir, trainer=trainer)
    trainer.register_hooks(build_hooks(cfg, trainer, checkpointer))
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    # The checkpoint stores the last completed iteration.
    start = trainer.iter + 1 if resume and checkpointer.has_checkpoint() else 0
    trainer.train(start, cfg.train.max_iter)


def load_config(args: Namespace) -> DictConfig:
    """Return the config file with the overrides.

    Raises:
        ValueError: there is none, or it is a config of `train_net.py`.
    """
    if not args.config_file:
        raise ValueError("give a Python config: --config-file CONFIG.py")
    cfg = LazyConfig.load(find_config(args.config_file), trust=getattr(args, "trust_config", False))
    missing = [key for key in ("model", "dataloader", "optimizer", "train") if key not in cfg]
    if missing:
        advice = "this is a config of tools/train_net.py" if "MODEL" in cfg else "add it"
        raise ValueError(f"{args.config_file} has no {missing[0]!r}; {advice}")
    return LazyConfig.apply_overrides(cfg, args.opts)


def main(args: Namespace) -> Mapping | None:
    """Run one process of the program."""
    with report_user_errors():
        cfg = load_config(args)
        default_setup(cfg, args)
        model = instantiate(cfg.model).to(cfg.train.device)
        logger.info("Model:\n%s", model, extra=FILE_ONLY)
        # Its checkpoints contain the config and the class names.
        model.built_from = ModelOrigin(cfg, train_datasets(cfg))
        if args.eval_only:
            checkpointer = DetectionCheckpointer(model, cfg.train.output_dir)
            checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=args.resume)
            return evaluate(cfg, model)
        return train(cfg, model, args.resume)
