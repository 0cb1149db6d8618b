# ruff: noqa: B905, I001 - written as programs for detectron2 are
"""A program as people write them for detectron2: it knows nothing of d2lite.

It draws a small dataset, trains a Mask R-CNN with parts of its own on it, evaluates, and draws
predictions. The test runs it by `python -m d2lite.compat`.
"""

import copy
import datetime
import json
import logging
import os
import random
import sys
import time

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import detectron2
import detectron2.data.transforms as T
import detectron2.utils.comm as comm
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode as CN
from detectron2.config import LazyCall as L
from detectron2.config import configurable, get_cfg, instantiate
from detectron2.data import (
    DatasetCatalog,
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data import detection_utils as utils
from detectron2.engine import DefaultPredictor, DefaultTrainer, default_setup, hooks
from detectron2.engine.hooks import HookBase
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
)
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    Backbone,
    StandardROIHeads,
    build_model,
)
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from detectron2.projects.point_rend import ColorAugSSDTransform, add_pointrend_config
from detectron2.projects.point_rend.point_features import point_sample
from detectron2.structures import BoxMode, Instances
from detectron2.utils.events import EventStorage, get_event_storage
from detectron2.utils.logger import log_every_n_seconds, setup_logger
from detectron2.utils.visualizer import ColorMode, Visualizer

setup_logger()
logger = logging.getLogger("detectron2.my_program")


# --- data ------------------------------------------------------------------------------------


def draw_data_set(folder, count):
    """Balloons as VIA would annotate them: ellipses, with polygons in a json file."""
    os.makedirs(folder)
    rng = np.random.RandomState(0)
    annotations = {}
    for i in range(count):
        image = np.full((64, 80, 3), 255, dtype=np.uint8)
        x, y, a, b = rng.randint(25, 55), rng.randint(25, 40), rng.randint(12, 20), 12
        t = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        px, py = (x + a * np.cos(t)).round(), (y + b * np.sin(t)).round()
        cv2.fillPoly(image, [np.stack([px, py], 1).astype(np.int32)], (40, 40, 220))
        cv2.imwrite(os.path.join(folder, f"{i}.jpg"), image)
        shape = {"all_points_x": px.astype(int).tolist(), "all_points_y": py.astype(int).tolist()}
        annotations[str(i)] = {
            "filename": f"{i}.jpg",
            "regions": {"0": {"shape_attributes": shape, "region_attributes": {}}},
        }
    with open(os.path.join(folder, "via_region_data.json"), "w", encoding="utf-8") as f:
        json.dump(annotations, f)


def get_balloon_dicts(img_dir):
    with open(os.path.join(img_dir, "via_region_data.json"), encoding="utf-8") as f:
        imgs_anns = json.load(f)
    dataset_dicts = []
    for idx, v in enumerate(imgs_anns.values()):
        record = {}
        filename = os.path.join(img_dir, v["filename"])
        height, width = cv2.imread(filename).shape[:2]
        record["file_name"] = filename
        record["image_id"] = idx
        record["height"] = height
        record["width"] = width
        objs = []
        for anno in v["regions"].values():
            assert not anno["region_attributes"]
            anno = anno["shape_attributes"]
            px = anno["all_points_x"]
            py = anno["all_points_y"]
            poly = [(x + 0.5, y + 0.5) for x, y in zip(px, py)]
            poly = [p for x in poly for p in x]
            objs.append(
                {
                    "bbox": [np.min(px), np.min(py), np.max(px), np.max(py)],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "segmentation": [poly],
                    "category_id": 0,
                }
            )
        record["annotations"] = objs
        dataset_dicts.append(record)
    return dataset_dicts


class MyMapper(DatasetMapper):
    """Counts what it maps, over the standard behavior."""

    @configurable
    def __init__(self, is_train, *, factor, **kwargs):
        super().__init__(is_train, **kwargs)
        self.factor = factor

    @classmethod
    def from_config(cls, cfg, is_train=True):
        ret = super().from_config(cfg, is_train)
        ret["factor"] = cfg.MY.FACTOR
        return ret

    def __call__(self, dataset_dict):
        out = super().__call__(dataset_dict)
        out["factor"] = self.factor
        return out


