import json

from d2lite.engine import hooks
from d2lite.utils.events import EventWriter, JSONWriter, get_event_storage
from tests.engine.hooks.trainers import make_trainer


def test_writers_write_at_the_period_at_the_last_iteration_and_after_training():
    class Writer(EventWriter):
        def __init__(self):
            self.at, self.closed = [], False

        def write(self):
            self.at.append(get_event_storage().iter)

        def close(self):
            self.closed = True

    writer = Writer()
    make_trainer(hooks.PeriodicWriter([writer], period=3)).train(0, 5)
    assert writer.at == [2, 4, 5]
    assert writer.closed


def test_figures_of_the_checkpoints_iteration_are_written_once(tmp_path):
    """A kill between the checkpoint and the writer loses no line, one after it adds none."""
    path = tmp_path / "metrics.json"

    def iterations():
        return [json.loads(line)["iteration"] for line in path.read_text().splitlines()]

    first = make_trainer(hooks.PeriodicWriter([JSONWriter(str(path))], period=2))
    states = []
    first.register_hooks([hooks.CallbackHook(after_step=lambda t: states.append(t.state_dict()))])
    first.train(0, 4)
    assert iterations() == [1, 3]

    def resume():
        trainer = make_trainer(hooks.PeriodicWriter([JSONWriter(str(path))], period=2))
        trainer.load_state_dict(states[3])
        trainer.train(4, 6)

    resume()
    assert iterations() == [1, 3, 5]
    path.write_text(path.read_text().splitlines()[0] + "\n")
    resume()
    assert iterations() == [1, 3, 5]
