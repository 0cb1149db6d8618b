"""Parts of the configs: MViTv2-T in place of the ResNet, and a run that starts from its weights."""

from functools import partial

from fvcore.common.param_scheduler import MultiStepParamScheduler
from torch import nn

from d2lite import model_zoo
from d2lite.config import LazyCall as L
from d2lite.modeling import MViT
from d2lite.solver import WarmupParamScheduler


def on_mvitv2_t(name):
    """Return the model of a config of the zoo, with MViTv2-T under its feature pyramid."""
    model = model_zoo.get_config(name).model
    constants = model_zoo.get_config("common/data/constants.py").constants
    model.pixel_mean = constants.imagenet_rgb256_mean
    model.pixel_std = constants.imagenet_rgb256_std
    model.input_format = "RGB"
    model.backbone.bottom_up = L(MViT)(
        embed_dim=96,
        depth=10,
        num_heads=1,
        last_block_indexes=(0, 2, 7, 9),
        residual_pooling=True,
        drop_path_rate=0.2,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        out_features=("scale2", "scale3", "scale4", "scale5"),
    )
    model.backbone.in_features = "${.bottom_up.out_features}"
    return model


def new_train():
    """Return the settings of a run of 36 epochs in mixed precision."""
    train = model_zoo.get_config("common/train.py").train
    train.amp.enabled = True
    train.ddp.fp16_compression = True
    train.init_checkpoint = weights("T", "in1k")
    train.max_iter = 67500  # of 118000 images, 64 images a step
    return train


def weights(size, dataset):
    """Return the URL of released weights: "T", "S", "B", "L" or "H" on "in1k" or "in21k"."""
    return f"detectron2://ImageNetPretrained/mvitv2/MViTv2_{size}_{dataset}.pyth"


def step_schedule(milestones):
    """Return a schedule with two steps to a tenth of the rate, and 250 iterations of warm-up.

    Args:
        milestones: the iterations of the two steps, and the last iteration of training.
    """
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=milestones),
        warmup_length=250 / milestones[-1],
        warmup_factor=0.001,
    )


def new_optimizer():
    """Return AdamW without weight decay for position embeddings."""
    optimizer = model_zoo.get_config("common/optim.py").AdamW
    optimizer.lr = 1.6e-4
    optimizer.params.overrides = {
        name: {"weight_decay": 0.0} for name in ("pos_embed", "rel_pos_h", "rel_pos_w")
    }
    return optimizer
