#!/usr/bin/env python3
"""Train or evaluate a model from a lazy config (a Python file).

    python tools/lazyconfig_train_net.py \\
        --config-file configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py
    python tools/lazyconfig_train_net.py --config-file CONFIG.py --resume
    python tools/lazyconfig_train_net.py --config-file CONFIG.py --eval-only \\
        train.init_checkpoint=output/model_final.pth dataloader.test.num_workers=0

Overrides are KEY=VALUE. The implementation is in `d2lite/engine/lazy_program.py`.
"""

from d2lite.engine import default_argument_parser, run_program
from d2lite.engine.lazy_program import main

if __name__ == "__main__":
    parser = default_argument_parser()
    parser.add_argument(
        "--trust-config",
        action="store_true",
        help="let a yaml config call any function; a Python config is a program and always can",
    )
    run_program(main, parser)
