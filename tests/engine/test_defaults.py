import json
import re

import numpy as np
import pytest
import torch

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.engine import DefaultPredictor, DefaultTrainer, HookBase, hooks
from d2lite.modeling import build_model
from d2lite.structures import Instances
from tests.engine.tiny import command, run, tiny_cfg
from tests.golden import REFERENCE


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short run by the command line, with everything that it leaves behind."""
    folder = tmp_path_factory.mktemp("run")
    done = run(
        command(
            folder,
            DATASETS__TEST=("shapes_val",),
            SOLVER__MAX_ITER=40,
            SOLVER__CHECKPOINT_PERIOD=20,
            TEST__EVAL_PERIOD=20,
            TEST__DRAW_IMAGES=2,
        )
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def facts():
    import yaml

    return yaml.safe_load((REFERENCE / "logging_facts.yaml").read_text())["faster_rcnn_no_eval"]


def test_metrics_have_detectron2s_keys_and_cadence(finished):
    folder, _ = finished
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [19, 39, 40]
    expected = set(facts()["metrics_json_keys_per_line"][0])
    assert expected <= set(lines[0])
    assert {name for name in lines[1] if not name.startswith("bbox/")} == expected
    assert "bbox/AP50" in lines[2]


def test_files_are_those_of_detectron2(finished):
    folder, _ = finished
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    expected = {
        "config.yaml",
        "last_checkpoint",
        "log.txt",
        "metrics.json",
        "model_0000019.pth",
        "model_final.pth",
        "inference/coco_instances_results.json",
    }
    assert expected <= names
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert len(list((folder / "visualizations").glob("*"))) == 2


def test_progress_line_is_that_of_detectron2(finished):
    _, output = finished
    wanted = ("eta:", "iter: 19", "total_loss:", "loss_rpn_cls:", "time:", "data_time:", "lr:")
    lines = [line for line in output.splitlines() if "iter: 19 " in line]
    assert len(lines) == 1
    positions = [re.sub(r"\x1b\[\d+m", "", lines[0]).find(word) for word in wanted]
    assert positions == sorted(positions) and -1 not in positions


def test_tensorboard_has_the_curves_and_the_drawn_detections(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = finished
    events = EventAccumulator(str(folder))
    events.Reload()
    assert set(facts()["tensorboard_scalar_tags"]) - {"bbox/AP-a", "bbox/AP-b"} <= set(
        events.Tags()["scalars"]
    )
    assert events.Tags()["images"]


def test_checkpoint_is_laid_out_as_detectron2s(finished):
    folder, _ = finished
    checkpoint = torch.load(folder / "model_0000019.pth", weights_only=True)
    assert {"model", "iteration", "trainer"} <= set(checkpoint)
    assert checkpoint["iteration"] == checkpoint["trainer"]["iteration"] == 19
    assert set(checkpoint["trainer"]["hooks"]["LRScheduler"]) == {"base_lrs", "last_epoch"}
    assert {"iteration", "optimizer"} <= set(checkpoint["trainer"]["_trainer"])


def test_written_config_evaluates_by_itself(finished, tmp_path):
    """Class counts are resolved in it, so that it needs no training set."""
    folder, _ = finished
    text = (folder / "config.yaml").read_text()
    assert "NUM_CLASSES: -1" not in text.split("ROI_HEADS:")[1].split("NUM_CLASSES")[0]
    cfg = tiny_cfg(tmp_path)
    cfg.merge_from_file(str(folder / "config.yaml"))
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES > 0


def test_predictor_detects_in_the_images_own_pixels(finished, tmp_path):
    folder, _ = finished
    cfg = tiny_cfg(
        tmp_path,
        MODEL__WEIGHTS=str(folder / "model_final.pth"),
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0,
        DATASETS__TEST=("shapes_val",),
    )
    predictor = DefaultPredictor(cfg)
    instances = predictor(np.zeros((90, 200, 3), dtype=np.uint8))["instances"]
    assert isinstance(instances, Instances)
    assert instances.image_size == (90, 200)
    assert len(instances) > 0
    assert len(predictor.metadata.thing_classes) == predictor.cfg.MODEL.ROI_HEADS.NUM_CLASSES
    before = instances.pred_boxes.tensor.clone()
    instances.pred_boxes.scale(0.5, 0.5)  # in place, as callers do
    assert torch.equal(instances.pred_boxes.tensor, before / 2)
    doubles = predictor(np.zeros((90, 200, 3)))["instances"]
    torch.testing.assert_close(doubles.pred_boxes.tensor, before)
    with pytest.raises(ValueError, match="imread returns None"):
        predictor(None)
    with pytest.raises(ValueError, match=r"\(H, W, 3\) in BGR order, got \(90, 200, 4\)"):
        predictor(np.zeros((90, 200, 4), dtype=np.uint8))


def test_hooks_stand_in_detectron2s_order(tmp_path):
    trainer = DefaultTrainer(tiny_cfg(tmp_path))
    names = [type(hook).__name__ for hook in trainer._hooks]
    assert names == facts()["hooks_in_order"]


def test_every_hook_that_a_config_can_ask_for_has_its_place(tmp_path):
    trainer = DefaultTrainer(
        tiny_cfg(
            tmp_path,
            TEST__PRECISE_BN__ENABLED=True,
            TEST__PRECISE_BN__NUM_ITER=1,
            TEST__BEST_METRIC="bbox/AP",
            TEST__EVAL_PERIOD=4,
            TEST__PATIENCE=2,
            DATASETS__TEST=("shapes_val",),
        )
    )
    order = [type(hook).__name__ for hook in trainer._hooks]
    for earlier, later in [
        ("PreciseBN", "PeriodicCheckpointer"),
        ("PeriodicCheckpointer", "EvalHook"),
        ("EvalHook", "BestCheckpointer"),
        ("BestCheckpointer", "EarlyStop"),
        ("EarlyStop", "PeriodicWriter"),
    ]:
        assert order.index(earlier) < order.index(later)


def test_after_backward_reaches_the_hooks_of_the_default_trainer(tmp_path):
    class Gradients(HookBase):
        seen = 0

        def after_backward(self):
            Gradients.seen += any(p.grad is not None for p in self.trainer.model.parameters())

    trainer = DefaultTrainer(tiny_cfg(tmp_path, SOLVER__MAX_ITER=1))
    trainer.register_hooks([Gradients()])
    trainer.train()
    assert Gradients.seen == 1


def test_overridden_builders_are_used(tmp_path):
    class Trainer(DefaultTrainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return iter([])

        def build_hooks(self):
            return [*super().build_hooks()[:-1], hooks.CallbackHook()]

    trainer = Trainer(tiny_cfg(tmp_path))
    with pytest.raises(StopIteration):
        trainer.train()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_trains_on_the_cpu_too(tmp_path, dtype):
    cfg = tiny_cfg(
        tmp_path, SOLVER__MAX_ITER=1, SOLVER__AMP__ENABLED=True, SOLVER__AMP__DTYPE=dtype
    )
    trainer = DefaultTrainer(cfg)
    trainer.train()
    assert np.isfinite(trainer.storage.latest()["total_loss"][0])


def test_unknown_precision_names_the_key(tmp_path):
    cfg = tiny_cfg(tmp_path, SOLVER__AMP__ENABLED=True, SOLVER__AMP__DTYPE="half")
    with pytest.raises(ValueError, match=r"SOLVER.AMP.DTYPE is 'half'.*bfloat16"):
        DefaultTrainer(cfg)


def test_seed_alone_decides_the_initial_weights(tmp_path):
    def first_weights(seed):
        torch.manual_seed(99)
        model = DefaultTrainer(tiny_cfg(tmp_path, SEED=seed)).model
        return next(iter(model.state_dict().values()))

    assert torch.equal(first_weights(1), first_weights(1))
    assert not torch.equal(first_weights(1), first_weights(2))

    # And they are those of a program that seeds torch itself, as detectron2's default_setup does.
    trainer = DefaultTrainer(tiny_cfg(tmp_path, SEED=1))
    torch.manual_seed(1)
    own = build_model(trainer.cfg).state_dict()
    assert all(torch.equal(x, own[name]) for name, x in trainer.model.state_dict().items())


def test_results_that_are_not_expected_fail_the_run(tmp_path, caplog):
    cfg = tiny_cfg(
        tmp_path,
        SOLVER__MAX_ITER=1,
        DATASETS__TEST=("shapes_val",),
        INPUT__MIN_SIZE_TEST=32,
        TEST__EXPECTED_RESULTS=[["bbox", "AP", 99.0, 0.1]],
    )
    with pytest.raises(SystemExit):
        DefaultTrainer(cfg).train()
    assert "bbox/AP: found" in caplog.text


def test_number_of_evaluators_must_be_that_of_the_data_sets(tmp_path):
    cfg = tiny_cfg(tmp_path, DATASETS__TEST=("shapes_val",))
    with pytest.raises(ValueError, match="0 evaluators were given for the 1 datasets"):
        DefaultTrainer.test(cfg, torch.nn.Identity(), [])


def test_checkpoint_without_our_additions_resumes(tmp_path):
    """detectron2's trainer state has no seed, stream or figures."""
    trainer = DefaultTrainer(tiny_cfg(tmp_path, SOLVER__MAX_ITER=2))
    trainer.train()
    path = tmp_path / "model_final.pth"
    checkpoint = torch.load(path, weights_only=True)
    for key in ("seed", "storage"):
        checkpoint["trainer"].pop(key)
    checkpoint["trainer"]["_trainer"].pop("data_loader")
    torch.save(checkpoint, path)
    other = DefaultTrainer(tiny_cfg(tmp_path, SOLVER__MAX_ITER=3))
    other.resume_or_load(resume=True)
    assert other.start_iter == 2
    other.train()
    assert DetectionCheckpointer(other.model, str(tmp_path)).has_checkpoint()
