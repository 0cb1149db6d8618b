import logging
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.utils import comm
from tests.checkpoint.tiny import detector
from tests.golden import _fill, load_case
from tests.serving import served


def two_layers() -> nn.Module:
    return detector(backbone=detector(conv=nn.Linear(2, 2)), head=nn.Linear(2, 1))


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def write_pickle(path, data) -> str:
    path.write_bytes(pickle.dumps(data, protocol=2))
    return str(path)


def warnings_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_caffe2_pickle_equals_detectron2(tmp_path):
    from d2lite.config import get_cfg
    from d2lite.modeling import build_model

    case = load_case("checkpoint.load_pkl")
    cfg = get_cfg()
    cfg.merge_from_list([item for pair in case.params["cfg"].items() for item in pair])
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    blobs = {
        name: _fill()(name + ".weight" if len(shape) > 1 else name, shape, case.params["seed"])
        for name, shape in case.inputs["blobs"].items()
    }
    path = write_pickle(tmp_path / "R-50.pkl", {"blobs": blobs} if case.params["wrap"] else blobs)
    DetectionCheckpointer(model).load(path)
    state = model.state_dict()
    for name in case.params["look_at"]:
        case.check(f"value.{name}", state[name].flatten()[:6])


def test_caffe2_names_without_blobs_are_matched(tmp_path):
    model = detector(body=detector(stem=detector(conv1=nn.Conv2d(3, 2, 7, bias=False))))
    weight = np.random.rand(2, 3, 7, 7).astype(np.float32)
    path = write_pickle(tmp_path / "R.pkl", {"conv1_w": weight, "conv1_w_momentum": weight})
    DetectionCheckpointer(model).load(path)
    np.testing.assert_array_equal(model.body.stem.conv1.weight.detach().numpy(), weight)


def test_detectron2_pickle_has_exact_names(tmp_path, caplog):
    model, other = two_layers(), two_layers()
    data = {"model": arrays(model), "__author__": "Detectron2 Model Zoo"}
    rest = DetectionCheckpointer(other).load(write_pickle(tmp_path / "model_final.pkl", data))
    assert torch.equal(model.head.weight, other.head.weight)
    assert rest == {"__author__": "Detectron2 Model Zoo"}
    assert not warnings_of(caplog)


@pytest.mark.parametrize("asked_by", ["file", "path"])
def test_matching_by_endings_on_request(tmp_path, asked_by):
    model = two_layers()
    backbone = arrays(model.backbone)
    data = {"model": backbone, "__author__": "someone"}
    if asked_by == "file":
        data["matching_heuristics"] = True
    path = write_pickle(tmp_path / "backbone.pkl", data)
    other = two_layers()
    checkpointer = DetectionCheckpointer(other)
    checkpointer.load(path + ("?matching_heuristics=True" if asked_by == "path" else ""))
    assert torch.equal(model.backbone.conv.weight, other.backbone.conv.weight)


def test_without_the_request_names_are_exact(tmp_path):
    model, other = two_layers(), two_layers()
    before = other.backbone.conv.weight.clone()
    path = write_pickle(tmp_path / "backbone.pkl", {"model": arrays(model.backbone)})
    DetectionCheckpointer(other).load(path + "?matching_heuristics=False")
    assert torch.equal(before, other.backbone.conv.weight)


def test_pycls_layout(tmp_path):
    model, other = two_layers(), two_layers()
    torch.save({"epoch": 1, "model_state": model.backbone.state_dict()}, tmp_path / "r.pyth")
    DetectionCheckpointer(other).load(str(tmp_path / "r.pyth"))
    assert torch.equal(model.backbone.conv.weight, other.backbone.conv.weight)


@pytest.mark.parametrize(
    "name",
    [
        "pixel_mean",
        "pixel_std",
        "proposal_generator.anchor_generator.cell_anchors.0",
        "backbone.norm.num_batches_tracked",
    ],
)
def test_constants_in_old_checkpoints_are_silent(tmp_path, caplog, name):
    model = two_layers()
    torch.save({"model": {**model.state_dict(), name: torch.zeros(3)}}, tmp_path / "old.pth")
    DetectionCheckpointer(model).load(str(tmp_path / "old.pth"))
    assert not warnings_of(caplog)


def test_weights_by_http(tmp_path, cache):
    model, other = two_layers(), two_layers()
    folder = tmp_path / "www"
    folder.mkdir()
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    with served(folder) as url:
        DetectionCheckpointer(other).load(f"{url}/model_final.pth")
    assert torch.equal(model.head.weight, other.head.weight)
    DetectionCheckpointer(other).load(f"{url}/model_final.pth")  # from the cache: nobody serves


def test_query_of_an_address_is_kept_and_the_request_is_not_sent(tmp_path, cache):
    model, other = two_layers(), two_layers()
    folder = tmp_path / "www"
    folder.mkdir()
    torch.save({"model": model.backbone.state_dict()}, folder / "w.pth")
    with served(folder) as url:
        DetectionCheckpointer(other).load(f"{url}/w.pth?download=1&matching_heuristics=True")
    assert torch.equal(model.backbone.conv.weight, other.backbone.conv.weight)


def test_address_without_a_file(tmp_path, cache):
    with served(tmp_path) as url, pytest.raises(FileNotFoundError, match=r"none\.pth"):
        DetectionCheckpointer(two_layers()).load(f"{url}/none.pth")


def test_only_the_main_process_saves(tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    DetectionCheckpointer(two_layers(), str(tmp_path)).save("a")
    assert not list(tmp_path.iterdir())
    DetectionCheckpointer(two_layers(), str(tmp_path), save_to_disk=True).save("a")
    assert (tmp_path / "a.pth").is_file()


@pytest.mark.parametrize(
    "other_rank, message",
    [
        ((-1, "Checkpoint x.pth not found."), "rank 1: Checkpoint x.pth not found"),
        ((3, ""), "rank 1: .*x.pth has 3 bytes, but"),
    ],
)
def test_all_ranks_have_to_see_the_same_file(tmp_path, monkeypatch, other_rank, message):
    torch.save(two_layers().state_dict(), tmp_path / "x.pth")
    monkeypatch.setattr(comm, "all_gather", lambda mine: [mine, other_rank])
    with pytest.raises(FileNotFoundError, match=message):
        DetectionCheckpointer(two_layers()).load(str(tmp_path / "x.pth"))
