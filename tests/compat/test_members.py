"""Attributes and methods of detectron2's classes that subclasses in public code use or override."""

import inspect
import itertools
import json
import logging
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import get_cfg
from d2lite.data import DatasetCatalog, DatasetMapper, MapDataset, MetadataCatalog, transforms as T
from d2lite.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from d2lite.engine import DefaultPredictor, DefaultTrainer, SimpleTrainer, TrainerBase, hooks
from d2lite.evaluation import COCOEvaluator, DatasetEvaluator, SemSegEvaluator
from d2lite.layers import ShapeSpec
from d2lite.modeling import Backbone, GeneralizedRCNNWithTTA, build_model
from d2lite.modeling.anchor_generator import BufferList, DefaultAnchorGenerator
from d2lite.modeling.box_regression import Box2BoxTransform
from d2lite.modeling.matcher import Matcher
from d2lite.modeling.meta_arch import FCOS, GeneralizedRCNN, PanopticFPN, ProposalNetwork, RetinaNet
from d2lite.modeling.meta_arch.fcos import FCOSHead
from d2lite.modeling.meta_arch.retinanet import RetinaNetHead
from d2lite.modeling.meta_arch.semantic_seg import SemanticSegmentor
from d2lite.modeling.proposal_generator import RPN, StandardRPNHead
from d2lite.modeling.roi_heads import FastRCNNOutputLayers
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils.events import CommonMetricPrinter, EventStorage, EventWriter, JSONWriter
from d2lite.visualization import VideoVisualizer, Visualizer
from tests.compat.test_names import import_name
from tests.modeling.tiny import PIXELS, TinyBackbone, image, target

MEMBERS = json.loads((Path(__file__).parents[1] / "reference" / "names_in_use.json").read_text())[
    "members"
]


