import logging
import os
import random
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from d2lite.checkpoint import Checkpointer, PeriodicCheckpointer
from d2lite.checkpoint.reading import CheckpointFileError


def small_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(OrderedDict(body=nn.Conv2d(1, 2, 1), norm=nn.BatchNorm2d(2)))


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(2, 1, 4, 4)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_a_run_goes_on_bit_for_bit(tmp_path, make):
    def run(seed):
        model = small_model(seed)
        settings = {"momentum": 0.9} if make is torch.optim.SGD else {}
        return model, make(model.parameters(), lr=0.01, **settings)

    model, optimizer = run(0)
    trained(model, optimizer)
    Checkpointer(model, str(tmp_path), optimizer=optimizer).save(
        "model_0000002",
        iteration=2,
        rng={"torch": torch.get_rng_state(), "numpy": np.random.get_state()},
        python_rng=random.getstate(),
    )
    trained(model, optimizer)
    expected_draws = (np.random.rand(), random.random())

    other, other_optimizer = run(1)
    rest = Checkpointer(other, str(tmp_path), optimizer=other_optimizer).resume_or_load("")
    assert rest["iteration"] == 2
    np.random.seed(5)
    torch.set_rng_state(rest["rng"]["torch"])
    np.random.set_state(rest["rng"]["numpy"])
    random.setstate(rest["python_rng"])
    trained(other, other_optimizer)
    assert same(model, other)
    assert (np.random.rand(), random.random()) == expected_draws


def test_files_and_last_checkpoint(tmp_path):
    checkpointer = Checkpointer(small_model(), str(tmp_path / "new"))
    assert not checkpointer.has_checkpoint()
    assert checkpointer.get_checkpoint_file() == ""
    checkpointer.save("b")
    checkpointer.save("a")
    folder = str(tmp_path / "new")
    assert checkpointer.has_checkpoint()
    assert checkpointer.get_checkpoint_file() == os.path.join(folder, "a.pth")
    assert checkpointer.get_all_checkpoint_files() == [
        os.path.join(folder, "a.pth"),
        os.path.join(folder, "b.pth"),
    ]
    assert (tmp_path / "new" / "last_checkpoint").read_text() == "a.pth"
    checkpointer.tag_last_checkpoint("b.pth")
    assert checkpointer.get_checkpoint_file() == os.path.join(folder, "b.pth")


def test_other_ranks_write_nothing(tmp_path):
    Checkpointer(small_model(), str(tmp_path), save_to_disk=False).save("a")
    Checkpointer(small_model(), "").save("a")
    assert not list(tmp_path.iterdir())


def test_name_with_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a file name"):
        Checkpointer(small_model(), str(tmp_path)).save("sub/a")


def test_without_resume_only_the_model_is_loaded(tmp_path):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    Checkpointer(model, str(tmp_path), optimizer=optimizer).save("a", note="kept")

    other = small_model(1)
    other_optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    loader = Checkpointer(other, str(tmp_path / "out"), optimizer=other_optimizer)
    rest = loader.resume_or_load(str(tmp_path / "a.pth"))
    assert same(model, other)
    assert other_optimizer.param_groups[0]["lr"] == 0.1
    assert rest["note"] == "kept" and "optimizer" in rest


def test_chosen_checkpointables(tmp_path):
    a, b = small_model(0), small_model(1)
    Checkpointer(small_model(), str(tmp_path), a=a, b=b).save("x")
    c, d = small_model(2), small_model(3)
    Checkpointer(small_model(), a=c, b=d).load(str(tmp_path / "x.pth"), checkpointables=["b"])
    assert same(b, d) and not same(a, c)


def test_empty_path_loads_nothing(caplog):
    with caplog.at_level(logging.INFO, "d2lite"):
        assert Checkpointer(small_model()).load("") == {}
    assert "keeps its initial weights" in caplog.text


def test_checkpointables_have_one_name_and_a_state():
    checkpointer = Checkpointer(small_model(), thing=small_model())
    with pytest.raises(KeyError, match="thing"):
        checkpointer.add_checkpointable("thing", small_model())
    with pytest.raises(TypeError, match="number is a int, without a state_dict"):
        checkpointer.add_checkpointable("number", 3)


