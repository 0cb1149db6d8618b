"""Files of Darknet, written here as its save_weights writes them."""

import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.checkpoint.reading import CheckpointFileError
from d2lite.config import get_cfg
from d2lite.engine import DefaultTrainer
from d2lite.modeling import build_model
from d2lite.projects import add_projects
from d2lite.projects.yolov3 import read_darknet_file

PROJECT = Path(__file__).parents[1]
CONFIG = PROJECT / "configs/yolov3_darknet53_416.yaml"
TINY = ["MODEL.DARKNET.WIDTH", 0.25, "MODEL.DARKNET.BLOCKS", [1, 1, 2, 1, 1]]
TINY += ["MODEL.YOLOV3.NUM_CLASSES", 2, "MODEL.DEVICE", "cpu"]


def make_cfg(*opts):
    cfg = get_cfg()
    add_projects(cfg, str(CONFIG))
    cfg.merge_from_file(str(CONFIG))
    cfg.merge_from_list(list(opts))
    return cfg


def make_model(*opts, device="cpu"):
    cfg = make_cfg(*opts, "MODEL.DEVICE", device)
    with torch.device(device):
        return build_model(cfg)


def load(model, path):
    """What the stock tools do with MODEL.WEIGHTS."""
    DetectionCheckpointer(model).load(str(path))


def zero(model):
    for value in model.state_dict().values():
        value.zero_()


