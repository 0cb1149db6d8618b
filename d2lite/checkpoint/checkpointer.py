"""Save and load the whole state of a training run."""

import logging
import os
import re
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from d2lite.checkpoint.reading import (
    CheckpointFileError,
    CheckpointNotFoundError,
    about_of,
    read_checkpoint_file,
)
from d2lite.checkpoint.report import IncompatibleKeys, loading_report
from d2lite.checkpoint.resuming import (
    ResumeError,
    compare_runs,
    log_kept_schedule,
    optimizer_layout,
    require_like,
    require_same_model,
    require_same_optimizer,
)
from d2lite.checkpoint.writing import save_checkpoint_file
from d2lite.utils import comm
from d2lite.utils.errors import file_errors, quoted
from d2lite.utils.file_io import PathManager
from d2lite.utils.periods import is_due, is_last
from d2lite.utils.registry import did_you_mean
from d2lite.utils.writing import WriteError, atomic_write, naming_write_errors

_NUMBERED = re.compile(r"^(?P<prefix>.*)_(?P<iteration>\d{7,})\.pth$")
_LONGEST_NAME = 4096  # bytes read of `last_checkpoint`


class Checkpointer:
    """Saving and loading of a model together with other objects that have a state.

    Files are written under a temporary name and renamed, and then `last_checkpoint` is updated. So
    a process that dies at any moment loses no older checkpoint.
    """

    _resuming = False

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool = True,
        **checkpointables: Any,
    ):
        """
        Args:
            model: the model; DDP and compiled models are unwrapped.
            save_dir: folder of the checkpoints.
            save_to_disk: if False, `save` does nothing, as on all ranks except the first.
            checkpointables: objects with `state_dict` and `load_state_dict`, by the names of
                their entries in the file.
        """
        self.model = unwrap_model(model)
        self.checkpointables: dict[str, Any] = {}
        for key, checkpointable in checkpointables.items():
            self.add_checkpointable(key, checkpointable)
        self.logger = logging.getLogger(__name__)
        self.save_dir = save_dir
        self.save_to_disk = save_to_disk
        self.path_manager = PathManager

    def add_checkpointable(self, key: str, checkpointable: Any) -> None:
        """Save and load one more object.

        Raises:
            KeyError: another object has this key.
            TypeError: the object has no `state_dict`.
        """
        if key in self.checkpointables:
            raise KeyError(f"The checkpointer already has an object called {key!r}")
        if not hasattr(checkpointable, "state_dict"):
            raise TypeError(f"{key} is a {type(checkpointable).__name__}, without a state_dict()")
        self.checkpointables[key] = checkpointable

    def save(self, name: str, **kwargs: Any) -> None:
        """Write SAVE_DIR/name.pth and make it the last checkpoint.

        Args:
            name: file name without extension.
            kwargs: further entries: tensors, numbers, strings and containers of them.

        Raises:
            TypeError: an entry has another type, which could not be loaded safely.
            FloatingPointError: the model has weights that are not finite; the file is saved under
                a name that is never resumed from.
            WriteError: for example, the disk is full. The last checkpoint is unchanged.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = model_entries(self.model)
        data.update((key, item.state_dict()) for key, item in self.checkpointables.items())
        optimizers = {
            key: optimizer_layout(item, self.model)
            for key, item in self.checkpointables.items()
            if isinstance(item, Optimizer)
        }
        if optimizers:
            data["optimizer_layouts"] = optimizers
        data.update(kwargs)
        basename = f"{name}.pth"
        path = os.path.join(self.save_dir, basename)
        if os.path.basename(path) != basename:
            raise ValueError(f"{name!r} is not a file name; give one without folders")
        with naming_write_errors(path):
            os.makedirs(self.save_dir, exist_ok=True)
        broken = non_finite_entries(self.model)
        if broken:
            aside = f"{path}.nonfinite"
            kept = f"They are kept in {aside}"
            try:
                save_checkpoint_file(data, aside)
            except WriteError as error:
                kept = str(error)
            raise FloatingPointError(
                f"{basename} is not saved: {len(broken)} entries of the model are not finite: "
                f"{', '.join(broken[:4])}{', ...' if len(broken) > 4 else ''}. {kept}; --resume "
                "continues from the previous checkpoint"
            )
        self.logger.info("Saving checkpoint to %s", path)
        save_checkpoint_file(data, path)
        self.tag_last_checkpoint(basename)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint into the model and the other objects.

        Args:
            path: file or URL; "" loads nothing.
            checkpointables: names of the objects to load; None loads all that the file has.

        Returns:
            The remaining entries of the file, such as "iteration".

        Raises:
            FileNotFoundError: the file does not exist, on this rank or another one.
            CheckpointFileError: the file is damaged, unsafe, or not a checkpoint; or an object
                can't load its state. The message names the file and the entry.
            ResumeError: the optimizer's state belongs to another optimizer or to other parameters.
        """
        if not path:
            self.logger.info("No checkpoint is given: the model keeps its initial weights")
            return {}
        self.logger.info("Loading from %s ...", path)
        checkpoint = self._load_file(self._find(path))
        about = about_of(checkpoint, path)
        with _damage_of(path, "its weights cannot be loaded"):
            incompatible = self._load_model(checkpoint)
        if incompatible is not None:
            if self._resuming:
                require_same_model(incompatible, self.model)
                if hasattr(self.model, "built_from"):
                    with _damage_of(path, "its entry 'about' cannot be read"):
                        compare_runs(about, self.model.built_from.about())
            self._log_incompatible_keys(incompatible)
        layouts = checkpoint.pop("optimizer_layouts", {})
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in checkpoint:
                self.logger.info("Loading %s from %s ...", key, path)
                with _damage_of(path, f"its entry {key!r} cannot be restored"):
                    self._restore(self.checkpointables[key], checkpoint.pop(key), layouts, key)
        return checkpoint

    def _restore(self, item: Any, state: Any, layouts: dict[str, Any], key: str) -> None:
        """Load the state of an object from a checkpoint."""
        if isinstance(item, Optimizer):
            require_same_optimizer(state, item, self.model, layouts.get(key))
        else:
            is_schedule = isinstance(item, LRScheduler)
            require_like(state, item.state_dict(), key, finite=is_schedule)
            if is_schedule:
                log_kept_schedule(state, item.state_dict())
        item.load_state_dict(state)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Resume from the last checkpoint of the folder if there is one, otherwise load weights.

        If the last checkpoint is damaged, the newest readable numbered one is used, and the log
        names the damaged file.

        Args:
            path: weights to start from if there is nothing to resume; only the model is loaded.
            resume: if False, always start from `path`.

        Returns:
            See `load`.

        Raises:
            ResumeError: the last checkpoint belongs to another model, optimizer or set of trained
                parameters.
        """
        if not (resume and self.has_checkpoint()):
            return self.load(path, checkpointables=[])
        problems = []
        files = self.resumable_files()
        for file in files:
            try:
                self._resuming = True
                return self.load(file)
            except (CheckpointFileError, OSError) as error:
                self.logger.error("Cannot resume: %s. Trying the checkpoint before it", error)
                problems.append(str(error))
            finally:
                self._resuming = False
        if not files:
            raise CheckpointFileError(
                f"{self._last_checkpoint_file} does not name a checkpoint, and {self.save_dir} has "
                "none with a number; without --resume, training starts anew"
            )
        raise CheckpointFileError(
            f"None of the checkpoints in {self.save_dir} can be resumed from "
            f"({', '.join(map(os.path.basename, files))}); the newest: "
            f"{problems[0].removesuffix('.')}. "
            "Without --resume, training starts anew"
        )

    def has_checkpoint(self) -> bool:
        """Return whether the folder has a last checkpoint."""
        return self.path_manager.exists(self._last_checkpoint_file)

    def get_checkpoint_file(self) -> str:
        """Return the path of the last checkpoint of the folder, or "" if there is none.

        Raises:
            CheckpointFileError: `last_checkpoint` does not contain a file name, or names a file in
                another folder.
        """
        try:
            with self.path_manager.open(self._last_checkpoint_file, "rb") as file:
                name = file.read(_LONGEST_NAME).decode(errors="replace").strip()
        except OSError:  # none was saved, or the folder was just deleted
            return ""
        if not name or not name.isprintable() or re.search(r"[/\\\ufffd]|^\.*$", name):
            raise CheckpointFileError(
                f"{self._last_checkpoint_file} is damaged: it contains {quoted(name)}; expected "
                "the name of a checkpoint of its own folder"
            )
        return os.path.join(self.save_dir, name)

    def newest_file(self) -> str:
        """Return the file that `resume_or_load` would try first; "" if there is none."""
        try:
            return next(iter(self.resumable_files()), "")
        except OSError:  # the folder has been deleted
            return ""

    def get_all_checkpoint_files(self) -> list[str]:
        """Return the paths of all `.pth` files in the folder, sorted by name."""
        paths = (os.path.join(self.save_dir, name) for name in self.path_manager.ls(self.save_dir))
        return sorted(p for p in paths if p.endswith(".pth") and self.path_manager.isfile(p))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Make a file in the folder the last checkpoint."""
        with atomic_write(self._last_checkpoint_file, "w") as file:
            file.write(last_filename_basename)

    @property
    def _last_checkpoint_file(self) -> str:
        return os.path.join(self.save_dir, "last_checkpoint")

    def resumable_files(self) -> list[str]:
        """Return the last checkpoint, then the numbered ones before it, newest first."""
        try:
            last = self.get_checkpoint_file()
        except CheckpointFileError as error:
            self.logger.error("%s. Looking for the newest of the numbered checkpoints", error)
            last = ""
        number = _iteration_of(last)
        numbered = {path: _iteration_of(path) for path in self.get_all_checkpoint_files()}
        earlier = [
            path
            for path, iteration in numbered.items()
            if iteration is not None and path != last and (number is None or iteration < number)
        ]
        earlier.sort(key=numbered.get, reverse=True)
        return [last, *earlier] if last else earlier

    def _find(self, path: str) -> str:
        """Return the local file of a path or URL, the same one on all ranks."""
        try:
            local, problem = find_checkpoint(path, self.path_manager), ""
        except OSError as error:
            local, problem = "", str(error)
        size = os.path.getsize(local) if local else -1
        # A rank that continues alone would train other weights than the rest, or wait forever.
        states = comm.all_gather((size, problem))
        for rank, (its_size, its_problem) in enumerate(states):
            on_rank = f"rank {rank}: " if len(states) > 1 else ""
            if its_problem:
                raise CheckpointNotFoundError(on_rank + its_problem)
            if its_size != states[0][0]:
                raise CheckpointNotFoundError(
                    f"{on_rank}{path} has {its_size} bytes, but {states[0][0]} on rank 0; all "
                    "ranks have to see the same file, for instance in a shared folder"
                )
        return local

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Read a local file. Subclasses can add formats.

        Returns:
            A dict with "model" (names to tensors or arrays) and other entries.
        """
        data = read_checkpoint_file(filename)
        if not isinstance(data, dict):
            raise CheckpointFileError(
                f"{filename} contains a {type(data).__name__}; expected a dict with the weights "
                "under 'model', or of the weights themselves"
            )
        data = data if "model" in data else {"model": data}
        require_weights(filename, data["model"])
        return data

    def _load_model(self, checkpoint: dict[str, Any]) -> IncompatibleKeys:
        """Load and remove `checkpoint["model"]`, and return the entries that did not fit.

        Entries whose shape differs from the model's are skipped.
        """
        state = checkpoint.pop("model")
        metadata = getattr(state, "_metadata", None)
        if all(name.startswith("module.") for name in state):  # it was saved from inside DDP
            state = {name[len("module.") :]: value for name, value in state.items()}
        state = to_tensors(state)
        own_state = self.model.state_dict()
        incorrect_shapes = [
            (name, tuple(value.shape), tuple(own_state[name].shape))
            for name, value in state.items()
            if name in own_state
            and not nn.parameter.is_lazy(own_state[name])
            and value.shape != own_state[name].shape
        ]
        for name, _, _ in incorrect_shapes:
            del state[name]
        if metadata is not None:
            state._metadata = metadata  # versions, which modules need to read older states
        result = self.model.load_state_dict(state, strict=False)
        self.model.loaded = _Loaded(self.model, about_of(checkpoint, "the file"), incorrect_shapes)
        wrong = {name for name, _, _ in incorrect_shapes}
        missing = [name for name in result.missing_keys if name not in wrong]
        return IncompatibleKeys(
            _not_shared(self.model, missing), list(result.unexpected_keys), incorrect_shapes
        )

    def _names_of_interest(self) -> list[str]:
        """Return the entries of the model that the report covers."""
        return list(self.model.state_dict())

    def _log_incompatible_keys(self, incompatible: IncompatibleKeys) -> None:
        """Log what was loaded and what was not."""
        report = loading_report("Checkpoint", self._names_of_interest(), incompatible)
        self.logger.log(logging.WARNING if any(incompatible) else logging.INFO, report)


def _damage_of(path: str, problem: str) -> AbstractContextManager[None]:
    """Turn errors caused by values of a checkpoint into a CheckpointFileError."""
    remedy = "Use another checkpoint, or load only its weights, without --resume"
    return file_errors(CheckpointFileError, path, problem, known=(ResumeError,), remedy=remedy)


class PeriodicCheckpointer:
    """Periodic saving of numbered checkpoints, of which the newest are kept.

    If one can't be written, training continues: the reason is logged, older checkpoints stay, and
    the next one is tried when it is due. Only the final one must be written.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        period: int,
        max_iter: int | None = None,
        max_to_keep: int | None = None,
        file_prefix: str = "model",
    ):
        """
        Args:
            checkpointer: saves the files.
            period: iterations between checkpoints; 0 saves only at the end.
            max_iter: number of iterations; after the last one FILE_PREFIX_final.pth is saved.
            max_to_keep: number of numbered files to keep; None keeps all. Other files, such as the
                final and the best one, are never deleted.
            file_prefix: prefix of the file names.

        Raises:
            ValueError: `max_to_keep` is not positive.
        """
        if max_to_keep is not None and max_to_keep < 1:
            raise ValueError(f"max_to_keep is {max_to_keep}; give 1 or more, or None to keep all")
        self.checkpointer = checkpointer
        self.period = int(period)
        self.max_iter = max_iter
        self.max_to_keep = max_to_keep
        self.file_prefix = file_prefix
        self.path_manager = checkpointer.path_manager

    def step(self, iteration: int, **kwargs: Any) -> None:
        """Save if a checkpoint is due after `iteration` (from 0), with `kwargs` as further entries.

        Raises:
            WriteError: the final checkpoint can't be written.
        """
        iteration = int(iteration)
        state = {"iteration": iteration, **kwargs}
        if is_due(iteration, self.period):
            self.save_or_go_on(**state)
        if self.max_iter is not None and is_last(iteration, self.max_iter):
            self.save(f"{self.file_prefix}_final", **state)

    def save(self, name: str, **kwargs: Any) -> None:
        """Save now, under any name."""
        self.checkpointer.save(name, **kwargs)

    def save_or_go_on(self, iteration: int, **kwargs: Any) -> bool:
        """Save a numbered checkpoint; if it can't be written, log that and return False."""
        try:
            self.save(f"{self.file_prefix}_{iteration:07d}", iteration=iteration, **kwargs)
        except WriteError as error:
            last = os.path.basename(self.checkpointer.newest_file())
            self.checkpointer.logger.error(
                "%s. Training continues; %s",
                error,
                f"its last checkpoint is {last}" if last else "it has no checkpoint yet",
            )
            return False
        if self.max_to_keep is not None and self.checkpointer.save_to_disk:
            # The numbered files are found on the disk: a run that was resumed has those of the run
            # before it. Files of later iterations are another run's.
            numbered = {}
            for path in self.checkpointer.get_all_checkpoint_files():
                match = _NUMBERED.match(os.path.basename(path))
                if match and match["prefix"] == self.file_prefix:
                    numbered[int(match["iteration"])] = path
            for number in sorted(n for n in numbered if n <= iteration)[: -self.max_to_keep]:
                self.path_manager.rm(numbered[number])
        return True


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside DDP and torch.compile, whose parameter names checkpoints have."""
    while True:
        if isinstance(model, (DistributedDataParallel, DataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def find_checkpoint(path: str, path_manager: Any = PathManager) -> str:
    """Return the local file of a path or URL, downloaded if necessary.

    Raises:
        FileNotFoundError: it does not exist; the message suggests similar names.
    """
    local = path if os.path.isfile(path) else path_manager.get_local_path(path)
    if os.path.isfile(local):
        return local
    folder, name = os.path.split(local)
    if os.path.isdir(local):
        raise CheckpointNotFoundError(f"{path} is a folder; give one of its checkpoint files")
    if not os.path.isdir(folder or "."):
        raise CheckpointNotFoundError(f"Checkpoint {path} not found: there is no folder {folder}")
    hint = did_you_mean(name, os.listdir(folder or "."))
    raise CheckpointNotFoundError(f"Checkpoint {path} not found.{hint}")


class _Loaded:
    """The checkpoint that was loaded into a model, until the model is trained further."""

    def __init__(self, model: nn.Module, about: dict[str, Any], incorrect_shapes: list[tuple]):
        """
        Args:
            about: entry `about` of the checkpoint; {} for checkpoints of other programs.
            incorrect_shapes: entries of the model that were not loaded because of their shape.
        """
        self.about = about
        self.shapes = {name: shapes for name, *shapes in incorrect_shapes}
        self.versions = _versions(model)


def _versions(model: nn.Module) -> dict[str, int]:
    """Return the tensors' version counters, which every in-place change increases."""
    return {name: value._version for name, value in model.named_parameters()}


