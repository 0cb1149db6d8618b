import pytest

from d2lite.utils.errors import ArgumentError


def test_argument_errors_are_caught_as_what_programs_expect():
    for kind in (AssertionError, ValueError, TypeError):
        with pytest.raises(kind, match="as written"):
            raise ArgumentError("as written")
