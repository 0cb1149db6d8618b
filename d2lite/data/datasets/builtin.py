"""Register the built-in datasets; none is read before it is used.

Their files are looked up in the folder that the environment variable D2LITE_DATASETS names, or else
DETECTRON2_DATASETS, or else in "datasets" in the current folder.
"""

import os

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.builtin_meta import ADE20K_SEM_SEG_CATEGORIES, get_builtin_metadata
from d2lite.data.datasets.cityscapes import load_cityscapes_instances, load_cityscapes_semantic
from d2lite.data.datasets.cityscapes_panoptic import register_all_cityscapes_panoptic
from d2lite.data.datasets.coco import load_sem_seg, register_coco_instances
from d2lite.data.datasets.coco_panoptic import (
    register_coco_panoptic,
    register_coco_panoptic_separated,
)
from d2lite.data.datasets.lvis import get_lvis_instances_meta, register_lvis_instances
from d2lite.data.datasets.pascal_voc import load_voc_instances, register_pascal_voc
from d2lite.data.datasets.shapes import register_all_shapes
from d2lite.data.datasets.uri import register_all_schemes

# Name -> image folder and annotation file below "coco", by kind of metadata.
_COCO_SPLITS = {
    "coco": {
        "coco_2014_train": ("train2014", "instances_train2014.json"),
        "coco_2014_val": ("val2014", "instances_val2014.json"),
        "coco_2014_minival": ("val2014", "instances_minival2014.json"),
        "coco_2014_valminusminival": ("val2014", "instances_valminusminival2014.json"),
        "coco_2017_train": ("train2017", "instances_train2017.json"),
        "coco_2017_val": ("val2017", "instances_val2017.json"),
        "coco_2017_test": ("test2017", "image_info_test2017.json"),
        "coco_2017_test-dev": ("test2017", "image_info_test-dev2017.json"),
        "coco_2017_val_100": ("val2017", "instances_val2017_100.json"),
    },
    "coco_person": {
        "keypoints_coco_2014_train": ("train2014", "person_keypoints_train2014.json"),
        "keypoints_coco_2014_val": ("val2014", "person_keypoints_val2014.json"),
        "keypoints_coco_2014_minival": ("val2014", "person_keypoints_minival2014.json"),
        "keypoints_coco_2014_valminusminival": (
            "val2014",
            "person_keypoints_valminusminival2014.json",
        ),
        "keypoints_coco_2017_train": ("train2017", "person_keypoints_train2017.json"),
        "keypoints_coco_2017_val": ("val2017", "person_keypoints_val2017.json"),
        "keypoints_coco_2017_val_100": ("val2017", "person_keypoints_val2017_100.json"),
    },
}
_COCO_PANOPTIC_SPLITS = ("train2017", "val2017", "val2017_100")

_LVIS_SPLITS = {
    "lvis_v1_train": "lvis_v1_train.json",
    "lvis_v1_val": "lvis_v1_val.json",
    "lvis_v1_test_dev": "lvis_v1_image_info_test_dev.json",
    "lvis_v1_test_challenge": "lvis_v1_image_info_test_challenge.json",
    "lvis_v0.5_train": "lvis_v0.5_train.json",
    "lvis_v0.5_val": "lvis_v0.5_val.json",
    "lvis_v0.5_val_rand_100": "lvis_v0.5_val_rand_100.json",
    "lvis_v0.5_test": "lvis_v0.5_image_info_test.json",
    "lvis_v0.5_train_cocofied": "lvis_v0.5_train_cocofied.json",
    "lvis_v0.5_val_cocofied": "lvis_v0.5_val_cocofied.json",
}

_VOC_SPLITS = {2007: ("trainval", "train", "val", "test"), 2012: ("trainval", "train", "val")}

_BCCD_CLASSES = ("Platelets", "RBC", "WBC")


def datasets_root() -> str:
    """Return the folder that contains the built-in datasets."""
    root = os.environ.get("D2LITE_DATASETS") or os.environ.get("DETECTRON2_DATASETS")
    return os.path.expanduser(root or "datasets")


