import pytest

from d2lite.checkpoint.catalog import ModelCatalog, ModelCatalogHandler
from d2lite.utils.file_io import PathManager
from tests.golden import REFERENCE


@pytest.fixture(scope="module")
def facts():
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((REFERENCE / "model_zoo_urls.yaml").read_text())["catalog_uri"]


def test_imagenet_backbones(facts):
    for name, path in facts["imagenet_backbones"].items():
        assert ModelCatalog.get(f"ImageNetPretrained/{name}") == f"{facts['s3_prefix']}/{path}"


def test_detectron_models(facts):
    for name, url in facts["detectron1_models"].items():
        keypoints = "keypoint" in name
        want = facts["detectron1_pattern"].format(
            prefix=facts["s3_prefix"],
            url=url,
            dataset=facts["detectron1_dataset" + ("_keypoints" if keypoints else "")],
            type="rpn" if "/rpn_" in name else "generalized_rcnn",
        )
        assert ModelCatalog.get(f"Caffe2Detectron/COCO/{name}") == want


def test_unknown_name_gets_the_nearest():
    with pytest.raises(RuntimeError, match="Did you mean 'ImageNetPretrained/MSRA/R-50'"):
        ModelCatalog.get("ImageNetPretrained/MSRA/R50")


def test_catalog_scheme_downloads_what_the_catalog_says(monkeypatch, tmp_path):
    target = tmp_path / "R-50.pkl"
    target.write_bytes(b"weights")
    monkeypatch.setattr(ModelCatalog, "get", staticmethod(lambda name: str(target)))
    assert PathManager.get_local_path("catalog://ImageNetPretrained/MSRA/R-50") == str(target)
    with PathManager.open(f"{ModelCatalogHandler.PREFIX}anything", "rb") as file:
        assert file.read() == b"weights"
