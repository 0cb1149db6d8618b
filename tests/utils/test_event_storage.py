import pytest
import torch

from d2lite.utils import events
from d2lite.utils.events import EventStorage, get_event_storage, has_event_storage


def test_no_storage_is_open_at_first():
    assert not has_event_storage()
    with pytest.raises(AssertionError, match="no EventStorage is open"):
        get_event_storage()


def test_innermost_storage_counts():
    with EventStorage() as outer:
        with EventStorage() as inner:
            assert get_event_storage() is inner
        assert get_event_storage() is outer
    assert not has_event_storage()


def test_log_helpers_are_silent_without_a_storage_and_put_with_one():
    events.log_scalar("loss", 1.0)
    events.log_image("image", torch.zeros(3, 2, 2))
    events.log_histogram("values", torch.zeros(2))
    with EventStorage() as storage:
        events.log_scalar("loss", torch.tensor(2.0))
        events.log_image("image", torch.zeros(3, 2, 2))
        events.log_histogram("values", torch.zeros(2))
    assert storage.latest() == {"loss": (2.0, 0)}
    assert len(storage._vis_data) == len(storage._histograms) == 1


def test_smoothed_scalars_are_medians_and_others_the_latest():
    with EventStorage() as storage:
        for iteration, value in enumerate([1.0, 9.0, 2.0]):
            storage.iter = iteration
            storage.put_scalar("noisy", value)
            storage.put_scalar("exact", value, smoothing_hint=False)
    latest = storage.latest_with_smoothing_hint(20)
    assert latest == {"noisy": (2.0, 2), "exact": (2.0, 2)}
    assert storage.latest_with_smoothing_hint(2)["noisy"][0] == 5.5  # of 9 and 2
    assert storage.history("noisy").values() == [(1.0, 0), (9.0, 1), (2.0, 2)]


def test_window_counts_iterations_and_not_values():
    with EventStorage() as storage:
        for iteration in range(0, 50, 10):
            storage.iter = iteration
            storage.put_scalar("rare", iteration)
    assert storage.count_samples("rare", 20) == 2  # of iterations 30 and 40
    assert storage.latest_with_smoothing_hint(20)["rare"][0] == 35.0


def test_value_can_belong_to_another_iteration():
    with EventStorage(7) as storage:
        storage.put_scalar("late", 1.0, cur_iter=3)
        storage.put_scalars(a=1, b=2, cur_iter=4, smoothing_hint=False)
    assert storage.latest() == {"late": (1.0, 3), "a": (1.0, 4), "b": (2.0, 4)}


def test_name_scope_prefixes_names():
    with EventStorage() as storage:
        with storage.name_scope("bbox"):
            storage.put_scalar("AP", 1.0)
        storage.put_scalar("AP", 2.0)
    assert storage.latest() == {"bbox/AP": (1.0, 0), "AP": (2.0, 0)}


def test_step_and_both_names_of_the_iteration():
    storage = EventStorage(5)
    storage.step()
    assert storage.iter == storage.iteration == 6


def test_smoothing_hint_must_not_change():
    with EventStorage() as storage:
        storage.put_scalar("x", 1.0)
        with pytest.raises(AssertionError, match=r"'x'.*smoothing_hint=True"):
            storage.put_scalar("x", 1.0, smoothing_hint=False)


def test_missing_history_is_a_key_error():
    with pytest.raises(KeyError, match="nothing"):
        EventStorage().history("nothing")


def test_histogram_holds_counts_and_edges():
    with EventStorage() as storage:
        storage.put_histogram("h", torch.tensor([0.0, 1.0, 1.0, 4.0]), bins=4)
        storage.put_histogram("empty", torch.zeros(0))
    (histogram,) = storage._histograms
    assert histogram["bucket_counts"] == [1.0, 2.0, 0.0, 1.0]
    assert histogram["bucket_limits"] == [1.0, 2.0, 3.0, 4.0]
    assert (histogram["num"], histogram["sum"], histogram["sum_squares"]) == (4, 6.0, 18.0)
