"""List the configs of the model zoo, or show one.

examples:
  d2lite configs mask R_50                   names that contain both words
  d2lite configs --show quick_start          the settings that differ from the defaults
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="list names that contain all words"
    )
    parser.add_argument("--show", metavar="NAME", help="print the settings it changes")
    parser.add_argument("--full", action="store_true", help="with --show: print all of its keys")


def run(args: argparse.Namespace) -> None:
    """Print names, or a config as yaml."""
    from d2lite.config.files import config_names, find_config

    if args.show is None:
        names = [n for n in config_names() if all(w.lower() in n.lower() for w in args.words)]
        if not names:
            raise ValueError(f"no config in the zoo has {' and '.join(args.words)} in its name")
        print("\n".join(name.removesuffix(".yaml") for name in names))
        return
    path = find_config(args.show)
    if path.endswith(".py"):
        from d2lite.utils.file_io import read_text

        print(read_text(path), end="")
        return
    from d2lite.config import get_cfg
    from d2lite.config.changes import changed_settings
    from d2lite.projects import add_projects

    cfg = get_cfg()
    add_projects(cfg, path)
    defaults = cfg.clone()
    cfg.merge_from_file(path)
    print((cfg if args.full else changed_settings(cfg, defaults)).dump(), end="")