def test_weights_saved_inside_of_ddp_have_no_prefix_here(tmp_path):
    model = small_model()
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save(state, tmp_path / "ddp.pth")
    other = small_model(1)
    Checkpointer(nn.DataParallel(other)).load(str(tmp_path / "ddp.pth"))
    assert same(model, other)


def test_compiled_model_is_saved_under_its_own_names(tmp_path):
    model = small_model()
    Checkpointer(torch.compile(model), str(tmp_path)).save("a")
    assert torch.load(tmp_path / "a.pth")["model"].keys() == model.state_dict().keys()


def test_report_of_what_does_not_fit(tmp_path, caplog):
    weights = small_model().state_dict()
    weights["body.weight"] = torch.zeros(4, 1, 1, 1)
    weights["extra.a"] = weights["extra.b"] = torch.zeros(1)
    del weights["norm.bias"]
    torch.save(weights, tmp_path / "other.pth")
    model = small_model(1)
    before = model.body.weight.clone()
    with caplog.at_level(logging.INFO, "d2lite"):
        Checkpointer(model).load(str(tmp_path / "other.pth"))
    text = " ".join(caplog.text.split())
    assert "wrong shape body.weight: (4, 1, 1, 1) in the checkpoint, (2, 1, 1, 1) in the" in text
    assert "missing norm.bias" in text
    assert "unexpected extra.* (2)" in text
    assert torch.equal(model.body.weight, before)


def test_parameter_with_two_names_is_not_missing(tmp_path, caplog):
    model = nn.ModuleDict({"a": nn.Linear(1, 1)})
    model["b"] = model["a"]
    state = {k: v for k, v in model.state_dict().items() if k.startswith("a.")}
    torch.save(state, tmp_path / "tied.pth")
    with caplog.at_level(logging.WARNING, "d2lite"):
        Checkpointer(model).load(str(tmp_path / "tied.pth"))
    assert not caplog.records


@pytest.mark.parametrize(
    "content, message",
    [
        ([1, 2], "contains a list; expected a dict"),
        ({}, "has no weights: .* an empty dict"),
        ({"model": 3}, "has no weights: .* found a int"),
        ({"a": "text"}, "entry 'a' is a str; expected names and tensors"),
        ({1: torch.zeros(1)}, "entry 1 is a Tensor"),
    ],
)
def test_file_of_something_else_is_told_before_the_model_changes(tmp_path, content, message):
    path = tmp_path / "x.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointFileError, match=f"x.pth .*{message}"):
        Checkpointer(small_model()).load(str(path))


def test_missing_file_gets_the_nearest_name(tmp_path):
    (tmp_path / "model_final.pth").touch()
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'model_final\.pth'"):
        Checkpointer(small_model()).load(str(tmp_path / "model_finl.pth"))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Checkpointer(small_model()).load(str(tmp_path / "none" / "x.pth"))
    with pytest.raises(FileNotFoundError, match="is a folder"):
        Checkpointer(small_model()).load(str(tmp_path))


def saved_run(folder) -> Checkpointer:
    """Three numbered checkpoints and a final one; the weight tells which."""
    model = small_model()
    checkpointer = Checkpointer(model, str(folder))
    for iteration in (1, 3, 5):
        nn.init.constant_(model.body.weight, iteration)
        checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
    checkpointer.save("model_final", iteration=5)
    return Checkpointer(small_model(1), str(folder))


@pytest.mark.parametrize(
    "damaged, used",
    [
        (["model_final"], 5),
        (["model_final", "model_0000005"], 3),
        (["model_final", "model_0000005", "model_0000003"], 1),
    ],
)
def test_the_one_before_a_damaged_checkpoint_is_used(tmp_path, caplog, damaged, used):
    checkpointer = saved_run(tmp_path)
    for name in damaged:
        path = tmp_path / f"{name}.pth"
        path.write_bytes(path.read_bytes()[:500])
    assert checkpointer.resume_or_load("")["iteration"] == used
    assert checkpointer.model.body.weight.unique().tolist() == [used]
    for name in damaged:
        assert f"{name}.pth is damaged" in caplog.text


