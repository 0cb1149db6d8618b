import pytest

from d2lite.config import get_cfg
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.engine import check_class_counts


@pytest.fixture
def three_classes():
    name = "three_classes_for_test"
    DatasetCatalog.register(name, lambda: [])
    MetadataCatalog.get(name).thing_classes = ["ant", "bee", "cat"]
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def make_cfg(dataset, count, meta_arch="GeneralizedRCNN"):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = meta_arch
    cfg.DATASETS.TRAIN = (dataset,)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = count
    cfg.MODEL.RETINANET.NUM_CLASSES = count
    return cfg


def test_minus_one_means_as_many_as_the_data_has_even_if_frozen(three_classes):
    cfg = make_cfg(three_classes, -1)
    cfg.freeze()
    check_class_counts(cfg)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3
    assert cfg.is_frozen()
    assert cfg.MODEL.RETINANET.NUM_CLASSES == -1  # this model does not read it


def test_dense_detectors_have_a_key_of_their_own(three_classes):
    cfg = make_cfg(three_classes, -1, "RetinaNet")
    check_class_counts(cfg)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 3


def test_fewer_classes_than_the_data_is_an_error_that_names_both(three_classes):
    with pytest.raises(ValueError, match=r"ROI_HEADS.NUM_CLASSES is 2, but three_.* has 3 .*ant"):
        check_class_counts(make_cfg(three_classes, 2))


def test_more_classes_than_the_data_is_a_warning(three_classes, caplog):
    check_class_counts(make_cfg(three_classes, 4))
    assert "NUM_CLASSES is 4, more than the 3" in caplog.text


def test_minus_one_without_a_data_set_says_what_to_set():
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = -1
    with pytest.raises(ValueError, match=r"set MODEL.ROI_HEADS.NUM_CLASSES"):
        check_class_counts(cfg)