def tiny_cfg(**changes):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32]]
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3", "p4"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 6  # of shapes
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 8
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    cfg.MODEL.WEIGHTS = ""
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("shapes_val",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.merge_from_list([x for k, v in changes.items() for x in (k.replace("__", "."), v)])
    return cfg


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(tiny_cfg())


def evaluated(evaluator_class, *tasks):
    """An evaluator that has evaluated one detection."""
    evaluator = evaluator_class("shapes_val")
    evaluator.reset()
    result = {"image_id": 1, "category_id": 0, "bbox": [0, 0, 9, 9], "score": 0.5}
    if "keypoints" in tasks:
        result["keypoints"] = [1.0, 1.0, 2.0]
    evaluator._predictions = [{"image_id": 1, "instances": [result]}]
    evaluator.evaluate()
    return evaluator


@pytest.fixture(scope="module")
def subjects(model, tmp_path_factory):
    """Class of detectron2, by the end of its path -> an object of it, or the class itself."""
    cascade = tiny_cfg(
        MODEL__ROI_HEADS__NAME="CascadeROIHeads", MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG=True
    )
    res5 = tiny_cfg(
        MODEL__ROI_HEADS__NAME="Res5ROIHeads",
        MODEL__ROI_HEADS__IN_FEATURES=["p4"],
        MODEL__RESNETS__RES2_OUT_CHANNELS=1,
        MODEL__RESNETS__WIDTH_PER_GROUP=1,
    )
    proposals = tiny_cfg(MODEL__META_ARCHITECTURE="ProposalNetwork")
    cfg = tiny_cfg(OUTPUT_DIR=str(tmp_path_factory.mktemp("out")))
    cfg.DATASETS.TEST = ()
    head_of_retinanet = RetinaNetHead(
        input_shape=[ShapeSpec(channels=4)], num_classes=2, num_anchors=1, conv_dims=[4]
    )
    return {
        "DetectionCheckpointer": DetectionCheckpointer(model),
        "DatasetMapper": DatasetMapper(
            is_train=False,
            augmentations=[],
            image_format="BGR",
            keypoint_hflip_indices=np.zeros(0),
            precomputed_proposal_topk=10,
        ),
        "Augmentation": T.Augmentation(),
        "RandomCrop": T.RandomCrop("relative", (0.5, 0.5)),
        "Transform": T.NoOpTransform(),
        "DefaultTrainer": DefaultTrainer(cfg),
        "DefaultPredictor": DefaultPredictor(tiny_cfg()),
        "COCOEvaluator": evaluated(COCOEvaluator, "bbox"),
        "DatasetEvaluator": DatasetEvaluator(),
        "Backbone": Backbone,
        "GeneralizedRCNN": model,
        "GeneralizedRCNNWithTTA": GeneralizedRCNNWithTTA(tiny_cfg(), model),
        "ProposalNetwork": build_model(proposals),
        "StandardROIHeads": model.roi_heads,
        "DefaultAnchorGenerator": model.proposal_generator.anchor_generator,
        "RetinaNetHead": head_of_retinanet,
        "ROIPooler": model.roi_heads.box_pooler,
        "RPN": model.proposal_generator,
        "CascadeROIHeads": build_model(cascade).roi_heads,
        "FastRCNNOutputLayers": model.roi_heads.box_predictor,
        "MaskRCNNConvUpsampleHead": model.roi_heads.mask_head,
        "Res5ROIHeads": build_model(res5).roi_heads,
        "EventWriter": EventWriter(),
        "Visualizer": Visualizer(np.zeros((8, 8, 3), np.uint8)),
    }


def has(subject, member):
    """Whether an object has a member, or its class sets it at some time."""
    if hasattr(subject, member):
        return True
    kind = subject if isinstance(subject, type) else type(subject)
    return re.search(rf"self\.{member}\b[^=\n]* = ", inspect.getsource(kind)) is not None


def test_every_member_in_use_is_here(subjects):
    missing = []
    for entry in MEMBERS:
        path, _, member = entry.removeprefix("detectron2.").split(" ")[0].partition("#")
        if path.startswith("projects."):
            subject = import_name(path)
        else:
            subject = subjects[path.rpartition(".")[2]]
        if not has(subject, member):
            missing.append(entry)
    assert len(MEMBERS) > 150
    assert not missing


# --- models that skip the constructor of their base ----------------------------------------------


@pytest.mark.parametrize(
    "base", [GeneralizedRCNN, ProposalNetwork, SemanticSegmentor, PanopticFPN, RetinaNet, FCOS]
)
def test_the_class_after_a_meta_architecture_takes_no_arguments(base):
    skipped = GeneralizedRCNN if base is PanopticFPN else base

    class Own(base):
        def __init__(self):
            super(skipped, self).__init__()
            self.layer = nn.Linear(2, 2)
            self.register_buffer("pixel_mean", torch.zeros(1, 1, 1), False)

    own = Own()
    assert sorted(own.state_dict()) == ["layer.bias", "layer.weight"]
    assert own.device == torch.device("cpu")


def test_model_that_sets_its_parts_itself_detects(model):
    class Own(GeneralizedRCNN):
        def __init__(self, other):
            super(GeneralizedRCNN, self).__init__()
            self.backbone = other.backbone
            self.proposal_generator = other.proposal_generator
            self.roi_heads = other.roi_heads
            for name, values in PIXELS.items():
                self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), False)
            self.moved = 0

        def _move_to_current_device(self, x):
            self.moved += 1
            return super()._move_to_current_device(x)

    own = Own(model).eval()
    (found,) = own([{"image": image(), "height": 24, "width": 32}])
    assert found["instances"].image_size == (24, 32)
    assert own.moved == 1


def test_postprocess_of_a_subclass_is_left_to_it(model):
    """detectron2 calls the function of its own class, so another signature does no harm."""

    class Own(GeneralizedRCNN):
        @staticmethod
        def _postprocess(instances, more, arguments, than, before):
            raise NotImplementedError

    own = Own(
        backbone=model.backbone,
        proposal_generator=model.proposal_generator,
        roi_heads=model.roi_heads,
        **PIXELS,
    ).eval()
    assert "instances" in own([{"image": image()}])[0]


