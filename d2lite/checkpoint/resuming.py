"""Compare a checkpoint with the run that resumes from it, before anything is overwritten.

An optimizer accepts any state with the same number of parameters. A fused optimizer then writes
past the end of buffers with another shape; other optimizers apply another parameter's momentum.
"""

import collections
import copy
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from d2lite.checkpoint.report import IncompatibleKeys

logger = logging.getLogger(__name__)

WAY_OUT = (
    "Resume with the settings of the run that saved it (they are in its config.yaml), or start a "
    "new run from these weights: without --resume, MODEL.WEIGHTS set to this file, and another "
    "OUTPUT_DIR"
)
# Entries with one number per element of the parameter, by torch.optim's names.
_ELEMENTWISE = frozenset(
    [
        "momentum_buffer",
        "exp_avg",
        "exp_avg_sq",
        "max_exp_avg_sq",
        "exp_inf",
        "square_avg",
        "acc_delta",
        "grad_avg",
        "sum",
        "prev",
        "ax",
    ]
)
_SCALARS = frozenset(["sum", "prev", "ax"])  # of these, those that are scalars in some optimizers
# Settings that only some optimizers have; they identify a state without a class name.
_TELLTALE = frozenset(["betas", "momentum", "alpha", "rho", "lambd", "lr_decay", "etas"])
# Counters of a schedule; the rest of its state are settings. The initial rates are logged with the
# optimizer's settings.
_PROGRESS = frozenset(
    [
        "last_epoch",
        "base_lrs",
        "verbose",
        "T_cur",
        "T_i",
        "best",
        "num_bad_epochs",
        "cooldown_counter",
        "mode_worse",
    ]
)
_OF_THE_MACHINE = {"MODEL.WEIGHTS", "MODEL.DEVICE", "OUTPUT_DIR", "DATALOADER.NUM_WORKERS"}
_SHOWN = 4


class ResumeError(ValueError):
    """The checkpoint is valid, but belongs to another run than the one that resumes."""


def require_same_model(found: IncompatibleKeys, model: nn.Module) -> None:
    """Raise if parameters of the model were not in the checkpoint, or had another shape.

    Args:
        found: how the checkpoint's entries differ from the model's.

    Raises:
        ResumeError: the message names the entries and both shapes.
    """
    problems = [
        f"{name} is {tuple(shape)} in the checkpoint and {tuple(own_shape)} in the model"
        for name, shape, own_shape in found.incorrect_shapes
    ]
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    problems += [
        f"{name} is not in the checkpoint" for name in found.missing_keys if name in parameters
    ]
    if problems:
        unexpected = [f"{name} is not in the model" for name in found.unexpected_keys]
        raise ResumeError(
            f"The checkpoint is for another model: {_shorten(problems + unexpected)}. {WAY_OUT}"
        )


def optimizer_layout(optimizer: Optimizer, model: nn.Module) -> dict[str, Any]:
    """Return which parameters the numbers in an optimizer's state refer to.

    Returns:
        "class": the class of torch.optim that it is or extends; "" for others.
        "names": of the parameters, in a list for each group; None for those not in the model.
    """
    names = {id(param): name for name, param in model.named_parameters()}
    groups = [[names.get(id(p)) for p in group["params"]] for group in optimizer.param_groups]
    classes = (
        kind.__name__
        for kind in type(optimizer).__mro__
        if kind.__module__.startswith("torch.optim") and kind is not Optimizer
    )
    return {"class": next(classes, ""), "names": groups}


def require_same_optimizer(
    state: Mapping[str, Any],
    optimizer: Optimizer,
    model: nn.Module,
    layout: Mapping[str, Any] | None = None,
) -> None:
    """Raise if an optimizer cannot resume from a saved state; log the settings it takes from it.

    Args:
        state: its `state_dict` in the checkpoint.
        model: the model, for the names of parameters.
        layout: the result of `optimizer_layout` when it was saved; None for checkpoints of
            detectron2, whose parameters are compared only by their shapes.

    Raises:
        ResumeError: it is the state of another optimizer, or of other parameters.
        ValueError: it is damaged.
    """
    # torch.optim writes groups and the numbers of their parameters.
    groups = state["param_groups"]
    if not (isinstance(groups, list) and groups and isinstance(state["state"], dict)):
        raise ValueError("the optimizer's state has no groups of parameters")
    numbers = [number for group in groups for number in group["params"]]
    if numbers != list(range(len(numbers))):
        raise ValueError(f"the optimizer's parameters are not numbered from 0: {numbers[:8]}")
    own = optimizer_layout(optimizer, model)
    problems = [*_other_kind(groups, optimizer, layout or {}, own["class"])]
    if not problems:
        problems = [*_other_parameters(groups, optimizer, layout or {}, own["names"])]
    if not problems:
        problems = [*_other_shapes(state, optimizer, own["names"])]
    if problems:
        raise ResumeError(
            f"The optimizer's state in the checkpoint is from another run: {_shorten(problems)}. "
            f"{WAY_OUT}"
        )
    _require_sound_state(state, optimizer, own["class"])
    _log_kept_settings(groups, optimizer)


