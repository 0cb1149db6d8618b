"""The losses on the test sets: their values, and that nothing else changes."""

import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.data.dataset_mapper import DATASET_MAPPER_REGISTRY
from d2lite.data.datasets.shapes import load_shapes
from d2lite.engine import DefaultTrainer, SimpleTrainer, hooks, launch
from d2lite.engine.hooks import validation_loss
from d2lite.engine.hooks.validation_loss import build_loss_loader
from d2lite.utils import comm
from d2lite.utils.events import get_event_storage
from tests.engine.tiny import tiny_cfg
from tests.engine.toy_run import metrics_of, toy_cfg, toy_trainer
from tests.reliability.toy import ToyTrainer


class Model(nn.Module):
    """A model with all that validation could change: statistics, a counter, random numbers."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1, affine=False, momentum=0.5)
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.seen = 0

    def forward(self, batch):
        self.seen += 1
        get_event_storage().put_scalar("seen", self.seen)
        x = torch.tensor(batch)[:, None]
        noise = torch.rand(()) + random.random() + float(np.random.rand())
        return {
            "loss_weight": self.weight * self.norm(x).sum(),
            "loss_noise": noise,
            "loss_iteration": torch.tensor(float(get_event_storage().iter)),
        }


def make(period=2, loaders=None):
    model = Model()
    hook = hooks.ValidationLoss(period, model, loaders or {"val": [[1.0], [3.0]]})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = SimpleTrainer(model, iter([[1.0, 3.0]] * 9), optimizer)
    trainer.register_hooks([hook])
    return model, trainer


def test_mean_over_the_images_with_the_running_statistics():
    model, trainer = make()
    model.norm.register_forward_pre_hook(lambda norm, _: norm.running_var.fill_(1.0) and None)
    trainer.train(0, 2)
    latest = trainer.storage.latest()
    # Two steps with batches of mean 2: the running mean is (0 + 2) / 2 = 1, then (1 + 2) / 2 = 1.5.
    # Images 1 and 3 give 2 * (1 - 1.5) and 2 * (3 - 1.5), of which the mean is 1.
    assert latest["val_loss/loss_weight"][0] == pytest.approx(1.0, rel=1e-4)
    # After training, as that of the AP.
    assert latest["val_loss/loss_iteration"] == (2.0, 2)
    total = sum(latest[f"val_loss/loss_{name}"][0] for name in ("weight", "noise", "iteration"))
    assert latest["val_loss/total_loss"][0] == pytest.approx(total)


def test_several_test_sets_have_names_of_their_own():
    _, trainer = make(loaders={"a": [[1.0]], "b": [[2.0], [5.0]], "empty": []})
    trainer.train(0, 1)
    names = {name for name in trainer.storage.latest() if name.startswith("val_loss/")}
    expected = {"loss_weight", "loss_noise", "loss_iteration", "total_loss"}
    assert names == {f"val_loss/{which}/{name}" for which in "ab" for name in expected}


def test_the_training_does_not_notice():
    def state(with_losses):
        model, trainer = make()
        if not with_losses:
            trainer._hooks.clear()
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        trainer.train(0, 5)
        latest = {k: v for k, v in trainer.storage.latest().items() if "time" not in k}
        drawn = random.random(), float(np.random.rand()), float(torch.rand(()))
        return model.seen, model.state_dict(), drawn, latest

    seen, weights, drawn, latest = state(False)
    seen2, weights2, drawn2, latest2 = state(True)
    assert (seen, drawn) == (seen2, drawn2)
    assert all(torch.equal(weights[name], weights2[name]) for name in weights)
    assert {k: v for k, v in latest2.items() if not k.startswith("val_loss/")} == latest
    assert latest2 != latest


def test_runs_with_and_without_end_alike_and_the_values_are_written(tmp_path):
    periods = {"SOLVER__MAX_ITER": 6, "TEST__EVAL_PERIOD": 3}
    toy_trainer(tmp_path / "without", **periods).train()
    trainer = toy_trainer(tmp_path / "with", TEST__LOSS_PERIOD=2, **periods)
    trainer.train()
    found = metrics_of(tmp_path / "with")
    assert sorted(found["val_loss/loss_count"]) == [1, 3, 6]
    assert (
        "loss_count" in found
        and found["toy/score"] == metrics_of(tmp_path / "without")["toy/score"]
    )
    ends = [
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"]
        for name in ("with", "without")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_detector_has_all_its_losses_on_the_test_set(tmp_path):
    cfg = tiny_cfg(
        tmp_path, SOLVER__MAX_ITER=1, DATASETS__TEST=("shapes_val",), TEST__LOSS_PERIOD=1
    )
    trainer = DefaultTrainer(cfg)
    hook = next(h for h in trainer._hooks if isinstance(h, hooks.ValidationLoss))
    (loader,) = hook._data_loaders.values()
    batch = next(iter(loader))
    assert [sorted(x["image"].shape[1:])[0] for x in batch] == [64]
    assert len(batch[0]["instances"].gt_boxes) > 0
    hook._data_loaders = {"shapes_val": [batch]}
    trainer._hooks = [hook, trainer._hooks[-1]]
    trainer.train()
    names = set(metrics_of(tmp_path))
    losses = {"loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc", "total_loss"}
    assert {f"val_loss/{name}" for name in losses} <= names
    assert not any(name.startswith("val_loss/") and "loss" not in name for name in names)


@pytest.fixture
def reversed_classes():
    """A test set whose classes are those of the training set in reverse, but for a new one."""
    names = MetadataCatalog.get("shapes_train").thing_classes
    if "reversed" not in DatasetCatalog.list():
        dicts = load_shapes("val")[:3]
        DatasetCatalog.register("reversed", lambda: dicts)
        MetadataCatalog.get("reversed").set(thing_classes=["unheard-of", *names[:0:-1]])
    yield "reversed"
    DatasetCatalog.remove("reversed")
    MetadataCatalog.remove("reversed")


def test_classes_are_matched_by_name(tmp_path, reversed_classes):
    cfg = toy_cfg(tmp_path)
    model = ToyTrainer.build_model(cfg)
    names = MetadataCatalog.get("shapes_train").thing_classes
    its_names = MetadataCatalog.get(reversed_classes).thing_classes
    loader = build_loss_loader(cfg, reversed_classes, model)
    for (mapped,), record in zip(loader, DatasetCatalog.get(reversed_classes), strict=True):
        expected = [its_names[a["category_id"]] for a in record["annotations"]]
        got = [names[i] for i in mapped["instances"].gt_classes.tolist()]
        assert got == [name for name in expected if name != "unheard-of"]


def _losses_of_ranks(folder):
    """A job of several processes: 3 images for 2 ranks, and a loss that waits for all ranks."""
    rank = comm.get_rank()

    class Together(Model):
        def forward(self, batch):
            comm.all_gather(0)
            return super().forward(batch)

    model = Together()
    loaders = {"val": [[[1.0], [3.0]], [[8.0]]][rank]}
    hook = hooks.ValidationLoss(1, model, loaders)
    trainer = SimpleTrainer(
        model, iter([[1.0, 3.0]] * 9), torch.optim.SGD(model.parameters(), lr=0.0)
    )
    trainer.register_hooks([hook])
    trainer.train(0, 1)
    if comm.is_main_process():
        (folder / "latest.json").write_text(json.dumps(trainer.storage.latest()))


def test_losses_are_gathered_over_ranks_that_have_different_numbers_of_images(tmp_path):
    launch(_losses_of_ranks, 2, args=(tmp_path,))
    found = json.loads((tmp_path / "latest.json").read_text())
    _, trainer = make(1, {"val": [[1.0], [3.0], [8.0]]})
    trainer.train(0, 1)
    for name, (value, _) in trainer.storage.latest().items():
        if name.startswith("val_loss/"):
            assert found[name][0] == pytest.approx(value)


def test_without_a_test_set_there_is_nothing_to_evaluate(tmp_path):
    with pytest.raises(ValueError, match=r"LOSS_PERIOD is 5, but DATASETS\.TEST is empty"):
        ToyTrainer(toy_cfg(tmp_path, TEST__LOSS_PERIOD=5, DATASETS__TEST=(), TEST__BEST_METRIC=""))


@DATASET_MAPPER_REGISTRY.register()
def mapper_without_a_mode(cfg, is_train):
    return dict


def test_a_mapper_that_cannot_read_annotations_in_testing_is_named(tmp_path):
    cfg = toy_cfg(tmp_path, TEST__LOSS_PERIOD=5, INPUT__DATASET_MAPPER="mapper_without_a_mode")
    with pytest.raises(ValueError, match=r"DATASET_MAPPER mapper_without_a_mode has no `is_train`"):
        build_loss_loader(cfg, "toy_val", ToyTrainer.build_model(cfg))


def test_other_stuff_classes_are_refused(tmp_path, monkeypatch):
    cfg = toy_cfg(tmp_path, TEST__LOSS_PERIOD=5)
    model = ToyTrainer.build_model(cfg)
    classes = {"toy_train": ["sky", "grass"], "toy_val": ["grass", "sky"]}
    monkeypatch.setattr(
        validation_loss, "trained_classes", lambda *_: {"stuff_classes": classes["toy_train"]}
    )
    monkeypatch.setattr(
        validation_loss, "dataset_classes", lambda names: {"stuff_classes": classes[names[0]]}
    )
    with pytest.raises(ValueError, match=r"the stuff classes of toy_val are not those"):
        build_loss_loader(cfg, "toy_val", model)