# --- settings that subclasses change after the constructor ----------------------------------------


def test_box_loss_type_set_later_counts(model):
    predictor = model.roi_heads.box_predictor
    arguments = (
        torch.tensor([[0.0, 0, 10, 10]]),
        torch.tensor([[0.0, 0, 10, 20]]),
        torch.zeros(1, 24),
        torch.tensor([1]),
    )
    # h doubles: the delta is log(2) * 5 (the weight of sides), the shift of the center 0.5 * 10.
    smooth = predictor.box_reg_loss(*arguments).item()
    assert smooth == pytest.approx(5 * np.log(2) + 10 * 0.5, rel=1e-5)
    predictor.box_reg_loss_type = "giou"
    try:
        assert predictor.box_reg_loss(*arguments).item() == pytest.approx(0.5, rel=1e-5)
    finally:
        predictor.box_reg_loss_type = "smooth_l1"


def rpn_inputs(rpn):
    torch.manual_seed(0)
    images = ImageList(torch.zeros(1, 3, 48, 64), [(48, 64)])
    features = {"p3": torch.randn(1, 8, 6, 8), "p4": torch.randn(1, 8, 3, 4)}
    return images, features


def test_rpn_loss_type_set_later_counts(model):
    rpn = model.proposal_generator.train()
    gt = [target()]
    losses = {}
    for kind in ("smooth_l1", "giou"):
        rpn.box_reg_loss_type = kind
        losses[kind] = rpn(*rpn_inputs(rpn), gt)[1]["loss_rpn_loc"].item()
    rpn.box_reg_loss_type = "smooth_l1"
    assert rpn.smooth_l1_beta == 0.0
    assert losses["smooth_l1"] != losses["giou"]


def test_decoding_of_a_subclass_counts(model):
    class Still(RPN):
        def _decode_proposals(self, anchors, pred_anchor_deltas):
            decoded = super()._decode_proposals(anchors, pred_anchor_deltas)
            assert [x.shape for x in decoded] == [x.shape for x in pred_anchor_deltas]
            return [a.tensor.expand_as(x) for a, x in zip(anchors, decoded, strict=True)]

    rpn = model.proposal_generator.eval()
    same, _ = rpn(*rpn_inputs(rpn))
    rpn.__class__ = Still
    try:
        (anchors,), _ = rpn(*rpn_inputs(rpn))
    finally:
        rpn.__class__ = RPN
    sides = anchors.proposal_boxes.tensor[:, 2:] - anchors.proposal_boxes.tensor[:, :2]
    assert sides.max() <= 32 * 2**0.5 + 1e-4  # an anchor, clipped to the image
    assert not torch.equal(anchors.proposal_boxes.tensor, same[0].proposal_boxes.tensor)


def test_own_pooler_of_a_level_counts(model):
    class Negative(nn.Module):
        def __init__(self, pooler):
            super().__init__()
            self.pooler = pooler

        def forward(self, x, rois):
            return -self.pooler(x, rois)

    pooler = model.roi_heads.box_pooler
    features = [torch.randn(1, 8, 6, 8), torch.randn(1, 8, 3, 4)]
    boxes = [Boxes(torch.tensor([[0.0, 0, 8, 8], [0, 0, 60, 40]]))]
    before = pooler(features, boxes)
    kept = pooler.level_poolers[1]
    assert [p.spatial_scale for p in pooler.level_poolers] == [1 / 8, 1 / 16]
    pooler.level_poolers[1] = Negative(kept)
    after = pooler(features, boxes)
    pooler.level_poolers[1] = kept
    torch.testing.assert_close(after[0], before[0])  # a small box: the first level
    pooler.level_poolers[0].register_forward_hook(lambda module, args, output: output * 2)
    twice = pooler(features, boxes)
    pooler.level_poolers[0]._forward_hooks.clear()
    torch.testing.assert_close(twice[0], before[0] * 2)
    torch.testing.assert_close(pooler(features, boxes), before)


