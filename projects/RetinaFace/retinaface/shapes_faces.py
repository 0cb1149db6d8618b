"""The built-in shapes as stand-ins for faces: one class, five landmarks."""

from d2lite.data import DatasetCatalog, MetadataCatalog

CLASS_NAME = "shape"
_SHARED = ("keypoint_names", "keypoint_flip_map", "keypoint_connection_rules")


def register_shapes_faces() -> None:
    """Register `shapes_faces_train` and `shapes_faces_val`, evaluated with landmark metrics."""
    for split in ("train", "val"):
        source = MetadataCatalog.get(f"shapes_{split}")
        DatasetCatalog.register(f"shapes_faces_{split}", lambda split=split: _load(split))
        MetadataCatalog.get(f"shapes_faces_{split}").set(
            thing_classes=[CLASS_NAME],
            evaluator_type="landmarks",
            **{key: getattr(source, key) for key in _SHARED},
        )


def _load(split: str) -> list[dict]:
    records = DatasetCatalog.get(f"shapes_{split}")
    for record in records:
        for annotation in record["annotations"]:
            annotation["category_id"] = 0
    return records
