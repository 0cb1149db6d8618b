"""Errors of train_net.py for invalid datasets."""

import json
import re

import pytest

from tests.tools.bad_input.runs import coco_data, photo, test_on, train_on, write_coco


def test_a_good_data_set_trains(main, good):
    outcome = main(**train_on(good))
    assert outcome.code == 0 and outcome.started and not outcome.err


def changed(**changes):
    """A COCO file with another second annotation; None takes a key out."""
    data = coco_data()
    data["annotations"][1].update(changes)
    data["annotations"][1] = {k: v for k, v in data["annotations"][1].items() if v is not None}
    return data


def other_image(**changes):
    data = coco_data()
    data["images"][1].update(changes)
    return data


BAD_COCO = {
    "truncated": (
        json.dumps(coco_data())[:-150],
        r"train\.json: not valid JSON at line 1, column \d+ .*cut off: download or write it again",
    ),
    "list": ("[1, 2]", r"train\.json: expected a JSON object, found a list"),
    "other JSON": (
        '{"version": 1}',
        r"train\.json: has no 'categories'; a COCO file has 'images', 'annotations' and .* version",
    ),
    "category out of range": (
        changed(category_id=9),
        r"train\.json: annotation 11 .*has category_id 9, absent from its 'categories'; add it or",
    ),
    "category absent": (changed(category_id=None), r"annotation 11 .*has category_id None, absent"),
    "short box": (
        changed(bbox=[1, 2, 3]),
        r"train\.json: annotation 11 of image 1 has bbox \[1, 2, 3\]; expected \[x, y, width, hei",
    ),
    "negative box": (changed(bbox=[1, 2, -3, 4]), r"annotation 11 of image 1 has bbox \[1, 2, -3"),
    "text in a box": (changed(bbox=["a", 2, 3, 4]), r"annotation 11 of image 1 has bbox \['a', 2"),
    "no box": (changed(bbox=None), r"annotation 11 of image 1 has bbox None; expected"),
    "text as a size": (
        other_image(height="48"),
        r"train\.json: image number 1 \(id 1\) has height '48'; expected a number of pixels",
    ),
    "file name": (other_image(file_name=7), r"image number 1 \(id 1\) has file_name 7; expected"),
    "no images": ({**coco_data(), "images": []}, r"dataset 'coco:.*' is empty: it has no images"),
    "no annotations": (
        {**coco_data(), "annotations": []},
        r"no image of coco:\S+ has an annotation to train on .* DATALOADER\.FILTER_EMPTY_ANNOTAT",
    ),
}


@pytest.mark.parametrize("data, message", BAD_COCO.values(), ids=BAD_COCO)
def test_bad_coco_files(main, tmp_path, data, message):
    outcome = main(**train_on(write_coco(tmp_path / "bad", data)))
    assert outcome.code == 1 and not outcome.started
    assert re.search(message, outcome.error), outcome.error


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "shapes_trian",
            r"dataset 'shapes_trian' is not registered\. Did you mean 'shapes_train'",
        ),
        (
            "coco:{0}/train.json?image={0}",
            r"unknown option 'image'\. Did you mean 'images'\? 'coco",
        ),
        ("coco:", r"'coco:': there is no path after 'coco:', such as in 'coco:train\.json"),
        ("coco:{0}/tarin.json", r"tarin\.json: annotation file not found"),
        (
            "coco:{0}/train.json?images={0}/imgs",
            r"image folder '\S+/imgs' not found; give it as '\?images",
        ),
        ("coco:{0}/train.json", r"0\.jpg: this image of \S+ does not exist, nor does any other of"),
        ("voc:{0}/none?split=train", r"none/ImageSets/Main: .* a VOC dataset has Annotations/"),
    ],
)
def test_bad_data_set_names(main, tmp_path, name, message):
    write_coco(tmp_path / "good")
    outcome = main(**train_on(name.format(tmp_path / "good")))
    assert outcome.code == 1 and not outcome.started
    assert re.search(message, outcome.error), outcome.error


def write_voc(folder, size="<size><width>64</width><height>48</height></size>") -> str:
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    photo(folder / "JPEGImages/a.jpg")
    box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
    xml = f"<annotation>{size}<object><name>cat</name>{box}</object></annotation>"
    (folder / "Annotations/a.xml").write_text(xml)
    (folder / "ImageSets/Main/train.txt").write_text("a\n")
    return f"voc:{folder}"


def test_bad_voc_folders(main, tmp_path):
    outcome = main(**train_on(write_voc(tmp_path / "no_size", size="") + "?split=train"))
    assert outcome.code == 1 and not outcome.started
    assert re.search(r"Annotations/a\.xml: has no <size>; expected <size><width>W", outcome.error)
    outcome = main(**train_on(write_voc(tmp_path / "no_split") + "?split=trian"))
    assert re.search(r"no split 'trian'\. Did you mean 'train'\? Splits there: tr", outcome.error)


def test_missing_images_are_counted_before_training(main, good, tmp_path):
    for name in ("1.jpg", "3.jpg"):
        (tmp_path / "good/images" / name).unlink()
    outcome = main(**train_on(good))
    assert outcome.code == 1 and not outcome.started
    found = (
        r"2 of the 4 files \(file_name\) of coco:\S+ do not exist, the first is \S+images/1\.jpg"
    )
    assert re.search(found, outcome.error), outcome.error
    outcome = main(DATALOADER__ON_BAD_SAMPLE="skip", **train_on(good))
    assert outcome.code == 0 and outcome.started
    assert re.search(f"WARNING: {found}; they are skipped", outcome.out)


def test_bad_test_sets_are_told_before_training(main, good, tmp_path):
    outcome = main(DATASETS__TEST=("shapes_vall",), **train_on(good))
    assert outcome.code == 1 and not outcome.started
    assert re.search(r"'shapes_vall' is not registered\. Did you mean 'shapes_val'", outcome.error)
    uri = write_coco(tmp_path / "val")
    (tmp_path / "val/images/2.jpg").unlink()
    outcome = main(**train_on(good), **test_on(uri))
    assert outcome.code == 1 and not outcome.started
    assert re.search(r"1 of the 4 files .* the first is \S+val/images/2\.jpg", outcome.error)


def test_other_classes_in_the_test_set_are_a_warning(main, good, tmp_path):
    data = coco_data()
    data["categories"][0]["name"] = "cow"
    outcome = main(**train_on(good), **test_on(write_coco(tmp_path / "val", data)))
    assert outcome.code == 0
    assert re.search(
        r"the model has no class 'cow' of DATASETS\.TEST \S+, so it finds", outcome.out
    )
    assert re.search(r"has no class 'cat' of the model: such detections are left", outcome.out)


def test_the_same_classes_in_another_order_are_matched_by_name(main, good, tmp_path):
    data = coco_data()
    first, second = data["categories"][:2]
    first["name"], second["name"] = second["name"], first["name"]
    outcome = main(**train_on(good), **test_on(write_coco(tmp_path / "val", data)))
    assert outcome.code == 0 and "has no class" not in outcome.out
