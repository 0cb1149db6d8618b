import math

from d2lite.evaluation.tables import MAX_WIDTH, metrics_table

OVERALL = {"AP": 41.23456, "AP50": 60.0, "APl": math.nan}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_few_categories_are_columns():
    table = metrics_table(OVERALL, {"cat": {"AP": 40.0, "AP50": 50.0}, "dog": {"AP": 42.5}}, "bbox")
    lines = table.splitlines()
    assert cells(lines[0]) == ["bbox", "all", "cat", "dog"]
    assert cells(lines[2]) == ["AP", "41.235", "40.000", "42.500"]
    assert cells(lines[4]) == ["APl", "-", "-", "-"]


def test_many_categories_are_a_grid_below_and_nothing_is_too_wide():
    names = [f"category {'x' * (i % 40)}" for i in range(80)]
    by_class = {name + str(i): {"AP": float(i)} for i, name in enumerate(names)}
    table = metrics_table(OVERALL, by_class, "bbox")
    assert max(map(len, table.splitlines())) <= MAX_WIDTH
    figures = [cell for line in table.splitlines() for cell in cells(line)]
    assert all(f"{i}.000" in figures for i in range(80))


def test_no_categories():
    table = metrics_table(OVERALL, {}, "segm")
    lines = table.splitlines()
    assert cells(lines[0]) == ["segm", "all"]
    assert [cells(line)[0] for line in lines[2:]] == ["AP", "AP50", "APl"]