def test_large_boxes_take_the_pooler_of_their_level(model):
    pooler = model.roi_heads.box_pooler
    pooler.level_poolers[1].register_forward_hook(lambda module, args, output: output * 0)
    features = [torch.ones(1, 8, 60, 60), torch.ones(1, 8, 30, 30)]
    boxes = [Boxes(torch.tensor([[0.0, 0, 8, 8], [0, 0, 460, 460]]))]
    pooled = pooler(features, boxes)
    pooler.level_poolers[1]._forward_hooks.clear()
    assert pooled[0].min() > 0 and pooled[1].abs().max() == 0


# --- steps that subclasses override ---------------------------------------------------------------


def test_steps_of_test_time_augmentation_can_be_overridden(model):
    calls = []

    class Own(GeneralizedRCNNWithTTA):
        def _get_augmented_boxes(self, augmented_inputs, tfms):
            boxes, scores, classes = super()._get_augmented_boxes(augmented_inputs, tfms)
            assert len(boxes) == len(scores) == len(classes) > 0
            calls.append(("boxes", self.model.roi_heads.mask_on))
            best = boxes.new_tensor([[0.0, 0.0, 30.0, 20.0]])
            return best, [scores[0] * 0 + 0.9], [classes[0] * 0 + 2]

        def _rescale_detected_boxes(self, augmented_inputs, merged_instances, tfms):
            calls.append(("rescale", len(augmented_inputs)))
            return super()._rescale_detected_boxes(augmented_inputs, merged_instances, tfms)

        def _reduce_pred_masks(self, outputs, tfms):
            calls.append(("reduce", tuple(outputs[0].pred_masks.shape)))
            return super()._reduce_pred_masks(outputs, tfms) * 0

    cfg = tiny_cfg(TEST__AUG__MIN_SIZES=(48, 64), TEST__AUG__FLIP=True)
    tta = Own(cfg, model.eval())
    (found,) = tta([{"image": image(), "height": 48, "width": 64}])
    found = found["instances"]
    assert calls == [("boxes", False), ("rescale", 4), ("reduce", (1, 1, 28, 28))]
    assert model.roi_heads.mask_on is True
    assert found.pred_boxes.tensor.tolist() == [[0.0, 0.0, 30.0, 20.0]]
    assert found.pred_classes.tolist() == [2] and not found.pred_masks.any()


def test_heads_come_back_after_a_failure(model):
    tta = GeneralizedRCNNWithTTA(tiny_cfg(), model)
    with pytest.raises(KeyError), tta._turn_off_roi_heads(["mask_on", "no_such_switch"]):
        assert model.roi_heads.mask_on is False
        raise KeyError
    assert model.roi_heads.mask_on is True and not hasattr(model.roi_heads, "no_such_switch")


def test_ema_of_a_dense_detector_by_hand():
    class Own(FCOS):
        def __init__(self):
            super(FCOS, self).__init__()

    own = Own()
    assert own._ema_update("mean", 10.0, initial_value=100.0).item() == pytest.approx(91.0)
    assert own._ema_update("mean", 1.0, 100.0, momentum=0.5).item() == pytest.approx(46.0)
    assert own.mean.item() == pytest.approx(46.0)


