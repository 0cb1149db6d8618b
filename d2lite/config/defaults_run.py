"""Defaults of SOLVER and TEST, and of the run as a whole."""

from fvcore.common.config import CfgNode as _CfgNode

__all__ = ["add_run_defaults"]


def add_run_defaults(cfg: _CfgNode) -> None:
    """Add the groups that tell how long and how a model is trained, and how it is tested."""
    node = type(cfg)
    cfg.SOLVER, cfg.TEST, cfg.GLOBAL, cfg.MODEL_EMA = node(), node(), node(), node()
    _add_schedule(cfg.SOLVER)
    _add_optimizer(cfg.SOLVER, node)
    _add_test(cfg.TEST, node)
    _add_ema(cfg.MODEL_EMA)
    _add_general(cfg)


def _add_schedule(solver: _CfgNode) -> None:
    # Name of the schedule: WarmupMultiStepLR, WarmupCosineLR, WarmupStepWithFixedGammaLR.
    solver.LR_SCHEDULER_NAME = "WarmupMultiStepLR"
    # Training steps.
    solver.MAX_ITER = 40000
    # Learning rate after warm-up, and at the end of WarmupCosineLR.
    solver.BASE_LR = 0.001
    solver.BASE_LR_END = 0.0
    # Factor of the learning rate at each of STEPS (iterations, ascending).
    solver.GAMMA = 0.1
    solver.STEPS = (30000,)
    # Number of equal parts, of WarmupStepWithFixedGammaLR, with a drop by GAMMA between them.
    solver.NUM_DECAYS = 3
    # Warm-up starts with this factor of the learning rate,
    solver.WARMUP_FACTOR = 1.0 / 1000
    # takes this many iterations,
    solver.WARMUP_ITERS = 1000
    # and goes "linear", or is "constant".
    solver.WARMUP_METHOD = "linear"
    # Start the schedule when warm-up ends, rather than with it.
    solver.RESCALE_INTERVAL = False
    # Iterations between checkpoints.
    solver.CHECKPOINT_PERIOD = 5000
    # New in d2lite: how many of the latest checkpoints are kept; 0 keeps all.
    solver.CHECKPOINT_KEEP = 0

    # Images of one step, over all GPUs together.
    solver.IMS_PER_BATCH = 16
    # Number of GPUs that the schedule was made for. If it is not 0 and another number is used,
    # batch size, learning rate and iterations are scaled to that number.
    solver.REFERENCE_WORLD_SIZE = 0
    # New in d2lite: if IMS_PER_BATCH differs from REFERENCE_BATCH, scale the learning rate by their
    # ratio, and iterations (steps, warm-up, evaluation and checkpoint periods too) by its inverse.
    solver.AUTO_SCALE_LR = False
    solver.REFERENCE_BATCH = 16


def _add_optimizer(solver: _CfgNode, node: type[_CfgNode]) -> None:
    # New in d2lite: "SGD" or "AdamW".
    solver.OPTIMIZER_NAME = "SGD"
    # Of SGD.
    solver.MOMENTUM = 0.9
    solver.NESTEROV = False
    # New in d2lite: of AdamW.
    solver.BETAS = (0.9, 0.999)
    # Weight decay of weights, and of the parameters of normalization layers.
    solver.WEIGHT_DECAY = 0.0001
    solver.WEIGHT_DECAY_NORM = 0.0
    # Weight decay of biases; None: as weights.
    solver.WEIGHT_DECAY_BIAS = None
    # Factor of the learning rate for biases; Detectron1 had 2.0.
    solver.BIAS_LR_FACTOR = 1.0
    # New in d2lite: factor of the learning rate for the backbone, besides the others.
    solver.BACKBONE_LR_FACTOR = 1.0

    # Limit the gradients.
    solver.CLIP_GRADIENTS = node()
    solver.CLIP_GRADIENTS.ENABLED = False
    # Of each parameter on its own: "value" limits each entry, "norm" the norm.
    solver.CLIP_GRADIENTS.CLIP_TYPE = "value"
    # The limit.
    solver.CLIP_GRADIENTS.CLIP_VALUE = 1.0
    # p of the norm, for "norm"; float("inf") is the greatest entry.
    solver.CLIP_GRADIENTS.NORM_TYPE = 2.0

    # Automatic mixed precision in training: on GPUs half the memory and time, about the same AP.
    solver.AMP = node()
    solver.AMP.ENABLED = False
    # New in d2lite: "float16" with loss scaling, or "bfloat16", which needs none, and which CPUs
    # always take.
    solver.AMP.DTYPE = "float16"


def _add_test(test: _CfgNode, node: type[_CfgNode]) -> None:
    # Figures that the evaluation must reach, as [[dataset, task, metric, value, tolerance], ...]
    # such as [["coco_2017_val", "bbox", "AP", 38.5, 0.2]]; the run fails where it does not.
    test.EXPECTED_RESULTS = []
    # Iterations between evaluations in training; 0: only one, at its end.
    test.EVAL_PERIOD = 0
    # Standard deviations of keypoints, for OKS; empty: COCO's 17. As many as there are keypoints.
    test.KEYPOINT_OKS_SIGMAS = []
    # The most detections of an image.
    test.DETECTIONS_PER_IMAGE = 100
    # New in d2lite: how many test images are drawn with their detections after an evaluation, into
    # OUTPUT_DIR/visualizations and the event storage.
    test.DRAW_IMAGES = 0
    # New in d2lite: metric such as "bbox/AP" whose best checkpoint is kept as model_best.pth; "":
    # none.
    test.BEST_METRIC = ""
    # New in d2lite: evaluations without a better BEST_METRIC after which training stops; 0: never.
    test.PATIENCE = 0

    # Test-time augmentation: detect at several sizes, mirrored too, and merge.
    test.AUG = node()
    test.AUG.ENABLED = False
    # Short sides in pixels, the greatest long side, and whether to mirror.
    test.AUG.MIN_SIZES = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)
    test.AUG.MAX_SIZE = 4000
    test.AUG.FLIP = True

    # Compute the statistics of BatchNorm anew before each evaluation, from this many batches.
    test.PRECISE_BN = node()
    test.PRECISE_BN.ENABLED = False
    test.PRECISE_BN.NUM_ITER = 200


def _add_ema(ema: _CfgNode) -> None:
    # Follow the weights with an exponential moving average. It is evaluated in their place, and
    # written as model_final_ema.pth (and model_best_ema.pth with TEST.BEST_METRIC).
    ema.ENABLED = False
    # Share of the old average that each step keeps; it spans some 1 / (1 - DECAY) steps. After t
    # steps it is at most (1 + t) / (10 + t), so that a short training does not keep its beginning.
    ema.DECAY = 0.999


def _add_general(cfg: _CfgNode) -> None:
    # Folder for logs, checkpoints and results.
    cfg.OUTPUT_DIR = "./output"
    # Seed of all random numbers; negative: a new one each time, which is logged.
    cfg.SEED = -1
    # Let cuDNN try its algorithms and take the fastest. It helps when images are of few sizes.
    cfg.CUDNN_BENCHMARK = False
    # Precision of float32 matrix products on GPUs: "highest", "high" (TF32), "medium"; "" leaves
    # torch's setting.
    cfg.FLOAT32_PRECISION = ""
    # Iterations between pictures that the model draws of its training; 0: none.
    cfg.VIS_PERIOD = 0
    # New in d2lite: packages under projects/ to import, so that their models can be named.
    cfg.PROJECTS = []
    # Room for a value of a quick experiment, which code reads through global_cfg. Better not used.
    cfg.GLOBAL.HACK = 1.0
