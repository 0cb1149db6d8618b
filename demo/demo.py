#!/usr/bin/env python3
"""Detect objects in images, a video or a webcam stream, and show or save the drawings.

    python demo/demo.py --input a.jpg "photos/*.jpg" --output drawn \\
        --opts MODEL.WEIGHTS output/quick_start/model_final.pth
    python demo/demo.py --video-input in.mp4 --output out.mp4 --opts MODEL.WEIGHTS ...
    python demo/demo.py --webcam --opts MODEL.WEIGHTS ...
    python demo/demo.py --config-file CONFIG.yaml --input a.jpg --opts MODEL.WEIGHTS foreign.pkl

Without --output, a window shows the drawings; any key continues, Esc quits.
"""

import argparse
import glob
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from predictor import VisualizationDemo
from tqdm import tqdm

from d2lite.commands.sources import distinct_names
from d2lite.config import CfgNode
from d2lite.data.detection_utils import read_image
from d2lite.engine import config_from_args
from d2lite.utils.cli import report_user_errors
from d2lite.utils.logger import setup_logger
from d2lite.utils.video_files import VideoSink, frames_per_second, open_video

WINDOW_NAME = "COCO detections"
ESC = 27
# With weights of the zoo, if neither a config nor weights are given.
_DEFAULT = "configs/quick_schedules/mask_rcnn_R_50_FPN_inference_acc_test.yaml"


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """Return the config of the file, or else of the weights, with --opts and the minimum score."""
    if not (args.config_file or "MODEL.WEIGHTS" in args.opts):
        args.config_file = str(Path(__file__).parents[1] / _DEFAULT)
    cfg = config_from_args(args)
    for settings in cfg.MODEL.values():  # of every kind of detector, including those of projects
        if isinstance(settings, CfgNode) and "SCORE_THRESH_TEST" in settings:
            settings.SCORE_THRESH_TEST = args.confidence_threshold
    combine = cfg.MODEL.PANOPTIC_FPN.COMBINE
    combine.INSTANCES_CONFIDENCE_THRESH = args.confidence_threshold
    cfg.freeze()
    return cfg


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="path to a config file; not needed if --opts MODEL.WEIGHTS names a checkpoint of "
        "d2lite, which contains its config",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--webcam", action="store_true", help="take frames from the webcam")
    source.add_argument("--video-input", metavar="FILE", help="path to a video file")
    source.add_argument(
        "--input", nargs="+", metavar="FILE", help="images, or patterns such as 'directory/*.jpg'"
    )
    parser.add_argument(
        "--output",
        help="a file or directory to save the drawings in; several images need a directory",
    )
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.5, help="minimum score to show"
    )
    parser.add_argument(
        "--opts",
        default=[],
        nargs=argparse.REMAINDER,
        help="settings that override the config file, at the end: KEY VALUE KEY VALUE ...",
    )
    return parser


def find_images(patterns: Sequence[str]) -> list[str]:
    """Return the files that paths and patterns name, each once.

    Raises:
        FileNotFoundError: a path or pattern matches no file.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        path = os.path.expanduser(pattern)
        if os.path.isdir(path):
            raise FileNotFoundError(
                f"--input {pattern} is a directory; name its images, as '{pattern.rstrip('/')}"
                "/*.jpg'"
            )
        matches = (
            [path] if os.path.isfile(path) else sorted(filter(os.path.isfile, glob.glob(path)))
        )
        if not matches:
            raise FileNotFoundError(f"--input {pattern}: file not found")
        found.update(dict.fromkeys(matches))
    return list(found)


def output_paths(inputs: Sequence[str], output: str) -> list[str]:
    """Return a distinct output file for each image.

    An output that is a directory, or has no file extension, gets files with the names of the
    images. If several images have the same name, the later ones are prefixed with the name of their
    directory, or get a number.

    Raises:
        ValueError: there is one file for several images, or a drawing would replace an image.
    """
    if os.path.isdir(output) or not os.path.splitext(output)[1]:
        os.makedirs(output, exist_ok=True)
        names = _distinct_names(inputs)
        paths = [os.path.join(output, name) for name in names]
    elif len(inputs) > 1:
        raise ValueError(
            f"--output {output} is one file for {len(inputs)} images; name a directory"
        )
    else:
        paths = [output]
    originals = {os.path.realpath(path) for path in inputs}
    for path in paths:
        if os.path.realpath(path) in originals:
            raise ValueError(f"--output would replace the image {path}; choose another place")
    return paths


def _distinct_names(inputs: Sequence[str]) -> list[str]:
    endings = [
        os.path.splitext(path)[1] if cv2.haveImageWriter(path) else ".jpg" for path in inputs
    ]
    return [name + ending for name, ending in zip(distinct_names(inputs), endings, strict=True)]


def check_window() -> None:
    """Raise a ValueError if no window can be opened."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        raise ValueError("there is no display to show the drawings on; save them with --output")
    gui = [line for line in cv2.getBuildInformation().splitlines() if line.strip()[:4] == "GUI:"]
    if gui and gui[0].split()[-1] == "NONE":
        raise ValueError(
            "the installed OpenCV has no windows; save the drawings with --output, or replace it: "
            "pip uninstall opencv-python-headless, then pip install opencv-python"
        )