@pytest.mark.parametrize("base", [RetinaNet, FCOS])
def test_every_step_of_a_dense_detector_can_be_overridden(base):
    calls = []

    def counted(name):
        def method(self, *args, **kwargs):
            calls.append(name)
            return getattr(super(Own, self), name)(*args, **kwargs)

        return method

    training = ["forward_training", "label_anchors", "losses", "_ema_update"]
    inference = ["forward_inference", "inference_single_image"]
    inference += ["_decode_multi_level_predictions", "_decode_per_level_predictions"]
    own = ["_match_anchors", "compute_ctrness_targets"] if base is FCOS else []
    both = ["preprocess_image", "_move_to_current_device", "_transpose_dense_predictions"]
    Own = type("Own", (base,), {x: counted(x) for x in training + inference + own + both})

    settings = {"num_classes": 2, **PIXELS, "backbone": TinyBackbone()}
    head = {"input_shape": [ShapeSpec(channels=8)] * 2, "num_classes": 2, "conv_dims": [8]}
    if base is FCOS:
        settings["head"] = FCOSHead(**head)
    else:
        settings["head"] = RetinaNetHead(num_anchors=1, **head)
        settings["head_in_features"] = ["p3", "p4"]
        settings["anchor_generator"] = DefaultAnchorGenerator(
            sizes=[[16], [32]], aspect_ratios=[1.0], strides=[8, 16]
        )
        settings["box2box_transform"] = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
        settings["anchor_matcher"] = Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True)
    model = Own(**settings)
    model([{"image": image(), "instances": target()}])
    assert set(calls) == {*training, *own, *both}
    calls.clear()
    model.eval()([{"image": image()}])
    assert set(calls) == {*inference, *both}


def test_tasks_of_a_subclass_count():
    class BoxesOnly(COCOEvaluator):
        def _tasks_from_predictions(self, predictions):
            assert super()._tasks_from_predictions(predictions) == {"bbox", "keypoints"}
            return {"bbox"}

    assert list(evaluated(BoxesOnly, "bbox", "keypoints")._results) == ["bbox"]


def test_drawing_of_a_subclass_counts():
    class Own(Visualizer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.texts, self.polygons, self.factors = [], 0, set()

        def draw_text(self, text, position, *, font_size=None, color="g", **kwargs):
            self.texts.append((text, len(position)))
            return self.output

        def draw_polygon(self, segment, color, edge_color=None, alpha=0.5):
            self.polygons += 1
            return self.output

        def _change_color_brightness(self, color, brightness_factor):
            self.factors.add(brightness_factor)
            return super()._change_color_brightness(color, brightness_factor)

    drawer = Own(np.zeros((60, 60, 3), np.uint8), None)
    masks = np.zeros((1, 60, 60), bool)
    masks[0, 10:50, 10:50] = True
    drawer.overlay_instances(masks=masks, labels=["a thing"])
    assert drawer.texts == [("a thing", 2)]
    assert drawer.polygons == 1
    assert not drawer.output.get_image().any(), "nothing else is drawn"
    assert drawer.factors == {-0.3}
    assert drawer._change_color_brightness((0.5, 0.5, 0.5), -0.7) == pytest.approx((0.15,) * 3)


def test_colors_of_a_film_that_a_subclass_chooses():
    class Own(VideoVisualizer):
        def _assign_colors(self, instances):
            usual = super()._assign_colors(instances)
            assert usual == [x.color for x in instances]
            assert [x.label for x in self._old_instances] == [1]
            return [(1.0, 0.0, 0.0)] * len(instances)

    found = Instances(
        (20, 20), pred_boxes=Boxes([[2.0, 2, 18, 18]]), pred_classes=torch.tensor([1])
    )
    drawn = Own(MetadataCatalog.get("__nonexist__")).draw_instance_predictions(
        np.zeros((20, 20, 3), np.uint8), found
    )
    red, green, blue = drawn.get_image().reshape(-1, 3).max(axis=0)
    assert red > 100 and green == blue


def test_detected_instance_is_made_as_old_code_makes_it():
    made = import_name("utils.video_visualizer._DetectedInstance")(
        3, [0, 0, 1, 1], mask_rle=None, color=None, ttl=8
    )
    assert (made.label, made.bbox, made.mask_rle, made.color, made.ttl) == (
        3,
        [0, 0, 1, 1],
        None,
        None,
        8,
    )


def test_candidates_that_stand_in_for_items_that_map_to_nothing():
    dataset = MapDataset(list(range(5)), lambda x: None if x in (0, 3) else x)
    assert dataset[0] in (1, 2, 4)
    assert 0 not in dataset._fallback_candidates
    dataset._fallback_candidates.intersection_update({2, 3})
    assert [dataset[3] for _ in range(4)] == [2] * 4


def test_metrics_of_a_subclass_of_the_trainer():
    written = []

    class Own(SimpleTrainer):
        def _write_metrics(self, loss_dict, data_time, prefix="", iter=None):
            super()._write_metrics(loss_dict, data_time, prefix="own/", iter=iter)
            written.append(self.storage.latest())

    class Model(nn.Linear):
        def forward(self, x):
            return {"loss": super().forward(x).sum()}

    model = Model(2, 1)
    trainer = Own(model, [torch.ones(1, 2)] * 4, torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.gather_metric_period = 2
    trainer.train(0, 4)
    assert len(written) == 4
    assert written[-1]["own/total_loss"][1] == 3
    assert trainer.storage.histories()["own/total_loss"].values()[0][1] == 1


@pytest.mark.parametrize("sampler_class", [TrainingSampler, RepeatFactorTrainingSampler])
def test_samplers_know_their_worker(sampler_class):
    size = 6 if sampler_class is TrainingSampler else torch.ones(6)
    sampler = sampler_class(size, shuffle=False, seed=1)
    assert (sampler._rank, sampler._world_size) == (0, 1)
    sampler._rank, sampler._world_size = 1, 3
    assert list(itertools.islice(sampler, 4)) == [1, 4, 1, 4]


def test_steps_of_hooks_that_subclasses_override(tmp_path):
    done = []

    class Eval(hooks.EvalHook):
        def _do_eval(self):
            done.append(("eval", self.trainer.iter))
            super()._do_eval()

    class Best(hooks.BestCheckpointer):
        def _best_checking(self):
            super()._best_checking()
            done.append(("best", self.best_metric, self.best_iter))

        def _update_best(self, val, iteration):
            return val != 5 and super()._update_best(val, iteration)

    class Trainer(TrainerBase):
        def run_step(self):
            self.value = [1, float("nan"), 5, 3][self.iter]

    trainer = Trainer()
    checkpointer = DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path))
    evaluation = Eval(1, lambda: {"task": {"AP": float(trainer.value)}})
    trainer.register_hooks([evaluation, Best(1, checkpointer, "task/AP")])
    trainer.train(0, 4)
    assert done == [
        ("eval", 0),
        ("best", 1.0, 0),
        ("eval", 1),
        ("best", 1.0, 0),
        ("eval", 2),
        ("best", 1.0, 0),
        ("eval", 4),
        ("best", 3.0, 4),
    ]
    assert not Best(1, checkpointer, "task/AP")._update_best(float("inf"), 0)