def require_loaded(model: nn.Module) -> None:
    """Raise an error if the last loaded checkpoint did not fit and the model was not trained since.

    Such a model would be evaluated with random layers.

    Raises:
        ValueError: the message names the entries and their shapes in checkpoint and model.
    """
    model = unwrap_model(model)
    loaded = getattr(model, "loaded", None)
    if not isinstance(loaded, _Loaded) or not loaded.shapes:
        return
    now = _versions(model)
    random = [
        f"{name} {theirs} in the checkpoint, {own} in the model"
        for name, (theirs, own) in loaded.shapes.items()
        if now.get(name) == loaded.versions.get(name)
    ]
    if random:
        shown = "; ".join(random[:4]) + ("; ..." if len(random) > 4 else "")
        raise ValueError(
            f"The weights do not fit the model: {shown}. These parts would be evaluated with "
            "random weights. Give the config and the class count that the weights were trained "
            "with (a checkpoint of d2lite contains its config: leave the config file out)"
        )


def metadata_of(model: nn.Module) -> dict[str, Any]:
    """Return the class names and other metadata of a model, by their keys in dataset metadata.

    They come from the loaded checkpoint if the model has not been trained since, or else from the
    datasets for which it was built; {} if neither is known.
    """
    model = unwrap_model(model)
    loaded = getattr(model, "loaded", None)
    if isinstance(loaded, _Loaded) and _versions(model) == loaded.versions:
        metadata = loaded.about.get("metadata")
        if metadata:
            return metadata
    return model.built_from.about()["metadata"] if hasattr(model, "built_from") else {}


