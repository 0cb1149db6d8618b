"""Errors of train_net.py for weights that are damaged, of another model, or missing."""

import os
import pickle
import re

import pytest
import torch

from tests.tools.bad_input.runs import train_on


class Code:
    """Runs a program when it is unpickled by Python's own unpickler."""

    def __reduce__(self):
        return os.system, ("exit 3",)


def write_weights(path, kind):
    if kind == "text":
        path.write_text("hello, this is a text")
    elif kind == "pickle with code":
        path.write_bytes(pickle.dumps({"model": {"a": Code()}}))
    elif kind == "torch file with code":
        torch.save({"model": {"a": Code()}}, path)
    elif kind == "damaged":
        torch.save({"model": {"a": torch.zeros(1000)}}, path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "no weights":
        torch.save({"epoch": 1}, path)


BAD_WEIGHTS = {
    "text": r"weights is not a checkpoint: it starts with b'hello, .* Expected a \.pth",
    "pickle with code": r"weights refers to \w+\.system, which is not plain data and could run",
    "torch file with code": r"weights refers to \w+\.system, which is not plain data and could run",
    "damaged": r"weights is damaged, or not a checkpoint: .* Copy or download it again",
    "no weights": r"weights is not a checkpoint of a model: its entry 'epoch' is a int; expected",
    "nothing": r"Checkpoint \S+weights not found\. Did you mean 'weights_2'\?$",
}


@pytest.mark.parametrize("kind, message", BAD_WEIGHTS.items(), ids=BAD_WEIGHTS)
def test_bad_weights(main, good, tmp_path, kind, message):
    (tmp_path / "weights_2").write_text("")
    write_weights(tmp_path / "weights", kind)
    outcome = main(MODEL__WEIGHTS=tmp_path / "weights", **train_on(good))
    assert outcome.code == 1 and not outcome.started
    assert re.search(message, outcome.error), outcome.error


@pytest.mark.parametrize(
    "address, message",
    [
        ("https://localhost:9/x.pth", r"Cannot download https://localhost:9/x\.pth: .* Check the"),
        ("catalog://R-50", r"The model catalog has no 'R-50'\. "),
        ("torchvision://ResNet18", r"torchvision has no model called 'ResNet18'\. .*'resnet18'"),
    ],
)
def test_addresses_that_lead_nowhere(main, good, monkeypatch, tmp_path, address, message):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    outcome = main(MODEL__WEIGHTS=address, **train_on(good))
    assert outcome.code == 1 and not outcome.started
    assert re.search(message, outcome.err), outcome.err  # behind a progress bar


def test_weights_of_another_model_are_reported(main, good, tmp_path):
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "other.pth")
    outcome = main(MODEL__WEIGHTS=tmp_path / "other.pth", **train_on(good))
    assert outcome.code == 0
    assert re.search(r"WARNING: Checkpoint: 0 of the model's \d+ entries were loaded", outcome.out)
    assert "these seem to be the weights of another model" in outcome.out
    assert "unexpected   encoder.weight" in outcome.out


def test_resume_passes_over_damaged_checkpoints_by_name(main, good, tmp_path):
    run_dir = tmp_path / "run"
    settings = {"SOLVER__CHECKPOINT_PERIOD": 1, **train_on(good)}
    assert main(**settings).code == 0
    final = run_dir / "model_final.pth"
    final.write_bytes(final.read_bytes()[:5000])
    outcome = main("--resume", **{**settings, "SOLVER__MAX_ITER": 3})
    assert outcome.code == 0
    assert re.search(r"Cannot resume: \S+model_final\.pth is damaged", outcome.out)
    assert "Training from iteration 2 to 3" in outcome.out
    for path in run_dir.glob("*.pth"):
        path.write_bytes(path.read_bytes()[:5000])
    outcome = main("--resume", **settings)
    assert outcome.code == 1 and not outcome.started
    assert re.search(
        r"None of the checkpoints in \S+run can be resumed from .*; the newest: \S+model_final\."
        r"pth is damaged.* Without --resume, training starts anew",
        outcome.error,
    )
