"""Describe this installation, or a checkpoint.

examples:
  d2lite info                                versions, devices
  d2lite info --weights runs/train-1         classes, config and size of a model
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--weights", metavar="RUN", help="folder of a run, or path of a checkpoint")
    parser.add_argument("--config", action="store_true", help="also print its full config")


def run(args: argparse.Namespace) -> None:
    """Print a table."""
    if not args.weights:
        from d2lite.utils.collect_env import collect_env_info

        print(collect_env_info())
        return
    import os

    from d2lite.checkpoint import find_checkpoint
    from d2lite.checkpoint.reading import read_checkpoint_file
    from d2lite.config import CfgNode, get_cfg
    from d2lite.config.changes import changed_settings
    from d2lite.engine.from_checkpoint import about_weights, weights_of_run

    weights = weights_of_run(args.weights)
    about = about_weights(weights)
    content = read_checkpoint_file(find_checkpoint(weights))
    model = content.get("model", content)
    count = sum(getattr(value, "size", 0) if not callable(getattr(value, "size", None))
                else value.numel() for value in model.values())  # fmt: skip
    print(f"{weights}: {os.path.getsize(find_checkpoint(weights)) / 2**20:.1f} MiB")
    print(f"weights: {len(model)} tensors, {count / 1e6:.2f} million values")
    if isinstance(content.get("iteration"), int):
        print(f"iterations: {content['iteration'] + 1}")
    if not about:
        print("It contains neither a config nor class names: it was not written by d2lite")
        return
    print(f"written by d2lite {about.get('version', '(unknown version)')}")
    for kind in ("thing_classes", "stuff_classes", "keypoint_names"):
        if names := about["metadata"].get(kind):
            print(f"{len(names)} {kind}: {', '.join(map(str, names))}")
    if about.get("config_kind") == "yacs":
        config = CfgNode(about["config"])
        print("config:" if args.config else "config, where it differs from the default:")
        print((config if args.config else changed_settings(config, get_cfg())).dump(), end="")