def test_convolution_of_an_rpn_head_that_a_subclass_chooses():
    class Pointwise(StandardRPNHead):
        def _get_rpn_conv(self, in_channels, out_channels):
            return nn.Conv2d(in_channels, out_channels, kernel_size=1)

    head = Pointwise(in_channels=4, num_anchors=2, conv_dims=[6, -1])
    assert [tuple(conv.weight.shape) for conv in head.conv] == [(6, 4, 1, 1), (6, 6, 1, 1)]
    assert head.conv[0].weight.std() < 0.03 and not head.conv[1].bias.any()
    assert [x.shape[1] for x in head([torch.zeros(1, 4, 2, 2)])[0]] == [2]


def test_time_left_that_a_subclass_writes(caplog):
    class Own(CommonMetricPrinter):
        def _get_eta(self, storage):
            assert super()._get_eta(storage) is None  # nothing is known yet
            return "a while"

    logging.getLogger("d2lite").propagate = True
    with EventStorage() as storage, caplog.at_level(logging.INFO, logger="d2lite.utils.events"):
        storage.put_scalar("total_loss", 1.0)
        Own(10).write()
    assert " eta: a while  iter: 0  total_loss: 1 " in caplog.text


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_drawings_by_matplotlib_lie_over_ours(scale, tmp_path):
    """Methods that programs copied from detectron2 and changed draw on `output.ax`."""
    pytest.importorskip("matplotlib")
    from matplotlib.patches import Rectangle

    gray = np.full((20, 30, 3), 100, np.uint8)
    drawer = Visualizer(gray, None, scale=scale)
    drawer.output.ax.add_patch(Rectangle((10, 5), 10, 10, facecolor="r", linewidth=0))
    drawer.output.ax.text(0, 0, "", size=3)
    drawn = drawer.get_output().get_image()
    side = int(scale)
    assert drawn.shape == (20 * side, 30 * side, 3)
    assert drawn[10 * side, 15 * side].tolist() == [255, 0, 0]
    assert drawn[2 * side, 2 * side].tolist() == drawn[-1, -1].tolist() == [100, 100, 100]
    drawer.output.save(str(tmp_path / "drawn.png"))
    assert cv2.imread(str(tmp_path / "drawn.png"))[10 * side, 15 * side].tolist() == [0, 0, 255]


