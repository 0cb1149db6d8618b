"""Data within the page of a report."""

import json
import re

import numpy as np

from d2lite.commands.report_page import write_page


def test_numbers_are_short_and_those_that_are_not_finite_are_null(tmp_path):
    page = tmp_path / "new" / "page.html"
    write_page({"a": np.array([1 / 3, np.nan]), 2: (float("inf"), 3)}, str(page))
    (text,) = re.findall(r"^const D = (.*);$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert json.loads(text) == {"a": [0.33333, None], "2": [None, 3]}
