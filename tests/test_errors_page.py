"""Every message on `docs/errors.md` is one that is raised: each is provoked here."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import get_cfg
from d2lite.config.files import find_config
from d2lite.data import DatasetCatalog, build_batch_data_loader, build_detection_train_loader
from d2lite.data.detection_utils import read_image
from d2lite.data.layouts import find_layout
from d2lite.engine import (
    DefaultPredictor,
    SimpleTrainer,
    check_class_counts,
    check_training_settings,
    launch,
)
from d2lite.engine.run_folder import claim_output_dir
from d2lite.export import export_program, program
from d2lite.modeling import build_backbone, build_model
from d2lite.projects import import_project
from d2lite.utils import comm
from tests.engine.tiny import environment, tiny_cfg
from tests.full_disk import no_room

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"


def told_on_the_page() -> list[str]:
    """The messages in the first cells of the page's tables."""
    rows = re.findall(r"^\| `(.+?)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows
    return rows


class Quadratic(nn.Module):
    """A model with one parameter, whose loss is what it is told."""

    def __init__(self, factor=1.0, size=2):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.factor = factor

    def forward(self, x):
        return {"loss": (self.weight * self.factor).sum()}


def trainer_of(model):
    return SimpleTrainer(model, [0, 1, 2], torch.optim.SGD(model.parameters(), 0.1))


def diverge(tmp_path, monkeypatch):
    trainer_of(Quadratic(float("nan"))).train(0, 1)


def resume_another_model(tmp_path, monkeypatch):
    for size in (2, 3):
        trainer = trainer_of(Quadratic(size=size))
        trainer.iter = 0
        checkpointer = DetectionCheckpointer(trainer.model, str(tmp_path), trainer=trainer)
        if size == 2:
            checkpointer.save("model_0000000")
    checkpointer.resume_or_load("", resume=True)


CLAIM = """import sys
from d2lite.engine.run_folder import claim_output_dir
claim_output_dir(sys.argv[1], new_run=True)
print("claimed", flush=True)
sys.stdin.read()
"""


def use_a_folder_twice(tmp_path, monkeypatch):
    words = [sys.executable, "-c", CLAIM, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, env=environment(), **pipes) as other:
        assert other.stdout.readline() == b"claimed\n"
        try:
            claim_output_dir(tmp_path, new_run=True)
        finally:
            other.kill()


def die_in_the_loader(tmp_path, monkeypatch):
    def mapper(record):
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    record = {"file_name": "a.png", "image_id": 1, "height": 8, "width": 8, "annotations": []}
    loader = build_detection_train_loader(
        [record], mapper=mapper, total_batch_size=1, num_workers=1, aspect_ratio_grouping=False
    )
    model = Quadratic()
    SimpleTrainer(model, loader, torch.optim.SGD(model.parameters(), 0.1)).train(0, 1)


def damage(tmp_path, monkeypatch):
    model = Quadratic()
    checkpointer = DetectionCheckpointer(model, str(tmp_path))
    checkpointer.save("model")
    path = tmp_path / "model.pth"
    path.write_bytes(path.read_bytes()[:-200])
    checkpointer.load(str(path))


def detect_without_a_config(tmp_path, monkeypatch):
    torch.save({"model": {}}, tmp_path / "foreign.pth")
    DefaultPredictor(str(tmp_path / "foreign.pth"))


def detect_with_other_classes(tmp_path, monkeypatch):
    cfg = tiny_cfg(tmp_path)
    check_class_counts(cfg)
    DetectionCheckpointer(build_model(cfg), str(tmp_path)).save("model")
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    DefaultPredictor(cfg)


def spoil(tmp_path, monkeypatch):
    (tmp_path / "photo.jpg").write_text("<html>404</html>")
    read_image(str(tmp_path / "photo.jpg"))


def find_no_labels(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"")
    find_layout(str(tmp_path))


def with_three_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    build_batch_data_loader([1], None, 16)


def without_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    check_training_settings(tiny_cfg(tmp_path, MODEL__DEVICE="cuda"))


def with_one_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    launch(print, num_gpus_per_machine=2, dist_url="auto")


def with_old_torch(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "TORCH_VERSION", (2, 6))
    export_program(nn.Identity(), torch.zeros(3, 8, 8))


def fill_the_disk(tmp_path, monkeypatch):
    with no_room():
        DetectionCheckpointer(Quadratic(), str(tmp_path)).save("model")


def use_torchscript(tmp_path, monkeypatch):
    from d2lite.export import scripting_with_instances  # noqa: F401


def simple(function):
    return lambda tmp_path, monkeypatch: function(tmp_path)


CASES = [
    simple(lambda folder: find_config("quick_strat")),
    simple(lambda folder: get_cfg().merge_from_list(["SOLVER.BASE_RL", "0.1"])),
    simple(lambda folder: get_cfg().merge_from_list(["SOLVER.MAX_ITER", "many"])),
    simple(lambda folder: build_backbone(tiny_cfg(folder, MODEL__BACKBONE__NAME="resnet"))),
    simple(lambda folder: import_project("my_partz")),
    without_gpu,
    simple(lambda folder: DatasetCatalog.get("shapes_tarin")),
    simple(lambda folder: DatasetCatalog.register("shapes_train", list)),
    simple(lambda folder: check_class_counts(tiny_cfg(folder, MODEL__ROI_HEADS__NUM_CLASSES=2))),
    find_no_labels,
    spoil,
    diverge,
    use_a_folder_twice,
    fill_the_disk,
    die_in_the_loader,
    with_three_processes,
    with_one_gpu,
    resume_another_model,
    simple(lambda folder: DetectionCheckpointer(Quadratic()).load("model_finl.pth")),
    damage,
    detect_without_a_config,
    detect_with_other_classes,
    simple(lambda folder: DefaultPredictor.model_input(None, None)),
    with_old_torch,
    use_torchscript,
]


MESSAGES = told_on_the_page()


def test_every_message_of_the_page_is_provoked():
    assert len(MESSAGES) == len(CASES)


@pytest.mark.parametrize("message, case", list(zip(MESSAGES, CASES, strict=False)))
def test_the_message_is_the_one_on_the_page(message, case, tmp_path, monkeypatch):
    with pytest.raises(Exception) as raised:
        case(tmp_path, monkeypatch)
    pattern = ".*".join(map(re.escape, message.split("...")))
    assert re.search(pattern, str(raised.value), re.DOTALL)
