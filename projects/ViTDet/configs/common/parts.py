"""Parts of the configs: sizes of the ViT, schedules, LVIS."""

from functools import partial

from fvcore.common.param_scheduler import MultiStepParamScheduler

from d2lite import model_zoo
from d2lite.config import LazyCall as L
from d2lite.data.detection_utils import get_fed_loss_cls_weights
from d2lite.data.samplers import RepeatFactorTrainingSampler
from d2lite.evaluation import LVISEvaluator
from d2lite.modeling.backbone.vit import get_vit_lr_decay_rate
from d2lite.solver import WarmupParamScheduler


def new_train(init_checkpoint):
    """Return the settings of a run in mixed precision that starts from these weights."""
    train = model_zoo.get_config("common/train.py").train
    train.amp.enabled = True
    train.ddp.fp16_compression = True
    train.init_checkpoint = init_checkpoint
    return train


def step_schedule(max_iter, milestones):
    """Return a schedule with two steps to a tenth of the rate, and 250 iterations of warm-up."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(
            values=[1.0, 0.1, 0.01], milestones=milestones, num_updates=max_iter
        ),
        warmup_length=250 / max_iter,
        warmup_factor=0.001,
    )


def use_vit_large(model, train, optimizer):
    """Replace ViT-B by ViT-L, with its weights and its learning rate decay."""
    _use_vit(model, train, dim=1024, depth=24, drop_path_rate=0.4, weights="vit_large")
    optimizer.params.lr_factor_func = partial(
        get_vit_lr_decay_rate, lr_decay_rate=0.8, num_layers=24
    )


def use_vit_huge(model, train, optimizer, drop_path_rate):
    """Replace ViT-B by ViT-H, with its weights and its learning rate decay."""
    _use_vit(
        model,
        train,
        dim=1280,
        depth=32,
        drop_path_rate=drop_path_rate,
        weights="vit_huge_p14to16",
    )
    optimizer.params.lr_factor_func = partial(
        get_vit_lr_decay_rate, lr_decay_rate=0.9, num_layers=32
    )
    optimizer.params.overrides = {}
    optimizer.params.weight_decay_norm = None


def _use_vit(model, train, dim, depth, drop_path_rate, weights):
    net = model.backbone.net
    net.embed_dim, net.depth, net.num_heads = dim, depth, 16
    net.drop_path_rate = drop_path_rate
    # The last block of each quarter has global attention.
    quarter = depth // 4
    net.window_block_indexes = [i for i in range(depth) if i % quarter != quarter - 1]
    train.init_checkpoint = (
        f"detectron2://ImageNetPretrained/MAE/mae_pretrain_{weights}.pth?matching_heuristics=True"
    )


def use_lvis(model, dataloader):
    """Use LVIS v1, with the federated loss, repeat factor sampling and 300 detections per image."""
    dataloader.train.dataset.names = "lvis_v1_train"
    dataloader.train.sampler = L(RepeatFactorTrainingSampler)(
        repeat_factors=L(RepeatFactorTrainingSampler.repeat_factors_from_category_frequency)(
            dataset_dicts="${dataloader.train.dataset}", repeat_thresh=0.001
        )
    )
    dataloader.test.dataset.names = "lvis_v1_val"
    dataloader.evaluator = L(LVISEvaluator)(
        dataset_name="${..test.dataset.names}", max_dets_per_image=300
    )
    heads = model.roi_heads
    heads.num_classes = 1203
    for predictor in heads.get("box_predictors") or [heads.box_predictor]:
        predictor.test_score_thresh = 0.02
        predictor.test_topk_per_image = 300
        predictor.use_sigmoid_ce = True
        predictor.use_fed_loss = True
        predictor.get_fed_loss_cls_weights = partial(get_fed_loss_cls_weights, "lvis_v1_train", 0.5)
