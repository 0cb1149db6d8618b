"""A run goes on only from a checkpoint of its own kind, and says which settings it takes over."""

import logging

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import StepLR

from d2lite.checkpoint import Checkpointer, DetectionCheckpointer
from d2lite.checkpoint.resuming import ResumeError, compare_runs


class Net(nn.Module):
    """A body and a head of `classes` outputs."""

    def __init__(self, classes=2, bias=True):
        super().__init__()
        self.body = nn.Linear(3, 4, bias=bias)
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.body(x))


def sgd(params, **settings):
    return SGD(params, **{"lr": 0.1, "momentum": 0.9, "fused": True, **settings})


def run(folder, model, optimizer, kind=DetectionCheckpointer, **others):
    """A loop as people write it; returns its checkpointer."""
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return kind(model, str(folder), optimizer=optimizer, **others)


def resume(checkpointer):
    before = [param.clone() for param in checkpointer.model.parameters()]
    checkpointer.resume_or_load("", resume=True)
    return before


@pytest.fixture
def saved(tmp_path):
    """The folder of a run with two classes and momentum SGD."""
    model = Net()
    run(tmp_path, model, sgd(model.parameters())).save("model_final", iteration=1)
    return tmp_path


@pytest.mark.parametrize("classes", [1, 5])
@pytest.mark.parametrize("kind", [Checkpointer, DetectionCheckpointer])
def test_a_head_of_another_shape_names_the_entries_and_both_shapes(saved, classes, kind):
    model = Net(classes)
    told = (
        rf"head.weight is \(2, 4\) in the checkpoint and \({classes}, 4\) in the model; head.bias"
    )
    with pytest.raises(ResumeError, match=told) as error:
        resume(run(saved, model, sgd(model.parameters()), kind))
    assert "without --resume, MODEL.WEIGHTS set to this file" in str(error.value)


def test_parameters_that_the_checkpoint_lacks(tmp_path):
    model = Net(bias=False)
    run(tmp_path, model, sgd(model.parameters())).save("model_final")
    model = Net()
    with pytest.raises(ResumeError, match=r"body.bias is not in the checkpoint"):
        resume(run(tmp_path, model, sgd(model.parameters())))


def test_weights_of_another_shape_are_still_a_start(saved):
    model = Net(5)
    checkpointer = run(saved, model, sgd(model.parameters()))
    checkpointer.resume_or_load(str(saved / "model_final.pth"), resume=False)
    assert model.head.weight.shape == (5, 4)


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda net: AdamW(net.parameters()), "it was SGD, and is AdamW now"),
        (
            lambda net: sgd(net.head.parameters()),
            "body.bias was trained, and is not anymore; body.weight was trained",
        ),
        (
            lambda net: sgd([{"params": net.body.parameters()}, {"params": net.head.parameters()}]),
            "groups of 4 parameters, and 2, 2 now",
        ),
        (
            lambda net: sgd([*net.head.parameters(), *net.body.parameters()]),
            "body.weight was where head.weight is now",
        ),
    ],
    ids=["class", "frozen", "groups", "order"],
)
def test_another_optimizer(saved, make, told):
    model = Net()
    checkpointer = run(saved, model, make(model))
    with pytest.raises(ResumeError, match=told):
        resume(checkpointer)


@pytest.mark.parametrize(
    "make, told",
    [
        (
            lambda net: AdamW(net.parameters()),
            r"the settings \['momentum'\], and AdamW those of \['betas'\]",
        ),
        (
            lambda net: sgd([*net.head.parameters(), *net.body.parameters()]),
            r"momentum_buffer of head.weight is \(4, 3\) in the checkpoint, and the .* \(2, 4\)",
        ),
        (lambda net: sgd(net.head.parameters()), "groups of 4 parameters, and 2 now"),
    ],
    ids=["class", "order", "frozen"],
)
def test_a_state_without_names_as_detectron2_saves_it(saved, make, told):
    path = saved / "model_final.pth"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["optimizer_layouts"]
    torch.save(checkpoint, path)
    model = Net()
    with pytest.raises(ResumeError, match=told):
        resume(run(saved, model, make(model)))
    model = Net()
    resume(run(saved, model, sgd(model.parameters())))


def test_an_optimizer_with_a_wrapper_class_is_the_same(tmp_path):
    class WithGradientClip(Adam):
        pass

    model = Net()
    run(tmp_path, model, WithGradientClip(model.parameters())).save("model_final")
    model = Net()
    resume(run(tmp_path, model, Adam(model.parameters())))


def test_what_the_run_takes_from_the_checkpoint_is_logged_with_both_values(tmp_path, caplog):
    def loop(lr, steps, **settings):
        model = Net()
        optimizer = sgd(model.parameters(), lr=lr, **settings)
        schedule = StepLR(optimizer, steps)
        return run(tmp_path, model, optimizer, scheduler=schedule), schedule

    checkpointer, schedule = loop(0.5, 3)
    for _ in range(4):
        schedule.step()
    checkpointer.save("model_final", iteration=3)
    with caplog.at_level(logging.WARNING):
        resume(loop(0.5, 3)[0])
    assert not caplog.records  # the rate itself has dropped, as the schedule says
    resume(loop(0.25, 7, weight_decay=0.125)[0])
    told = [record.getMessage() for record in caplog.records]
    for what, old, new in [
        ("the optimizer's initial_lr", 0.5, 0.25),
        ("the optimizer's weight_decay", 0, 0.125),
        ("the schedule's step_size", 3, 7),
    ]:
        line = f"uses {what} from the checkpoint, {old}, and not the current setting, {new}"
        assert sum(line in text for text in told) == 1, told
    assert len(told) == 3


def about(names, **settings):
    return {"metadata": {"thing_classes": names}, "config": {"SOLVER": settings, "OUTPUT_DIR": "a"}}


def test_classes_in_another_order_are_another_run():
    with pytest.raises(ResumeError, match="thing_classes are dog, cat, and were cat, dog when"):
        compare_runs(about(["cat", "dog"]), about(["dog", "cat"]))


def test_other_classes_and_settings_are_told(caplog):
    with caplog.at_level(logging.INFO):
        compare_runs(about(["cat"], STEPS=(3,), GAMMA=0.1), about(["cow"], STEPS=[4], GAMMA=0.1))
        compare_runs({}, about(["cat"]))  # of a checkpoint that says nothing
        compare_runs(about(["cat"], STEPS=(3,)), about(["cat"], STEPS=[3]))
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("thing_classes are cow, and were cat when the checkpoint was saved:")
    assert second.endswith("from those of the checkpoint: SOLVER.STEPS is [4], was (3,)")
