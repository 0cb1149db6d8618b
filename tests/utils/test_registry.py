import collections

import pytest
from torch import nn

from d2lite.utils.registry import (
    Registry,
    check_choice,
    check_choices,
    convert_target_to_string,
    did_you_mean,
    locate,
    lookup,
)


@pytest.fixture
def colors():
    registry = Registry("COLOR")

    @registry.register()
    def crimson():
        return "red"

    return registry


def test_registered_function_is_found_by_its_name(colors):
    assert colors.get("crimson")() == "red"
    assert "crimson" in colors and "azure" not in colors
    assert [name for name, _ in colors] == ["crimson"]


def test_register_as_a_call(colors):
    def azure():
        return "blue"

    colors.register(azure)
    assert colors.get("azure") is azure


def test_misspelled_name_is_a_key_error_with_the_nearest_name(colors):
    with pytest.raises(KeyError, match=r"'crimsom'.*COLOR") as error:
        colors.get("crimsom")
    assert str(error.value).endswith("Did you mean 'crimson'?")  # and no quotes around it all


def test_name_without_neighbors_lists_what_there_is(colors):
    with pytest.raises(KeyError, match="It has: crimson"):
        colors.get("xyz")
    with pytest.raises(KeyError, match="nothing yet"):
        Registry("EMPTY").get("xyz")


def test_registering_a_name_twice_is_refused(colors):
    with pytest.raises(AssertionError):
        colors.register(colors.get("crimson"))


@pytest.mark.parametrize(
    "name, expected",
    [
        ("rpn", " Did you mean 'RPN'?"),  # upper and lower case do not matter
        ("ROIAlignV1", " Did you mean 'ROIAlignV2' or 'ROIAlignV3'?"),
        ("Retinanet", " Did you mean 'RetinaNet'?"),
        ("zzz", ""),
    ],
)
def test_did_you_mean(name, expected):
    assert did_you_mean(name, ["RPN", "RRPN", "RetinaNet", "ROIAlignV2", "ROIAlignV3"]) == expected


def test_locate_finds_modules_classes_and_methods():
    assert locate("collections.OrderedDict") is collections.OrderedDict
    assert locate("torch.nn.Module.train") is nn.Module.train
    assert locate("torch.nn") is nn


@pytest.mark.parametrize(
    "name, message",
    [
        ("no_such_package.thing", "no module 'no_such_package'"),
        ("torch.nn.Lineer", "Did you mean 'Linear'"),
        ("torch nn", "dotted path"),
    ],
)
def test_locate_tells_what_is_missing(name, message):
    with pytest.raises(ImportError, match=message):
        locate(name)


def test_locate_does_not_hide_a_module_that_fails_to_import(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        locate("broken_module.thing")


@pytest.mark.parametrize("target", [nn.Linear, collections.OrderedDict, nn.Module.train, Registry])
def test_targets_survive_the_way_to_text_and_back(target):
    assert locate(convert_target_to_string(target)) is target


def test_target_is_named_by_its_shortest_path():
    assert convert_target_to_string(nn.Linear) == "torch.nn.Linear"


def test_a_choice_is_named_with_the_nearest_one():
    check_choice("color", "red", ("green", "red"))
    message = r"^color is 'gren'; use one of \['red', 'green'\]\. Did you mean 'green'\?$"
    with pytest.raises(ValueError, match=message):
        check_choice("color", "gren", ["red", "green"])
    with pytest.raises(ValueError, match=r"^color is \[1\]; use one of \['red'\]\.$"):
        check_choice("color", [1], {"red": 1})


def test_the_first_wrong_one_of_several_choices_is_named():
    check_choices("colors", [], ["red"])
    with pytest.raises(ValueError, match=r"^colors has 'blue'; use some of \['red', 'green'\]\.$"):
        check_choices("colors", ["red", "blue", "pink"], ["red", "green"])


def test_lookup_gives_the_entry_or_lists_the_names_in_order():
    assert lookup("depth", 50, {50: "a", 18: "b"}) == "a"
    with pytest.raises(ValueError, match=r"^depth is 34; use one of \[18, 50\]\.$"):
        lookup("depth", 34, {50: "a", 18: "b"})
