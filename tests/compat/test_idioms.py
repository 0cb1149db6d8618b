# ruff: noqa: B905, I001, RUF015, SIM105 - written as programs for detectron2 are
"""What people write for detectron2, idiom by idiom, unchanged but for the first import.

`detectron2_program.py` has others in one program. All of these share one tiny dataset and model.
"""

import copy
import functools
import json
import os

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import d2lite.compat.detectron2  # noqa: F401
import detectron2.data.transforms as T
import detectron2.utils.comm as comm
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode as CN
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, configurable, get_cfg, instantiate
from detectron2.data import (
    DatasetCatalog,
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data import detection_utils as utils
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultTrainer, HookBase, hooks
from detectron2.evaluation import COCOEvaluator, inference_context, inference_on_dataset
from detectron2.layers import ShapeSpec, batched_nms, cat
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    ROI_HEADS_REGISTRY,
    GeneralizedRCNNWithTTA,
    StandardROIHeads,
    build_backbone,
    build_model,
    build_proposal_generator,
    build_roi_heads,
    detector_postprocess,
)
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import build_box_head
from detectron2.modeling.roi_heads.fast_rcnn import (
    FastRCNNOutputLayers,
    fast_rcnn_inference,
    fast_rcnn_inference_single_image,
)
from detectron2.solver import build_optimizer, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import CommonMetricPrinter, EventStorage, JSONWriter
from detectron2.utils.events import get_event_storage

SPLITS = ("idiom_train", "idiom_val")


