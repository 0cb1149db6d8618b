"""From a training that meets a step which is not finite to `tools/replay_step.py`."""

import importlib.util
import json

import pytest
import torch
from omegaconf import OmegaConf

from d2lite.config import instantiate
from d2lite.engine import DefaultTrainer, SimpleTrainer
from d2lite.engine.replay import save_step
from d2lite.modeling.meta_arch.origin import ModelOrigin
from tests.engine.tiny import ROOT, tiny_cfg

spec = importlib.util.spec_from_file_location("replay_step", ROOT / "tools/replay_step.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

FAULT = 2  # the iteration


def spoil_weight(model):
    """A gradient of nan for one weight, with a loss that is finite."""
    weight = model.proposal_generator.rpn_head.conv.weight
    return weight, weight.register_hook(lambda gradient: gradient * float("nan"))


class Trainer(DefaultTrainer):
    """Has an image with nan in it in one iteration, or a gradient with nan that no file has."""

    fault = "image"

    def run_step(self):
        inner, handle = self._trainer, None
        if self.iter == FAULT and self.fault == "image":
            following = type(inner).next_batch

            def next_batch():
                data, seconds = following(inner)
                data[0]["image"] = torch.full_like(
                    data[0]["image"], float("nan"), dtype=torch.float
                )
                return data, seconds

            inner.next_batch = next_batch
        elif self.iter == FAULT:
            _, handle = spoil_weight(self.model)
        try:
            super().run_step()
        finally:
            inner.__dict__.pop("next_batch", None)
            if handle is not None:
                handle.remove()


def train(folder, fault, **settings):
    cfg = tiny_cfg(folder, SOLVER__MAX_ITER=4, SOLVER__STEPS=(), **settings)
    trainer = Trainer(cfg)
    trainer.fault = fault
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def bad_image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with pytest.raises(FloatingPointError, match=r"Iteration 2: .*shapes://train.*replay_step\.py"):
        train(folder, "image")
    return folder / "bad_steps/iter_0000002.pth"


def test_a_fault_of_the_batch_shows_again(bad_image, capsys):
    assert tool.main([str(bad_image), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "Iteration 2. Message of the training:" in out
    assert "predicted proposals are not finite" in out
    assert "The fault occurs again on cpu." in out


def test_a_fault_outside_of_the_file_does_not_and_the_losses_are_those_of_the_step(
    tmp_path, capsys
):
    settings = {"SOLVER__BAD_STEPS__CHECK_GRADIENTS": True, "SOLVER__BAD_STEPS__ACTION": "skip"}
    trainer = train(tmp_path, "gradient", **settings)
    assert trainer._trainer.bad_steps.num_skipped == 1
    path = tmp_path / "bad_steps/iter_0000002.pth"
    assert tool.main([str(path), "--device", "cpu", "--num", "2"]) == tool.NOT_REPRODUCED
    out = capsys.readouterr().out
    assert "proposal_generator.rpn_head.conv.weight nan" in out  # the message of the training
    assert "2 of 84 parameters (0 not finite)" in out and "does NOT occur again" in out
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert {line["iteration"]: line.get("num_skipped_steps") for line in lines} == {2: 1, 3: None}
    # The losses were finite, and so they are in the metrics of the training.
    step = tool.read_step(str(path))
    model = tool.build(tool.parse_args([str(path), "--device", "cpu"]), step)
    losses = tool.replay_step(model, step, 0).losses
    known = trainer.storage.history("loss_cls").values()
    assert {int(i): value for value, i in known}[FAULT] == losses["loss_cls"]


def test_a_lazy_model_is_built_again(tmp_path, capsys):
    cfg = OmegaConf.create({"model": {"_target_": "torch.nn.Linear", "in_features": 2}})
    cfg.model.out_features = 1
    model = instantiate(cfg.model)
    model.built_from = ModelOrigin(cfg)
    data = [torch.tensor([1.0, float("nan")])]
    trainer = SimpleTrainer(model, data, torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.bad_steps.set_up(str(tmp_path))
    with pytest.raises(FloatingPointError, match="total_loss nan"):
        trainer.train(0, 1)
    path = tmp_path / "bad_steps/iter_0000000.pth"
    assert tool.main([str(path), "--device", "cpu"]) == 0
    assert "total_loss                               nan" in capsys.readouterr().out

    step = torch.load(path, weights_only=True)
    step["about"]["config"]["model"] = {"_target_": "os.system", "command": "true"}
    save_step(str(path), step)
    with pytest.raises(SystemExit):
        tool.main([str(path)])
    assert "would call 'os.system'" in capsys.readouterr().err


def test_files_of_other_kinds_are_one_line(tmp_path, bad_image, capsys):
    path = tmp_path / "model.pth"
    torch.save({"model": {}}, path)
    half = tmp_path / "half.pth"
    half.write_bytes(bad_image.read_bytes()[:5000])
    no_batch, no_config = tmp_path / "batch.pth", tmp_path / "config.pth"
    step = torch.load(bad_image, weights_only=True)
    save_step(str(no_config), {key: value for key, value in step.items() if key != "about"})
    step["ranks"][0]["batch"] = ("boxes", 1)
    save_step(str(no_batch), step)
    for arguments, message in (
        ([str(path)], "is not the file of a step"),
        ([str(half)], "is damaged"),
        ([str(no_batch)], "batch of rank 0: it has a value of the unknown kind 'boxes'"),
        ([str(no_config)], "has no config"),
        ([str(bad_image), "--rank", "3"], "--rank 3"),
        ([str(tmp_path / "absent.pth")], "absent.pth"),
    ):
        with pytest.raises(SystemExit) as stop:
            tool.main(arguments)
        err = capsys.readouterr().err
        assert stop.value.code == 1 and message in err and err.count("\n") == 2