class Darken(T.Augmentation):
    def __init__(self, low, high):
        super().__init__()
        self._init(locals())

    def get_transform(self, image):
        return T.BlendTransform(src_image=0, src_weight=0.1, dst_weight=np.random.uniform(0.8, 1))


def custom_mapper(dataset_dict):
    dataset_dict = copy.deepcopy(dataset_dict)
    image = utils.read_image(dataset_dict["file_name"], format="BGR")
    transform_list = [
        T.Resize((64, 80)),
        T.RandomBrightness(0.8, 1.2),
        T.RandomContrast(0.8, 1.2),
        T.RandomSaturation(0.8, 1.2),
        T.RandomRotation(angle=[-5, 5], expand=False),
        T.RandomLighting(0.7),
        T.RandomFlip(prob=0.4, horizontal=True, vertical=False),
        Darken(0.8, 1.0),
    ]
    image, transforms = T.apply_transform_gens(transform_list, image)
    dataset_dict["image"] = torch.as_tensor(image.transpose(2, 0, 1).astype("float32"))
    annos = [
        utils.transform_instance_annotations(obj, transforms, image.shape[:2])
        for obj in dataset_dict.pop("annotations")
        if obj.get("iscrowd", 0) == 0
    ]
    instances = utils.annotations_to_instances(annos, image.shape[:2])
    dataset_dict["instances"] = utils.filter_empty_instances(instances)
    return dataset_dict


def newer_mapper(dataset_dict):
    dataset_dict = copy.deepcopy(dataset_dict)
    image = utils.read_image(dataset_dict["file_name"], format="BGR")
    auginput = T.AugInput(image)
    transform = T.AugmentationList([T.Resize((64, 80)), T.RandomFlip()])(auginput)
    image = torch.from_numpy(auginput.image.transpose(2, 0, 1).copy())
    annos = [
        utils.transform_instance_annotations(annotation, [transform], image.shape[1:])
        for annotation in dataset_dict.pop("annotations")
    ]
    return {"image": image, "instances": utils.annotations_to_instances(annos, image.shape[1:])}


# --- model -----------------------------------------------------------------------------------


def add_my_config(cfg):
    cfg.MY = CN()
    cfg.MY.FACTOR = 2
    cfg.MY.BACKBONE = CN({"NORM": "BN"})


class MyBackbone(Backbone):
    def __init__(self, cfg, input_shape):
        super().__init__()
        norm = cfg.MY.BACKBONE.NORM
        self.stem = Conv2d(
            input_shape.channels, 8, kernel_size=16, stride=16,
            norm=get_norm(norm, 8), activation=F.relu,
        )  # fmt: skip
        self.res = Conv2d(8, 16, kernel_size=3, stride=2, padding=1, norm=get_norm(norm, 16))

    def forward(self, image):
        x = self.stem(image)
        return {"c4": x, "c5": F.relu_(self.res(x))}

    def output_shape(self):
        return {"c4": ShapeSpec(channels=8, stride=16), "c5": ShapeSpec(channels=16, stride=32)}


@BACKBONE_REGISTRY.register()
def build_my_fpn_backbone(cfg, input_shape: ShapeSpec):
    bottom_up = MyBackbone(cfg, input_shape)
    return FPN(
        bottom_up=bottom_up,
        in_features=["c4", "c5"],
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
class ToyBackbone(Backbone):
    def __init__(self, cfg, input_shape):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, kernel_size=7, stride=16, padding=3)

    def forward(self, image):
        return {"conv1": self.conv1(image)}

    def output_shape(self):
        return {"conv1": ShapeSpec(channels=8, stride=16)}


