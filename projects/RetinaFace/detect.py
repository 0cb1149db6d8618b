#!/usr/bin/env python3
"""Find faces and their landmarks in photographs, and draw them.

    python projects/RetinaFace/detect.py --input photo.jpg --output-dir faces \\
        --config-file projects/RetinaFace/configs/retinaface_mobilenet0.25.yaml \\
        MODEL.WEIGHTS projects/RetinaFace/tests/data/mobilenet0.25_Final.pth
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from d2lite.data import Metadata
from d2lite.data.detection_utils import read_image
from d2lite.engine import DefaultPredictor, config_from_args
from d2lite.projects.retinaface import FACE_METADATA
from d2lite.structures import Instances
from d2lite.utils.cli import report_user_errors
from d2lite.visualization import Visualizer


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line; `argv` defaults to that of the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--input", nargs="+", required=True, metavar="IMAGE")
    parser.add_argument("--output-dir", default="faces", help="folder for the drawings")
    parser.add_argument("--score", type=float, default=0.5, help="minimum score of a face")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config changes: KEY VALUE ...")
    return parser.parse_args(argv)


def describe(faces: Instances) -> str:
    """Return one line for each face: its score, box and landmarks, in pixels."""
    names = FACE_METADATA["keypoint_names"]
    lines = []
    for i in range(len(faces)):
        box = " ".join(f"{v:.1f}" for v in faces.pred_boxes.tensor[i].tolist())
        points = zip(names, faces.pred_keypoints[i, :, :2].tolist(), strict=True)
        landmarks = ", ".join(f"{name} {x:.1f} {y:.1f}" for name, (x, y) in points)
        lines.append(f"  {float(faces.scores[i]):.3f}  box {box}  {landmarks}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Detect, print and draw."""
    args = parse_args(argv)
    with report_user_errors():
        predictor = DefaultPredictor(config_from_args(args))
        metadata = Metadata(name="faces").set(**FACE_METADATA)
        folder = Path(args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for file_name in args.input:
            image = read_image(file_name, "BGR")
            faces = predictor(image)["instances"].to("cpu")
            faces = faces[faces.scores > args.score]
            drawing = Visualizer(image[:, :, ::-1], metadata).draw_instance_predictions(faces)
            target = folder / f"{Path(file_name).stem}_faces.jpg"
            drawing.save(str(target))
            print(f"{file_name}: {len(faces)} faces, drawn into {target}\n{describe(faces)}")


if __name__ == "__main__":
    main()
