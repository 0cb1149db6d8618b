"""The config and settings that result from the flags of `d2lite train`."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

from d2lite.commands import own_data
from d2lite.config import CfgNode
from d2lite.config.files import configs_folder, find_config
from d2lite.engine import config_from_args
from d2lite.engine.from_checkpoint import weights_of_run
from d2lite.model_zoo import get_checkpoint_url
from d2lite.utils import comm


def apply_plan(args: argparse.Namespace) -> str:
    """Translate the flags into `args.config_file` and `args.opts`, and print them.

    Overrides on the command line have the highest priority.

    Args:
        args: arguments of `d2lite train`.

    Returns:
        The folder of the run.
    """
    overrides = dict(zip(args.opts[::2], args.opts[1::2], strict=False))
    if not (args.config_file or args.data or args.resume):
        raise ValueError("nothing to train on: give --data PATH or --config NAME")
    folder = overrides.get("OUTPUT_DIR", "")
    is_new = not folder
    if is_new:
        folder = own_data.run_folder_for(args.name, resume=args.resume)
    try:
        plan = _Plan(args, overrides, folder)
    except Exception:
        if is_new and comm.is_main_process():
            with contextlib.suppress(OSError):  # it is not empty if the run is resumed
                os.rmdir(folder)
        raise
    if comm.is_main_process():
        print(plan.describe())
    args.config_file = plan.config_file
    args.opts = [*plan.words(), *args.opts]
    return folder


class _Plan:
    """The config and its changed settings, each with the flag or reason that set it."""

    def __init__(self, args: argparse.Namespace, overrides: dict[str, str], folder: str) -> None:
        self._args, self._overrides = args, overrides
        self._settings: dict[str, tuple[Any, str]] = {}
        self._lines: list[str] = []
        self.config_file = args.config_file
        self._choice: own_data.Choice | None = None
        if "OUTPUT_DIR" not in overrides:
            self._set("", OUTPUT_DIR=folder)
        data = None
        if args.data:
            data = own_data.register_data(
                args.data, folder, val_share=args.val_share, layout=args.layout
            )
            self._lines += [f"data: {data.summary()}", *(f"  {note}" for note in data.notes)]
        if not self.config_file and data is None:
            # The config of the run to resume.
            self.config_file = os.path.join(folder, "config.yaml")
            if not os.path.isfile(self.config_file):
                raise FileNotFoundError(f"{self.config_file} not found: there is no run to resume")
        elif not self.config_file:
            device = own_data.chosen_device(args.device or overrides.get("MODEL.DEVICE"))
            weights = "" if args.weights == "none" else args.weights
            self._choice = own_data.choose_model(set(data.kinds), device, weights)
            self.config_file = find_config(self._choice.config)
            self._set("", **self._choice.settings)
            self._lines.append(f"config: {self._choice.config} ({self._choice.reason})")
        self._set_flags()
        if data is not None:
            fitting = own_data.fit_to_data(self._merged(), data.train, data.val)
            self._set("the data", **fitting)
        self._set_schedule()

    def _set(self, reason: str, /, **settings: Any) -> None:
        for key, value in settings.items():
            self._settings[key] = value, reason

    def words(self) -> list[str]:
        """Return all settings as a list of KEY VALUE words."""
        return [str(word) for key, (value, _) in self._settings.items() for word in (key, value)]

    def _merged(self) -> CfgNode:
        """Return the config with all settings so far."""
        opts = [*self.words(), *self._args.opts]
        names = {"config_file": self.config_file, "opts": opts, "eval_only": False}
        return config_from_args(argparse.Namespace(**names))

    def _set_flags(self) -> None:
        args = self._args
        self._set("", PLOT_RESULTS=True)
        if args.weights == "coco" and self._choice is None:
            # The released weights of a config in the zoo.
            path, folder = Path(self.config_file).resolve(), configs_folder().resolve()
            in_zoo = path.is_relative_to(folder)
            name = path.relative_to(folder).as_posix() if in_zoo else self.config_file
            try:
                url = get_checkpoint_url(name)
            except RuntimeError as error:
                raise ValueError(f"--weights coco: {error}") from None
            self._set("--weights", **{"MODEL.WEIGHTS": url})
        elif args.weights not in (None, "coco"):
            path = "" if args.weights == "none" else weights_of_run(args.weights)
            self._set("--weights", **{"MODEL.WEIGHTS": path})
        if args.device:
            self._set("--device", **{"MODEL.DEVICE": args.device})
        if args.imgsz:
            side = args.imgsz
            sizes = {"INPUT.MIN_SIZE_TRAIN": (side,), "INPUT.MIN_SIZE_TEST": side}
            longest = {"INPUT.MAX_SIZE_TRAIN": side, "INPUT.MAX_SIZE_TEST": side}
            self._set("--imgsz, the long side", **sizes, **longest)
        if args.batch:
            solver = self._merged().SOLVER
            rate = solver.BASE_LR * args.batch / solver.IMS_PER_BATCH
            reason = f"in proportion to the batch of {solver.IMS_PER_BATCH}"
            self._set("--batch", **{"SOLVER.IMS_PER_BATCH": args.batch})
            self._set(reason, **{"SOLVER.BASE_LR": rate})
        if args.lr is not None:
            self._set("--lr", **{"SOLVER.BASE_LR": args.lr})

    def _set_schedule(self) -> None:
        epochs = self._args.epochs
        if epochs is None and self._choice is None:
            return
        cfg = self._merged()
        if "SOLVER.MAX_ITER" in self._overrides:
            count = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH
            epochs = count / own_data.number_of_images(cfg.DATASETS.TRAIN)
        count = own_data.number_of_images(cfg.DATASETS.TRAIN)
        settings = own_data.schedule_for(cfg, count, epochs, self._choice)
        iterations, batch = settings["SOLVER.MAX_ITER"], cfg.SOLVER.IMS_PER_BATCH
        passes = iterations * batch / count
        reason = f"{passes:.4g} epochs of {count} images, {batch} at a time"
        self._set("", **settings)
        self._set(reason, **{"SOLVER.MAX_ITER": iterations})

    def describe(self) -> str:
        """Return text with the data, the config, and each setting that differs from the config."""
        base = config_from_args(
            argparse.Namespace(config_file=self.config_file, opts=[], eval_only=False)
        )
        rows = []
        for key, (value, reason) in self._settings.items():
            node: Any = base
            for part in key.split("."):
                node = node.get(part) if isinstance(node, CfgNode) else None
            if key not in self._overrides and node != value:
                rows.append((key, str(value), reason))
        widths = [max((len(row[i]) for row in rows), default=0) for i in (0, 1)]
        widths[1] = min(widths[1], 32)
        shown = [f"  {k:{widths[0]}}  {v:{widths[1]}}  {why}".rstrip() for k, v, why in rows]
        return "\n".join([*self._lines, "settings:", *shown])
