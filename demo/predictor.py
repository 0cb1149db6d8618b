"""Detect objects in images and videos, and draw them."""

import queue
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch import multiprocessing

from d2lite.config import CfgNode
from d2lite.engine import DefaultPredictor, about_weights
from d2lite.engine.from_checkpoint import model_metadata
from d2lite.projects import import_project
from d2lite.utils.video_files import frames_of
from d2lite.visualization import ColorMode, VideoVisualizer, VisImage, Visualizer

NUM_PROPOSALS = 20  # drawn for a model that only proposes regions
_LIVENESS_PERIOD = 1.0  # seconds between checks of whether the worker processes still run


class VisualizationDemo:
    """A model, and drawings of its predictions."""

    def __init__(
        self, cfg: CfgNode, instance_mode: ColorMode = ColorMode.IMAGE, parallel: bool = False
    ):
        """
        Args:
            cfg: its MODEL.WEIGHTS are loaded. Class names come from the checkpoint, or else from
                the first of DATASETS.TEST.
            instance_mode: how instances are colored.
            parallel: predict in one process per GPU, while this process reads and draws. Useful
                for videos.
        """
        self.cpu_device = torch.device("cpu")
        self.instance_mode = instance_mode
        self.parallel = parallel
        if parallel:
            self.predictor = AsyncPredictor(cfg, num_gpus=torch.cuda.device_count())
            self.metadata = model_metadata(cfg, about_weights(cfg.MODEL.WEIGHTS))
        else:
            self.predictor = DefaultPredictor(cfg)
            self.metadata = self.predictor.metadata

    def run_on_image(self, image: np.ndarray) -> tuple[dict, VisImage]:
        """Predict and draw.

        Args:
            image: (H, W, 3) in BGR order, 0 to 255, as cv2.imread returns it.

        Returns:
            What the model returns for the image, and the drawing.
        """
        predictions = self.predictor(image)
        visualizer = Visualizer(image[:, :, ::-1], self.metadata, instance_mode=self.instance_mode)
        if "panoptic_seg" in predictions:
            segments, info = predictions["panoptic_seg"]
            visualizer.draw_panoptic_seg(segments.to(self.cpu_device), info)
        else:
            if "sem_seg" in predictions:
                visualizer.draw_sem_seg(self._labels(predictions["sem_seg"]))
            if "instances" in predictions:
                visualizer.draw_instance_predictions(predictions["instances"].to(self.cpu_device))
            elif "proposals" in predictions:
                proposals = predictions["proposals"].to(self.cpu_device).proposal_boxes
                visualizer.overlay_instances(boxes=proposals[:NUM_PROPOSALS])
        return predictions, visualizer.get_output()

    def run_on_video(self, video: cv2.VideoCapture) -> Iterator[np.ndarray]:
        """Predict and draw frame by frame; objects keep their colors.

        Args:
            video: a file or a camera, which is read to its end.

        Yields:
            (H, W, 3) drawings in BGR order, one for each frame.
        """
        visualizer = VideoVisualizer(self.metadata, self.instance_mode)
        for frame, predictions in self._predicted_frames(video):
            drawing = self._draw_frame(visualizer, frame[:, :, ::-1], predictions)
            yield cv2.cvtColor(drawing.get_image(), cv2.COLOR_RGB2BGR)

    def _predicted_frames(self, video: cv2.VideoCapture) -> Iterator[tuple[np.ndarray, dict]]:
        if not self.parallel:
            for frame in self._frame_from_video(video):
                yield frame, self.predictor(frame)
            return
        waiting: deque[np.ndarray] = deque()
        for frame in self._frame_from_video(video):
            waiting.append(frame)
            self.predictor.put(frame)
            if len(waiting) >= self.predictor.default_buffer_size:
                yield waiting.popleft(), self.predictor.get()
        while waiting:
            yield waiting.popleft(), self.predictor.get()

    def _frame_from_video(self, video: cv2.VideoCapture) -> Iterator[np.ndarray]:
        yield from frames_of(video)

    def _draw_frame(
        self, visualizer: VideoVisualizer, frame: np.ndarray, predictions: dict
    ) -> VisImage:
        if "panoptic_seg" in predictions:
            segments, info = predictions["panoptic_seg"]
            return visualizer.draw_panoptic_seg_predictions(
                frame, segments.to(self.cpu_device), info
            )
        if "instances" in predictions:
            return visualizer.draw_instance_predictions(
                frame, predictions["instances"].to(self.cpu_device)
            )
        if "sem_seg" in predictions:
            return visualizer.draw_sem_seg(frame, self._labels(predictions["sem_seg"]))
        raise ValueError(
            f"the model returns {sorted(predictions)}; videos are drawn with 'instances', "
            "'sem_seg' or 'panoptic_seg'"
        )

    def _labels(self, sem_seg: torch.Tensor) -> torch.Tensor:
        return sem_seg.argmax(dim=0).to(self.cpu_device)


