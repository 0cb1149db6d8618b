"""The small functions of `compat/old/`, under the names by which old code imports them."""

import inspect
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from d2lite.config import get_cfg
from d2lite.structures import Boxes, BoxMode, Instances
from tests.compat.test_names import import_name

# Path -> parameters as detectron2 has them; callers pass them by position and by name.
SIGNATURES = {
    "checkpoint.c2_model_loading._longest_common_prefix_str": "names",
    "data.build.check_metadata_consistency": "key dataset_names",
    "data.datasets.builtin_meta._get_builtin_metadata": "dataset_name",
    "data.datasets.builtin_meta._get_coco_instances_meta": "",
    "data.datasets.cityscapes._get_cityscapes_files": "image_dir gt_dir",
    "data.detection_utils._apply_exif_orientation": "image",
    "evaluation.coco_evaluation._evaluate_box_proposals": (
        "dataset_predictions coco_api thresholds area limit"
    ),
    "evaluation.coco_evaluation._evaluate_predictions_on_coco": (
        "coco_gt coco_results iou_type kpt_oks_sigmas cocoeval_fn img_ids max_dets_per_image "
        "use_fast_impl"
    ),
    "evaluation.lvis_evaluation._evaluate_predictions_on_lvis": (
        "lvis_gt lvis_results iou_type max_dets_per_image class_names"
    ),
    "layers.deform_conv.deform_conv": (
        "input offset weight stride padding dilation groups deformable_groups im2col_step"
    ),
    "layers.deform_conv.modulated_deform_conv": (
        "input offset mask weight bias stride padding dilation groups deformable_groups"
    ),
    "layers.mask_ops._do_paste_mask": "masks boxes img_h img_w skip_empty",
    "layers.mask_ops._paste_masks_tensor_shape": "masks boxes image_shape threshold",
    "modeling.backbone.fpn._assert_strides_are_log2_contiguous": "strides",
    "modeling.box_regression._dense_box_regression_loss": (
        "anchors box2box_transform pred_anchor_deltas gt_boxes fg_mask box_reg_loss_type "
        "smooth_l1_beta"
    ),
    "modeling.meta_arch.retinanet.permute_to_N_HWA_K": "tensor K",
    "solver.build._create_gradient_clipper": "cfg",
    "solver.build._expand_param_groups": "params",
    "solver.build._generate_optimizer_class_with_gradient_clipping": (
        "optimizer per_param_clipper global_clipper"
    ),
    "solver.lr_scheduler._get_warmup_factor_at_iter": "method iter warmup_iters warmup_factor",
    "utils.comm._get_global_gloo_group": "",
    "utils.logger._log_api_usage": "identifier",
    "utils.video_visualizer._DetectedInstance": "label bbox mask_rle color ttl",
    "utils.visualizer._PanopticPrediction": "panoptic_seg segments_info metadata",
}


@pytest.mark.parametrize("path", SIGNATURES)
def test_parameters(path):
    assert list(inspect.signature(import_name(path)).parameters) == SIGNATURES[path].split()


# --- solver ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, iteration, factor",
    [
        ("linear", 0, 0.1),
        ("linear", 5, 0.55),
        ("linear", 10, 1.0),
        ("constant", 9, 0.1),
        ("constant", 10, 1.0),
        ("no such method", 10, 1.0),
    ],
)
def test_warm_up_factor(method, iteration, factor):
    warm_up = import_name("solver.lr_scheduler._get_warmup_factor_at_iter")
    assert warm_up(method, iteration, warmup_iters=10, warmup_factor=0.1) == pytest.approx(factor)


def test_unknown_warm_up():
    warm_up = import_name("solver.lr_scheduler._get_warmup_factor_at_iter")
    with pytest.raises(ValueError, match="cosine"):
        warm_up("cosine", 3, 10, 0.1)


