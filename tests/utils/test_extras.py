"""Optional packages."""

import sys

import pytest

from d2lite.utils.extras import import_extra


def test_an_installed_module_is_returned():
    assert import_extra("xml.dom.minidom", "any", "a reader") is sys.modules["xml.dom.minidom"]


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    expected = r"^a reader needs the package absent_one: pip install 'd2lite\[shapes\]' \(.*absent"
    with pytest.raises(ImportError, match=expected):
        import_extra("absent_one.geometry", "shapes", "a reader")


def test_a_package_that_fails_to_start_gives_its_reason(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text('raise ImportError("libfoo.so.1 is missing")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"libfoo\.so\.1 is missing"):
        import_extra("broken_extra", "any", "a reader")
