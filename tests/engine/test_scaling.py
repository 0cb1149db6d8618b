import pytest

from d2lite.config import get_cfg
from d2lite.engine import DefaultTrainer
from tests.golden import load_case

KEYS = {
    "IMS_PER_BATCH": "SOLVER.IMS_PER_BATCH",
    "BASE_LR": "SOLVER.BASE_LR",
    "MAX_ITER": "SOLVER.MAX_ITER",
    "WARMUP_ITERS": "SOLVER.WARMUP_ITERS",
    "STEPS": "SOLVER.STEPS",
    "EVAL_PERIOD": "TEST.EVAL_PERIOD",
    "CHECKPOINT_PERIOD": "SOLVER.CHECKPOINT_PERIOD",
    "REFERENCE_WORLD_SIZE": "SOLVER.REFERENCE_WORLD_SIZE",
}


def make_cfg(settings):
    cfg = get_cfg()
    for key, value in settings.items():
        cfg.merge_from_list([key, value])
    return cfg


def value_at(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


@pytest.mark.parametrize("call", ["to16", "to1", "to3", "same", "off"])
def test_schedule_follows_the_world_size_as_in_detectron2(call):
    case = load_case("solver.auto_scale_workers")
    settings, workers = case.params["calls"][call]
    scaled = DefaultTrainer.auto_scale_workers(make_cfg(settings), workers)
    for name, want in case.outputs[call].items():
        assert value_at(scaled, KEYS[name]) == pytest.approx(want), name


def test_scaling_twice_changes_nothing_more():
    cfg = make_cfg({"SOLVER.REFERENCE_WORLD_SIZE": 8})
    once = DefaultTrainer.auto_scale_workers(cfg, 2)
    assert DefaultTrainer.auto_scale_workers(once, 2) is once
    assert cfg.SOLVER.REFERENCE_WORLD_SIZE == 8  # the original is left alone


def test_two_images_on_one_gpu_take_an_eighth_of_the_rate_and_eight_times_the_iterations():
    cfg = make_cfg(
        {
            "SOLVER.AUTO_SCALE_LR": True,
            "SOLVER.IMS_PER_BATCH": 2,
            "SOLVER.BASE_LR": 0.02,
            "SOLVER.MAX_ITER": 90000,
            "SOLVER.STEPS": (60000, 80000),
        }
    )
    cfg.freeze()
    scaled = DefaultTrainer.auto_scale_workers(cfg, 1)
    assert pytest.approx(0.0025) == scaled.SOLVER.BASE_LR
    assert scaled.SOLVER.MAX_ITER == 720000
    assert scaled.SOLVER.STEPS == (480000, 640000)
    assert scaled.SOLVER.IMS_PER_BATCH == 2
    assert scaled.is_frozen()
    assert DefaultTrainer.auto_scale_workers(scaled, 1) is scaled


def test_batch_that_does_not_divide_names_both_keys():
    cfg = make_cfg({"SOLVER.REFERENCE_WORLD_SIZE": 3})
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH 16 .*REFERENCE_WORLD_SIZE 3"):
        DefaultTrainer.auto_scale_workers(cfg, 2)
