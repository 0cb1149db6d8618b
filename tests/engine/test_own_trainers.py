"""Trainers and loops that programs write themselves, around one weight that learns to be 3."""

import json

import pytest
import torch
from fvcore.common.param_scheduler import LinearParamScheduler

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import get_cfg
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.engine import (
    AMPTrainer,
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    hooks,
)
from d2lite.utils import comm
from d2lite.utils.events import EventStorage, get_event_storage
from tests.engine.tiny import Weight

MAX_ITER = 6


class Stream:
    def __iter__(self):
        while True:
            yield torch.tensor(3.0)


class Usual(DefaultTrainer):
    """One that overrides what builds the parts, and keeps the constructor."""

    @classmethod
    def build_model(cls, cfg):
        return Weight()

    @classmethod
    def build_train_loader(cls, cfg):
        return Stream()

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return []

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        return {"bbox": {"AP": model.weight.item()}}


class OwnConstructor(Usual):
    """Sets what detectron2's constructor sets, without calling it."""

    def __init__(self, cfg):
        super(DefaultTrainer, self).__init__()
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        self._trainer = (AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer)(
            model, data_loader, optimizer
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, trainer=self)
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())


class OwnConstructorAndStep(OwnConstructor):
    def run_step(self):
        self._trainer.iter = self.iter
        assert self.model.training
        data = next(self._trainer._data_loader_iter)
        loss_dict = self.model(data)
        self.optimizer.zero_grad()
        sum(loss_dict.values()).backward()
        self._trainer._write_metrics(loss_dict, data_time=0.0)
        self.optimizer.step()


class OwnLoop(Usual):
    def train(self):
        start_iter, max_iter = self.start_iter, self.max_iter
        self.iter = start_iter
        with EventStorage(start_iter) as self.storage:
            self.before_train()
            for self.iter in range(start_iter, max_iter):
                self.before_step()
                self.run_step()
                self.after_step()
            self.after_train()


class OwnLoopAndConstructor(OwnConstructorAndStep):
    train = OwnLoop.train


OWN = [OwnConstructor, OwnConstructorAndStep, OwnLoop, OwnLoopAndConstructor]