def test_cell_anchors_that_a_subclass_lays():
    class Own(DefaultAnchorGenerator):
        def _calculate_anchors(self, sizes, aspect_ratios):
            assert (sizes, aspect_ratios) == ([[4]] * self.num_features, [[1.0]] * 2)
            usual = super()._calculate_anchors(sizes, aspect_ratios)
            return BufferList([cells * 2 for cells in usual])

    anchors = Own(sizes=[4], aspect_ratios=[1.0], strides=[8, 16])
    assert [x.tolist() for x in anchors.cell_anchors] == [[[-4.0, -4.0, 4.0, 4.0]]] * 2


def test_boundaries_that_a_subclass_of_the_evaluator_draws():
    class Own(SemSegEvaluator):
        def _mask_to_boundary(self, mask, dilation_ratio=0.02):
            usual = super()._mask_to_boundary(mask, dilation_ratio)
            assert usual.shape == mask.shape
            return mask  # all of a region counts

    evaluator = Own("shapes_sem_seg_val", distributed=False)
    file_name = next(iter(evaluator.input_file_to_gt_file))
    truth = evaluator._ground_truth(file_name)
    scores = torch.zeros(evaluator._num_classes, *truth.shape)
    evaluator.process([{"file_name": file_name}], [{"sem_seg": scores}])
    assert np.array_equal(evaluator._b_conf_matrix, evaluator._conf_matrix)
    assert evaluator._predictions[0]["category_id"] == 0


class _OutputLayers(FastRCNNOutputLayers):
    """Sets what detectron2's constructor sets, and nothing else."""

    def __init__(self):
        nn.Module.__init__(self)
        self.cls_score, self.bbox_pred = nn.Linear(4, 3), nn.Linear(4, 8)
        self.num_classes, self.loss_weight = 2, {}
        self.box2box_transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
        self.box_reg_loss_type, self.smooth_l1_beta = "smooth_l1", 0.0
        self.test_score_thresh, self.test_nms_thresh, self.test_topk_per_image = 0.0, 0.5, 7


def test_output_layers_with_a_constructor_of_their_own():
    layers = _OutputLayers()
    usual = FastRCNNOutputLayers(
        4, box2box_transform=layers.box2box_transform, num_classes=2, test_topk_per_image=7
    )
    usual.load_state_dict(layers.state_dict())
    boxes = Boxes(torch.tensor([[0.0, 0.0, 8.0, 8.0], [4.0, 4.0, 20.0, 16.0]]))
    proposals = [Instances((20, 20), proposal_boxes=boxes, gt_boxes=boxes)]
    proposals[0].gt_classes = torch.tensor([1, 2])
    predictions = layers(torch.arange(8.0).view(2, 4))
    with EventStorage():
        assert layers.losses(predictions, proposals) == usual.losses(predictions, proposals)
    (found,), _ = layers.inference(predictions, proposals)
    (expected,), _ = usual.inference(predictions, proposals)
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert len(found) > 0


