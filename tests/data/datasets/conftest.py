import json

import pytest

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog


@pytest.fixture
def write(tmp_path):
    """Writes the contents of a COCO file; returns its path and the folder of its images."""
    (tmp_path / "images").mkdir()

    def write_file(contents, name="train.json"):
        path = tmp_path / name
        path.write_text(contents if isinstance(contents, str) else json.dumps(contents))
        return str(path), str(tmp_path / "images")

    return write_file


@pytest.fixture
def own_names():
    """Remove what a test has registered under names that start with "my"."""
    yield
    for registry in (DatasetCatalog, MetadataCatalog):
        for name in [n for n in registry.list() if n.startswith("my")]:
            registry.remove(name)