def model_entries(model: nn.Module) -> dict[str, Any]:
    """Return the checkpoint entries of a model: its state and, if known, "about" with config, class
    names and version."""
    entries: dict[str, Any] = {"model": model.state_dict()}
    if hasattr(model, "built_from"):
        entries["about"] = {**model.built_from.about(), "metadata": metadata_of(model)}
    return entries


def non_finite_entries(model: nn.Module) -> list[str]:
    """Return the names of parameters that are not finite, and of buffers that contain NaN.

    Buffers may be infinite: attention masks, for example.
    """
    bad_names = []
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(value) or value.is_meta:
            continue
        is_parameter = isinstance(value, nn.Parameter)
        bad = ~torch.isfinite(value) if is_parameter else torch.isnan(value)
        if bad.any():
            bad_names.append(name)
    return bad_names


def _iteration_of(path: str) -> int | None:
    """Return the iteration in the name of a numbered checkpoint, or None."""
    match = _NUMBERED.match(os.path.basename(path))
    return int(match["iteration"]) if match else None


def require_weights(filename: str, weights: Any) -> None:
    """Raise an error if `weights` is not a dict from names to tensors or arrays."""
    if not isinstance(weights, dict) or not weights:
        raise CheckpointFileError(
            f"{filename} has no weights: expected a dict from names to tensors, found "
            f"{'an empty dict' if isinstance(weights, dict) else 'a ' + type(weights).__name__}"
        )
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, (torch.Tensor, np.ndarray)):
            raise CheckpointFileError(
                f"{filename} is not a checkpoint of a model: its entry {name!r} is a "
                f"{type(value).__name__}; expected names and tensors, at the top or under 'model'"
            )


def to_tensors(state: dict[str, Any]) -> "_StateDict":
    """Convert the arrays of a state dict to tensors."""
    return _StateDict(
        (name, value if isinstance(value, torch.Tensor) else torch.as_tensor(value))
        for name, value in state.items()
    )


class _StateDict(dict):
    """A dict that can carry `_metadata`, as torch's state dicts do."""


def _not_shared(model: nn.Module, missing: list[str]) -> list[str]:
    """Return the missing names except those whose tensor was loaded under another name."""
    if not missing:
        return missing
    names_of: dict[int, set[str]] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        names_of.setdefault(id(value), set()).add(name)
    absent = set(missing)
    lacking = {name for names in names_of.values() if names <= absent for name in names}
    return [name for name in missing if name in lacking]
