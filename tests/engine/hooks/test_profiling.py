import json

from d2lite.engine import hooks
from tests.engine.hooks.trainers import make_trainer


def test_profiler_writes_a_trace_of_the_chosen_iteration(tmp_path):
    profiler = hooks.TorchProfiler(
        lambda trainer: trainer.iter == 1, str(tmp_path), save_tensorboard=False
    )
    make_trainer(profiler).train(0, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["profiler_iter1-trace.json"]
    assert json.loads((tmp_path / "profiler_iter1-trace.json").read_text())["traceEvents"]