def test_one_group_for_each_parameter():
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    expand = import_name("solver.build._expand_param_groups")
    groups = expand(
        [
            {"params": [a, b], "lr": 0.1, "param_names": ["a", "b"]},
            {"params": [b], "weight_decay": 0.5},
        ]
    )
    assert groups == [
        {"params": [a], "param_names": ["a"], "lr": 0.1},
        {"params": [b], "param_names": ["b"], "lr": 0.1, "weight_decay": 0.5},
    ]
    reduce = import_name("solver.build.reduce_param_groups")
    (merged,) = reduce([{"params": [a], "param_names": ["a"], "lr": 1}, {"params": [b], "lr": 1}])
    assert merged["params"] == [a, b] and merged["param_names"] == ["a"] and merged["lr"] == 1


def test_gradients_are_clipped_by_both_kinds_of_function():
    make = import_name("solver.build._generate_optimizer_class_with_gradient_clipping")
    cfg = get_cfg().SOLVER.CLIP_GRADIENTS
    cfg.CLIP_TYPE, cfg.CLIP_VALUE = "value", 0.5
    clip_one = import_name("solver.build._create_gradient_clipper")(cfg)

    def clip_all(params):
        torch.nn.utils.clip_grad_norm_(params, 1.0)

    # Gradients 3 and 4: clipped to 0.5 each, or scaled to a norm of 1.
    for clippers, expected in [
        ({"per_param_clipper": clip_one}, [0.5, 0.5]),
        ({"global_clipper": clip_all}, [0.6, 0.8]),
    ]:
        params = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
        optimizer = make(torch.optim.SGD, **clippers)(params, lr=1.0)
        assert type(optimizer).__name__ == "SGDWithGradientClip"
        for param, grad in zip(params, (3.0, 4.0), strict=True):
            param.grad = torch.tensor([grad])
        optimizer.step()
        assert [-p.item() for p in params] == pytest.approx(expected, abs=1e-5)


# --- data -----------------------------------------------------------------------------------------


def test_builtin_metadata_under_both_modules():
    get = import_name("data.datasets.builtin_meta._get_builtin_metadata")
    assert get is import_name("data.datasets.builtin._get_builtin_metadata")
    things = import_name("data.datasets.builtin_meta._get_coco_instances_meta")()
    assert get("coco") == things
    assert sorted(things) == ["thing_classes", "thing_colors", "thing_dataset_id_to_contiguous_id"]
    assert len(get("coco_panoptic_separated")["stuff_classes"]) == 54
    with pytest.raises(KeyError):
        get("no such kind")


def test_predefined_splits_are_as_detectron2_writes_them():
    coco = import_name("data.datasets.builtin._PREDEFINED_SPLITS_COCO")
    assert coco["coco"]["coco_2017_val"] == (
        "coco/val2017",
        "coco/annotations/instances_val2017.json",
    )
    panoptic = import_name("data.datasets.builtin._PREDEFINED_SPLITS_COCO_PANOPTIC")
    assert panoptic["coco_2017_val_100_panoptic"] == (
        "coco/panoptic_val2017_100",
        "coco/annotations/panoptic_val2017_100.json",
        "coco/panoptic_stuff_val2017_100",
    )
    lvis = import_name("data.datasets.builtin._PREDEFINED_SPLITS_LVIS")
    assert lvis["lvis_v1"]["lvis_v1_val"] == ("coco/", "lvis/lvis_v1_val.json")
    assert set(lvis) == {"lvis_v1", "lvis_v0.5", "lvis_v0.5_cocofied"}


@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_exif_orientation_as_pillow_turns_it(orientation):
    from PIL import ImageOps

    picture = Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    if orientation is not None:
        picture.getexif()[0x0112] = orientation
    turned = import_name("data.detection_utils._apply_exif_orientation")(picture)
    assert np.array_equal(np.asarray(turned), np.asarray(ImageOps.exif_transpose(picture)))


def test_things_without_exif_are_left():
    thing = object()
    assert import_name("data.detection_utils._apply_exif_orientation")(thing) is thing


# --- evaluation -----------------------------------------------------------------------------------


