"""Format results as text tables of at most 100 columns."""

import math
from collections.abc import Mapping

MAX_WIDTH = 100
NAME_WIDTH = 24
WIDE_CHARACTERS = 8  # minimum width of a column of numbers


def metrics_table(
    overall: Mapping[str, float], categories: Mapping[str, Mapping[str, float]], label: str
) -> str:
    """Format the metrics of a task: one row per metric, one column for all and each category.

    If the categories do not fit into `MAX_WIDTH` columns, they follow below the table as a grid
    of (category, first metric).

    Args:
        overall: {metric: value}; nan is shown as "-".
        categories: {category: {metric: value}}, with metrics of `overall`; may be empty.
        label: text for the top left corner, such as "bbox".
    """
    columns = {"all": overall, **categories}
    widths = [max(WIDE_CHARACTERS, len(name)) for name in columns]
    fits = sum(widths) + 3 * (len(widths) + 1) + max(len(label), 6) <= MAX_WIDTH
    shown = columns if fits or not categories else {"all": overall}
    rows = [[metric, *(_number(c.get(metric)) for c in shown.values())] for metric in overall]
    table = grid([label, *shown], rows)
    if len(shown) == len(columns):
        return table
    first = next(iter(overall))
    pairs = [(name, _number(values.get(first))) for name, values in categories.items()]
    return f"{table}\n{category_grid(pairs, first)}"


def category_grid(pairs: list[tuple[str, str]], metric: str) -> str:
    """Format (category, value) pairs row by row, in as many column pairs as fit."""
    pairs = [
        (name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…", value)
        for name, value in pairs
    ]
    width = max(len(name) for name, _ in pairs) + WIDE_CHARACTERS + 6
    across = max(1, min(len(pairs), (MAX_WIDTH - 1) // width))
    padded = pairs + [("", "")] * (-len(pairs) % across)
    rows = [
        [cell for pair in padded[start : start + across] for cell in pair]
        for start in range(0, len(padded), across)
    ]
    return grid(["category", metric] * across, rows)


def grid(headers: list[str], rows: list[list[str]]) -> str:
    """Return a table in pipe style; columns of numbers are right-aligned."""
    from tabulate import tabulate

    align = []
    for column in zip(*rows, strict=True):
        numeric = (not cell or cell == "-" or cell.lstrip("-")[:1].isdigit() for cell in column)
        align.append("right" if all(numeric) else "left")
    return tabulate(
        rows, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=align or None
    )


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"
