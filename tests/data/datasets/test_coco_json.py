"""Checks of COCO files before anything is made of them."""

import json

import pytest

from d2lite.data.datasets.coco_json import (
    check_image_folder,
    check_unique_ids,
    checked_categories,
    dataset_errors,
    group_by_image,
    label,
    read_categories,
    section,
    sorted_images,
    whole_number,
)


@pytest.mark.parametrize(
    "data, message",
    [
        ([], "a.json: expected a JSON object, found a list"),
        ({"info": 1, "x": 2}, "a.json: has no 'images'; .* this one has info, x"),
        ({}, "this one has nothing"),
        ({"images": {}}, "a.json: 'images' must be a list of objects"),
        ({"images": [1]}, "a.json: 'images' must be a list of objects"),
    ],
)
def test_sections_are_lists_of_objects(data, message):
    assert section({"images": [{}]}, "images", "a.json") == [{}]
    with pytest.raises(ValueError, match=message):
        section(data, "images", "a.json")


@pytest.mark.parametrize("value, expected", [(2.0, 2), (2.5, 2.5), ("2", "2"), (None, None)])
def test_whole_floats_become_integers(value, expected):
    got = whole_number(value)
    assert got == expected and type(got) is type(expected)


def test_categories_are_sorted_by_id():
    rows = [{"id": 9.0, "name": "dog"}, {"id": 4, "name": "cat", "color": 1}]
    found = checked_categories({"categories": rows}, "a.json")
    assert found == [{"id": 4, "name": "cat", "color": 1}, {"id": 9, "name": "dog"}]
    assert isinstance(found[1]["id"], int) and isinstance(rows[0]["id"], float)


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "'categories' is empty"),
        ([{"id": 1, "name": "a"}, {"id": "2", "name": "b"}], "category number 1 needs a whole-"),
        ([{"id": 1}], "category number 0 needs a whole-number 'id' and a 'name', found {'id': 1}"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], r"category ids .*: 1 \(2 times\)"),
    ],
)
def test_malformed_categories_are_named(rows, message):
    with pytest.raises(ValueError, match=f"a.json: {message}"):
        checked_categories({"categories": rows}, "a.json")


def test_categories_of_one_name_are_reported(caplog):
    rows = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "a"}]
    assert len(checked_categories({"categories": rows}, "a.json")) == 3
    assert "a.json: 2 categories are called 'a' (ids 1, 3)" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        '{"categories": [{"id": 2, "name": "b"}, {"id": 1, "name": "a"}], "images": [}',
        '{"images": [{"categories": []}], "categories": [{"id": 2, "name": "b"}, '
        '{"id": 1, "name": "a"}]}',
    ],
)
def test_categories_are_read_without_the_rest_of_the_file(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    found = read_categories(str(tmp_path / "a.json"))
    assert [category["name"] for category in found] == ["a", "b"]


def test_files_without_categories_are_named(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"categories": [], "images": []}))
    with pytest.raises(ValueError, match=r"a\.json: 'categories' is empty"):
        read_categories(str(tmp_path / "a.json"))


def test_images_are_sorted_by_id():
    rows = [{"id": 7.0, "height": 1}, {"id": 3, "height": 2.5}]
    found = sorted_images({"images": rows}, "a.json", ("height",))
    assert [(row["id"], row["height"]) for row in found] == [(3, 2.5), (7, 1)]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"id": 1}, {"id": 2, "file_name": "x"}], r"number 0 \(id 1\) lacks \['file_name'\]"),
        ([{"file_name": "x"}], r"number 0 \(id None\) lacks \['id'\]"),
        ([{"id": [1], "file_name": "x"}], r"number 0 has id \[1\]; expected a whole number"),
        ([{"id": 1, "file_name": 5}], r"number 0 \(id 1\) has file_name 5; expected a string"),
        ([{"id": 1, "file_name": "x", "width": 0}], "has width 0; expected a number of pixels"),
        ([{"id": 1, "file_name": "x", "height": "9"}], "has height '9'; expected a number"),
        ([{"id": 1, "file_name": "x"}, {"id": "1", "file_name": "x"}], "some image ids are num"),
        ([{"id": 1, "file_name": "x"}, {"id": 1, "file_name": "x"}], "image ids must be unique"),
    ],
)
def test_malformed_images_are_named(rows, message):
    with pytest.raises(ValueError, match=f"a.json: .*{message}"):
        sorted_images({"images": rows}, "a.json", ("file_name",))


def test_repeated_ids_are_counted_up_to_five_of_them():
    check_unique_ids([1, 2, 3], "image", "a.json")
    with pytest.raises(ValueError, match=r"not: 1 \(3 times\), 2 \(2 times\)$"):
        check_unique_ids([1, 2, 1, 2, 1, 3], "image", "a.json")
    with pytest.raises(ValueError, match=r"4 \(2 times\) and others$"):
        check_unique_ids([*range(9), *range(9)], "image", "a.json")


def test_annotations_by_image_keep_their_order(caplog):
    rows = [{"id": i, "image_id": image_id} for i, image_id in enumerate([5, 3, 5, 9, 8])]
    groups = group_by_image(rows, [3, 4, 5], "a.json")
    assert groups == {3: [rows[1]], 4: [], 5: [rows[0], rows[2]]}
    assert "a.json: left out 2 annotations of images that are not in 'images', the first of " in (
        caplog.text
    )
    assert "of image 9" in caplog.text


@pytest.mark.parametrize(
    "image_id, message",
    [
        ("3", "annotation 1 has image_id '3', but the image has id 3; write both as numbers"),
        ([3], r"annotation 1 of image \[3\] has image_id \[3\]; expected the id of an image"),
    ],
)
def test_image_ids_of_another_type_are_an_error(image_id, message):
    with pytest.raises(ValueError, match=f"a.json: {message}"):
        group_by_image([{"id": 1, "image_id": image_id}], [3], "a.json")


def test_names_of_annotations_in_messages():
    assert label({"id": 4, "image_id": 2}, 7) == "annotation 4 of image 2"
    assert label({"image_id": 2}) == "annotation None of image 2"
    assert label({"image_id": 2}, 7) == "annotation number 7"


def test_absent_image_folders_are_named(tmp_path):
    check_image_folder(str(tmp_path), "none.jpg", "a.json")
    (tmp_path / "b.jpg").touch()
    check_image_folder("absent", str(tmp_path / "b.jpg"), "a.json")  # an absolute path
    check_image_folder("", "none.jpg", "a.json")
    with pytest.raises(FileNotFoundError, match=r"a.json: .* 'absent', .* \(first image: b\.jpg\)"):
        check_image_folder("absent", "absent/b.jpg", "a.json")


def test_errors_of_values_name_their_file():
    message = r"a\.json: .*values that an annotation file does not have"
    with pytest.raises(ValueError, match=message), dataset_errors("a.json"):
        int([])
    with pytest.raises(FileNotFoundError, match=r"^b\.jpg$"), dataset_errors("a.json"):
        raise FileNotFoundError("b.jpg")