def tiny_coco():
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": 1, "height": 20, "width": 20}],
        "categories": [{"id": 5, "name": "thing"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 5,
                "bbox": [0, 0, 10, 10],
                "area": 100,
                "iscrowd": 0,
            }
        ],
    }
    coco.createIndex()
    return coco


def test_evaluation_on_coco_by_hand():
    from pycocotools.cocoeval import COCOeval

    evaluate = import_name("evaluation.coco_evaluation._evaluate_predictions_on_coco")
    results = [{"image_id": 1, "category_id": 5, "bbox": [0, 0, 10, 8], "score": 0.9}]
    found = evaluate(tiny_coco(), results, "bbox", None, img_ids=[1])
    assert found.stats[0] == pytest.approx(0.7)  # IoU 0.8: right for 0.50 to 0.80, 7 of 10
    for use_fast_impl in (True, False):  # the form of release 0.6
        by_name = evaluate(tiny_coco(), results, "bbox", use_fast_impl=use_fast_impl, img_ids=[1])
        by_place = evaluate(tiny_coco(), results, "bbox", None, use_fast_impl, [1])
        assert by_name.stats[0] == by_place.stats[0] == pytest.approx(0.7)
        assert (type(by_name) is type(by_place) is COCOeval) is not use_fast_impl
    with pytest.raises(AssertionError):
        evaluate(tiny_coco(), [], "bbox")


def test_recall_of_proposals_by_hand():
    evaluate = import_name("evaluation.coco_evaluation._evaluate_box_proposals")
    proposals = Instances(
        (20, 20),
        proposal_boxes=Boxes([[0.0, 0, 10, 8], [0, 0, 5, 5]]),
        objectness_logits=torch.tensor([1.0, 2.0]),
    )
    predictions = [{"image_id": 1, "proposals": proposals}]
    found = evaluate(predictions, tiny_coco(), thresholds=torch.tensor([0.5, 0.9]))
    assert found["ar"].item() == pytest.approx(0.5)
    assert found["num_pos"] == 1 and found["gt_overlaps"].tolist() == pytest.approx([0.8])
    assert evaluate(predictions, tiny_coco(), limit=1)["ar"].item() == 0  # the best has IoU 0.25


def test_evaluation_on_lvis_without_results_is_nan():
    evaluate = import_name("evaluation.lvis_evaluation._evaluate_predictions_on_lvis")
    found = evaluate(None, [], "bbox", class_names=["a"])
    assert sorted(found)[:3] == ["AP", "AP50", "AP75"] and np.isnan(list(found.values())).all()


def test_panoptic_table(caplog):
    results = {
        name: {"pq": 0.5, "sq": 0.25, "rq": 1.0, "n": 3} for name in ("All", "Things", "Stuff")
    }
    with caplog.at_level(logging.INFO, logger="d2lite"):
        logging.getLogger("d2lite").propagate = True
        import_name("evaluation.panoptic_evaluation._print_panoptic_results")(results)
    assert "50" in caplog.text and "#categories" in caplog.text


# --- layers and models ----------------------------------------------------------------------------


def test_empty_tensors_pass_gradients():
    op = import_name("layers.wrappers._NewEmptyTensorOp")
    assert op is import_name("layers.deform_conv._NewEmptyTensorOp")
    x = torch.zeros(0, 3, requires_grad=True)
    y = op.apply(x, (0, 5, 2))
    assert y.shape == (0, 5, 2)
    y.sum().backward()
    assert x.grad.shape == (0, 3)


def test_deformable_convolution_as_a_function():
    from d2lite.layers import DeformConv, ModulatedDeformConv

    torch.manual_seed(0)
    x, offset, mask = torch.randn(1, 4, 5, 5), torch.randn(1, 18, 5, 5), torch.rand(1, 9, 5, 5)
    plain = DeformConv(4, 6, 3, padding=1)
    apply = import_name("layers.deform_conv._DeformConv").apply
    torch.testing.assert_close(apply(x, offset, plain.weight, 1, 1), plain(x, offset))
    full = ModulatedDeformConv(4, 6, 3, padding=1)
    apply = import_name("layers.deform_conv.modulated_deform_conv")
    found = apply(x, offset, mask, full.weight, full.bias, padding=1)
    torch.testing.assert_close(found, full(x, offset, mask))