def cfg_for(folder, **changes):
    cfg = get_cfg()
    settings = {
        "MODEL.DEVICE": "cpu",
        "OUTPUT_DIR": str(folder),
        "DATASETS.TRAIN": ("own_trainers",),
        "DATASETS.TEST": ("own_trainers",),
        "SOLVER.MAX_ITER": MAX_ITER,
        "SOLVER.STEPS": (4,),
        "SOLVER.WARMUP_ITERS": 2,
        "SOLVER.BASE_LR": 0.1,
        "SOLVER.CHECKPOINT_PERIOD": 2,
        "TEST.EVAL_PERIOD": 2,
        "TEST.BEST_METRIC": "bbox/AP",
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    cfg.merge_from_list([part for pair in settings.items() for part in pair])
    return cfg


def train(kind, folder, resume=False, **changes):
    trainer = kind(cfg_for(folder, **changes))
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def evaluations(folder):
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return [line["bbox/AP"] for line in lines if "bbox/AP" in line]


@pytest.fixture(scope="module", autouse=True)
def data_set():
    DatasetCatalog.register("own_trainers", lambda: [])
    MetadataCatalog.get("own_trainers").set(thing_classes=["thing"])
    yield
    DatasetCatalog.remove("own_trainers")
    MetadataCatalog.remove("own_trainers")


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usual")
    return folder, train(Usual, folder)


@pytest.mark.parametrize("kind", OWN)
def test_own_trainer_leaves_what_the_usual_one_leaves(tmp_path, usual, kind):
    folder, reference = usual
    trainer = train(kind, tmp_path)
    assert torch.equal(trainer.model.weight, reference.model.weight)
    assert trainer._last_eval_results == {"bbox": {"AP": reference.model.weight.item()}}
    names = {path.name for path in folder.iterdir() if path.suffix in (".pth", ".json")}
    assert names >= {"model_0000005.pth", "model_final.pth", "model_best.pth", "metrics.json"}
    assert {p.name for p in tmp_path.iterdir() if p.suffix in (".pth", ".json")} == names
    for name in ("model_final.pth", "model_best.pth"):  # the last evaluation is the best
        saved = torch.load(tmp_path / name, weights_only=True)
        assert saved["model"]["weight"] == reference.model.weight
        assert saved["trainer"]["iteration"] == MAX_ITER - 1
    assert evaluations(tmp_path)[-1] == pytest.approx(reference.model.weight.item())
    for name, history in reference.storage.histories().items():
        if name.startswith(("loss", "total_loss", "lr")):
            assert trainer.storage.history(name).values() == history.values()


@pytest.mark.parametrize("kind", OWN)
def test_own_trainer_resumes_exactly(tmp_path, kind):
    constant = {"SOLVER__STEPS": ()}  # the schedule of a short run is that of the long one
    whole = train(kind, tmp_path / "whole", **constant)
    first = train(kind, tmp_path, SOLVER__MAX_ITER=4, **constant)
    assert first.start_iter == 0
    second = train(kind, tmp_path, resume=True, **constant)
    assert second.start_iter == 4 and second.scheduler.last_epoch == MAX_ITER
    assert torch.equal(second.model.weight, whole.model.weight)


@pytest.mark.parametrize("kind", [Usual, *OWN])
def test_last_step_is_evaluated_also_where_the_one_before_was(tmp_path, kind):
    seen = []

    class Watched(kind):
        @classmethod
        def test(cls, cfg, model, evaluators=None):
            seen.append(get_event_storage().iter)
            return super().test(cfg, model)

    train(Watched, tmp_path, TEST__EVAL_PERIOD=1)
    assert len(seen) == MAX_ITER and seen[:-1] == list(range(MAX_ITER - 1))


def test_hooks_hear_of_the_gradients_in_any_of_them(tmp_path):
    class Gradients(HookBase):
        seen = 0

        def after_backward(self):
            self.seen += self.trainer.model.weight.grad is not None

    for kind in (Usual, OwnConstructor, OwnLoop):
        trainer, hook = kind(cfg_for(tmp_path / kind.__name__)), Gradients()
        trainer.register_hooks([hook])
        trainer.train()
        assert hook.seen == MAX_ITER


def test_failure_in_the_last_step_is_no_end(tmp_path):
    class Failing(Usual):
        def run_step(self):
            super().run_step()
            if self.iter == MAX_ITER - 1:
                raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        train(Failing, tmp_path)
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert best["iteration"] == MAX_ITER - 3  # of the evaluation before
    assert not (tmp_path / "model_final.pth").exists()


def test_list_of_hooks_is_that_of_detectron2(tmp_path):
    built = Usual(cfg_for(tmp_path, TEST__BEST_METRIC="")).build_hooks()
    assert [type(hook) for hook in built] == [
        hooks.IterationTimer,
        hooks.LRScheduler,
        type(None),  # PreciseBN, which is off
        hooks.PeriodicCheckpointer,
        hooks.EvalHook,
        hooks.PeriodicWriter,
    ]
    best = Usual(cfg_for(tmp_path)).build_hooks()
    assert [type(hook) for hook in best[-2:]] == [hooks.BestCheckpointer, hooks.PeriodicWriter]


def test_parts_of_the_inner_trainer_can_be_replaced(tmp_path):
    trainer = Usual(cfg_for(tmp_path))
    model, loader = Weight(), Stream()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trainer.model, trainer.data_loader, trainer.optimizer = model, loader, optimizer
    inner = trainer._trainer
    assert (inner.model, inner.data_loader, inner.optimizer) == (model, loader, optimizer)


def test_iteration_follows_the_loop_whatever_a_hook_does():
    seen = []

    class Rewind(HookBase):
        def after_step(self):
            seen.append(self.trainer.iter)
            self.trainer.iter = 0  # as load_state_dict of an older checkpoint does

    model = Weight()
    trainer = SimpleTrainer(model, Stream(), torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.register_hooks([Rewind()])
    trainer.train(0, 3)
    assert seen == [0, 1, 2] and trainer.iter == 3


def test_inner_trainer_with_a_constructor_of_its_own():
    class Own(SimpleTrainer):
        def __init__(self, model, loader, optimizer):
            super(SimpleTrainer, self).__init__()
            self.model, self.data_loader, self.optimizer = model.train(), loader, optimizer

    class OwnAMP(AMPTrainer):
        def __init__(self, model, loader, optimizer):
            super(AMPTrainer, self).__init__(model, loader, optimizer)
            self.grad_scaler = torch.amp.GradScaler("cpu", enabled=False)
            self.precision = torch.bfloat16

    for kind in (Own, OwnAMP):
        model = Weight()
        trainer = kind(model, Stream(), torch.optim.SGD(model.parameters(), lr=0.25))
        trainer.train(0, 1)
        assert model.weight.item() == 2.0  # 1 + 0.25 * 2 * (3 - 1)
        fresh = Weight()
        other = kind(fresh, Stream(), torch.optim.SGD(fresh.parameters(), lr=0.25))
        other.load_state_dict(trainer.state_dict())
        assert other.iter == 0


def test_own_step_may_be_all_of_an_inner_trainer(tmp_path):
    class Bare(TrainerBase):
        def __init__(self, model, optimizer):
            super().__init__()
            self.model, self.optimizer, self.data_loader = model, optimizer, None

        def run_step(self):
            (loss,) = self.model(torch.tensor(3.0)).values()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    class Outer(OwnConstructor):
        def __init__(self, cfg):
            super().__init__(cfg)
            self._trainer = Bare(self.model, self.optimizer)

    trainer = train(Outer, tmp_path)
    assert trainer._last_eval_results["bbox"]["AP"] > 1.0


def test_overridden_writing_of_metrics_is_used():
    class Renamed(SimpleTrainer):
        def _write_metrics(self, loss_dict, data_time, prefix="", iter=None):
            super()._write_metrics(loss_dict, data_time, prefix="my_", iter=iter)

    for in_thread in (False, True):
        model = Weight()
        trainer = Renamed(
            model,
            Stream(),
            torch.optim.SGD(model.parameters(), lr=0.1),
            async_write_metrics=in_thread,
        )
        trainer.train(0, 3)
        assert [i for _, i in trainer.storage.history("my_total_loss").values()] == [0, 1, 2]


def test_data_set_without_an_evaluator_is_left_out(tmp_path, caplog):
    class None_(Usual):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name):
            raise NotImplementedError(f"no evaluator for {dataset_name}")

        test = classmethod(DefaultTrainer.test.__func__)

    with EventStorage():
        results = None_.test(cfg_for(tmp_path, DATASETS__TEST=("mine",)), Weight())
    assert results == {}
    assert "mine is not evaluated: None_.build_evaluator has no evaluator for it" in caplog.text


def test_schedule_without_a_state_is_resumed_by_its_iteration():
    def run(stop, start=0, state=None):
        model = Weight()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        trainer = SimpleTrainer(model, Stream(), optimizer)
        trainer.register_hooks([hooks.LRScheduler(scheduler=LinearParamScheduler(1.0, 0.0))])
        if state is not None:
            trainer.load_state_dict(state)
        states = []
        trainer.register_hooks(
            [hooks.CallbackHook(after_step=lambda t: states.append(t.state_dict()))]
        )
        trainer.max_iter = 4
        with EventStorage(start) as trainer.storage:
            trainer.iter = trainer.start_iter = start
            trainer.before_train()
            for trainer.iter in range(start, stop):
                trainer.before_step()
                trainer.run_step()
                trainer.after_step()
        rates = [value for value, _ in trainer.storage.history("lr").values()]
        return rates, states[-1]

    rates, state = run(2)
    assert rates == [1.0, 0.75]
    assert run(4, start=2, state=state)[0][-2:] == [0.5, 0.25]