def register_all_coco(root: str) -> None:
    """Register COCO's instances, person keypoints and panoptic splits, in `root`/coco."""
    base = os.path.join(root, "coco")
    for kind, splits in _COCO_SPLITS.items():
        for name, (images, annotations) in splits.items():
            register_coco_instances(
                name,
                get_builtin_metadata(kind),
                os.path.join(base, "annotations", annotations),
                os.path.join(base, images),
            )
    for split in _COCO_PANOPTIC_SPLITS:
        kind, _, part = split.partition("2017")  # "val2017_100": instances of coco_2017_val_100
        instances = MetadataCatalog.get(f"coco_2017_{kind}{part}")
        name = f"coco_2017_{kind}{part}_panoptic"
        panoptic_root = os.path.join(base, f"panoptic_{split}")
        panoptic_json = os.path.join(base, "annotations", f"panoptic_{split}.json")
        register_coco_panoptic(
            name,
            get_builtin_metadata("coco_panoptic_standard"),
            instances.image_root,
            panoptic_root,
            panoptic_json,
            instances.json_file,
        )
        register_coco_panoptic_separated(
            name,
            get_builtin_metadata("coco_panoptic_separated"),
            instances.image_root,
            panoptic_root,
            panoptic_json,
            os.path.join(base, f"panoptic_stuff_{split}"),
            instances.json_file,
        )


def register_all_lvis(root: str) -> None:
    """Register LVIS v1 and v0.5: annotations in `root`/lvis, images in `root`/coco."""
    for name, annotations in _LVIS_SPLITS.items():
        register_lvis_instances(
            name,
            get_lvis_instances_meta(name),
            os.path.join(root, "lvis", annotations),
            os.path.join(root, "coco"),
        )


def register_all_pascal_voc(root: str) -> None:
    """Register VOC 2007 and 2012, in `root`/VOC2007 and `root`/VOC2012."""
    for year, splits in _VOC_SPLITS.items():
        for split in splits:
            name = f"voc_{year}_{split}"
            register_pascal_voc(name, os.path.join(root, f"VOC{year}"), split, year)
            MetadataCatalog.get(name).evaluator_type = "pascal_voc"


def register_all_cityscapes(root: str) -> None:
    """Register Cityscapes' instance and semantic splits, in `root`/cityscapes."""
    meta = get_builtin_metadata("cityscapes")
    base = os.path.join(root, "cityscapes")
    for split in ("train", "val", "test"):
        dirs = {
            "image_dir": os.path.join(base, "leftImg8bit", split),
            "gt_dir": os.path.join(base, "gtFine", split),
        }
        name = f"cityscapes_fine_instance_seg_{split}"
        DatasetCatalog.register(name, lambda dirs=dirs: load_cityscapes_instances(**dirs))
        MetadataCatalog.get(name).set(evaluator_type="cityscapes_instance", **dirs, **meta)
        name = f"cityscapes_fine_sem_seg_{split}"
        DatasetCatalog.register(name, lambda dirs=dirs: load_cityscapes_semantic(**dirs))
        MetadataCatalog.get(name).set(
            evaluator_type="cityscapes_sem_seg", ignore_label=255, **dirs, **meta
        )


def register_all_ade20k(root: str) -> None:
    """Register ADE20K's 150-class semantic splits, in `root`/ADEChallengeData2016."""
    base = os.path.join(root, "ADEChallengeData2016")
    for split, folder in (("train", "training"), ("val", "validation")):
        image_root = os.path.join(base, "images", folder)
        # Labels shifted to start at 0, as detectron2's preparation script writes them.
        gt_root = os.path.join(base, "annotations_detectron2", folder)
        name = f"ade20k_sem_seg_{split}"
        DatasetCatalog.register(name, lambda g=gt_root, i=image_root: load_sem_seg(g, i))
        MetadataCatalog.get(name).set(
            stuff_classes=ADE20K_SEM_SEG_CATEGORIES[:],
            image_root=image_root,
            sem_seg_root=gt_root,
            evaluator_type="sem_seg",
            ignore_label=255,
        )


def register_all_bccd(root: str) -> None:
    """Register the blood cells of BCCD (VOC format, evaluated as COCO), in `root`/bccd."""
    dirname = os.path.join(root, "bccd")
    for split in ("train", "val", "test", "trainval"):
        name = f"bccd_{split}"
        DatasetCatalog.register(
            name, lambda split=split: load_voc_instances(dirname, split, _BCCD_CLASSES)
        )
        MetadataCatalog.get(name).set(
            thing_classes=list(_BCCD_CLASSES),
            dirname=dirname,
            split=split,
            year=2012,
            evaluator_type="coco",
        )


for _register in (
    register_all_coco,
    register_all_lvis,
    register_all_cityscapes,
    register_all_cityscapes_panoptic,
    register_all_pascal_voc,
    register_all_ade20k,
    register_all_bccd,
):
    _register(datasets_root())
register_all_shapes()
register_all_schemes()