def test_masks_are_pasted_as_the_public_function_does():
    torch.manual_seed(0)
    masks = torch.rand(3, 7, 7)
    boxes = torch.tensor([[3.2, 4.1, 30.7, 20.5], [-5.0, 10, 12, 60], [40.5, 30, 49.5, 33]])
    paste = import_name("layers.mask_ops.paste_masks_in_image")
    height, width = 40, 50
    expected = paste(masks, Boxes(boxes), (height, width), threshold=0.5)
    shape = (torch.tensor(height), torch.tensor(width))
    by_tensor = import_name("layers.mask_ops._paste_masks_tensor_shape")
    assert torch.equal(by_tensor(masks, Boxes(boxes), shape), expected)
    soft = import_name("layers.mask_ops._do_paste_mask")
    for one, box, wanted in zip(masks, boxes, expected, strict=True):
        part, (rows, columns) = soft(one[None, None], box[None], height, width)
        whole, everywhere = soft(one[None, None], box[None], height, width, skip_empty=False)
        assert everywhere == () and whole.shape == (1, height, width)
        pasted = torch.zeros(height, width)
        pasted[rows, columns] = part[0]
        close = (pasted - 0.5).abs() < 1e-4  # rounding may decide there
        assert torch.equal((pasted >= 0.5) | close, wanted | close)


@pytest.mark.parametrize("kind", ["smooth_l1", "giou"])
def test_box_loss_with_any_index_as_mask(kind):
    """Fast R-CNN passes Ellipsis: all of the boxes that it picked itself."""
    from d2lite.modeling.box_regression import Box2BoxTransform

    loss = import_name("modeling.box_regression._dense_box_regression_loss")
    anchors = torch.tensor([[0.0, 0, 10, 10], [5, 5, 25, 15]])
    gt = anchors + torch.tensor([[1.0, 2, 3, 4], [0, 0, 0, 5]])
    deltas = torch.zeros(1, 2, 4, requires_grad=True)
    transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))

    def of(mask, **kwargs):
        return loss([anchors], transform, [deltas], [gt], mask, kind, 0.0)

    every = torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(of(...), of(every))
    first = torch.tensor([[True, False]])
    torch.testing.assert_close(of((0, [0])), of(first))
    torch.testing.assert_close(of((slice(None), slice(0, 1))), of(first))
    of(...).backward()
    assert deltas.grad.abs().sum() > 0
    none = loss([anchors[:0]], transform, [deltas[:, :0]], [gt[:0]], ..., kind, 0.0)
    assert none.item() == 0


def test_strides_have_to_double():
    check = import_name("modeling.backbone.fpn._assert_strides_are_log2_contiguous")
    check([4, 8, 16])
    check([4])
    with pytest.raises(AssertionError, match="16 4"):
        check([4, 16])


def test_grid_of_cells():
    offsets = import_name("modeling.anchor_generator._create_grid_offsets")
    x, y = offsets((2, 3), 8, 0.5, torch.zeros(0))
    assert x.tolist() == [4, 12, 20, 4, 12, 20] and y.tolist() == [4, 4, 4, 12, 12, 12]


def test_parameters_of_levels():
    broadcast = import_name("modeling.anchor_generator._broadcast_params")
    assert broadcast([1, 2], 3, "sizes") == [[1, 2]] * 3
    assert broadcast([[1, 2]], 2, "sizes") == [[1, 2]] * 2
    assert broadcast([[1], [2]], 2, "sizes") == [[1], [2]]
    with pytest.raises(AssertionError, match="sizes has 2 elements"):
        broadcast([[1], [2]], 3, "sizes")


