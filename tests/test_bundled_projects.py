"""detectron2's bundled projects: settings, configs, state dicts and numbers are detectron2's.

`tests/reference/projects/` holds what detectron2's own versions give.
"""

import functools
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from d2lite.config import CfgNode, get_cfg
from d2lite.data import MetadataCatalog
from d2lite.modeling import build_model
from d2lite.projects import add_projects, available_projects
from tests.golden import REFERENCE, Case, fill_model
from tests.modeling.test_golden_models import detection_arrays, image_tensor
from tests.modeling.test_state_dicts import as_set, describe
from tests.test_configs import flat, plain

PROJECTS = Path(__file__).parents[1] / "projects"
PACKAGES = {package.parent.name: name for name, package in available_projects().items()}
FACTS = json.loads(gzip.decompress((REFERENCE / "projects/projects.json.gz").read_bytes()))["facts"]
CONFIGS = sorted(name for name in FACTS if name.endswith(".yaml"))
NUMBERS = [name for name in CONFIGS if "small" in FACTS[name]]
# Those of the golden cases of whole models.
TOLERANCE = {
    "default": {"rtol": 0.001, "atol": 0.0001},
    "boxes": {"rtol": 0.0002, "atol": 0.05},
    "scores": {"rtol": 0.001, "atol": 0.001},
    "masks_packed": {"mismatch_fraction": 0.005},
    "sem_seg_sample": {"rtol": 0.001, "atol": 0.005},
    "sem_seg_argmax": {"mismatch_fraction": 0.002},
    "panoptic_ids": {"mismatch_fraction": 0.005},
}
# A mask head of 270 million parameters: filling them takes longer than all other cases together.
LARGE = "PointRend/InstanceSegmentation/implicit_pointrend_R_50_FPN_1x_coco.yaml"


def path_of(name: str) -> Path:
    """The file of a config that the facts call PROJECT/PATH."""
    project, _, path = name.partition("/")
    return PROJECTS / project / "configs" / path


@functools.cache
def load_config(name: str) -> CfgNode:
    cfg = get_cfg()
    add_projects(cfg, str(path_of(name)))
    cfg.merge_from_file(str(path_of(name)))
    return cfg


@pytest.mark.parametrize("project", sorted(x for x in FACTS if x.endswith(":defaults")))
def test_project_adds_the_settings_of_detectron2(project: str):
    cfg = get_cfg()
    before = flat(cfg)
    add_projects(cfg, opts=["PROJECTS", PACKAGES[project.removesuffix(":defaults")]])
    added = {key: plain(value) for key, value in flat(cfg).items() if key not in before}
    assert added == FACTS[project]
    assert {key: value for key, value in flat(cfg).items() if key in before} == before


@pytest.mark.parametrize("name", CONFIGS)
def test_config_has_the_values_of_detectron2(name: str):
    cfg = get_cfg()
    own = {"PROJECTS", "INPUT.DATASET_MAPPER"}
    add_projects(cfg, str(path_of(name)))
    defaults, got = flat(cfg), flat(load_config(name))
    assert got.keys() == defaults.keys()
    differing = {k: plain(v) for k, v in got.items() if plain(v) != plain(defaults[k])}
    assert PACKAGES[name.split("/")[0]] in differing["PROJECTS"]
    wanted = {k: v for k, v in FACTS[name]["config"].items() if k != "MODEL.DEVICE"}
    assert {k: v for k, v in differing.items() if k not in own} == wanted


@pytest.mark.parametrize("name", CONFIGS)
def test_model_has_the_state_dict_of_detectron2(name: str):
    cfg = load_config(name).clone()
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "meta", ""
    assert state_of(model_settings(cfg)) == as_set(FACTS[name]["state_dict"])


def model_settings(cfg: CfgNode) -> str:
    """A config without what makes no difference to a model, so that a model is built once."""
    cfg.SOLVER = CfgNode()
    cfg.DATASETS.TEST = ()
    return cfg.dump()


@functools.cache
def state_of(config: str) -> set[tuple]:
    with torch.device("meta"):
        state = build_model(CfgNode.load_cfg(config)).state_dict()
    return {describe(k, v) for k, v in state.items()}


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow) if x == LARGE else x for x in NUMBERS]
)
def test_inference_gives_the_numbers_of_detectron2(name: str):
    small = FACTS[name]["small"]
    case = Case(name, small, TOLERANCE, inputs={}, outputs=arrays_of(name))
    for image, result in zip(small["images"], results(name), strict=True):
        checked = compare(case, image, result)
        assert {f"{image}.{key}" for key in checked} == set(small["arrays"])


def results(name: str) -> list[dict]:
    """Return the outputs of a small model of a config, with weights by the fill rule."""
    small = FACTS[name]["small"]
    cfg = load_config(name).clone()
    overrides = [x for item in small["overrides"].items() for x in item]
    cfg.merge_from_list([*overrides, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    if small["metadata"]:  # described there in words
        cfg.DATASETS.TRAIN = ("facts_meta",)
        MetadataCatalog.get("facts_meta").set(
            thing_dataset_id_to_contiguous_id={3: 3, 4: 4, 5: 5}, label_divisor=1000
        )
    return _results(
        model_settings(cfg), small["seed"], tuple(small["images"]), str(small["out_sizes"])
    )


@functools.lru_cache(maxsize=1)  # neighbors differ in their schedule only
@torch.no_grad()
def _results(config: str, seed: int, images: tuple[str, ...], sizes: str) -> list[dict]:
    model = build_model(CfgNode.load_cfg(config)).eval()
    fill_model(model, seed)
    inputs = [
        {"image": image_tensor(image), "height": height, "width": width}
        for image, (height, width) in zip(images, json.loads(sizes), strict=True)
    ]
    return model(inputs)


def arrays_of(name: str) -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "projects/projects.npz") as arrays:
        return {
            key.removeprefix(f"{name}:"): arrays[key]
            for key in arrays.files
            if key.startswith(f"{name}:")
        }


def compare(case: Case, image: str, result: dict) -> list[str]:
    """Compare what a model gives for one image; returns the names of the arrays."""
    names = []
    if f"{image}.boxes" in case.outputs:
        got = detection_arrays(result["instances"])
        case.check_detections(f"{image}.", got)
        masks = ("mask_shape", "masks_packed") if "masks" in got else ()
        names += [*(key for key in got if key != "masks"), *masks]
    if "sem_seg" in result:
        case.check(f"{image}.sem_seg_sample", result["sem_seg"][:, ::12, ::12])
        case.check(f"{image}.sem_seg_argmax", result["sem_seg"].argmax(0).to(torch.uint8))
        names += ["sem_seg_sample", "sem_seg_argmax"]
    if "panoptic_seg" in result:
        case.check(f"{image}.panoptic_ids", result["panoptic_seg"][0].to(torch.int64))
        names.append("panoptic_ids")
    return names
