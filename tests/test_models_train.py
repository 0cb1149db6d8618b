"""Every kind of model, from its own zoo config made tiny: it learns, and it is evaluated."""

import itertools
import math
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from d2lite.config import CfgNode, LazyConfig, get_cfg, instantiate
from d2lite.data import (
    DatasetCatalog,
    MetadataCatalog,
)
from d2lite.engine import DefaultTrainer, SimpleTrainer
from d2lite.evaluation import inference_on_dataset
from d2lite.modeling import GeneralizedRCNNWithTTA
from d2lite.structures import BoxMode
from d2lite.utils.events import EventStorage

CONFIGS = Path(__file__).parents[1] / "configs"
NUM_IMAGES = 3
NUM_STEPS = 12

TINY = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 100,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 50,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.ROI_HEADS.NUM_CLASSES": -1,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
    # So few steps give no confident detections, and all of them are to be evaluated.
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": (16, 16),
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 5,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": -1,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT": 64,
    "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": 0.0,
    "MODEL.RETINANET.NUM_CLASSES": -1,
    "MODEL.RETINANET.NUM_CONVS": 1,
    "MODEL.RETINANET.SCORE_THRESH_TEST": 0.0,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MIN_SIZE_TEST": 64,
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.ASPECT_RATIO_GROUPING": False,
    "TEST.DETECTIONS_PER_IMAGE": 10,
    # The running averages of so few steps are far from the statistics of the final weights.
    "TEST.PRECISE_BN.ENABLED": True,
    "TEST.PRECISE_BN.NUM_ITER": 1,
    "SOLVER.IMS_PER_BATCH": NUM_IMAGES,
    "SOLVER.OPTIMIZER_NAME": "AdamW",  # needs no warm-up
    "SOLVER.BASE_LR": 0.002,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.STEPS": (),
    "SOLVER.MAX_ITER": NUM_STEPS,
    "SEED": 1,
}
PYRAMID = {"MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [64], [128]]}
ONE_LEVEL = {"MODEL.ANCHOR_GENERATOR.SIZES": [[16, 32]]}
SINGLE_STAGE = {
    "MODEL.ANCHOR_GENERATOR.SIZES": [[x, 1.26 * x, 1.59 * x] for x in (8, 16, 32, 64, 128)],
    # So few steps are taken up by forgetting a start that knows how rare objects are.
    "MODEL.RETINANET.PRIOR_PROB": 0.2,
}
SIGMOID = {"MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True}
FEDERATED = {
    **SIGMOID,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": True,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": 4,
}


@dataclass(frozen=True)
class Case:
    """A model: its config, what is changed in it, its data, and the losses and figures it has."""

    config: str
    losses: str
    figures: str
    changes: dict = field(default_factory=lambda: PYRAMID)
    data: str = "shapes"


RPN = "loss_rpn_cls loss_rpn_loc"
BOX = f"{RPN} loss_cls loss_box_reg"
CASCADE = f"{RPN} " + " ".join(f"loss_{x}_stage{i}" for i in range(3) for x in ("cls", "box_reg"))
DETECTION, SEGMENTATION = "COCO-Detection", "COCO-InstanceSegmentation"

CASES = {
    "faster_rcnn": Case(f"{DETECTION}/faster_rcnn_R_50_FPN_1x", BOX, "bbox/AP50"),
    "c4": Case(f"{DETECTION}/faster_rcnn_R_50_C4_1x", BOX, "bbox/AP50", ONE_LEVEL),
    "mask_c4": Case(
        f"{SEGMENTATION}/mask_rcnn_R_50_C4_1x",
        f"{BOX} loss_mask",
        "bbox/AP50 segm/AP50",
        ONE_LEVEL,
    ),
    "dc5": Case(f"{DETECTION}/faster_rcnn_R_50_DC5_1x", BOX, "bbox/AP50", ONE_LEVEL),
    "mask_rcnn": Case(
        f"{SEGMENTATION}/mask_rcnn_R_50_FPN_1x", f"{BOX} loss_mask", "bbox/AP50 segm/AP50"
    ),
    "giou": Case(
        f"{SEGMENTATION}/mask_rcnn_R_50_FPN_1x_giou", f"{BOX} loss_mask", "bbox/AP50 segm/AP50"
    ),
    "class_agnostic": Case(
        "Misc/mask_rcnn_R_50_FPN_1x_cls_agnostic", f"{BOX} loss_mask", "bbox/AP50 segm/AP50"
    ),
    "deformable": Case(
        "Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5", f"{BOX} loss_mask", "bbox/AP50 segm/AP50"
    ),
    "cascade": Case(
        "Misc/cascade_mask_rcnn_R_50_FPN_1x", f"{CASCADE} loss_mask", "bbox/AP50 segm/AP50"
    ),
    "keypoint_rcnn": Case(
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x",
        f"{BOX} loss_keypoint",
        "bbox/AP50 keypoints/AP50",
    ),
    "sigmoid": Case(
        f"{DETECTION}/faster_rcnn_R_50_FPN_1x", BOX, "bbox/AP50", {**PYRAMID, **SIGMOID}
    ),
    "federated": Case(
        "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
        f"{BOX} loss_mask",
        "bbox/AP50 segm/AP50",
        {**PYRAMID, **FEDERATED},
    ),
    "retinanet": Case(
        f"{DETECTION}/retinanet_R_50_FPN_1x", "loss_cls loss_box_reg", "bbox/AP50", SINGLE_STAGE
    ),
    "rpn": Case(f"{DETECTION}/rpn_R_50_FPN_1x", RPN, "box_proposals/AR@100"),
    "fast_rcnn": Case(
        f"{DETECTION}/fast_rcnn_R_50_FPN_1x",
        "loss_cls loss_box_reg",
        "bbox/AP50",
        {},
    ),
    "rotated": Case(
        "Shapes/rotated_faster_rcnn_R_18_FPN",
        BOX,
        "bbox/AP50",
        {**PYRAMID, "MODEL.ANCHOR_GENERATOR.ANGLES": [[-60, 0, 60]]},
        "shapes_rotated",
    ),
    # A loss that is alone is the total.
    "semantic": Case("Misc/semantic_R_50_FPN_1x", "", "sem_seg/mIoU", data="shapes_sem_seg"),
    "panoptic": Case(
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x",
        f"{BOX} loss_mask loss_sem_seg",
        "bbox/AP50 segm/AP50 sem_seg/mIoU panoptic_seg/PQ",
        data="shapes_panoptic",
    ),
}


@pytest.fixture(scope="module")
def few():
    """`few_NAME` for each NAME of shapes: its first images and its metadata."""
    names = ("shapes", "shapes_rotated", "shapes_sem_seg", "shapes_panoptic")
    for name in names:
        records = DatasetCatalog.get(f"{name}_val")[:NUM_IMAGES]
        DatasetCatalog.register(f"few_{name}", lambda records=records: records)
        metadata = MetadataCatalog.get(f"{name}_val").as_dict()
        metadata.pop("name")
        counts = [{"id": i + 1, "image_count": 10 * i + 5} for i in range(6)]
        MetadataCatalog.get(f"few_{name}").set(**metadata, class_image_count=counts)
    yield
    for name in names:
        DatasetCatalog.remove(f"few_{name}")
        MetadataCatalog.remove(f"few_{name}")


class OneBatchTrainer(DefaultTrainer):
    """Sees the same images, with the same augmentation, in every step."""

    @classmethod
    def build_train_loader(cls, cfg):
        return itertools.repeat(next(iter(super().build_train_loader(cfg))))


def tiny(case: Case, folder: Path) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{case.config}.yaml"))
    changes = {
        **TINY,
        **case.changes,
        "DATASETS.TRAIN": (f"few_{case.data}",),
        "DATASETS.TEST": (f"few_{case.data}",),
        "OUTPUT_DIR": str(folder),
    }
    if cfg.MODEL.LOAD_PROPOSALS:
        files = (write_proposals(folder / "proposals.pkl"),)
        changes |= {"DATASETS.PROPOSAL_FILES_TRAIN": files, "DATASETS.PROPOSAL_FILES_TEST": files}
    cfg.merge_from_list([part for change in changes.items() for part in change])
    return cfg


def write_proposals(path: Path) -> str:
    """Boxes that lie around and beside the objects of few_shapes."""
    records = DatasetCatalog.get("few_shapes")
    moves = np.array([[0, 0, 0, 0], [3, -3, 3, -3], [-4, 2, 6, 2], [20, 20, 20, 20]])
    boxes = [
        np.concatenate([np.array(a["bbox"]) + moves for a in record["annotations"]])
        for record in records
    ]
    found = {
        "ids": [record["image_id"] for record in records],
        "boxes": boxes,
        "objectness_logits": [np.linspace(5, -5, len(x)) for x in boxes],
        "bbox_mode": BoxMode.XYXY_ABS,
    }
    path.write_bytes(pickle.dumps(found))
    return str(path)


def assert_falling(losses: list[float]) -> None:
    assert len(losses) == NUM_STEPS
    assert np.mean(losses[-2:]) < 0.85 * losses[0], losses


def assert_figures(results: dict, wanted: str) -> None:
    for name in wanted.split():
        task, metric = name.split("/")
        figure = results[task][metric]
        assert math.isfinite(figure), f"{name} is {figure}"
        assert 0 <= figure <= 100
    assert {name.split("/")[0] for name in wanted.split()} == set(results)


@pytest.mark.parametrize("name", CASES)
def test_loss_falls_and_evaluation_gives_figures(name, few, tmp_path):
    case = CASES[name]
    trainer = OneBatchTrainer(tiny(case, tmp_path))
    results = trainer.train()
    history = trainer.storage.histories()
    assert {x for x in history if x.startswith("loss_")} == set(case.losses.split())
    assert_falling([value for value, _ in history["total_loss"].values()])
    assert_figures(results, case.figures)


@pytest.mark.parametrize("name", ["mask_rcnn"])
def test_evaluation_with_test_time_augmentation(name, few, tmp_path):
    cfg = tiny(CASES[name], tmp_path)
    cfg.TEST.AUG.MIN_SIZES = (48, 64)
    trainer = OneBatchTrainer(cfg)
    model = GeneralizedRCNNWithTTA(trainer.cfg, trainer.model)
    assert_figures(trainer.test(trainer.cfg, model), CASES[name].figures)


def test_fcos_of_a_lazy_config(few):
    cfg = LazyConfig.load(str(CONFIGS / DETECTION / "fcos_R_50_FPN_1x.py"))
    cfg.dataloader.train.dataset.names = cfg.dataloader.test.dataset.names = "few_shapes"
    cfg.dataloader.train.total_batch_size = NUM_IMAGES
    for loader in (cfg.dataloader.train, cfg.dataloader.test):
        loader.num_workers = 0
        loader.mapper.augmentations[0].short_edge_length = (64,)
    shrink_dense(cfg.model)
    model = instantiate(cfg.model)
    cfg.optimizer.params.model, cfg.optimizer.lr = model, 0.02
    batch = next(iter(instantiate(cfg.dataloader.train)))
    with torch.no_grad(), EventStorage():  # the running count of positives starts far too high
        for _ in range(40):
            model(batch)
    trainer = SimpleTrainer(model, itertools.repeat(batch), instantiate(cfg.optimizer))
    trainer.train(0, NUM_STEPS)
    assert_falling([value for value, _ in trainer.storage.history("total_loss").values()])

    loader = instantiate(cfg.dataloader.test)
    results = inference_on_dataset(model, loader, instantiate(cfg.dataloader.evaluator))
    assert_figures(results, "bbox/AP50")


def shrink_dense(model) -> None:
    """Make a lazily described RetinaNet or FCOS tiny."""
    model.num_classes = 6
    stages = model.backbone.bottom_up.stages
    stages.depth, stages.norm = 18, "BN"
    stages.pop("stride_in_1x1")  # of bottleneck blocks
    model.backbone.bottom_up.stem.norm = "BN"
    model.backbone.bottom_up.freeze_at = 0
    model.backbone.out_channels = model.backbone.top_block.in_channels = 32
    model.head.conv_dims = [64]  # two channels in a group: the last level is a single cell
    for shape in model.head.input_shape:
        shape.channels = 32
    model.test_score_thresh = 0.0
