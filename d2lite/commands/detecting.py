"""The work of `d2lite predict`: from sources, through the model, to outputs."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from d2lite.commands.outputs import OUTPUTS, Output, Result
from d2lite.commands.sources import Source, distinct_names, find_sources
from d2lite.config import CfgNode
from d2lite.data.detection_utils import read_image
from d2lite.engine import DefaultPredictor, config_from_args
from d2lite.engine.from_checkpoint import weights_of_run
from d2lite.engine.predictor import SlicedPredictor
from d2lite.engine.run_folder import new_run_folder
from d2lite.utils.printable import printable
from d2lite.utils.registry import did_you_mean
from d2lite.utils.video_files import frames_of, frames_per_second, open_video

_UNREADABLE = (OSError, ValueError)  # what reading an image or a video raises


def detect(args: argparse.Namespace) -> int:
    """Detect on everything that the arguments of `d2lite predict` name.

    Returns:
        The exit status: 1 if a source could not be read, else 0.
    """
    sources, formats = find_sources(args.sources), args.save.split(",")
    _check(args, sources, formats)
    opts = ["MODEL.WEIGHTS", weights_of_run(args.weights), *args.opts]
    args.opts = opts + (["MODEL.DEVICE", args.device] if args.device else [])
    cfg = config_from_args(args)
    least = min([args.threshold, *(_class_threshold(text)[1] for text in args.class_threshold)])
    # The model itself must keep every detection that the thresholds of the command line accept.
    for settings in cfg.MODEL.values():  # of every kind of detector, including those of projects
        if isinstance(settings, CfgNode) and "SCORE_THRESH_TEST" in settings:
            settings.SCORE_THRESH_TEST = min(float(settings.SCORE_THRESH_TEST), float(least))
    cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = float(least)
    predictor = DefaultPredictor(cfg)
    thresholds = thresholds_of(predictor.metadata, args.threshold, args.class_threshold)
    job = Detection(
        predictor,
        thresholds,
        batch=args.batch,
        tile=args.tile,
        overlap=args.overlap,
        whole=not args.tiles_only,
        max_frames=args.max_frames,
    )
    folder = args.output or new_run_folder("predict")
    os.makedirs(folder, exist_ok=True)
    outputs = [OUTPUTS[name](folder, predictor.metadata) for name in formats]
    try:
        job.run(sources, outputs)
    except KeyboardInterrupt:
        print("\nStopped; the results so far are saved")
    finally:
        for output in outputs:
            output.close()
    print(f"{job.count} images, {job.objects} objects, {job.seconds:.1f} s; results: {folder}")
    if job.failed:
        print(f"{job.failed} of {len(sources)} sources could not be read", file=sys.stderr)
    return int(job.failed > 0)


def _check(args: argparse.Namespace, sources: Sequence[Source], formats: Sequence[str]) -> None:
    """Raise ValueError for errors that would otherwise appear only after the model is loaded."""
    if not sources:
        raise ValueError("nothing to detect on: name images, folders or videos")
    for name in formats:
        if name not in OUTPUTS:
            hint = did_you_mean(name, OUTPUTS)
            raise ValueError(f"--save has {name!r}; use one or more of {','.join(OUTPUTS)}.{hint}")
    if args.batch < 1:
        raise ValueError(f"--batch is {args.batch}; it must be at least 1")
    for text in args.class_threshold:
        _class_threshold(text)
    folders = {os.path.realpath(os.path.dirname(s.path) or ".") for s in sources}
    if "drawn" in formats and args.output and os.path.realpath(args.output) in folders:
        raise ValueError(
            f"--output {args.output} contains the input images, which drawings with the same names "
            "would overwrite; choose another folder"
        )


def _class_threshold(text: str) -> tuple[str, float]:
    """Return the name and the number in NAME=X."""
    name, _, value = text.rpartition("=")
    try:
        if name:
            return name, float(value)
    except ValueError:
        pass
    raise ValueError(f"--class-threshold is {text!r}; expected NAME=X, such as RBC=0.7")


def thresholds_of(metadata: Any, threshold: float, by_class: Sequence[str]) -> torch.Tensor:
    """Return the minimum score of each class.

    Args:
        metadata: with `thing_classes`.
        threshold: of classes that `by_class` does not name.
        by_class: NAME=X.

    Returns:
        (K,) float tensor; a single value if the metadata has no class names.

    Raises:
        ValueError: the model has no such class; the message suggests similar names.
    """
    classes = list(metadata.get("thing_classes") or ())
    values = torch.full((max(len(classes), 1),), threshold)
    for name, value in map(_class_threshold, by_class):
        if name not in classes:
            raise ValueError(
                f"--class-threshold: the model has no class {name!r}."
                f"{did_you_mean(name, classes)} It has: {', '.join(classes)}"
            )
        values[classes.index(name)] = value
    return values


class Detection:
    """A run over sources, which detects in batches and passes the results to outputs.

    Attributes:
        count, objects, failed: images or frames, detections, and sources that could not be read.
        seconds: spent in the model.
    """

    def __init__(
        self,
        predictor: DefaultPredictor,
        thresholds: torch.Tensor,
        *,
        batch: int = 1,
        tile: int | None = None,
        overlap: float = 0.2,
        whole: bool = True,
        max_frames: int | None = None,
    ) -> None:
        """
        Args:
            thresholds: (K,) minimum score of each class.
            batch: number of images, or tiles, that the model gets at once.
            tile: side of tiles in pixels; None: whole images.
            overlap: as a fraction of the tiles' sides.
            whole: detect in the whole image as well as in its tiles.
            max_frames: of each video.
        """
        self._predictor, self._thresholds = predictor, thresholds
        self._batch, self._max_frames = batch, max_frames
        self._sliced = SlicedPredictor(predictor, tile, overlap, batch, whole) if tile else None
        self._outputs: Sequence[Output] = ()
        self.count = self.objects = self.failed = 0
        self.seconds = 0.0

    def run(self, sources: Sequence[Source], outputs: Sequence[Output]) -> None:
        """Detect on all sources; those that cannot be read are reported and counted."""
        self._outputs = outputs
        names = distinct_names([source.name_path for source in sources])
        waiting: list[Result] = []
        for source, name in zip(sources, names, strict=True):
            if source.kind != "image":
                self._finish(waiting)
                self._run_on_video(source, name)
                continue
            try:
                size = self._predictor.cfg.INPUT.MAX_VALUE_16_BIT
                image = read_image(source.path, "BGR", size)
            except _UNREADABLE as error:
                self._report(source, error)
                continue
            waiting.append(Result(image, {}, source.path, name))
            if len(waiting) == self._batch:
                self._finish(waiting)
        self._finish(waiting)

    def _report(self, source: Source, error: Exception) -> None:
        self.failed += 1
        message = str(error)
        message = message if source.path in message else f"{source.path}: {message}"
        print(printable(f"{type(error).__name__}: {message}"), file=sys.stderr)

    def _run_on_video(self, source: Source, name: str) -> None:
        try:
            video = open_video(int(source.path) if source.kind == "camera" else source.path)
        except _UNREADABLE as error:
            self._report(source, error)
            return
        waiting: list[Result] = []
        before, start, number = self.objects, self.count, -1
        try:
            for number, frame in enumerate(frames_of(video)):
                if number == self._max_frames:
                    break
                fps = frames_per_second(video)
                waiting.append(Result(frame, {}, source.path, name, number, fps))
                if len(waiting) == self._batch:
                    self._finish(waiting)
            self._finish(waiting)
        finally:
            video.release()
            for output in self._outputs:
                output.end_source()
        if number < 0:
            self._report(source, ValueError("the video has no frames"))
        else:
            print(f"{source.path}: {self.objects - before} objects in {self.count - start} frames")

    def _finish(self, waiting: list[Result]) -> None:
        """Detect on the waiting images, and write the results."""
        if not waiting:
            return
        start = time.perf_counter()
        images = [result.image for result in waiting]
        found = (
            self._predictor.predict_batch(images)
            if self._sliced is None
            else [self._sliced(image) for image in images]
        )
        self.seconds += time.perf_counter() - start
        for result, output in zip(waiting, found, strict=True):
            result.output = output
            if "instances" in output:
                kept = output["instances"].to("cpu")
                index = kept.pred_classes.clamp(max=len(self._thresholds) - 1)
                kept = kept[kept.scores >= self._thresholds[index]]
                result.output = {**output, "instances": kept}
            for writer in self._outputs:
                writer.add(result)
            self.count += 1
            self.objects += len(result.instances) if result.instances is not None else 0
            if result.frame is None:
                print(f"{result.file_name}: {self._describe(result)}")
        waiting.clear()

    def _describe(self, result: Result) -> str:
        if result.instances is None:
            return ", ".join(result.output)
        counts = Counter(result.instances.pred_classes.tolist())
        named = [f"{n} {self._outputs[0].class_name(kind)}" for kind, n in sorted(counts.items())]
        return ", ".join(named) or "nothing found"
