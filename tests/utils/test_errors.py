import pytest

from d2lite.utils.errors import ArgumentError, shortened


def test_argument_errors_are_caught_as_what_programs_expect():
    for kind in (AssertionError, ValueError, TypeError):
        with pytest.raises(kind, match="as written"):
            raise ArgumentError("as written")


def test_quoted_texts_are_short_and_of_one_line():
    assert shortened("Große Zelle") == "Große Zelle"
    assert shortened("a\nb\x1b[31m\ud800") == r"a\nb\x1b[31m\ud800"
    assert shortened("x" * 81) == "x" * 80 + "..."