# --- data ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two images of one square each, in a COCO file whose ids start at 7."""
    folder = tmp_path_factory.mktemp("idioms")
    images, annotations = [], []
    for i in range(2):
        image = np.full((64, 80, 3), 200, dtype=np.uint8)
        x, y, size = 5 + 8 * i, 8 + 3 * i, 24
        image[y : y + size, x : x + size] = (30, 30, 220)
        cv2.imwrite(str(folder / f"{i}.png"), image)
        images.append({"id": i, "file_name": f"{i}.png", "height": 64, "width": 80})
        annotations.append(
            {
                "id": i + 1,
                "image_id": i,
                "category_id": 7 + i % 2,
                "bbox": [x, y, size, size],
                "area": size * size,
                "iscrowd": 0,
            }
        )
    categories = [{"id": 7, "name": "red"}, {"id": 8, "name": "square"}]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "data.json").write_text(json.dumps(data))
    for name in SPLITS:
        register_coco_instances(name, {}, str(folder / "data.json"), str(folder))
    yield str(folder)
    for name in SPLITS:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def cfg(folder, tmp_path):
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"))
    cfg.DATASETS.TRAIN = ("idiom_train",)
    cfg.DATASETS.TEST = ("idiom_val",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN = (64,)
    cfg.INPUT.MIN_SIZE_TEST = 64
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.BASE_LR = 0.001
    cfg.SOLVER.MAX_ITER = 3
    cfg.SOLVER.STEPS = []
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    cfg.SEED = 1
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    return cfg


def one_image(**extra):
    image = torch.full((3, 64, 80), 200, dtype=torch.uint8)
    image[:, 10:34, 20:44] = 30
    gt = Instances((64, 80))
    gt.gt_boxes = Boxes(torch.tensor([[20.0, 10.0, 44.0, 34.0]]))
    gt.gt_classes = torch.tensor([1])
    return {"image": image, "height": 64, "width": 80, "instances": gt, **extra}


def test_registering_in_a_notebook_cell_that_runs_again(folder):
    for _ in range(2):  # the cell, and the cell again
        for d in ["a", "b"]:
            name = "notebook_" + d
            if name in DatasetCatalog.list():
                DatasetCatalog.remove(name)
                MetadataCatalog.remove(name)
            register_coco_instances(name, {}, f"{folder}/data.json", folder)
            MetadataCatalog.get(name).set(thing_colors=[(255, 0, 0), (0, 255, 0)])
        try:
            register_coco_instances("notebook_a", {}, f"{folder}/data.json", folder)
        except AssertionError:
            pass
    dataset_dicts = DatasetCatalog.get("notebook_a")
    metadata = MetadataCatalog.get("notebook_a")
    assert metadata.thing_classes == ["red", "square"]
    assert metadata.thing_dataset_id_to_contiguous_id == {7: 0, 8: 1}
    assert [d["annotations"][0]["category_id"] for d in dataset_dicts] == [0, 1]
    for name in ("notebook_a", "notebook_b"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


# --- config ----------------------------------------------------------------------------------


def add_tracker_config(cfg):
    cfg.MODEL.TRACKER = CN()
    cfg.MODEL.TRACKER.NAME = "none"
    cfg.MODEL.TRACKER.EMBED_DIM = 64
    cfg.SOLVER.OPTIMIZER = "ADAMW"
    cfg.INPUT.CROP.SCALES = [0.5, 1.0]


def test_configs_with_keys_of_their_own(tmp_path):
    cfg = get_cfg()
    add_tracker_config(cfg)
    (tmp_path / "base.yaml").write_text("MODEL:\n  TRACKER:\n    EMBED_DIM: 32\n")
    (tmp_path / "mine.yaml").write_text("_BASE_: base.yaml\nMODEL:\n  TRACKER: {NAME: sort}\n")
    cfg.merge_from_file(str(tmp_path / "mine.yaml"))
    cfg.merge_from_list(["MODEL.TRACKER.EMBED_DIM", "16", "INPUT.CROP.SCALES", "(1.0,)"])
    assert CN({"NAME": "sort", "EMBED_DIM": 16}) == cfg.MODEL.TRACKER
    assert cfg.INPUT.CROP.SCALES == [1.0]

    loose = get_cfg()
    loose.set_new_allowed(True)
    (tmp_path / "new.yaml").write_text("EXTRA: {DEEP: {X: 1}}\nMODEL: {NEW_PART: [a, b]}\n")
    loose.merge_from_file(str(tmp_path / "new.yaml"))
    assert loose.EXTRA.DEEP.X == 1 and loose.MODEL.NEW_PART == ["a", "b"]
    loose.EXTRA.LATER = 2
    strict = get_cfg()
    with pytest.raises(KeyError):
        strict.merge_from_file(str(tmp_path / "new.yaml"))

    cfg.freeze()
    with pytest.raises(AttributeError):
        cfg.MODEL.DEVICE = "cpu"
    again = cfg.clone()
    again.defrost()
    again.SEED = 5
    assert cfg.SEED == -1
    (tmp_path / "dumped.yaml").write_text(cfg.dump())
    third = get_cfg()
    add_tracker_config(third)
    third.merge_from_file(str(tmp_path / "dumped.yaml"))
    assert third == cfg


# --- training --------------------------------------------------------------------------------


def my_mapper(dataset_dict, cfg, is_train=True, shift=0):
    dataset_dict = copy.deepcopy(dataset_dict)
    image = utils.read_image(dataset_dict["file_name"], format=cfg.INPUT.FORMAT)
    utils.check_image_size(dataset_dict, image)
    image, transforms = T.apply_transform_gens([T.Resize((64, 64))], image)
    dataset_dict["image"] = torch.as_tensor(image.transpose(2, 0, 1).astype("float32")) + shift
    annos = [
        utils.transform_instance_annotations(obj, transforms, image.shape[:2])
        for obj in dataset_dict.pop("annotations")
    ]
    instances = utils.annotations_to_instances(annos, image.shape[:2])
    dataset_dict["instances"] = utils.filter_empty_instances(instances)
    return dataset_dict


class PartsTrainer(DefaultTrainer):
    """Own mapper, optimizer, evaluator, writers, and hooks at chosen places."""

    @classmethod
    def build_train_loader(cls, cfg):
        mapper = functools.partial(my_mapper, cfg=cfg, shift=1)
        return build_detection_train_loader(cfg, mapper=lambda d: mapper(d))

    @classmethod
    def build_optimizer(cls, cfg, model):
        params = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
            overrides={"bias": {"weight_decay": 0.5}},
            lr_factor_func=lambda name: 0.1 if name.startswith("backbone") else 1.0,
        )
        return maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(params, cfg.SOLVER.BASE_LR)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        if output_folder is None:
            output_folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        return COCOEvaluator(dataset_name, output_dir=output_folder)

    @classmethod
    def test_with_TTA(cls, cfg, model):
        model = GeneralizedRCNNWithTTA(cfg, model)
        evaluators = [
            cls.build_evaluator(cfg, name, os.path.join(cfg.OUTPUT_DIR, "inference_TTA"))
            for name in cfg.DATASETS.TEST
        ]
        res = cls.test(cfg, model, evaluators)
        return {k + "_TTA": v for k, v in res.items()}

    def build_writers(self):
        return [
            CommonMetricPrinter(self.max_iter),
            JSONWriter(os.path.join(self.cfg.OUTPUT_DIR, "mine.json")),
        ]

    def build_hooks(self):
        ret = super().build_hooks()
        assert isinstance(ret[-1], hooks.PeriodicWriter)
        assert isinstance(ret[-2], hooks.EvalHook)
        ret.insert(-1, EvalModeHook(2, build_detection_test_loader(self.cfg, "idiom_val")))
        ret[-1] = hooks.PeriodicWriter(self.build_writers(), period=1)
        return ret


class EvalModeHook(HookBase):
    """Runs the model over a loader in evaluation mode, every so often and at the end."""

    def __init__(self, period, data_loader):
        self._period = period
        self._data_loader = data_loader
        self.seen = []

    def after_step(self):
        next_iter = self.trainer.iter + 1
        is_final = next_iter == self.trainer.max_iter
        if is_final or (self._period > 0 and next_iter % self._period == 0):
            count = 0
            with inference_context(self.trainer.model), torch.no_grad():
                for inputs in self._data_loader:
                    count += sum(len(x["instances"]) for x in self.trainer.model(inputs))
            assert self.trainer.model.training
            self.trainer.storage.put_scalar("mine/detections", count, smoothing_hint=False)
            self.seen.append(self.trainer.iter)
            comm.synchronize()


def test_trainer_of_own_parts(cfg):
    cfg.TEST.AUG.MIN_SIZES = (48,)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    trainer = PartsTrainer(cfg)
    trainer.resume_or_load(resume=False)
    batch = next(iter(trainer.data_loader))
    assert batch[0]["image"].shape == (3, 64, 64) and batch[0]["image"].max() == 221
    groups = trainer.optimizer.param_groups
    assert {round(g["initial_lr"] / cfg.SOLVER.BASE_LR, 6) for g in groups} == {0.1, 1.0}
    assert {g["weight_decay"] for g in groups} == {0.01, 0.5}  # AdamW's own, and of biases
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    trainer.train()
    assert trainer._last_eval_results["bbox"].keys() >= {"AP", "AP-red", "AP-square"}
    (mine,) = [hook for hook in trainer._hooks if isinstance(hook, EvalModeHook)]
    assert mine.seen == [1, 2]
    with open(os.path.join(cfg.OUTPUT_DIR, "mine.json"), encoding="utf-8") as f:
        lines = [json.loads(line) for line in f]
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3]
    assert "mine/detections" in lines[2] and "bbox/AP" in lines[3]
    results = PartsTrainer.test_with_TTA(cfg, trainer.model)
    assert results.keys() == {"bbox_TTA"} and "AP50" in results["bbox_TTA"]