def convolutions_of_yolov3() -> list[tuple[str, int, int, int, bool]]:
    """Name here, inputs, outputs, kernel, norm; of TINY, as its .cfg file would list them."""
    layers = [("backbone.stem", 3, 8, 3, True)]
    channels = 8
    for stage, blocks in enumerate((1, 1, 2, 1, 1), 1):
        layers.append((f"backbone.stage{stage}.0", channels, 2 * channels, 3, True))
        channels *= 2
        for block in range(1, blocks + 1):
            name = f"backbone.stage{stage}.{block}"
            layers.append((f"{name}.conv1", channels, channels // 2, 1, True))
            layers.append((f"{name}.conv2", channels // 2, channels, 3, True))
    for level in range(3):
        half, inputs = channels // 2, channels
        if level > 0:  # the route to the layer before the last 3x3 convolution
            layers.append((f"head.levels.{level}.reduce", channels, half, 1, True))
            inputs += half
        for i in range(5):
            shape = (inputs if i == 0 else channels, half, 1) if i % 2 == 0 else (half, channels, 3)
            layers.append((f"head.levels.{level}.tower.{i}", *shape, True))
        layers.append((f"head.levels.{level}.conv", half, channels, 3, True))
        layers.append((f"head.levels.{level}.pred", channels, 3 * (5 + 2), 1, False))
        channels //= 2
    return layers


def write(path, layers, version=(0, 2, 0), count="<q"):
    """Numbers 0, 1, 2, ... in the order of the file; gives what each entry should hold."""
    expected, next_number = {}, 0
    with path.open("wb") as file:
        file.write(struct.pack("<iii", *version) + struct.pack(count, 32013312))
        for name, inputs, outputs, kernel, norm in layers:
            weight = ("weight", (outputs, inputs, kernel, kernel))
            keys = ("norm.bias", "norm.weight", "norm.running_mean", "norm.running_var")
            for key, shape in [(k, (outputs,)) for k in (keys if norm else ("bias",))] + [weight]:
                size = int(np.prod(shape))
                values = np.arange(next_number, next_number + size, dtype="<f4")
                file.write(values.tobytes())
                expected[f"{name}.{key}"] = torch.from_numpy(values).view(shape)
                next_number += size
    return expected


@pytest.fixture(scope="module")
def model():
    return make_model(*TINY)


@pytest.mark.parametrize(
    "version, count", [((0, 2, 0), "<q"), ((0, 1, 0), "<i"), ((0, 2, 5), "<q"), ((1, 0, 0), "<q")]
)
def test_whole_file_is_read_in_order(model, tmp_path, caplog, version, count):
    expected = write(tmp_path / "a.weights", convolutions_of_yolov3(), version, count)
    zero(model)
    caplog.set_level(logging.INFO, logger="d2lite")
    load(model, tmp_path / "a.weights")
    found = model.state_dict()
    rest = found.keys() - expected.keys()
    assert expected.keys() <= found.keys()
    assert all(name.endswith("num_batches_tracked") for name in rest)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert not [x for x in caplog.records if x.levelno >= logging.WARNING]
    file = read_darknet_file(tmp_path / "a.weights")
    assert (file.version, file.images_seen) == (version, 32013312)


def test_backbone_alone_is_read(model, tmp_path):
    layers = [layer for layer in convolutions_of_yolov3() if layer[0].startswith("backbone")]
    expected = write(tmp_path / "darknet53.conv.74", layers)
    zero(model)
    load(model, tmp_path / "darknet53.conv.74")
    found = model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert not any(value.any() for name, value in found.items() if name.startswith("head."))


def test_released_files_would_have_the_known_sizes():
    """In bytes, of yolov3.weights and darknet53.conv.74."""
    model = make_model(device="meta")
    assert sum(p.numel() for p in model.parameters()) == 61_949_149
    running = {n: v for n, v in model.named_buffers() if "running" in n}
    whole = sum(p.numel() for p in model.parameters()) + sum(v.numel() for v in running.values())
    assert whole == 62_001_757
    assert whole * 4 + 20 == 248_007_048
    backbone = sum(p.numel() for p in model.backbone.parameters())
    backbone += sum(v.numel() for n, v in running.items() if n.startswith("backbone."))
    assert backbone * 4 + 20 == 162_482_580


@pytest.mark.parametrize("change", [-1000, -1, 1])
def test_files_of_another_length_tell_the_sizes(model, tmp_path, change):
    path = tmp_path / "a.weights"
    expected = write(path, convolutions_of_yolov3())
    total = sum(value.numel() for value in expected.values())
    data = path.read_bytes()
    path.write_bytes(data[: 4 * change] if change < 0 else data + b"\0" * 4 * change)
    with pytest.raises(CheckpointFileError) as caught:
        load(model, path)
    message = str(caught.value)
    assert f"{path} has {total + change} numbers" in message and f"has {total}, " in message
    assert "MODEL.YOLOV3.NUM_CLASSES" in message and "\n" not in message


@pytest.mark.parametrize("length", [0, 11, 19, 23])
def test_files_cut_within_a_number_are_told(tmp_path, length):
    path = tmp_path / "a.weights"
    path.write_bytes(struct.pack("<iiiqi", 0, 2, 0, 1, 7)[:length])
    with pytest.raises(CheckpointFileError, match=rf"a\.weights has {length} bytes; .* header"):
        read_darknet_file(path)


def test_model_without_batch_norms_is_told(tmp_path):
    write(tmp_path / "a.weights", [])
    with pytest.raises(ValueError, match=r"LayerNorm.*MODEL\.DARKNET\.NORM"):
        load(make_model(*TINY, "MODEL.DARKNET.NORM", "LN"), tmp_path / "a.weights")


def test_trainer_starts_from_a_file(tmp_path):
    layers = [layer for layer in convolutions_of_yolov3() if layer[0].startswith("backbone")]
    expected = write(tmp_path / "darknet53.conv.74", layers)
    cfg = make_cfg(*TINY, "DATASETS.TRAIN", "('shapes_train',)", "DATASETS.TEST", "()")
    cfg.merge_from_list(["MODEL.YOLOV3.NUM_CLASSES", -1, "DATALOADER.NUM_WORKERS", 0])
    cfg.merge_from_list(["MODEL.WEIGHTS", str(tmp_path / "darknet53.conv.74")])
    cfg.OUTPUT_DIR = str(tmp_path)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    found = trainer.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
