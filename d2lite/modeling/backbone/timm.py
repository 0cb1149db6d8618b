"""Any network of the timm package as a backbone, with or without a feature pyramid."""

import contextlib
import logging
import math
import os
import pickle
from collections.abc import Iterator, Sequence
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2lite.config import CfgNode
from d2lite.layers import ShapeSpec
from d2lite.modeling.backbone.backbone import Backbone
from d2lite.modeling.backbone.build import BACKBONE_REGISTRY
from d2lite.modeling.backbone.fpn import FPN, LastLevelMaxPool, build_fpn, build_retinanet_fpn
from d2lite.utils.extras import import_extra
from d2lite.utils.registry import check_choice, did_you_mean

logger = logging.getLogger(__name__)

NORMS = ("", "FrozenBN", "SyncBN")

# timm's transformers expect a fixed image size unless one of these arguments is given; other
# networks accept neither.
ANY_SIZE = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})

_OF_TIMM = (
    *(AssertionError, IndexError, NotImplementedError, RuntimeError),
    pickle.UnpicklingError,
)
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # read by torch.load


class TimmBackbone(Backbone):
    """A network of timm; its feature of stride 2**k is called "resk"."""

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        out_indices: Sequence[int] = (),
        in_chans: int = 3,
        norm: str = "",
        freeze_at: int = 0,
    ):
        """Build the network with timm.

        Args:
            name: of a timm model, such as "convnext_tiny" or "resnet50.a1_in1k".
            pretrained: download weights and start from them.
            out_indices: which of timm's features to return; if empty, the deepest one of each
                stride.
            norm: "" keeps its norms, "FrozenBN" freezes its batch norms, "SyncBN" computes their
                statistics over all GPUs.
            freeze_at: freezes all layers up to the feature "res<freeze_at>", and at least those
                before the first stage; 0 freezes nothing.
        Raises:
            ImportError: when timm is not installed.
            ValueError: for an unknown name, norm or index, a network that gives no features or
                cannot be frozen in part, and strides that are not powers of 2 or that occur twice
                in `out_indices`.
        """
        super().__init__()
        timm = import_extra("timm", "timm", f"backbone {name}")
        check_choice("norm of a timm backbone", norm, NORMS)
        self.net = _create(timm, name, pretrained, out_indices, in_chans)
        info = self.net.feature_info
        levels = [_level(name, stride) for stride in info.reduction()]
        if out_indices and len(set(levels)) < len(levels):
            raise ValueError(
                f"timm's {name} has features of strides {info.reduction()} at indices "
                f"{list(out_indices)}; choose one of each stride"
            )
        self._names = [f"res{level}" for level in levels]
        self._out_features = list(dict.fromkeys(self._names))
        self._out_feature_channels = dict(zip(self._names, info.channels(), strict=True))
        self._out_feature_strides = dict(zip(self._names, info.reduction(), strict=True))
        if norm == "FrozenBN":
            self.net = timm.layers.freeze_batch_norm_2d(self.net)
        elif norm == "SyncBN":
            self.net = timm.layers.convert_sync_batchnorm(self.net)
        if freeze_at > 0:
            _freeze(timm, self.net, name, freeze_at)
        self._channels_last = getattr(self.net, "output_fmt", "NCHW") == "NHWC"  # such as Swin
        # Windows that cut maps without padding, as MaxViT's do, must fit into them.
        windows = [m.partition_size for m in self.net.modules() if hasattr(m, "partition_size")]
        window = math.lcm(*(side for size in windows for side in size))
        self._size_multiple = self.size_divisibility * window

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, in_chans, H, W) -> the features by name, (N, Ci, ceil(H / stride_i), ...)."""
        height, width = x.shape[-2:]
        pad = (0, -width % self._size_multiple, 0, -height % self._size_multiple)
        # If names are equal, the last feature is kept, which is the deepest.
        features = dict(zip(self._names, self.net(F.pad(x, pad)), strict=True))
        if self._channels_last:
            features = {name: y.permute(0, 3, 1, 2) for name, y in features.items()}
        if not any(pad):
            return {name: y.contiguous() for name, y in features.items()}
        strides = self._out_feature_strides
        return {
            name: y[..., : -(-height // strides[name]), : -(-width // strides[name])].contiguous()
            for name, y in features.items()
        }

    @property
    def size_divisibility(self) -> int:
        """The largest stride, so that no layer has to round a size."""
        return max(self._out_feature_strides.values())


@BACKBONE_REGISTRY.register()
def build_timm_model_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Return the timm network of MODEL.TIMM_MODEL; warn if pixels do not suit its weights."""
    settings = cfg.MODEL.TIMM_MODEL
    backbone = TimmBackbone(
        settings.NAME,
        pretrained=settings.PRETRAINED,
        out_indices=settings.OUT_INDICES,
        in_chans=input_shape.channels,
        norm=settings.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    if not settings.PRETRAINED:
        return backbone
    # Pretrained weights expect RGB pixels, normalized as timm's settings for them say.
    of_weights = backbone.net.pretrained_cfg
    mean, std = (torch.tensor(of_weights[key]) * 255 for key in ("mean", "std"))
    found = torch.tensor([*cfg.MODEL.PIXEL_MEAN, *cfg.MODEL.PIXEL_STD])
    wanted = torch.cat([mean, std])
    same = found.shape == wanted.shape and torch.allclose(found, wanted, atol=0.5)
    if cfg.INPUT.FORMAT != "RGB" or not same:
        logger.warning(
            "The pretrained weights of %s expect INPUT.FORMAT RGB, MODEL.PIXEL_MEAN %s and "
            "MODEL.PIXEL_STD %s; the config has %s, %s and %s",
            settings.NAME,
            [round(x, 3) for x in mean.tolist()],
            [round(x, 3) for x in std.tolist()],
            cfg.INPUT.FORMAT,
            list(cfg.MODEL.PIXEL_MEAN),
            list(cfg.MODEL.PIXEL_STD),
        )
    return backbone


@BACKBONE_REGISTRY.register()
def build_timm_model_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Return a timm network with FPN levels for MODEL.FPN.IN_FEATURES and a pooled one above P5."""
    return build_fpn(cfg, build_timm_model_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_retinanet_timm_model_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Return a timm network with FPN levels and convolved P6 and P7 from res5, as RetinaNet uses
    it."""
    return build_retinanet_fpn(cfg, build_timm_model_backbone(cfg, input_shape))


def _create(
    timm: ModuleType, name: str, pretrained: bool, out_indices: Sequence[int], in_chans: int
) -> nn.Module:
    architecture = name.partition(".")[0]
    # Names with a colon refer to a hub or a local folder, which only timm can read.
    if ":" not in name and not timm.is_model(architecture):
        hint = did_you_mean(architecture, timm.list_models())
        raise ValueError(
            f"MODEL.TIMM_MODEL.NAME is {name!r}, which timm {timm.__version__} does not have.{hint}"
        )
    kwargs = {"pretrained": pretrained, "in_chans": in_chans}
    if out_indices:
        kwargs["out_indices"] = tuple(out_indices)
    for any_size in ANY_SIZE:
        try:
            with _weights_only():
                return timm.create_model(name, features_only=True, **kwargs, **any_size)
        except TypeError as error:
            if not any_size or next(iter(any_size)) not in str(error):
                raise
        except _OF_TIMM as error:
            raise ValueError(
                f"timm cannot build {name!r} as a backbone with MODEL.TIMM_MODEL.OUT_INDICES "
                f"{list(out_indices)}: {error}"
            ) from error
    raise AssertionError("the last attempt passes no further argument, so it returns or raises")


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """Make torch.load refuse code in pickles inside the `with` block, whatever timm asks it for.

    A name on a hub may refer to anyone's file, and timm before about 1.0.20 unpickles it unchecked.
    """
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before


def _level(name: str, stride: int) -> int:
    level = int(stride).bit_length() - 1
    if stride != 2**level:
        raise ValueError(
            f"timm's {name} has a feature of stride {stride}; a backbone needs powers of 2, so "
            "choose other MODEL.TIMM_MODEL.OUT_INDICES or another MODEL.TIMM_MODEL.NAME"
        )
    return level


def _freeze(timm: ModuleType, net: nn.Module, name: str, freeze_at: int) -> None:
    """Freeze what comes before the first stage and all stages of strides up to 2**freeze_at."""
    # All stages that timm knows of, whether or not their features are given.
    stages = net.feature_info.info
    modules = list(net.named_modules())
    paths = [path for path, _ in modules]
    wanted = [stage for stage in stages if stage["reduction"] <= 2**freeze_at]
    last = (wanted or stages)[-1 if wanted else 0]["module"]
    # Where timm's feature wrapper may keep a module of the plain network.
    candidates = [last, last.replace(".", "_"), f"model.{last}"]
    end = next((path for path in candidates if path in paths), None)
    if end is None:
        raise ValueError(
            f"timm's {name} does not tell where its stages end, so it cannot be frozen in part: "
            "set MODEL.BACKBONE.FREEZE_AT 0"
        )
    count = paths.index(end)
    if wanted:
        count = 1 + max(i for i, path in enumerate(paths) if f"{path}.".startswith(f"{end}."))
    for path, module in modules[:count]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = False
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            parent, _, child = path.rpartition(".")
            setattr(net.get_submodule(parent), child, timm.layers.freeze_batch_norm_2d(module))