def test_predictions_of_all_levels_in_rows():
    permute = import_name(
        "modeling.meta_arch.retinanet.permute_all_cls_and_box_to_N_HWA_K_and_concat"
    )
    logits = [torch.arange(12.0).view(1, 6, 1, 2), torch.arange(6.0).view(1, 6, 1, 1) + 100]
    deltas = [torch.zeros(1, 8, 1, 2), torch.zeros(1, 8, 1, 1)]
    rows, boxes = permute(logits, deltas, num_classes=3)
    assert rows.shape == (6, 3) and boxes.shape == (6, 4)
    assert rows[:2].tolist() == [[0, 2, 4], [6, 8, 10]]  # two anchors of the first cell
    zeros = import_name("modeling.poolers._create_zeros")
    assert zeros(torch.ones(3, 5), 2, 7, 7, rows).shape == (3, 2, 7, 7)
    assert zeros(None, 2, 7, 7, rows).shape == (0, 2, 7, 7)


def test_arguments_from_a_config():
    get = import_name("config.config._get_args_from_config")
    called = import_name("config.config._called_with_cfg")
    cfg = get_cfg()

    def from_config(cfg, size):
        return {"size": size, "seed": cfg.SEED}

    assert called(cfg) and called(cfg=cfg) and not called(3)
    assert get(from_config, cfg, 4, seed=7) == {"size": 4, "seed": 7}


def test_boxes_with_the_index_of_their_image():
    boxes = torch.tensor([[1.0, 2, 3, 4]])
    assert import_name("modeling.poolers._fmt_box_list")(boxes, 7).tolist() == [[7, 1, 2, 3, 4]]


@pytest.mark.parametrize("kind", ["smooth_l1", "giou"])
def test_outputs_of_old_fast_rcnn_agree_with_the_layers(kind):
    from d2lite.modeling.box_regression import Box2BoxTransform
    from d2lite.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers

    torch.manual_seed(0)
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    layers = FastRCNNOutputLayers(
        8, box2box_transform=transform, num_classes=3, box_reg_loss_type=kind
    )
    proposals = Instances(
        (40, 40),
        proposal_boxes=Boxes([[0.0, 0, 10, 10], [5, 5, 25, 15], [1, 1, 9, 9]]),
        gt_boxes=Boxes([[1.0, 1, 12, 11], [5, 5, 20, 20], [0, 0, 0, 0]]),
        gt_classes=torch.tensor([1, 2, 3]),
    )
    predictions = layers(torch.randn(3, 8))
    old = import_name("modeling.roi_heads.fast_rcnn.FastRCNNOutputs")(
        transform, *predictions, [proposals], 0.0, kind
    )
    expected = layers.losses(predictions, [proposals])
    torch.testing.assert_close(old.losses(), expected)
    (found,), (rows,) = old.inference(0.1, 0.5, 10)
    (wanted,), (wanted_rows,) = _inference(layers, predictions, proposals)
    torch.testing.assert_close(found.scores, wanted.scores)
    assert torch.equal(rows, wanted_rows)


def _inference(layers, predictions, proposals):
    layers.test_score_thresh, layers.test_nms_thresh, layers.test_topk_per_image = 0.1, 0.5, 10
    return layers.inference(predictions, [proposals])


# --- the rest -------------------------------------------------------------------------------------


def test_names_in_short():
    prefix = import_name("checkpoint.c2_model_loading._longest_common_prefix")
    assert prefix(["abc.d", "abc.dfg"]) == "abc." and prefix(["ab", "ac"]) == ""
    string = import_name("checkpoint.c2_model_loading._longest_common_prefix_str")
    assert string(["abcde", "abcdg"]) == "abcd" and string(["a"]) == "a"
    group = import_name("checkpoint.c2_model_loading._group_str")
    assert group(["res.w", "res.bias"]) == "res.{w,bias}"
    norm = [f"bn_{name}" for name in ("beta", "running_mean", "running_var", "gamma")]
    assert group(norm) == "bn_*"


