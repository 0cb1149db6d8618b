"""Steps whose loss or gradients are not finite: what is told, kept, undone and left out."""

import copy
import itertools

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from d2lite.checkpoint import Checkpointer
from d2lite.config import CfgNode
from d2lite.engine import AMPTrainer, ModelEMA, SimpleTrainer, create_ddp_model, hooks
from d2lite.engine.bad_steps import BadSteps, NonFiniteError
from d2lite.engine.replay import read_step, replay_step
from d2lite.solver.build import maybe_add_gradient_clipping
from d2lite.utils import comm
from tests.full_disk import no_room

NAN = float("nan")


class Net(nn.Module):
    """Two layers with BatchNorm, a counter beside the state, and a loss that batches can spoil."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.seen = torch.tensor(0.0)

    def training_state(self):
        return {"seen": self.seen}

    def load_training_state(self, state):
        self.seen = state["seen"]

    def forward(self, batch):
        x = torch.stack([item["x"] for item in batch])
        fault = batch[0].get("fault", "")
        self.seen = self.seen + len(batch)
        if fault == "forward":
            self.layers(x * NAN)
            raise FloatingPointError("the boxes are not finite.")
        y = self.layers(x * (NAN if fault == "input" else 1.0))
        # Its gradient at 0 is infinite times 0: nan.
        extra = (0.0 * self.layers[0].weight[0, 0]).sqrt() if fault == "gradient" else 0.0
        return {"loss_a": y.square().mean() + extra + 0.1 * torch.rand(()), "loss_b": y.abs().sum()}


def batches(faults, start=0):
    """Batches of two, seeded by their position."""
    for position in itertools.count(start):
        x = torch.randn(2, 3, generator=torch.Generator().manual_seed(position))
        batch = [{"x": row, "file_name": f"{position}_{i}.jpg"} for i, row in enumerate(x)]
        if position in faults:
            batch[0]["fault"] = faults[position]
        yield batch


def make(folder="", faults=(), kind=SimpleTrainer, model=None, clip=False, **settings):
    torch.manual_seed(0)
    model = model or Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    if clip:
        node = CfgNode({"ENABLED": True, "CLIP_TYPE": "norm", "CLIP_VALUE": 1.0, "NORM_TYPE": 2.0})
        cfg = CfgNode({"SOLVER": {"CLIP_GRADIENTS": node}})
        optimizer = maybe_add_gradient_clipping(cfg, optimizer)
    options = {}
    if kind is AMPTrainer:
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        options = {"grad_scaler": scaler, "precision": torch.bfloat16}
    trainer = kind(model, batches(dict(faults)), optimizer, **options)
    trainer.bad_steps.set_up(str(folder), **settings)
    return trainer


def files(folder):
    return sorted(path.name for path in (folder / "bad_steps").glob("*"))


@pytest.mark.parametrize("kind", [SimpleTrainer, AMPTrainer])
def test_the_error_names_losses_images_and_gradients_and_the_step_shows_it_again(tmp_path, kind):
    trainer = make(tmp_path, {2: "input"}, kind)
    with pytest.raises(NonFiniteError) as caught:
        trainer.train(0, 5)
    message = str(caught.value)
    path = tmp_path / "bad_steps/iter_0000002.pth"
    assert "not finite in iteration 2: loss_a nan, loss_b nan. Images: 2_0.jpg, 2_1.jpg" in message
    assert "Largest gradients (6 of 6 not finite): layers." in message
    assert "SOLVER.BASE_LR" in message and message.endswith(f"python tools/replay_step.py {path}")
    assert files(tmp_path) == [path.name]
    replay = replay_step(Net(), read_step(str(path)), 0)
    assert replay.is_bad and set(replay.losses) == {"loss_a", "loss_b"}
    assert len(replay.gradients) == 6


def test_a_replay_has_the_numbers_of_the_step(tmp_path):
    """The loss draws random numbers; the reference is a run whose fault is in the gradients."""
    seen = {}

    class Look(SimpleTrainer):
        def compute_losses(self, data):
            losses = super().compute_losses(data)
            seen[self.iter] = {name: loss.item() for name, loss in losses.items()}
            return losses

    trainer = make(tmp_path, {3: "gradient"}, Look, check_gradients=True)
    with pytest.raises(NonFiniteError, match="gradients are not finite in iteration 3, though"):
        trainer.train(0, 5)
    step = read_step(str(tmp_path / "bad_steps/iter_0000003.pth"))
    replay = replay_step(Net(), step, 0)
    assert replay.losses == seen[3]
    assert [name for name, value in replay.gradients if value != value] == ["layers.0.weight"]
    with pytest.warns(UserWarning, match=r"extra = .*sqrt"):  # the line of the model
        found = replay_step(Net(), step, 0, detect_anomaly=True)
    assert "MulBackward0" in str(found.error)  # 0 * infinity


@pytest.mark.parametrize("value, is_bad", [(1e30, False), (float("inf"), True), (NAN, True)])
def test_large_gradients_are_no_fault(value, is_bad):
    model = nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[value, 1.0]])  # the square of 1e30 is infinite
    bad_steps = BadSteps(check_gradients=True)
    if is_bad:
        with pytest.raises(NonFiniteError, match="in iteration 7"):
            bad_steps.check_gradients(model, 7)
    else:
        bad_steps.check_gradients(model, 7)


def test_gradients_are_looked_at_where_that_is_asked_for(tmp_path):
    trainer = make(tmp_path, {1: "gradient"})
    trainer.train(0, 2)
    assert torch.isnan(trainer.model.layers[0].weight).any()


@pytest.mark.parametrize("fault", ["input", "forward", "gradient"])
@pytest.mark.parametrize("kind", [SimpleTrainer, AMPTrainer])
@pytest.mark.parametrize("clip", [False, True])
def test_a_skipped_step_leaves_no_trace_in_the_model(tmp_path, fault, kind, clip, caplog):
    if fault == "gradient" and kind is AMPTrainer:
        pytest.skip("the GradScaler leaves such steps out on its own")
    trainer = make(tmp_path, {2: fault, 3: fault}, kind, clip=clip, action="skip", keep=1)
    trainer.bad_steps._checks_gradients = True
    before = {}

    class Look(hooks.HookBase):
        def before_step(self):
            state = copy.deepcopy(trainer.model.state_dict())
            before[self.trainer.iter] = (state, trainer.model.seen.item())

    ema = ModelEMA(trainer.model, 0.9, str(tmp_path))
    trainer.register_hooks([ema, Look()])
    trainer.train(0, 6)
    for name, value in before[2][0].items():
        assert torch.equal(value, before[4][0][name]), name
    assert not torch.equal(before[4][0]["layers.0.weight"], before[5][0]["layers.0.weight"])
    assert [before[i][1] for i in (2, 3, 4, 5)] == [4, 4, 4, 6]
    assert trainer.bad_steps.num_skipped == 2
    assert trainer.storage.latest()["num_skipped_steps"] == (2, 3)
    assert all(torch.isfinite(value).all() for value in ema.model.state_dict().values())
    assert files(tmp_path) == ["iter_0000003.pth"]
    assert caplog.text.count("is skipped (SOLVER.BAD_STEPS.ACTION)") == 2


def test_a_gradient_that_overflows_in_float16_is_no_fault(tmp_path):
    trainer = make(tmp_path, {1: "gradient"}, AMPTrainer, check_gradients=True)
    trainer.train(0, 3)
    assert trainer.grad_scaler.get_scale() == 4.0  # half of 8
    assert torch.isfinite(trainer.model.layers[0].weight).all() and files(tmp_path) == []


def test_steps_are_skipped_so_many_times_in_a_row(tmp_path):
    faults = dict.fromkeys([1, 2, 4, 5, 6], "input")
    trainer = make(tmp_path, faults, action="skip", max_in_a_row=2)
    with pytest.raises(
        NonFiniteError, match=r"iteration 6.* 2 steps before it were already skipped"
    ):
        trainer.train(0, 9)


def test_weights_that_are_not_finite_are_no_reason_to_skip(tmp_path):
    trainer = make(tmp_path, {1: "gradient"}, action="skip")  # iteration 1 spoils a weight
    with pytest.raises(NonFiniteError, match=r"earlier one: layers\.0\.weight.*would not help"):
        trainer.train(0, 9)


def test_a_run_that_was_killed_counts_on(tmp_path):
    faults = dict.fromkeys([1, 2, 3, 4], "input")
    whole = make("", faults, action="skip", max_in_a_row=4)
    whole.train(0, 6)
    first = make("", faults, action="skip", max_in_a_row=4)
    first.train(0, 3)
    Checkpointer(first.model, str(tmp_path), trainer=first).save("last")
    second = make("", faults, action="skip", max_in_a_row=4)
    Checkpointer(second.model, trainer=second).load(str(tmp_path / "last.pth"))
    second.data_loader = batches(faults, 3)
    assert (second.bad_steps.num_skipped, second.bad_steps._in_a_row) == (2, 2)
    second.train(3, 6)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert second.bad_steps.num_skipped == 4


def test_only_the_newest_files_are_kept_and_none_where_none_is_asked_for(tmp_path):
    faults = dict.fromkeys([1, 3, 5, 7], "input")
    make(tmp_path, faults, action="skip", keep=2).train(0, 9)
    assert files(tmp_path) == ["iter_0000005.pth", "iter_0000007.pth"]
    make(tmp_path / "none", faults, action="skip", keep=0).train(0, 9)
    assert not (tmp_path / "none").exists()


def test_a_full_disk_does_not_hide_the_fault(tmp_path):
    trainer = make(tmp_path, {0: "input"})
    told = pytest.raises(NonFiniteError, match=r"not saved: .*iter_0000000\.pth cannot be written")
    with told, no_room(100):
        trainer.train(0, 1)


def test_metrics_of_a_thread_raise_in_the_next_step_and_keep_nothing(tmp_path):
    trainer = make(tmp_path, {1: "input"})
    trainer.async_write_metrics = True
    with pytest.raises(NonFiniteError, match=r"iteration 1: .*async_write_metrics"):
        trainer.train(0, 50)
    assert trainer.iter < 49 and files(tmp_path) == []
    last = make(tmp_path, {1: "input"})
    last.async_write_metrics = True
    with pytest.raises(NonFiniteError, match="iteration 1"):
        last.train(0, 2)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"action": "ignore"}, "ACTION .* is 'ignore'; use 'raise' or 'skip'"),
        ({"keep": -1}, "KEEP is -1"),
        ({"max_in_a_row": -1}, "MAX_IN_A_ROW is -1"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        BadSteps(**settings)


def test_a_sound_step_is_that_of_a_trainer_without_all_this(tmp_path):
    watched, bare = make(tmp_path, check_gradients=True), make()
    bare.bad_steps.begin = bare.bad_steps.end = lambda *_: None
    watched.train(0, 5)
    bare.train(0, 5)
    for name, value in bare.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name]), name


def test_two_ranks_skip_together_and_write_one_file(tmp_path):
    mp.spawn(_one_of_two, args=(tmp_path,), nprocs=2)


def _one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    trainer = make(folder, {2: "input"} if rank == 1 else {}, action="skip")
    trainer.model = create_ddp_model(trainer.model, broadcast_buffers=False)
    trainer.train(0, 4)
    assert trainer.bad_steps.num_skipped == 1
    weights = [None, None]
    dist.all_gather_object(weights, trainer.model.module.layers[0].weight.tolist())
    assert weights[0] == weights[1]
    assert torch.isfinite(torch.tensor(weights)).all()
    path = folder / "bad_steps/iter_0000002.pth"
    assert files(folder) == [path.name]
    assert list(read_step(str(path))["ranks"]) == [1]

    trainer = make(folder, {1: "gradient"} if rank == 1 else {}, check_gradients=True)
    trainer.model = create_ddp_model(trainer.model, broadcast_buffers=False)
    with pytest.raises(NonFiniteError, match=r"iteration 1, .*Images: 1_0\.jpg.*, 1_0\.jpg"):
        trainer.train(0, 4)
    step = read_step(str(folder / "bad_steps/iter_0000001.pth"))
    assert list(step["ranks"]) == [0, 1]
    assert [replay_step(Net(), step, r).is_bad for r in (0, 1)] == [False, True]
    dist.barrier()
    comm.leave_process_groups()
