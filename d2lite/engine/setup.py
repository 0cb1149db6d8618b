"""Setup of training programs: arguments, logs, seeds, output folder, DDP."""

import argparse
import os
import sys
import warnings
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default as ddp_comm_hooks
from torch.nn.parallel import DistributedDataParallel

from d2lite.config import CfgNode, LazyConfig, get_cfg
from d2lite.config.files import find_config
from d2lite.config.keys import first_key
from d2lite.engine.from_checkpoint import about_weights, config_from_checkpoint, weights_to_load
from d2lite.engine.run_folder import claim_output_dir
from d2lite.projects import add_projects
from d2lite.utils import comm
from d2lite.utils.arguments import add_overrides, add_run_arguments
from d2lite.utils.collect_env import collect_env_info
from d2lite.utils.env import seed_all_rng
from d2lite.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from d2lite.utils.file_io import PathManager
from d2lite.utils.logger import setup_logger
from d2lite.utils.writing import atomic_write, naming_write_errors


def create_ddp_model(
    model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any
) -> nn.Module:
    """Wrap the model in DistributedDataParallel if there is more than one process.

    Args:
        fp16_compression: exchange gradients in float16.
        kwargs: for DistributedDataParallel.
    """
    if comm.get_world_size() == 1:
        return model
    if next(model.parameters()).is_cuda:
        kwargs.setdefault("device_ids", [comm.get_local_rank()])
    with warnings.catch_warnings():
        # Newer versions of torch have renamed it; older ones don't know the new name.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        ddp = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        ddp.register_comm_hook(state=None, hook=ddp_comm_hooks.fp16_compress_hook)
    return ddp


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser of the arguments that all training programs share.

    Args:
        epilog: text below the help; by default some examples.
    """
    program = os.path.basename(sys.argv[0])
    parser = argparse.ArgumentParser(
        epilog=epilog
        or f"""examples:
  one process:           {program} --config-file cfg.yaml
  change settings:       {program} --config-file cfg.yaml SOLVER.BASE_LR 0.001 OUTPUT_DIR runs/a
  own data, no Python:   {program} --config-file cfg.yaml \\
                             DATASETS.TRAIN "('coco:train.json?images=train',)"
  resume after a stop:   {program} --config-file cfg.yaml --resume
  evaluate:              {program} --eval-only MODEL.WEIGHTS model_final.pth
  eight GPUs:            {program} --config-file cfg.yaml --num-gpus 8
  under torchrun:        torchrun --nproc-per-node 8 {program} --config-file cfg.yaml
  two machines:          {program} --config-file cfg.yaml --num-gpus 8 --num-machines 2 \\
                             --machine-rank 0 --dist-url tcp://HOST:PORT   (then --machine-rank 1)
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_arguments(parser)
    add_overrides(parser)
    return parser


def config_from_args(args: argparse.Namespace) -> CfgNode:
    """Return the config of a program: defaults, then the settings of its projects, then the config
    file, then the overrides on the command line.

    If there is no config file and the program does not train, the config is the one in the
    checkpoint that MODEL.WEIGHTS among the overrides names.

    Args:
        args: has `config_file` and `opts`, as of `default_argument_parser`, and where the program
            trains also `eval_only` and `resume`.
    """
    setup_logger(distributed_rank=comm.get_rank())  # for warnings; its file comes later
    if not args.config_file and getattr(args, "eval_only", True):
        # MODEL.WEIGHTS of the overrides, or the last checkpoint of their OUTPUT_DIR.
        given = dict(zip(args.opts[::2], args.opts[1::2], strict=False))
        asked = get_cfg()
        asked.OUTPUT_DIR = given.get("OUTPUT_DIR", "")
        asked.MODEL.WEIGHTS = given.get("MODEL.WEIGHTS", "")
        resume = getattr(args, "resume", False) and bool(asked.OUTPUT_DIR)
        weights = weights_to_load(asked, resume)
        if weights and about_weights(weights):
            return config_from_checkpoint(weights, args.opts)
    cfg = get_cfg()
    config_file = find_config(args.config_file)
    add_projects(cfg, config_file, args.opts)
    if config_file:
        cfg.merge_from_file(config_file)
    cfg.merge_from_list(args.opts)
    return cfg


def default_setup(cfg: CfgNode | DictConfig, args: argparse.Namespace) -> None:
    """Prepare a run: make OUTPUT_DIR, open the logs, save the config there, set the seeds.

    Args:
        cfg: of either kind. Lazy configs have these settings under `train`.
        args: as of `default_argument_parser`; logged. If they have `resume` and do not ask for it,
            nor for an evaluation, an earlier run in OUTPUT_DIR is moved into `old_runs` in there.

    Raises:
        OSError: OUTPUT_DIR cannot be written to.
        OutputDirInUseError: another run trains there.
    """
    output_dir = first_key(cfg, "OUTPUT_DIR", "output_dir", "train.output_dir")
    if comm.is_main_process() and output_dir:
        _make_writable(output_dir)
        if hasattr(args, "resume") and not getattr(args, "eval_only", False):
            weights = first_key(cfg, "MODEL.WEIGHTS", "train.init_checkpoint", default="")
            claim_output_dir(output_dir, new_run=not args.resume, weights=weights)
    rank = comm.get_rank()
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    logger = setup_logger(output_dir, distributed_rank=rank)
    logger.info("Rank of this process: %d of %d", rank, comm.get_world_size())
    logger.info("Environment:\n%s", collect_env_info())
    logger.info("Arguments: %s", args)
    if getattr(args, "config_file", ""):
        logger.info("Config file: %s", args.config_file)
    if comm.is_main_process() and output_dir:
        path = os.path.join(output_dir, "config.yaml")
        if isinstance(cfg, CfgNode):
            with atomic_write(path, "w") as file:
                file.write(cfg.dump())
        elif OmegaConf.is_config(cfg):
            with naming_write_errors(path):
                LazyConfig.save(cfg, path)
        logger.info("All settings are in %s", path)

    seed = first_key(cfg, "SEED", "train.seed", default=-1)
    seed_all_rng(None if seed < 0 else seed + rank)
    # Searching for the fastest algorithm pays off in training only: test images differ in size.
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = first_key(
            cfg, "CUDNN_BENCHMARK", "train.cudnn_benchmark", default=False
        )
    precision = first_key(cfg, "FLOAT32_PRECISION", "train.float32_precision", default="")
    if precision:
        logger.info("float32 matrix products in %s precision", precision)
        torch.set_float32_matmul_precision(precision)


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Return writers to the terminal, to OUTPUT_DIR/metrics.json and to TensorBoard's files there.

    Args:
        max_iter: the last iteration, for the estimated time of arrival.
    """
    PathManager.mkdirs(output_dir)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
        TensorboardXWriter(output_dir),
    ]


def _make_writable(folder: str) -> None:
    """Create the folder and write to it, so that problems show now and not after hours of work."""
    probe = os.path.join(folder, ".writable")
    try:
        PathManager.mkdirs(folder)
        with PathManager.open(probe, "wb") as file:
            file.write(b"")
        PathManager.rm(probe)
    except OSError as error:
        raise OSError(
            f"OUTPUT_DIR {folder!r} cannot be written to ({error.strerror or error}); choose "
            "another with OUTPUT_DIR PATH"
        ) from error