def test_the_one_before_a_damaged_numbered_checkpoint_is_not_a_later_one(tmp_path):
    checkpointer = saved_run(tmp_path)
    checkpointer.tag_last_checkpoint("model_0000003.pth")
    (tmp_path / "model_0000003.pth").unlink()
    assert checkpointer.resume_or_load("")["iteration"] == 1


def test_nothing_to_resume_from_names_all_files(tmp_path):
    checkpointer = saved_run(tmp_path)
    for path in tmp_path.glob("*.pth"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointFileError, match=r"model_final(?s:.*)0005(?s:.*)0003(?s:.*)0001"):
        checkpointer.resume_or_load("")


def numbered(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pth"))


def test_periodic_checkpoints_and_the_final_one(tmp_path):
    periodic = PeriodicCheckpointer(Checkpointer(small_model(), str(tmp_path)), 2, max_iter=5)
    for iteration in range(5):
        periodic.step(iteration, note="x")
    assert numbered(tmp_path) == ["model_0000001.pth", "model_0000003.pth", "model_final.pth"]
    stored = torch.load(tmp_path / "model_0000003.pth")
    assert stored["iteration"] == 3 and stored["note"] == "x"


def test_only_the_newest_numbered_files_stay(tmp_path):
    checkpointer = Checkpointer(small_model(), str(tmp_path))
    checkpointer.save("model_best")
    (tmp_path / "model_0000099.pth").touch()  # of another run
    for first, last in ((0, 6), (6, 10)):  # a resumed run finds those of the one before it
        periodic = PeriodicCheckpointer(checkpointer, 2, max_iter=10, max_to_keep=2)
        for iteration in range(first, last):
            periodic.step(iteration)
    assert numbered(tmp_path) == [
        "model_0000007.pth",
        "model_0000009.pth",
        "model_0000099.pth",
        "model_best.pth",
        "model_final.pth",
    ]


def test_period_of_zero_saves_at_the_end_only(tmp_path):
    periodic = PeriodicCheckpointer(Checkpointer(small_model(), str(tmp_path)), 0, max_iter=3)
    for iteration in range(3):
        periodic.step(iteration)
    assert numbered(tmp_path) == ["model_final.pth"]


def test_keeping_none_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="max_to_keep is 0"):
        PeriodicCheckpointer(Checkpointer(small_model(), str(tmp_path)), 2, max_to_keep=0)


@pytest.mark.parametrize(
    "content",
    [b"../other/model_0000009.pth", b"/etc/hosts", b"..", b"", b"a\x1b[2J", b"\xff\0"],
)
def test_last_checkpoint_names_a_file_of_its_own_folder(tmp_path, content, caplog):
    (tmp_path / "other").mkdir()
    (tmp_path / "run").mkdir()
    Checkpointer(small_model(1), str(tmp_path / "other")).save("model_0000009")
    last = tmp_path / "run" / "last_checkpoint"
    checkpointer = Checkpointer(small_model(2), str(tmp_path / "run"))
    last.write_bytes(content)
    with pytest.raises(CheckpointFileError, match="none with a number"):
        checkpointer.resume_or_load("")
    checkpointer.save("model_0000003", iteration=3)
    last.write_bytes(content)
    with pytest.raises(CheckpointFileError, match="last_checkpoint is damaged"):
        checkpointer.get_checkpoint_file()
    assert checkpointer.resume_or_load("")["iteration"] == 3
    assert f"{last} is damaged" in caplog.text


def test_weights_that_are_not_finite_are_kept_aside(tmp_path):
    model = small_model()
    checkpointer = Checkpointer(model, str(tmp_path))
    checkpointer.save("model_0000003", iteration=3)
    model.register_buffer("mask", torch.tensor(-torch.inf), persistent=False)
    checkpointer.save("model_0000004", iteration=4)
    model.norm.running_var[0] = torch.nan
    model.body.weight.data[0] = torch.inf
    with pytest.raises(FloatingPointError, match=r"2 entries .*body\.weight, norm\.running_var"):
        checkpointer.save("model_0000005", iteration=5)
    assert (tmp_path / "model_0000005.pth.nonfinite").is_file()
    assert Checkpointer(small_model(), str(tmp_path)).resume_or_load("")["iteration"] == 4
