from d2lite.engine import hooks
from tests.engine.hooks.trainers import make_trainer


def test_callbacks_get_the_trainer():
    seen = []
    names = ("before_train", "before_step", "after_backward", "after_step", "after_train")
    calls = {name: lambda trainer, name=name: seen.append((name, trainer.iter)) for name in names}
    make_trainer(hooks.CallbackHook(**calls)).train(0, 1)
    assert seen == [(name, 0) for name in names[:-1]] + [("after_train", 1)]
