"""Run train_net.py in this process and look at how it ended; small datasets to run it on."""

import importlib.util
import json
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.engine.tiny import TRAIN_NET

STARTED = "Training from iteration"


def load_tool():
    spec = importlib.util.spec_from_file_location("train_net_under_test", TRAIN_NET)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train_net = load_tool()


class Outcome(NamedTuple):
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line about the error."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 2, self.err
        assert lines[1] == "(set D2LITE_TRACEBACK=1 to see where it was raised)"
        return lines[0]

    @property
    def started(self) -> bool:
        """Whether it came to training."""
        return STARTED in self.out


def coco_data(size=4) -> dict:
    """The content of a good file."""
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 48, "width": 64} for i in range(size)]
    annotations = [
        {
            "id": 10 + i,
            "image_id": i,
            "category_id": i % 2 + 1,
            "bbox": [8, 8, 20, 24],
            "area": 480,
            "iscrowd": 0,
        }
        for i in range(size)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def photo(path, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_coco(folder, data: dict | str | None = None) -> str:
    """A dataset of four images; its URI."""
    images = folder / "images"
    images.mkdir(parents=True)
    for i in range(4):
        photo(images / f"{i}.jpg", i)
    data = coco_data() if data is None else data
    (folder / "train.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return f"coco:{folder}/train.json?images={images}"


def train_on(uri: str) -> dict:
    return {"DATASETS__TRAIN": repr((uri,))}


def test_on(uri: str) -> dict:
    return {"DATASETS__TEST": repr((uri,))}


test_on.__test__ = False