class StepTrainer(DefaultTrainer):
    """A step of its own, that adds up the gradients of two batches."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.batches_seen = 0

    def run_step(self):
        self._trainer.iter = self.iter
        assert self.model.training, "[StepTrainer] model was changed to eval mode!"
        self.optimizer.zero_grad()
        total = {}
        for _ in range(2):
            data = next(self._trainer._data_loader_iter)
            self.batches_seen += 1
            loss_dict = self.model(data)
            losses = sum(loss_dict.values()) / 2
            losses.backward()
            for k, v in loss_dict.items():
                total[k] = total.get(k, 0) + v.detach() / 2
        self._write_metrics(total, data_time=0.25)
        self.optimizer.step()

    def _write_metrics(self, loss_dict, data_time):
        metrics_dict = {k: v.cpu().item() for k, v in loss_dict.items()}
        metrics_dict["data_time"] = data_time
        all_metrics_dict = comm.gather(metrics_dict)
        if comm.is_main_process():
            storage = get_event_storage()
            data_time = np.max([x.pop("data_time") for x in all_metrics_dict])
            storage.put_scalar("data_time", data_time)
            metrics_dict = {
                k: np.mean([x[k] for x in all_metrics_dict]) for k in all_metrics_dict[0]
            }
            storage.put_scalar("total_loss", sum(metrics_dict.values()))
            storage.put_scalars(**metrics_dict)


def test_trainer_with_a_step_of_its_own(cfg):
    cfg.DATASETS.TEST = ()
    cfg.SOLVER.MAX_ITER = 2
    trainer = StepTrainer(cfg)
    trainer.resume_or_load(resume=False)
    before = trainer.model.roi_heads.box_predictor.cls_score.weight.detach().clone()
    trainer.train()
    assert trainer.batches_seen == 4 and trainer.iter == 2
    assert not torch.equal(before, trainer.model.roi_heads.box_predictor.cls_score.weight)
    histories = trainer.storage.histories()
    assert histories["data_time"].values() == [(0.25, 0), (0.25, 1)]
    parts = [histories[k].latest() for k in histories if k.startswith("loss_")]
    assert len(parts) == 4
    assert histories["total_loss"].latest() == pytest.approx(sum(parts))
    fresh = build_model(cfg)
    DetectionCheckpointer(fresh).load(os.path.join(cfg.OUTPUT_DIR, "model_final.pth"))
    for (name, a), b in zip(fresh.state_dict().items(), trainer.model.state_dict().values()):
        assert torch.equal(a, b), name


# --- models ----------------------------------------------------------------------------------


class FocalOutputLayers(FastRCNNOutputLayers):
    """Own losses over the parent's layers."""

    def losses(self, predictions, proposals):
        scores = predictions[0]
        gt_classes = cat([p.gt_classes for p in proposals], dim=0)
        losses = super().losses(predictions, proposals)
        p = F.softmax(scores, dim=-1)[torch.arange(len(gt_classes)), gt_classes]
        losses["loss_cls"] = (
            (1 - p) ** 2 * F.cross_entropy(scores, gt_classes, reduction="none")
        ).mean()
        return losses

    def inference(self, predictions, proposals):
        boxes = self.predict_boxes(predictions, proposals)
        scores = [s**0.5 for s in self.predict_probs(predictions, proposals)]
        return fast_rcnn_inference(
            boxes,
            scores,
            [x.image_size for x in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )


@ROI_HEADS_REGISTRY.register()
class AttributeROIHeads(StandardROIHeads):
    """Box heads with another pooler and predictor, and a branch of its own after the box head."""

    @configurable
    def __init__(self, *, attribute_weight, attribute_predictor, **kwargs):
        super().__init__(**kwargs)
        self.attribute_weight = attribute_weight
        self.attribute_predictor = attribute_predictor

    @classmethod
    def from_config(cls, cfg, input_shape):
        ret = super().from_config(cfg, input_shape)
        ret["attribute_weight"] = 0.5
        ret["attribute_predictor"] = nn.Linear(cfg.MODEL.ROI_BOX_HEAD.FC_DIM, 3)
        return ret

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        resolution = cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
        in_channels = [input_shape[f].channels for f in in_features][0]
        box_pooler = ROIPooler(
            output_size=resolution,
            scales=tuple(1.0 / input_shape[k].stride for k in in_features),
            sampling_ratio=1,
            pooler_type="ROIAlign",
        )
        box_head = build_box_head(
            cfg, ShapeSpec(channels=in_channels, height=resolution, width=resolution)
        )
        return {
            "box_in_features": in_features,
            "box_pooler": box_pooler,
            "box_head": box_head,
            "box_predictor": FocalOutputLayers(cfg, box_head.output_shape),
        }

    def _forward_box(self, features, proposals):
        features = [features[f] for f in self.box_in_features]
        box_features = self.box_pooler(features, [x.proposal_boxes for x in proposals])
        box_features = self.box_head(box_features)
        predictions = self.box_predictor(box_features)
        attributes = self.attribute_predictor(box_features)
        if self.training:
            losses = self.box_predictor.losses(predictions, proposals)
            losses["loss_attribute"] = self.attribute_weight * attributes.square().mean()
            return losses
        pred_instances, kept = self.box_predictor.inference(predictions, proposals)
        attributes = attributes.split([len(p) for p in proposals])
        for instances, scores, indices in zip(pred_instances, attributes, kept):
            instances.attributes = scores[indices].argmax(dim=1)
        return pred_instances


def test_heads_of_their_own(cfg):
    cfg.MODEL.ROI_HEADS.NAME = "AttributeROIHeads"
    torch.manual_seed(0)
    model = build_model(cfg)
    assert isinstance(model.roi_heads.box_predictor, FocalOutputLayers)
    assert model.roi_heads.box_pooler.output_size == (3, 3)
    with EventStorage():
        losses = model([one_image()])
    assert sorted(losses) == [
        "loss_attribute",
        "loss_box_reg",
        "loss_cls",
        "loss_rpn_cls",
        "loss_rpn_loc",
    ]
    sum(losses.values()).backward()
    assert model.roi_heads.attribute_predictor.weight.grad.abs().sum() > 0
    # All three classes are equally likely then, and the scores are roots.
    nn.init.zeros_(model.roi_heads.box_predictor.cls_score.weight)
    model.eval()
    with torch.no_grad():
        (output,) = model([one_image()])
    instances = output["instances"]
    assert len(instances) == 5 and instances.attributes.shape == (5,)
    assert instances.scores.tolist() == pytest.approx([(1 / 3) ** 0.5] * 5)


@META_ARCH_REGISTRY.register()
class TwoStageByHand(nn.Module):
    """A meta-architecture from nn.Module up."""

    def __init__(self, cfg):
        super().__init__()
        self.device = torch.device(cfg.MODEL.DEVICE)
        self.backbone = build_backbone(cfg)
        self.proposal_generator = build_proposal_generator(cfg, self.backbone.output_shape())
        self.roi_heads = build_roi_heads(cfg, self.backbone.output_shape())
        num_channels = len(cfg.MODEL.PIXEL_MEAN)
        pixel_mean = torch.Tensor(cfg.MODEL.PIXEL_MEAN).to(self.device).view(num_channels, 1, 1)
        pixel_std = torch.Tensor(cfg.MODEL.PIXEL_STD).to(self.device).view(num_channels, 1, 1)
        self.normalizer = lambda x: (x - pixel_mean) / pixel_std
        self.to(self.device)

    def forward(self, batched_inputs):
        images = [self.normalizer(x["image"].to(self.device)) for x in batched_inputs]
        images = ImageList.from_tensors(images, self.backbone.size_divisibility)
        gt_instances = None
        if self.training:
            gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        features = self.backbone(images.tensor)
        proposals, proposal_losses = self.proposal_generator(images, features, gt_instances)
        results, detector_losses = self.roi_heads(images, features, proposals, gt_instances)
        if self.training:
            return {**proposal_losses, **detector_losses}
        processed_results = []
        for result, input_per_image, image_size in zip(results, batched_inputs, images.image_sizes):
            height = input_per_image.get("height", image_size[0])
            width = input_per_image.get("width", image_size[1])
            processed_results.append({"instances": detector_postprocess(result, height, width)})
        return processed_results


def test_meta_architecture_of_its_own_agrees_with_the_usual_one(cfg):
    usual = build_model(cfg)
    cfg.MODEL.META_ARCHITECTURE = "TwoStageByHand"
    own = build_model(cfg)
    assert own.training and own.backbone.size_divisibility == 32
    own.load_state_dict(usual.state_dict())
    inputs = [one_image(height=128, width=160), one_image()]
    inputs[1]["image"] = inputs[1]["image"][:, :50, :60]
    found = []
    for model in (own, usual):
        torch.manual_seed(0)
        with EventStorage():
            losses = model(copy.deepcopy(inputs))
        found.append({k: v.item() for k, v in losses.items()})
        with torch.no_grad():
            found.append(model.eval()(inputs))
    assert found[0] == pytest.approx(found[2], rel=1e-4)
    for mine, theirs in zip(found[1], found[3]):
        a, b = mine["instances"], theirs["instances"]
        assert a.image_size == b.image_size and len(a) == len(b) == 5
        assert torch.allclose(a.pred_boxes.tensor, b.pred_boxes.tensor, atol=1e-2)
        assert torch.allclose(a.scores, b.scores, atol=1e-4)
    assert found[1][0]["instances"].image_size == (128, 160)


def test_features_of_boxes_one_part_after_the_other(cfg, tmp_path):
    model = build_model(cfg)
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    model = build_model(cfg)
    DetectionCheckpointer(model).load(str(tmp_path / "weights.pth"))
    model.eval()
    inputs = [one_image(), one_image()]
    with torch.no_grad():
        images = model.preprocess_image(inputs)
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features, None)
        instances, _ = model.roi_heads(images, features, proposals)
        features_ = [features[f] for f in model.roi_heads.in_features]
        pooled = model.roi_heads.box_pooler(features_, [x.proposal_boxes for x in proposals])
        box_features = model.roi_heads.box_head(pooled)
        predictions = model.roi_heads.box_predictor(box_features)
        scores, deltas = predictions
        kept_instances, kept = model.roi_heads.box_predictor.inference(predictions, proposals)

        # The same, from the layers' numbers.
        transform = Box2BoxTransform(weights=cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS)
        boxes = transform.apply_deltas(deltas, cat([p.proposal_boxes.tensor for p in proposals]))
        probs = F.softmax(scores, dim=-1)
        counts = [len(p) for p in proposals]
        by_hand = [
            fast_rcnn_inference_single_image(b, p, (64, 80), 0.0, 0.5, 5)
            for b, p in zip(boxes.split(counts), probs.split(counts))
        ]
        outputs = model.inference(inputs, do_postprocess=False)
    assert pooled.shape == (sum(counts), 16, 3, 3) and box_features.shape == (sum(counts), 16)
    for results in (kept_instances, [result for result, _ in by_hand], outputs):
        for a, b in zip(results, instances):
            assert torch.allclose(a.pred_boxes.tensor, b.pred_boxes.tensor, atol=1e-3)
            assert torch.allclose(a.scores, b.scores, atol=1e-5)
            assert torch.equal(a.pred_classes, b.pred_classes)
    for indices, (_, other) in zip(kept, by_hand):
        assert torch.equal(indices, other)
        assert box_features[:20][indices].shape == (5, 16)
    keep = batched_nms(
        instances[0].pred_boxes.tensor, instances[0].scores, instances[0].pred_classes, 0.5
    )
    assert len(keep) == 5  # they have been through it
    given = [
        Instances((64, 80), pred_boxes=Boxes(torch.tensor([[20.0, 10, 44, 34]]))) for _ in (0, 1)
    ]
    pooled = model.roi_heads.box_pooler(features_, [x.pred_boxes for x in given])
    assert torch.allclose(pooled[0], pooled[1], atol=1e-5)


