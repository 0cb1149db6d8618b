"""Export a trained model as a graph for deployment: ONNX or torch.export.

examples:
  d2lite export --weights runs/cells-1                    ONNX, for images of the test size
  d2lite export --weights runs/cells-1 --format pt2 --size 480 640 --output cells.pt2
"""

import argparse

from d2lite.utils.arguments import add_config_argument, add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.usage = "d2lite export --weights RUN [options] [KEY VALUE ...]"
    parser.add_argument(
        "--weights", required=True, metavar="RUN", help="folder of a run, or a checkpoint"
    )
    parser.add_argument("--format", default="onnx", choices=["onnx", "pt2"], help="default: onnx")
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="of the image that the graph takes (default: a square of INPUT.MIN_SIZE_TEST)",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="default: model.FORMAT next to the weights"
    )
    add_config_argument(parser)
    add_overrides(parser, anywhere=True)


def run(args: argparse.Namespace) -> None:
    """Export and save."""
    import os

    import torch

    from d2lite.checkpoint import find_checkpoint
    from d2lite.engine import DefaultPredictor, config_from_args
    from d2lite.engine.from_checkpoint import weights_of_run
    from d2lite.export import export_program

    weights = weights_of_run(args.weights)
    args.opts = ["MODEL.WEIGHTS", weights, *args.opts]
    predictor = DefaultPredictor(config_from_args(args))
    cfg = predictor.cfg
    side = cfg.INPUT.MIN_SIZE_TEST or 800
    height, width = args.size or (side, side)
    channels = len(cfg.MODEL.PIXEL_MEAN)
    image = torch.zeros(channels, height, width, device=cfg.MODEL.DEVICE)
    exported = export_program(predictor.model, image)
    folder = os.path.dirname(find_checkpoint(weights))
    path = args.output or os.path.join(folder, f"model.{args.format}")
    (exported.save_onnx if args.format == "onnx" else exported.save)(path)
    print(
        f"Wrote {path}: takes an image ({channels}, {height}, {width}) with values 0 to 255 in "
        f"{cfg.INPUT.FORMAT} order, returns {', '.join(exported.output_names)}"
    )