@ROI_BOX_HEAD_REGISTRY.register()
class MyBoxHead(nn.Module):
    def __init__(self, cfg, input_shape):
        super().__init__()
        self.fc = nn.Linear(input_shape.channels * input_shape.height * input_shape.width, 16)

    @property
    def output_shape(self):
        return ShapeSpec(channels=16)

    def forward(self, x):
        return F.relu(self.fc(torch.flatten(x, start_dim=1)))


@ROI_HEADS_REGISTRY.register()
class MyROIHeads(StandardROIHeads):
    def __init__(self, cfg, input_shape):
        super().__init__(cfg, input_shape)
        self.factor = cfg.MY.FACTOR

    def forward(self, images, features, proposals, targets=None):
        instances, losses = super().forward(images, features, proposals, targets)
        if self.training:
            get_event_storage().put_scalar("my/proposals", len(proposals))
            losses["loss_mine"] = losses["loss_cls"] * 0.0 * self.factor
        return instances, losses

    def _forward_box(self, features, proposals):
        return super()._forward_box(features, proposals)


# --- training --------------------------------------------------------------------------------


class LossEvalHook(HookBase):
    """The loss on the validation set, as copied from blog to blog."""

    def __init__(self, eval_period, model, data_loader):
        self._model = model
        self._period = eval_period
        self._data_loader = data_loader

    def _do_loss_eval(self):
        total = len(self._data_loader)
        num_warmup = min(5, total - 1)
        start_time = time.perf_counter()
        total_compute_time = 0
        losses = []
        for idx, inputs in enumerate(self._data_loader):
            if idx == num_warmup:
                start_time = time.perf_counter()
                total_compute_time = 0
            start_compute_time = time.perf_counter()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            total_compute_time += time.perf_counter() - start_compute_time
            seconds_per_img = (time.perf_counter() - start_time) / (idx + 1)
            eta = datetime.timedelta(seconds=int(seconds_per_img * (total - idx - 1)))
            log_every_n_seconds(
                logging.INFO, f"Loss on Validation  done {idx + 1}/{total}. ETA={eta}", n=5
            )
            losses.append(self._get_loss(inputs))
        mean_loss = np.mean(losses)
        self.trainer.storage.put_scalar("validation_loss", mean_loss)
        comm.synchronize()
        return losses

    def _get_loss(self, data):
        metrics_dict = self._model(data)
        metrics_dict = {
            k: v.detach().cpu().item() if isinstance(v, torch.Tensor) else float(v)
            for k, v in metrics_dict.items()
        }
        return sum(loss for loss in metrics_dict.values())

    def after_step(self):
        next_iter = self.trainer.iter + 1
        is_final = next_iter == self.trainer.max_iter
        if is_final or (self._period > 0 and next_iter % self._period == 0):
            self._do_loss_eval()
        self.trainer.storage.put_scalars(timetest=12)