def test_profiler_of_old_writes_a_trace(tmp_path):
    from d2lite.engine import SimpleTrainer

    profiler = import_name("engine.AutogradProfiler")
    assert profiler is import_name("engine.hooks.AutogradProfiler")

    class Model(nn.Linear):
        def forward(self, x):
            return {"loss": super().forward(x).sum()}

    model = Model(2, 1)
    trainer = SimpleTrainer(
        model, [torch.ones(1, 2)] * 3, torch.optim.SGD(model.parameters(), lr=0.1)
    )
    with pytest.warns(DeprecationWarning, match="TorchProfiler"):
        trainer.register_hooks([profiler(lambda t: t.iter == 1, str(tmp_path), use_cuda=False)])
    trainer.train(0, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["profiler_iter1-trace.json"]


def test_export_config_is_left_as_it_is():
    cfg = get_cfg()
    with pytest.warns(DeprecationWarning):
        assert import_name("export.add_export_config")(cfg) is cfg


def test_first_key_that_a_config_has():
    get = import_name("engine.defaults._try_get_key")
    cfg = get_cfg()
    assert get(cfg, "train.output_dir", "OUTPUT_DIR") == "./output"
    assert get(cfg, "no.such.key", default=3) == 3


def test_segments_of_a_panoptic_map():
    prediction = import_name("utils.visualizer._PanopticPrediction")
    assert prediction is import_name("utils.video_visualizer._PanopticPrediction")
    seg = torch.tensor([[0, 1, 1], [2, 2, 2]])
    infos = [
        {"id": 1, "isthing": True, "category_id": 4},
        {"id": 2, "isthing": False, "category_id": 5},
    ]
    pred = prediction(seg, infos)
    assert pred.non_empty_mask().tolist() == [[False, True, True], [True, True, True]]
    ((mask, info),) = pred.instance_masks()
    assert mask.dtype == bool and mask.sum() == 2 and info["category_id"] == 4
    ((mask, _),) = pred.semantic_masks()
    assert mask.tolist() == [[False] * 3, [True] * 3]


def test_api_usage_is_counted_quietly():
    assert import_name("utils.logger._log_api_usage")("modeling.meta_arch.Own") is None


def test_gloo_group_of_all(tmp_path):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        group = import_name("utils.comm._get_global_gloo_group")()
        assert dist.get_world_size(group) == 1
        assert import_name("utils.comm._get_global_gloo_group")() is group
    finally:
        dist.destroy_process_group()


def test_tests_are_skipped_on_cpu_ci(monkeypatch):
    skip = import_name("utils.testing.skipIfOnCPUCI")
    monkeypatch.setenv("CI", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    marked = skip("too slow")(lambda: None)
    assert getattr(marked, "__unittest_skip__", False)
    monkeypatch.delenv("CI")
    assert not getattr(skip("too slow")(lambda: None), "__unittest_skip__", False)


def test_box_modes_are_read_through_modules_that_only_import_them():
    assert import_name("data.datasets.coco.BoxMode") is BoxMode
    assert import_name("utils.logger.logging") is logging
    assert import_name("modeling.poolers.cat") is import_name("layers.cat")
    assert import_name("engine.defaults.T") is import_name("data.transforms")


# --- model zoo, structures ------------------------------------------------------------------------


def test_addresses_of_released_models():
    urls = import_name("model_zoo.model_zoo._ModelZooUrls")
    name = "COCO-Detection/retinanet_R_50_FPN_1x"
    suffix = "190397773/model_final_bfca0b.pkl"
    assert urls.CONFIG_PATH_TO_URL_SUFFIX[name] == suffix
    assert urls.query(f"{name}.yaml") == f"{urls.S3_PREFIX}{name}/{suffix}"
    assert urls.query("COCO-Detection/mine.yaml") is None


@pytest.mark.parametrize("size", [(3, 4), torch.tensor([3, 4]), (torch.tensor(3), torch.tensor(4))])
def test_image_sizes_become_tensors(size):
    assert import_name("structures.image_list._as_tensor")(size).tolist() == [3, 4]