def test_mapper_with_a_constructor_of_its_own():
    class Own(DatasetMapper):
        def __init__(self):
            self.is_train, self.image_format = True, "BGR"
            self.augmentations = T.AugmentationList([])
            self.use_instance_mask = self.use_keypoint = self.recompute_boxes = False
            self.instance_mask_format = "polygon"
            self.keypoint_hflip_indices = self.proposal_topk = None

    record = DatasetCatalog.get("shapes_val")[0]
    usual = DatasetMapper(True, augmentations=[], image_format="BGR")
    mapped, expected = Own()(record), usual(record)
    assert torch.equal(mapped["image"], expected["image"])
    assert torch.equal(mapped["instances"].gt_classes, expected["instances"].gt_classes)


def test_loop_of_constructors_that_set_every_attribute():
    class Own(SimpleTrainer):
        def __init__(self, model, loader, optimizer):
            TrainerBase.__init__(self)
            self.model, self.optimizer = model, optimizer
            self._data_loader_iter = iter(loader)

    class Evaluate(hooks.EvalHook):
        def __init__(self, function):
            self._period, self._func, self._eval_after_train = 0, function, True

    class Model(nn.Linear):
        def forward(self, x):
            return {"loss": super().forward(x).sum()}

    model = Model(1, 1)
    trainer = Own(model, itertools.repeat(torch.ones(1)), torch.optim.SGD(model.parameters(), 0.1))
    evaluated = []
    trainer.register_hooks([Evaluate(lambda: evaluated.append(trainer.iter) or {})])
    trainer.train(0, 2)
    assert evaluated == [2]


@pytest.mark.parametrize("form", [(3, "own_"), ("own_",), {"prefix": "own_"}])
def test_metrics_are_written_in_the_forms_of_any_release(form):
    write = SimpleTrainer.write_metrics
    losses = {"loss": torch.tensor(2.0)}
    with EventStorage(3) as storage:
        write(losses, 0.1, **form) if isinstance(form, dict) else write(losses, 0.1, *form)
    assert storage.latest()["own_total_loss"] == (2.0, 3)


def test_writers_with_a_write_of_their_own(tmp_path):
    class Own(JSONWriter):
        def write(self):
            for name, (value, iteration) in storage.latest().items():
                if iteration > self._last_write:
                    self._file_handle.write(json.dumps({name: value}) + "\n")
            self._last_write = storage.iter

    class Printer(CommonMetricPrinter):
        def _get_eta(self, storage):
            before, self._last_write = self._last_write, (storage.iter, 1.0)
            return str(before)

    writer, usual = Own(str(tmp_path / "own.json")), JSONWriter(str(tmp_path / "usual.json"))
    printer = Printer(9)
    with EventStorage() as storage:
        storage.put_scalar("loss", 2.0)
        for x in (writer, writer, usual):
            x.write()
        assert [printer._get_eta(storage) for _ in range(2)] == ["None", "(0, 1.0)"]
    writer.close()
    usual.close()
    Own(str(tmp_path / "unused.json")).close()
    assert (tmp_path / "own.json").read_text() == '{"loss": 2.0}\n'
    assert usual._last_write == 0
    assert not (tmp_path / "unused.json").exists()


def test_truth_of_a_registered_function_is_written_in_the_format_of_coco(tmp_path):
    record = {"file_name": "a.png", "image_id": 7, "height": 9, "width": 9}
    box = {"bbox": [1, 2, 5, 6], "bbox_mode": 0, "category_id": 0}
    DatasetCatalog.register("written_truth", lambda: [{**record, "annotations": [box]}])
    metadata = MetadataCatalog.get("written_truth").set(thing_classes=["a"])
    try:
        COCOEvaluator("written_truth", distributed=False)
        assert metadata.get("json_file") is None
        COCOEvaluator("written_truth", output_dir=str(tmp_path / "inference"), distributed=False)
        path = tmp_path / "inference" / "written_truth_coco_format.json"
        assert metadata.json_file == str(path)
        truth = json.loads(path.read_text())
        assert truth["annotations"][0]["bbox"] == [1, 2, 4, 4]
        assert truth["annotations"][0]["image_id"] == truth["images"][0]["id"] == 7
    finally:
        DatasetCatalog.remove("written_truth")
        MetadataCatalog.remove("written_truth")