class ValidationLoss(HookBase):
    """The other one: a train loader of the test set, and means over all processes."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg.clone()
        self.cfg.DATASETS.TRAIN = cfg.DATASETS.TEST
        self._loader = iter(build_detection_train_loader(self.cfg))

    def after_step(self):
        data = next(self._loader)
        with torch.no_grad():
            loss_dict = self.trainer.model(data)
            losses = sum(loss_dict.values())
            assert torch.isfinite(losses).all(), loss_dict
            loss_dict_reduced = {
                "val_" + k: v.item() for k, v in comm.reduce_dict(loss_dict).items()
            }
            losses_reduced = sum(loss for loss in loss_dict_reduced.values())
            if comm.is_main_process():
                self.trainer.storage.put_scalars(total_val_loss=losses_reduced, **loss_dict_reduced)


class Counter(DatasetEvaluator):
    def reset(self):
        self.count = 0

    def process(self, inputs, outputs):
        for _, output in zip(inputs, outputs):
            self.count += len(output["instances"])

    def evaluate(self):
        return {"count": {"detections": self.count}}


class MyTrainer(DefaultTrainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        if output_folder is None:
            output_folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        coco = COCOEvaluator(dataset_name, ("bbox", "segm"), False, output_dir=output_folder)
        return DatasetEvaluators([coco, Counter()])

    @classmethod
    def build_train_loader(cls, cfg):
        return build_detection_train_loader(cfg, mapper=MyMapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return build_detection_test_loader(cfg, dataset_name, mapper=DatasetMapper(cfg, False))

    def build_hooks(self):
        hooks_ = super().build_hooks()
        loss_hook = LossEvalHook(
            self.cfg.TEST.EVAL_PERIOD,
            self.model,
            build_detection_test_loader(
                self.cfg, self.cfg.DATASETS.TEST[0], DatasetMapper(self.cfg, True)
            ),
        )
        hooks_.insert(-1, loss_hook)
        return hooks_


def setup(output_dir):
    cfg = get_cfg()
    add_my_config(cfg)
    cfg.merge_from_file(
        model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
    )
    cfg.merge_from_list(["MY.FACTOR", 3, "MODEL.DEVICE", "cpu"])
    cfg.OUTPUT_DIR = output_dir
    cfg.DATASETS.TRAIN = ("balloon_train",)
    cfg.DATASETS.TEST = ("balloon_val",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN = (64,)
    cfg.INPUT.MIN_SIZE_TEST = 64
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.NAME = "build_my_fpn_backbone"
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64]]
    cfg.MODEL.RPN.IN_FEATURES = ["p4", "p5", "p6"]
    cfg.MODEL.ROI_HEADS.NAME = "MyROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p4", "p5"]
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.ROI_BOX_HEAD.NAME = "MyBoxHead"
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.BASE_LR = 0.00025
    cfg.SOLVER.MAX_ITER = 4
    cfg.SOLVER.STEPS = []
    cfg.TEST.EVAL_PERIOD = 2
    default_setup(cfg, None)
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    return cfg


def check_mappers(cfg):
    for mapper in (custom_mapper, newer_mapper):
        loader = build_detection_train_loader(cfg, mapper=mapper)
        batch = next(iter(loader))
        assert len(batch) == 2 and batch[0]["image"].shape == (3, 64, 80)
        assert isinstance(batch[0]["instances"], Instances)
        assert len(batch[0]["instances"].gt_masks) == 1


def train(cfg):
    trainer = MyTrainer(cfg)
    val_loss = ValidationLoss(cfg)
    trainer.register_hooks([val_loss])
    trainer._hooks = trainer._hooks[:-2] + trainer._hooks[-2:][::-1]  # the writer stays last
    trainer.resume_or_load(resume=False)
    assert next(iter(trainer.data_loader))[0]["factor"] == 3
    results = trainer.train()
    assert results["bbox"].keys() >= {"AP", "AP50"} and "detections" in results["count"]
    return trainer


def predict(cfg, folder):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    predictor = DefaultPredictor(cfg)
    metadata = MetadataCatalog.get("balloon_val")
    for d in random.sample(DatasetCatalog.get("balloon_val"), 1):
        im = cv2.imread(d["file_name"])
        outputs = predictor(im)
        v = Visualizer(
            im[:, :, ::-1], metadata=metadata, scale=0.5, instance_mode=ColorMode.IMAGE_BW
        )
        out = v.draw_instance_predictions(outputs["instances"].to("cpu"))
        assert cv2.imwrite(os.path.join(folder, "out.png"), out.get_image()[:, :, ::-1])
        visualizer = Visualizer(im[:, :, ::-1], metadata=metadata, scale=2)
        visualizer.draw_dataset_dict(d).save(os.path.join(folder, "truth.png"))
        instances = outputs["instances"]
        boxes = instances.pred_boxes.tensor.cpu().numpy()
        assert boxes.shape == (len(instances), 4) == (len(instances.scores), 4)
        assert instances.pred_masks.cpu().numpy().shape[1:] == im.shape[:2]
        assert all(box.shape == (4,) for box in instances.pred_boxes)
        assert instances.pred_classes.tolist() == [0] * len(instances)
    evaluator = COCOEvaluator("balloon_val", output_dir=os.path.join(folder, "coco"))
    val_loader = build_detection_test_loader(cfg, "balloon_val")
    results = inference_on_dataset(predictor.model, val_loader, evaluator)
    print_csv_format(results)
    return results


def by_hand(cfg):
    """A loop without a trainer, and a checkpoint loaded into a model."""
    model = build_model(cfg)
    DetectionCheckpointer(model).load(os.path.join(cfg.OUTPUT_DIR, "model_final.pth"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    loader = build_detection_train_loader(cfg)
    model.train()
    with EventStorage(start_iter=0) as storage:
        for data, iteration in zip(loader, range(2)):
            storage.step()
            loss_dict = model(data)
            losses = sum(loss_dict.values())
            optimizer.zero_grad()
            losses.backward()
            optimizer.step()
            values = {k: v.item() for k, v in loss_dict.items()}
            storage.put_scalars(total_loss=losses.item(), **values)
            assert iteration == storage.iter - 1
        assert storage.history("total_loss").latest() > 0
    toy = cfg.clone()
    toy.defrost()
    toy.MODEL.BACKBONE.NAME = "ToyBackbone"
    toy.MODEL.RPN.IN_FEATURES = toy.MODEL.ROI_HEADS.IN_FEATURES = ["conv1"]
    toy.MODEL.ANCHOR_GENERATOR.SIZES = [[16, 32]]
    toy_model = build_model(toy)
    assert toy_model.backbone.output_shape()["conv1"].stride == 16
    lazy = instantiate(L(nn.Linear)(in_features=2, out_features=3))
    assert lazy.weight.shape == (3, 2)


def check_bundled_projects():
    """Those that detectron2 installs, and those that its programs import from their own folder."""
    folder = os.path.join(os.path.dirname(os.path.dirname(detectron2.__file__)), "projects")
    sys.path[:0] = [os.path.join(folder, name) for name in ("TridentNet", "PointSup")]
    from point_sup import PointSupDatasetMapper, add_point_sup_config
    from tridentnet import add_tridentnet_config

    cfg = get_cfg()
    for add_config in (add_pointrend_config, add_point_sup_config, add_tridentnet_config):
        add_config(cfg)
    cfg.merge_from_file(os.path.join(folder, "TridentNet/configs/tridentnet_fast_R_50_C4_1x.yaml"))
    assert cfg.MODEL.ROI_HEADS.NAME in ROI_HEADS_REGISTRY
    assert PointSupDatasetMapper(cfg, is_train=True).sample_points == cfg.INPUT.SAMPLE_POINTS == 0
    points = point_sample(torch.ones(1, 1, 4, 4), torch.full((1, 1, 2), 0.5), align_corners=False)
    assert points.tolist() == [[[1.0]]]
    image = np.full((4, 4, 3), 128, dtype=np.uint8)
    assert ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT).apply_image(image).shape == (4, 4, 3)


def main(output_dir):
    data = os.path.join(output_dir, "balloon")
    draw_data_set(data, count=4)
    for d in ["train", "val"]:
        DatasetCatalog.register("balloon_" + d, lambda d=d: get_balloon_dicts(data))
        MetadataCatalog.get("balloon_" + d).set(thing_classes=["balloon"])
    cfg = setup(os.path.join(output_dir, "run"))
    check_mappers(cfg)
    trainer = train(cfg)
    assert any(isinstance(hook, hooks.PeriodicCheckpointer) for hook in trainer._hooks)
    assert trainer.iter == 4 and "validation_loss" in trainer.storage.histories()
    results = predict(cfg, output_dir)
    by_hand(cfg)
    check_bundled_projects()
    logger.info("all done, with version %s", detectron2.__version__)
    print("RESULTS", sorted(results))


if __name__ == "__main__":
    main(sys.argv[1])
