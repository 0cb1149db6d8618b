"""Reading and writing videos with OpenCV."""

import os
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
STREAMS = ("rtsp://", "rtmp://", "udp://")


def open_video(source: str | int) -> cv2.VideoCapture:
    """Open a video file, a stream (`rtsp://...`), or a camera by its number.

    Raises:
        FileNotFoundError: the file does not exist. ValueError: it cannot be read.
    """
    is_stream = isinstance(source, str) and source.startswith(STREAMS)
    if isinstance(source, str) and not is_stream and not os.path.isfile(source):
        raise FileNotFoundError(f"{source}: file not found")
    video = cv2.VideoCapture(source)
    if not video.isOpened():
        if isinstance(source, int):
            raise ValueError(f"camera {source}: no camera was found")
        raise ValueError(f"{source}: OpenCV cannot read it as a video")
    return video


def frames_of(video: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """Yield the frames of a video, (H, W, 3) BGR, to its end."""
    while video.isOpened():
        success, frame = video.read()
        if not success:
            return
        yield frame


def frames_per_second(video: cv2.VideoCapture) -> float:
    """Return the frame rate of a video; 30 if it is unknown."""
    return video.get(cv2.CAP_PROP_FPS) or 30.0


class VideoSink:
    """A video file to write frames to; the first one determines its size."""

    def __init__(self, path: str, fps: float) -> None:
        """path: its extension determines the format. fps: frames per second."""
        self.path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """Add a (H, W, 3) BGR frame.

        Raises:
            ValueError: OpenCV cannot write such a file.
        """
        if self._writer is None:
            os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
            size = frame.shape[1], frame.shape[0]
            code = cv2.VideoWriter_fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(self.path, code, self._fps, size)
            if not self._writer.isOpened():
                raise ValueError(f"{self.path}: OpenCV cannot write such a file; use .mp4")
        self._writer.write(frame)

    def write_all(self, frames: Iterable[np.ndarray]) -> None:
        """Add all frames, and close the file."""
        for frame in frames:
            self.write(frame)
        self.close()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