# --- lazy configs ----------------------------------------------------------------------------


def test_lazy_configs(folder, tmp_path):
    (tmp_path / "common.py").write_text(
        "from torch import nn\n"
        "from detectron2.config import LazyCall as L\n"
        "train = dict(max_iter=90, output_dir='./output', amp=dict(enabled=False))\n"
        "head = L(nn.Linear)(in_features=4, out_features=2)\n"
    )
    (tmp_path / "mine.py").write_text(
        "from .common import head, train\n"
        "from detectron2.model_zoo import get_config\n"
        "model = get_config('common/models/retinanet.py').model\n"
        "model.head.num_classes = 2\n"
        "head.out_features = 3\n"
        "train.max_iter = 50\n"
    )
    cfg = LazyConfig.load(str(tmp_path / "mine.py"))
    cfg = LazyConfig.apply_overrides(cfg, ["train.max_iter=10", "head.bias=False", "+new.key=1"])
    assert (cfg.train.max_iter, cfg.train.amp.enabled, cfg.new.key) == (10, False, 1)
    head = instantiate(cfg.head)
    assert head.weight.shape == (3, 4) and head.bias is None
    cfg.model.num_classes = 2
    cfg.model.backbone.bottom_up.stages.depth = 18
    cfg.model.backbone.bottom_up.stages.bottleneck_channels = None
    LazyConfig.save(cfg, str(tmp_path / "saved.yaml"))
    assert LazyConfig.load(str(tmp_path / "saved.yaml")).head.out_features == 3

    zoo = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.py")
    assert zoo.train.max_iter == 90000 and zoo.optimizer.lr == 0.01
    zoo.model.num_classes = zoo.model.head.num_classes = 2
    zoo.model.backbone.out_channels = 16
    zoo.model.head.input_shape = [ShapeSpec(channels=16)] * 5
    zoo.model.head.conv_dims = [16]
    model = instantiate(zoo.model).eval()
    with torch.no_grad():
        assert model([one_image()])[0]["instances"].image_size == (64, 80)
    zoo.optimizer.params.model = model
    optimizer = instantiate(zoo.optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.01

    zoo.dataloader.test.dataset.names = "idiom_val"
    zoo.dataloader.test.mapper.augmentations = [L(T.ResizeShortestEdge)(short_edge_length=64)]
    zoo.dataloader.test.num_workers = 0
    zoo.dataloader.evaluator.dataset_name = "idiom_val"
    loader = instantiate(zoo.dataloader.test)
    results = inference_on_dataset(model, loader, instantiate(zoo.dataloader.evaluator))
    assert results["bbox"].keys() >= {"AP", "AP-red"}


def test_optimizer_of_the_config_by_hand(cfg):
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    loader = build_detection_train_loader(cfg, mapper=DatasetMapper(cfg, is_train=True))
    with EventStorage(start_iter=0) as storage:
        for data, iteration in zip(loader, range(2)):
            storage.iter = iteration
            losses = sum(model(data).values())
            optimizer.zero_grad()
            losses.backward()
            optimizer.step()
            storage.put_scalar("total_loss", losses)
    values = storage.history("total_loss").values()
    assert [i for _, i in values] == [0, 1] and all(np.isfinite(v) for v, _ in values)
