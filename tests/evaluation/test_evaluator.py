"""The inference loop: what it calls, what it measures and what it survives."""

import logging
import re

import pytest
import torch
from torch import nn

from d2lite.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    evaluator as evaluator_module,
    inference_context,
    inference_on_dataset,
)


class Doubler(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs):
        assert not self.training and not torch.is_grad_enabled()
        return [{"twice": 2 * x["value"]} for x in inputs]


class Collector(DatasetEvaluator):
    def __init__(self, name="task"):
        self.name, self.calls = name, []

    def reset(self):
        self.calls.append("reset")

    def process(self, inputs, outputs):
        self.calls.append([(i["value"], o["twice"]) for i, o in zip(inputs, outputs, strict=True)])

    def evaluate(self):
        return {self.name: {"AP": 1.0}}


def batches(count):
    return [[{"value": i}] for i in range(count)]


def test_every_batch_is_processed_once_in_order():
    collector = Collector()
    results = inference_on_dataset(Doubler(), batches(3), collector)
    assert collector.calls == ["reset", [(0, 0)], [(1, 2)], [(2, 4)]]
    assert results == {"task": {"AP": 1.0}}


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 12])
def test_any_length_of_data_works_and_total_times_are_logged(count, caplog):
    caplog.set_level(logging.INFO)
    inference_on_dataset(Doubler(), batches(count), None)
    totals = [r.message for r in caplog.records if r.message.startswith("Total inference")]
    if count == 0:
        assert not totals and "no batch" in caplog.text
    else:
        pattern = r"0:00:00 \(0\.\d{6} s / iter per device, on 1 devices\)"
        assert re.fullmatch(f"Total inference time: {pattern}", totals[0])
        assert re.fullmatch(f"Total inference pure compute time: {pattern}", totals[1])


def test_loader_without_a_length_works():
    collector = Collector()
    inference_on_dataset(Doubler(), iter(batches(7)), collector)
    assert len(collector.calls) == 8


def test_a_plain_function_can_be_the_model():
    results = inference_on_dataset(lambda xs: [{"twice": 0} for _ in xs], batches(1), [Collector()])
    assert results == {"task": {"AP": 1.0}}


def test_callbacks_come_around_every_batch():
    order = []
    names = ("on_start", "before_inference", "after_inference", "on_end")
    callbacks = {name: lambda name=name: order.append(name) for name in names}
    inference_on_dataset(Doubler(), batches(2), None, callbacks)
    assert order == ["on_start", *["before_inference", "after_inference"] * 2, "on_end"]


def test_mode_is_restored_even_after_an_error():
    model = Doubler().train()
    with pytest.raises(KeyError):
        inference_on_dataset(model, [[{"no value": 1}]], None)
    assert model.training
    with inference_context(model):
        assert not model.training
    assert model.training


def test_piped_output_has_a_line_with_eta_now_and_then(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(evaluator_module, "LOG_PERIOD_SECONDS", 0.0)
    inference_on_dataset(Doubler(), batches(8), None)
    lines = [r.message for r in caplog.records if r.message.startswith("Inference done")]
    assert len(lines) == 3  # after the five of the warm-up
    assert re.fullmatch(
        r"Inference done 6/8\. Dataloading: \d\.\d{4} s/iter\. Inference: \d\.\d{4} s/iter\. "
        r"Eval: \d\.\d{4} s/iter\. Total: \d\.\d{4} s/iter\. ETA=0:00:00",
        lines[0],
    )


def test_times_leave_the_warm_up_out(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(evaluator_module.time, "perf_counter", lambda: now[0])
    clock = evaluator_module._Clock()
    clock.start()
    for i in range(9):
        for part, seconds in (("data", 1), ("compute", 100 if i < 5 else 2), ("eval", 3)):
            now[0] += seconds
            clock.lap(part)
        clock.next_batch()
    assert clock.per_batch() == {"data": 1, "compute": 2, "eval": 3, "total": 6}


def test_several_evaluators_are_merged():
    results = DatasetEvaluators([Collector("a"), Collector("b")]).evaluate()
    assert results == {"a": {"AP": 1.0}, "b": {"AP": 1.0}}


def test_evaluators_with_the_same_task_are_an_error():
    with pytest.raises(ValueError, match="two evaluators report 'a'"):
        DatasetEvaluators([Collector("a"), Collector("a")]).evaluate()


def test_evaluator_that_returns_nothing_gives_an_empty_dict():
    assert inference_on_dataset(Doubler(), batches(1), DatasetEvaluator()) == {}