def show(drawing: np.ndarray, wait: int) -> bool:
    """Show a BGR drawing for `wait` milliseconds, or until a key is pressed if 0.

    Returns:
        False if Esc was pressed.
    """
    cv2.namedWindow(WINDOW_NAME, cv2.WINDOW_NORMAL)
    cv2.imshow(WINDOW_NAME, drawing)
    return cv2.waitKey(wait) != ESC


def run_on_images(demo: VisualizationDemo, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Draw images into files, or without `outputs` in a window."""
    logger = setup_logger()
    for i, path in enumerate(tqdm(inputs, disable=not outputs)):
        start = time.time()
        predictions, drawing = demo.run_on_image(read_image(path, format="BGR"))
        found = "finished"
        if "instances" in predictions:
            found = f"detected {len(predictions['instances'])} instances"
        logger.info("%s: %s in %.2fs", path, found, time.time() - start)
        if outputs:
            drawing.save(outputs[i])
        elif not show(drawing.get_image()[:, :, ::-1], wait=0):
            return


def video_path(video_input: str, output: str) -> str:
    """Return the file to write: `output`, or a file named like the input in that directory.

    Raises:
        ValueError: the file already exists.
    """
    path = output
    if os.path.isdir(output):
        stem = os.path.splitext(os.path.basename(video_input))[0]
        path = os.path.join(output, f"{stem}.mp4")
    if os.path.isfile(path):
        raise ValueError(f"--output {path} already exists; remove it or choose another name")
    return path


def run_on_video(demo: VisualizationDemo, video_input: str, output: str | None) -> None:
    """Draw the frames of a video into another video, or without `output` in a window."""
    video = open_video(video_input)
    path = video_path(video_input, output) if output else None
    num_frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = tqdm(demo.run_on_video(video), total=num_frames if num_frames > 0 else None)
    if path is not None:
        VideoSink(path, frames_per_second(video)).write_all(frames)
        print(f"Saved {path}")
    else:
        play(frames)
    video.release()


def play(frames: Iterable[np.ndarray]) -> None:
    """Show frames as they come, until the last one or Esc."""
    for frame in frames:
        if not show(frame, wait=1):
            break
    cv2.destroyAllWindows()


def main(argv: Sequence[str] | None = None) -> None:
    """Check the arguments, load the model, and draw."""
    args = get_parser().parse_args(argv)
    setup_logger(name="fvcore")
    setup_logger().info("Arguments: %s", args)
    with report_user_errors():
        if not (args.webcam or args.video_input or args.input):
            raise ValueError("nothing to detect on; use --input, --video-input or --webcam")
        if args.webcam and args.output:
            raise ValueError("--webcam shows its frames and does not save them; leave --output out")
        if not args.output:
            check_window()
        # Find wrong paths before the model is loaded.
        inputs = find_images(args.input or ())
        outputs = output_paths(inputs, args.output) if inputs and args.output else []
        if args.video_input:
            open_video(args.video_input).release()
            if args.output:
                video_path(args.video_input, args.output)
        demo = VisualizationDemo(setup_cfg(args))
        if args.video_input:
            run_on_video(demo, args.video_input, args.output)
        elif args.webcam:
            camera = open_video(0)
            play(demo.run_on_video(camera))
            camera.release()
        else:
            run_on_images(demo, inputs, outputs)


if __name__ == "__main__":
    main()
