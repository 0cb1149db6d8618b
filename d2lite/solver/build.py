"""Build an optimizer and its learning rate schedule from a config."""

import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2lite.config import CfgNode
from d2lite.solver.lr_scheduler import LRMultiplier, WarmupParamScheduler
from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import lookup

# Projects import it from here.
logger = logging.getLogger(__name__)

# Without the "LN" of feature maps: as in detectron2, its weights decay like any others.
NORM_TYPES = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


class GradientClipType(Enum):
    """Values of SOLVER.CLIP_GRADIENTS.CLIP_TYPE; both clip parameters one by one."""

    VALUE = "value"  # clamp every element to [-CLIP_VALUE, CLIP_VALUE]
    NORM = "norm"  # scale down to a NORM_TYPE norm of at most CLIP_VALUE


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Return the optimizer that `cfg.SOLVER` describes, over the trainable parameters of `model`.

    Raises:
        ValueError: for an unknown SOLVER.OPTIMIZER_NAME or SOLVER.CLIP_GRADIENTS.CLIP_TYPE, or a
            SOLVER.BACKBONE_LR_FACTOR for a model without a backbone.
    """
    solver = cfg.SOLVER
    builder = lookup("SOLVER.OPTIMIZER_NAME", solver.OPTIMIZER_NAME, OPTIMIZERS)
    other_name = solver.get("OPTIMIZER", solver.OPTIMIZER_NAME)
    if str(other_name).lower() != solver.OPTIMIZER_NAME.lower():
        logger.warning(
            "SOLVER.OPTIMIZER is %r, but build_optimizer does not use this key of your program: "
            "it builds %s, from SOLVER.OPTIMIZER_NAME",
            other_name,
            solver.OPTIMIZER_NAME,
        )
    # The weight decay is left to the optimizer's default: given here, it would merge groups that
    # detectron2 keeps apart, and the optimizer states of its checkpoints would not fit.
    params = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        lr_factor_func=_lr_factor(solver, model),
    )
    if not params:
        raise ValueError(
            "The model has no trainable parameters; check MODEL.FREEZE and MODEL.BACKBONE.FREEZE_AT"
        )
    # One kernel for a whole step takes half the time for SGD on a CPU and a tenth for AdamW;
    # results differ only by rounding and are the same in each run. With a GradScaler, fused
    # optimizers unscale inside the step, so gradients would be clipped before they are unscaled.
    fusible = not solver.AMP.ENABLED and all(
        type(p) is nn.Parameter and p.device.type in ("cpu", "cuda") and p.is_floating_point()
        for group in params
        for p in group["params"]
    )
    fused = True if fusible else None  # None: torch chooses
    return maybe_add_gradient_clipping(cfg, builder(solver, params, fused))


def _lr_factor(solver: CfgNode, model: nn.Module) -> Callable[[str], float]:
    """Return a function from the full name of a parameter to the factor on its learning rate."""
    if solver.BACKBONE_LR_FACTOR != 1.0 and not hasattr(model, "backbone"):
        raise ValueError(
            f"SOLVER.BACKBONE_LR_FACTOR is {solver.BACKBONE_LR_FACTOR}, but a "
            f"{type(model).__name__} has no `backbone`; set it to 1.0"
        )

    def factor(name: str) -> float:
        # Not by `bias_lr_factor`, which would replace the backbone's factor for its biases.
        of_bias = solver.BIAS_LR_FACTOR if name.rpartition(".")[2] == "bias" else 1.0
        return of_bias * (solver.BACKBONE_LR_FACTOR if name.startswith("backbone.") else 1.0)

    return factor


def _build_sgd(solver: CfgNode, params: list[dict], fused: bool | None) -> SGD:
    return SGD(
        params,
        fused=fused,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
    )


def _build_adamw(solver: CfgNode, params: list[dict], fused: bool | None) -> AdamW:
    return AdamW(
        params,
        fused=fused,
        lr=solver.BASE_LR,
        betas=tuple(solver.BETAS),
        weight_decay=solver.WEIGHT_DECAY,
    )


OPTIMIZERS: dict[str, Callable[[CfgNode, list[dict], bool | None], Optimizer]] = {
    "SGD": _build_sgd,
    "AdamW": _build_adamw,
}


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Return parameter groups with the usual settings for detectors.

    Frozen parameters are left out, and shared ones appear once. If several rules apply, the last
    one wins, in this order: norm, `lr_factor_func`, bias, `overrides`.

    Args:
        model: the parameters to group.
        base_lr: rate of every group; None leaves it to the optimizer's default.
        weight_decay: decay of every group; None leaves it to the optimizer's default.
        weight_decay_norm: decay of normalization layers; None for no separate rule.
        bias_lr_factor: the rate of parameters called "bias" is this times `base_lr`.
        weight_decay_bias: decay of parameters called "bias"; None for no separate rule.
        lr_factor_func: maps the full name of a parameter to a factor on its rate.
        overrides: maps the last part of a parameter's name to settings of its group.

    Returns:
        Groups such as `{"params": [...], "lr": 0.1}`, one for each set of settings.

    Raises:
        ValueError: a factor is given without `base_lr`, or "bias" is overridden twice.
    """
    defaults = _given(lr=base_lr, weight_decay=weight_decay)
    overrides = dict(overrides or {})
    bias_settings = _given(weight_decay=weight_decay_bias)
    if bias_lr_factor is not None and bias_lr_factor != 1.0:
        bias_settings["lr"] = _require_base_lr(base_lr, "bias_lr_factor") * bias_lr_factor
    if bias_settings:
        if "bias" in overrides:
            raise ValueError("'bias' is in overrides and is also set by another argument; use one")
        overrides["bias"] = bias_settings
    if lr_factor_func is not None:
        _require_base_lr(base_lr, "lr_factor_func")

    groups = []
    for module, name, param in _trainable_parameters(model):
        settings = dict(defaults)
        if isinstance(module, NORM_TYPES):
            settings.update(_given(weight_decay=weight_decay_norm))
        if lr_factor_func is not None:
            settings["lr"] *= lr_factor_func(name)
        settings.update(overrides.get(name.rpartition(".")[2], {}))
        groups.append({"params": [param], **settings})
    return reduce_param_groups(groups)


