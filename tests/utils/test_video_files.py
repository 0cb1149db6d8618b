"""Small videos are written and read."""

import cv2
import numpy as np
import pytest

from d2lite.utils.video_files import VideoSink, frames_of, frames_per_second, open_video


def gray(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_frames_are_those_that_were_written(tmp_path):
    path = tmp_path / "new" / "a.mp4"
    sink = VideoSink(str(path), 5)
    sink.write_all([gray(20), gray(120), gray(220)])
    video = open_video(str(path))
    assert frames_per_second(video) == pytest.approx(5)
    frames = list(frames_of(video))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3
    assert [frame.mean() for frame in frames] == pytest.approx([20, 120, 220], abs=5)


def test_a_sink_without_frames_writes_no_file(tmp_path):
    sink = VideoSink(str(tmp_path / "a.mp4"), 5)
    sink.write_all([])
    sink.close()
    assert not list(tmp_path.iterdir())


def test_unknown_frame_rates_are_30(monkeypatch):
    class Stream:
        def get(self, what):
            return 0.0 if what == cv2.CAP_PROP_FPS else 1.0

    assert frames_per_second(Stream()) == 30


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.mp4: file not found"):
        open_video(str(tmp_path / "none.mp4"))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4: OpenCV cannot read it as a video"):
        open_video(str(tmp_path / "text.mp4"))


@pytest.mark.parametrize(
    "source, message",
    [(7, "camera 7: no camera was found"), ("rtsp://a/b", "rtsp://a/b: OpenCV cannot read it")],
)
def test_cameras_and_streams_are_not_looked_for_as_files(monkeypatch, source, message):
    opened = []

    class Closed:
        def __init__(self, source):
            opened.append(source)

        def isOpened(self):
            return False

    monkeypatch.setattr(cv2, "VideoCapture", Closed)
    with pytest.raises(ValueError, match=message):
        open_video(source)
    assert opened == [source]


def test_files_that_cannot_be_written_are_named(tmp_path):
    sink = VideoSink(str(tmp_path / "a.unknown"), 5)
    with pytest.raises(ValueError, match=r"a\.unknown: OpenCV cannot write such a file; use \.mp4"):
        sink.write(gray(0))