def _require_sound_state(state: Mapping[str, Any], optimizer: Optimizer, kind: str) -> None:
    """Raise if the next step of an optimizer of torch.optim could not use a saved state."""
    if not kind:
        return
    for index, (saved, own) in enumerate(
        zip(state["param_groups"], optimizer.param_groups, strict=True)
    ):
        settings = {key: value for key, value in saved.items() if key != "params"}
        require_like(settings, own, f"param_groups[{index}]", finite=True)
        try:
            _step_alone(optimizer, kind, optimizer.param_groups[0])
        except Exception:  # it needs a closure, for instance
            needed: set[str] = set()
        else:  # an error here comes from the saved settings
            needed = _step_alone(optimizer, kind, settings)
        for number, param in zip(saved["params"], own["params"], strict=True):
            entries = state["state"].get(number)
            if not entries:
                continue
            if lacking := needed - set(entries):
                raise ValueError(f"the optimizer's state has no {min(lacking)} of a parameter")
            for key, value in entries.items():
                if not _is_sound_entry(key, value, param):
                    raise ValueError(
                        f"{key} of the optimizer's state is {_kind(value)} that is not finite or "
                        "not of the parameter's shape"
                    )


def _step_alone(optimizer: Optimizer, kind: str, settings: Mapping[str, Any]) -> set[str]:
    """Return the entries that an optimizer of torch keeps for a parameter, after a trial step."""
    trial = copy.copy(optimizer)
    number = torch.zeros(1, requires_grad=True)
    number.grad = torch.ones(1)
    trial.param_groups = [{**settings, "params": [number]}]
    trial.state = collections.defaultdict(dict)
    getattr(torch.optim, kind).step(trial)
    return set(trial.state[number])


def _is_sound_entry(key: str, value: Any, param: torch.Tensor) -> bool:
    if key == "step":
        number = value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
        return _is_number(number) and 0 <= number < math.inf
    if key not in _ELEMENTWISE:
        return True
    if isinstance(value, torch.Tensor):
        shapes = (param.shape, torch.Size()) if key in _SCALARS else (param.shape,)
        return value.shape in shapes and bool(torch.isfinite(value).all())
    return (value is None and key == "momentum_buffer") or (key in _SCALARS and _is_number(value))


def require_like(saved: Any, own: Any, where: str, *, finite: bool = False) -> None:
    """Raise if a saved state has values of other kinds than an object's own state.

    Objects store most values of a loaded state unchecked, and would fail later.

    Args:
        saved: nested dicts and lists of a checkpoint.
        own: the state that the object would save now. Values that are None match anything, and
            only keys that are in both are compared.
        where: names `saved` in the message.
        finite: whether numbers must be finite.

    Raises:
        ValueError: the message names the place and both kinds.
    """
    # A setting may be None, for torch's default, in one of the two; a counter may not.
    if own is None or (saved is None and not isinstance(own, dict) and type(own) is not int):
        return
    kind, own_kind = _kind(saved), _kind(own)
    if kind != own_kind:
        raise ValueError(f"{where} is {kind}, expected {own_kind}")
    if finite and _is_number(saved) and not math.isfinite(saved):
        raise ValueError(f"{where} is {saved}, expected a finite number")
    if isinstance(own, dict):
        for key in saved.keys() & own.keys():
            require_like(saved[key], own[key], f"{where}[{key!r}]", finite=finite)
    elif isinstance(own, list | tuple) and len(own) == len(saved):
        for index, (value, own_value) in enumerate(zip(saved, own, strict=True)):
            require_like(value, own_value, f"{where}[{index}]", finite=finite)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.number) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    """Return the kind of a value in words, which are the same for interchangeable kinds."""
    if value is None:
        return "None"
    for kinds, words in _KINDS:
        if isinstance(value, kinds):
            return words
    return f"a {type(value).__name__}"


_KINDS = [
    (bool, "a boolean"),
    (str, "a string"),
    (dict, "a dict"),
    ((list, tuple), "a list"),
    ((Real, np.generic, torch.Tensor, np.ndarray), "a number or tensor"),
]


def _other_kind(
    groups: Sequence[Mapping], optimizer: Optimizer, layout: Mapping[str, Any], own_class: str
) -> Iterator[str]:
    saved_class = layout.get("class", "")
    if saved_class and own_class and saved_class != own_class:
        yield f"it was {saved_class}, and is {own_class} now"
        return
    saved, own = set(groups[0]) & _TELLTALE, set(optimizer.param_groups[0]) & _TELLTALE
    if saved != own:
        yield (
            f"it has the settings {sorted(saved)}, and {type(optimizer).__name__} those of "
            f"{sorted(own)}"
        )