def _given(**settings: float | None) -> dict[str, float]:
    """Return the settings that are not None."""
    return {name: value for name, value in settings.items() if value is not None}


def _require_base_lr(base_lr: float | None, needed_by: str) -> float:
    if base_lr is None:
        raise ValueError(f"{needed_by} scales a learning rate: give base_lr too")
    return base_lr


def _trainable_parameters(model: nn.Module) -> Iterable[tuple[nn.Module, str, nn.Parameter]]:
    """Yield (owner, full name, parameter) of each trainable parameter, shared ones once."""
    seen = set()
    for module_name, module in model.named_modules():
        for param_name, param in module.named_parameters(recurse=False):
            if param.requires_grad and param not in seen:
                seen.add(param)
                yield module, f"{module_name}.{param_name}" if module_name else param_name, param


def reduce_param_groups(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge parameter groups with equal settings: fewer groups make an optimizer's step faster.

    A parameter in several groups gets the settings of all, the later ones winning. Groups
    are ordered by their first parameters. They may have "param_names" too.
    """
    merged: dict[tuple, dict[str, Any]] = {}
    for group in _expand_param_groups(params):
        lists = {key: group[key] for key in ("params", "param_names") if key in group}
        settings = {key: value for key, value in group.items() if key not in lists}
        same = merged.setdefault(tuple(sorted(settings.items())), {"params": [], **settings})
        for key, values in lists.items():
            same.setdefault(key, []).extend(values)
    return list(merged.values())


def _expand_param_groups(params: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one group for each parameter, with the settings of all groups that it is in."""
    groups: dict[nn.Parameter, dict[str, Any]] = defaultdict(dict)
    for group in params:
        settings = {k: v for k, v in group.items() if k not in ("params", "param_names")}
        names = group.get("param_names", [None] * len(group["params"]))
        for param, name in zip(group["params"], names, strict=True):
            named = {} if name is None else {"param_names": [name]}
            groups[param].update(params=[param], **named, **settings)
    return list(groups.values())


def maybe_add_gradient_clipping(
    cfg: CfgNode, optimizer: Optimizer | type[Optimizer]
) -> Optimizer | type[Optimizer]:
    """Make an optimizer clip the gradients before each step, if the config asks for it.

    Args:
        cfg: only SOLVER.CLIP_GRADIENTS is used.
        optimizer: an optimizer, which is changed, or a class of optimizers.

    Returns:
        The same optimizer, or a subclass of the given class that clips.

    Raises:
        ValueError: for an unknown SOLVER.CLIP_GRADIENTS.CLIP_TYPE.
    """
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return optimizer
    clip = _gradient_clipper(cfg.SOLVER.CLIP_GRADIENTS)

    def clip_before_step(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        groups = (group["params"] for group in optimizer.param_groups)
        clip([p for p in itertools.chain(*groups) if p.grad is not None])

    if isinstance(optimizer, Optimizer):
        optimizer.register_step_pre_hook(clip_before_step)
        return optimizer

    def __init__(self, *args, **kwargs):
        optimizer.__init__(self, *args, **kwargs)
        self.register_step_pre_hook(clip_before_step)

    return type(optimizer.__name__ + "WithGradientClip", (optimizer,), {"__init__": __init__})


def _gradient_clipper(settings: CfgNode) -> Callable[[list[nn.Parameter]], None]:
    """Return a function that clips the gradients of parameters, each on its own, in place."""
    types = {kind.value: kind for kind in GradientClipType}
    kind = lookup("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", settings.CLIP_TYPE, types)
    limit, norm_type = settings.CLIP_VALUE, settings.NORM_TYPE
    if kind is GradientClipType.VALUE:
        return lambda params: nn.utils.clip_grad_value_(params, limit)
    return lambda params: _clip_each_norm(params, limit, norm_type)


def _clip_each_norm(params: list[nn.Parameter], max_norm: float, norm_type: float) -> None:
    """Apply `clip_grad_norm_` to each parameter, without waiting for the device each time."""
    grads = [param.grad for param in params]
    for grad, norm in zip(grads, torch._foreach_norm(grads, norm_type), strict=True):
        grad.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Return the schedule that SOLVER.LR_SCHEDULER_NAME and related keys describe.

    Raises:
        ValueError: the name is unknown, or the settings are inconsistent.
    """
    solver = cfg.SOLVER
    if solver.MAX_ITER < 1:
        raise ValueError(f"SOLVER.MAX_ITER is {solver.MAX_ITER}; it must be at least 1")
    build = lookup("SOLVER.LR_SCHEDULER_NAME", solver.LR_SCHEDULER_NAME, SCHEDULES)
    schedule = WarmupParamScheduler(
        build(solver),
        solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier=schedule, max_iter=solver.MAX_ITER)


def _multi_step(solver: CfgNode) -> ParamScheduler:
    steps = [step for step in solver.STEPS if step < solver.MAX_ITER]
    if len(steps) != len(solver.STEPS):
        logger.warning(
            "SOLVER.STEPS %s has steps beyond SOLVER.MAX_ITER %d, which have no effect",
            tuple(solver.STEPS),
            solver.MAX_ITER,
        )
    if steps != sorted(set(steps)) or (steps and steps[0] < 1):
        raise ValueError(
            f"SOLVER.STEPS is {tuple(solver.STEPS)}; it must be ascending, from 1 or more"
        )
    return MultiStepParamScheduler(
        values=[solver.GAMMA**k for k in range(len(steps) + 1)],
        milestones=steps,
        num_updates=solver.MAX_ITER,
    )


def _cosine(solver: CfgNode) -> ParamScheduler:
    end_value = solver.BASE_LR_END / solver.BASE_LR
    if not 0 <= end_value <= 1:
        raise ArgumentError(
            f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}; it must be from 0 to "
            f"SOLVER.BASE_LR, {solver.BASE_LR}"
        )
    return CosineParamScheduler(1, end_value)


class _StepWithFixedGamma(StepWithFixedGammaParamScheduler):
    """fvcore's schedule, also defined at 1, where a warm-up over the whole training ends."""

    def __call__(self, where: float) -> float:
        return super().__call__(min(where, 1 - 2 * self.WHERE_EPSILON))


def _step_with_fixed_gamma(solver: CfgNode) -> ParamScheduler:
    return _StepWithFixedGamma(
        base_value=1.0,
        gamma=solver.GAMMA,
        num_decays=solver.NUM_DECAYS,
        num_updates=solver.MAX_ITER,
    )


SCHEDULES: dict[str, Callable[[CfgNode], ParamScheduler]] = {
    "WarmupMultiStepLR": _multi_step,
    "WarmupCosineLR": _cosine,
    "WarmupStepWithFixedGammaLR": _step_with_fixed_gamma,
}
