from inspect import signature

import pytest

from d2lite.config import get_cfg
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets import register_pascal_voc
from d2lite.evaluation import (
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    PascalVOCDetectionEvaluator,
    RotatedCOCOEvaluator,
    SemSegEvaluator,
    evaluator_for,
)
from d2lite.evaluation.build import EVALUATORS

PLAIN = DatasetEvaluator.from_settings.__func__


@pytest.mark.parametrize(
    "name, kind",
    [
        ("shapes_val", COCOEvaluator),
        ("shapes_rotated_val", RotatedCOCOEvaluator),
        ("shapes_sem_seg_val", SemSegEvaluator),
    ],
)
def test_the_metadata_choose(name, kind):
    assert type(evaluator_for(name)) is kind


def test_panoptic_sets_have_three_evaluators():
    evaluator = evaluator_for("shapes_panoptic_val")
    assert isinstance(evaluator, DatasetEvaluators)
    kinds = [type(e) for e in evaluator._evaluators]
    assert kinds == [SemSegEvaluator, COCOEvaluator, COCOPanopticEvaluator]


def test_config_gives_sigmas_and_folders(tmp_path):
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1] * 4
    cfg.DATASETS.TEST = ("shapes_val",)
    evaluator = evaluator_for("shapes_val", cfg)
    assert evaluator._output_dir == f"{tmp_path}/inference"
    assert evaluator._kpt_oks_sigmas == (0.1,) * 4
    cfg.DATASETS.TEST = ("shapes_val", "shapes_train")
    assert evaluator_for("shapes_val", cfg)._output_dir == f"{tmp_path}/inference/shapes_val"


@pytest.mark.parametrize("count, expected", [(50, 100), (100, 100), (300, 300), (-1, 100_000)])
def test_all_detections_of_the_model_count_where_they_are_more_than_usual(count, expected):
    cfg = get_cfg()
    cfg.TEST.DETECTIONS_PER_IMAGE = count
    assert evaluator_for("shapes_val", cfg)._max_dets_per_image[-1] == expected


def test_every_kind_names_classes_that_the_settings_fit():
    made = []
    for kinds in EVALUATORS.values():
        for kind in kinds:
            assert issubclass(kind, DatasetEvaluator)
            made.append(kind)
    assert {kind.__name__ for kind in made if "output_dir" in signature(kind).parameters} == {
        kind.__name__ for kind in made if kind.from_settings.__func__ is not PLAIN
    }


def test_functions_in_the_table_are_called_too(monkeypatch):
    class Own(DatasetEvaluator):
        def __init__(self, name):
            self.name = name

    monkeypatch.setitem(EVALUATORS, "coco", (Own, lambda name, settings: Own(settings.tasks)))
    names = [e.name for e in evaluator_for("shapes_val", ("bbox",))._evaluators]
    assert names == ["shapes_val", ("bbox",)]


def test_tasks_in_place_of_a_config():
    assert evaluator_for("shapes_val", ("bbox",))._tasks == ("bbox",)


def test_registered_voc_folder_is_free_to_be_evaluated_in_another_way(tmp_path):
    name = "evaluation_voc"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/val.txt").write_text("a\n")
    (tmp_path / "JPEGImages/a.jpg").touch()
    size = "<size><width>2</width><height>2</height></size>"
    (tmp_path / "Annotations/a.xml").write_text(f"<annotation>{size}</annotation>")
    register_pascal_voc(name, str(tmp_path), "val", 2012, ["cat"])
    assert not hasattr(MetadataCatalog.get(name), "evaluator_type")
    assert type(evaluator_for(name)) is PascalVOCDetectionEvaluator
    MetadataCatalog.get(name).evaluator_type = "rotated_coco"
    assert type(evaluator_for(name)) is RotatedCOCOEvaluator
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    assert MetadataCatalog.get("voc_2007_test").evaluator_type == "pascal_voc"


def test_unknown_evaluator_is_named_with_the_nearest():
    name = "evaluation_odd"
    MetadataCatalog.get(name).set(evaluator_type="pascal_vok", thing_classes=["a"])
    with pytest.raises(ValueError, match=r"'pascal_vok'.*Did you mean 'pascal_voc'"):
        evaluator_for(name)
    MetadataCatalog.remove(name)