def _other_parameters(
    groups: Sequence[Mapping],
    optimizer: Optimizer,
    layout: Mapping[str, Any],
    own_names: list[list[str | None]],
) -> Iterator[str]:
    saved_names = layout.get("names")
    if saved_names is not None:
        before = {name for group in saved_names for name in group if name}
        now = {name for group in own_names for name in group if name}
        yield from (f"{name} was trained, and is not anymore" for name in sorted(before - now))
        yield from (f"{name} was not trained, and is now" for name in sorted(now - before))
        if before != now:
            return
    sizes = [len(group["params"]) for group in groups]
    own_sizes = [len(group["params"]) for group in optimizer.param_groups]
    if sizes != own_sizes:
        yield (
            f"it has groups of {', '.join(map(str, sizes))} parameters, and "
            f"{', '.join(map(str, own_sizes))} now"
        )
    elif saved_names is not None and saved_names != own_names:
        pairs = zip(chain(*saved_names), chain(*own_names), strict=True)
        yield from (f"{old} was where {new} is now" for old, new in pairs if old != new)


def _other_shapes(
    state: Mapping[str, Any], optimizer: Optimizer, own_names: list[list[str | None]]
) -> Iterator[str]:
    """Yield the buffers whose shape differs from that of their parameter."""
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for number, param, name in zip(numbers, params, chain(*own_names), strict=True):
        for key, value in state["state"].get(number, {}).items():
            elementwise = key in _ELEMENTWISE and isinstance(value, torch.Tensor)
            # "sum" and the like are a scalar in some optimizers.
            if elementwise and value.dim() and value.shape != param.shape:
                yield (
                    f"{key} of {name or f'parameter {number}'} is {tuple(value.shape)} in the "
                    f"checkpoint, and the parameter {tuple(param.shape)}"
                )
                break


def _log_kept_settings(groups: Sequence[Mapping], optimizer: Optimizer) -> None:
    """Log the settings of a loaded state that differ from those of the run."""
    for key in optimizer.param_groups[0]:
        # With a schedule, the current rate follows from the initial one.
        scheduled = key == "lr" and "initial_lr" in optimizer.param_groups[0]
        if key in ("params", "foreach", "fused", "capturable", "differentiable") or scheduled:
            continue
        saved = [group.get(key) for group in groups]
        own = [group.get(key) for group in optimizer.param_groups]
        if None not in saved and list(map(_plain, saved)) != list(map(_plain, own)):
            log_kept_setting(f"the optimizer's {key}", _common(saved), _common(own))


def log_kept_schedule(state: Mapping[str, Any], own_state: Mapping[str, Any]) -> None:
    """Log the settings of a learning rate schedule that are taken from a checkpoint.

    Args:
        state: the schedule's state in the checkpoint.
        own_state: its state before loading.
    """
    for key in sorted(set(state) & set(own_state) - _PROGRESS):
        if not key.startswith("_") and _plain(state[key]) != _plain(own_state[key]):
            log_kept_setting(f"the schedule's {key}", state[key], own_state[key])


def log_kept_setting(what: str, saved: Any, own: Any) -> None:
    """Log that a resumed run takes a setting from its checkpoint, with both values."""
    logger.warning(
        "The resumed run uses %s from the checkpoint, %s, and not the current setting, %s",
        what,
        saved,
        own,
    )


def compare_runs(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare the entry `about` of a checkpoint with the run that resumes from it.

    Args:
        saved, own: "config" and "metadata" as `read_about` returns them; may be empty.

    Raises:
        ResumeError: the run has the same classes in another order.
    """
    for key in ("thing_classes", "stuff_classes", "keypoint_names"):
        before = list(saved.get("metadata", {}).get(key) or ())
        now = list(own.get("metadata", {}).get(key) or ())
        if not before or not now or before == now:
            continue
        change = f"{key} are {_names(now)}, and were {_names(before)} when the checkpoint was saved"
        if sorted(before) == sorted(now):
            raise ResumeError(f"{change}: the same in another order. {WAY_OUT}")
        logger.warning(
            "%s: each class continues from what the model learned for the old one", change
        )
    changed = [
        f"{key} is {now.get(key)!r}, was {before.get(key)!r}"
        for before, now in [(_flat(saved.get("config", {})), _flat(own.get("config", {})))]
        for key in sorted({*before, *now} - _OF_THE_MACHINE)
        if before and now and _plain(before.get(key)) != _plain(now.get(key))
    ]
    if changed:
        logger.info("Settings that differ from those of the checkpoint: %s", "; ".join(changed))


def _names(names: list[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _plain(value: Any) -> Any:
    """Convert tuples and tensors to values that compare equal after saving and loading."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return [_plain(x) for x in value] if isinstance(value, (list, tuple)) else value


def _common(values: list) -> Any:
    """Return a single value if all groups have the same one."""
    return values[0] if all(_plain(v) == _plain(values[0]) for v in values) else values


def _shorten(problems: list[str]) -> str:
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return " ".join(("; ".join(problems[:_SHOWN]) + more).split())