class AsyncPredictor:
    """Predictors in separate processes, each with a copy of the model.

    Results come in the order of the images. `shutdown` ends the processes; they also end with the
    program.
    """

    def __init__(self, cfg: CfgNode, num_gpus: int = 1):
        """num_gpus: number of processes, each with its own GPU; 0: one process on the CPU."""
        context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
        num_workers = max(num_gpus, 1)
        self._tasks = context.Queue(maxsize=num_workers * 3)
        self._answers = context.Queue(maxsize=num_workers * 3)
        self._put_index = self._get_index = 0
        self._early: dict[int, Any] = {}  # results that are not due yet
        self._workers = []
        for i in range(num_workers):
            worker_cfg = cfg.clone()
            worker_cfg.defrost()
            worker_cfg.MODEL.DEVICE = f"cuda:{i}" if num_gpus > 0 else "cpu"
            worker = context.Process(
                target=_predict_images,
                args=(worker_cfg, self._tasks, self._answers),
                daemon=True,
            )
            worker.start()
            self._workers.append(worker)

    def put(self, image: np.ndarray) -> None:
        """Queue an image; waits while the queue is full."""
        self._put_index += 1
        self._exchange(lambda: self._tasks.put((self._put_index, image), timeout=_LIVENESS_PERIOD))

    def get(self) -> dict:
        """Return the result of the next image, on the CPU.

        Raises:
            RuntimeError: the prediction failed; the message has the traceback.
        """
        self._get_index += 1
        while self._get_index not in self._early:
            self._take(self._exchange(lambda: self._answers.get(timeout=_LIVENESS_PERIOD)))
        return self._early.pop(self._get_index)

    def __len__(self) -> int:
        """Return the number of images whose results have not been fetched."""
        return self._put_index - self._get_index

    def __call__(self, image: np.ndarray) -> dict:
        """Return the result of one image."""
        self.put(image)
        return self.get()

    def shutdown(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.terminate()
            worker.join()

    @property
    def default_buffer_size(self) -> int:
        """Number of images to queue before the first result is fetched."""
        return len(self._workers) * 5

    def _take(self, answer: tuple[int, Any]) -> None:
        index, result = answer
        if isinstance(result, str):
            raise RuntimeError(f"a prediction process failed:\n{result}")
        self._early[index] = result

    def _exchange(self, step: Callable[[], Any]) -> Any:
        """Repeat a step with a queue until it succeeds, or a process has ended.

        Meanwhile, answers are taken from their queue, so that no process waits for space in it.
        """
        while True:
            try:
                return step()
            except (queue.Full, queue.Empty):
                pass
            while not self._answers.empty():
                self._take(self._answers.get())
            if not all(worker.is_alive() for worker in self._workers):
                raise RuntimeError("a prediction process has ended; see its output above")


def _predict_images(cfg: CfgNode, tasks: queue.Queue, answers: queue.Queue) -> None:
    """Predict images until the process is terminated.

    Answers are (index, result), or (index, traceback) after an error, which ends the process.
    """
    index = 0
    try:
        for name in cfg.PROJECTS:
            import_project(name)
        predictor = DefaultPredictor(cfg)
        while True:
            index, image = tasks.get()
            answers.put((index, _on_cpu(predictor(image))))
    except Exception:
        answers.put((index, traceback.format_exc()))


def _on_cpu(result: Any) -> Any:
    if isinstance(result, dict):
        return {key: _on_cpu(value) for key, value in result.items()}
    if isinstance(result, (list, tuple)):
        return type(result)(_on_cpu(value) for value in result)
    return result.to("cpu") if hasattr(result, "to") else result
