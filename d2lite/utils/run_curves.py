"""The curves of a run in its metrics.json, drawn as a picture or as text."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from d2lite.utils.errors import quoted
from d2lite.utils.file_io import read_text

Curves = dict[str, tuple[np.ndarray, np.ndarray]]
"""By name: iterations (N,) and values (N,)."""

METRICS = "metrics.json"
PICTURE = "results.png"
_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#7f7f7f")
_STYLES = ("-", "--", ":", "-.")


def read_curves(run: str) -> Curves:
    """Read the finite scalars of a run.

    Args:
        run: folder with metrics.json, or the path of such a file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a line is not valid; the message names it.
    """
    path = os.path.join(run, METRICS) if os.path.isdir(run) else run
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} not found; a run's folder has a {METRICS}")
    points: dict[str, dict[int, float]] = {}
    lines = read_text(path).splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            iteration = int(row["iteration"])
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break  # incomplete: the run was killed while writing, or is writing now
            raise ValueError(
                f"{path}, line {number}: expected a JSON object with 'iteration', got "
                f"{quoted(line)}"
            ) from None
        for name, value in row.items():
            if name != "iteration" and isinstance(value, (int, float)) and np.isfinite(value):
                points.setdefault(name, {})[iteration] = float(value)
    return {
        name: (np.array(sorted(of_name)), np.array([of_name[i] for i in sorted(of_name)]))
        for name, of_name in points.items()
    }


def panels_of(curves: Curves, batch: int | None = None) -> dict[str, Curves]:
    """Group curves for drawing, by title; panels without curves are left out.

    Args:
        batch: images per step, for images per second; None: steps per second.
    """
    panels: dict[str, Curves] = {
        "losses": {n: c for n, c in curves.items() if "loss" in n and "/" not in n},
        "AP": {
            n: c
            for n, c in curves.items()
            if n.rpartition("/")[2] in ("AP", "AP50", "AP75", "mIoU", "PQ")
        },
        "AP of classes": {n: c for n, c in curves.items() if "/AP-" in n},
        "learning rate": {n: c for n, c in curves.items() if n == "lr"},
    }
    if "time" in curves:
        iterations, seconds = curves["time"]
        unit = "images" if batch else "steps"
        speed = (batch or 1) / np.maximum(seconds, 1e-9)
        panels[f"{unit} per second"] = {f"{unit} per second": (iterations, speed)}
    return {title: group for title, group in panels.items() if group}


def draw_runs(runs: Mapping[str, dict[str, Curves]], path: str) -> None:
    """Draw the panels of one or more runs into a picture, one panel for each title.

    Args:
        runs: results of `panels_of` by the name of the run; several runs share a panel, with a
            color per curve and a line style per run.
        path: path of the picture; the extension determines the format.

    Raises:
        ValueError: no run has a curve.
    """
    from matplotlib.figure import Figure  # not pyplot, which would start a window system

    titles = list(dict.fromkeys(title for panels in runs.values() for title in panels))
    if not titles:
        raise ValueError(f"there are no curves to draw yet in {', '.join(runs)}")
    columns = min(len(titles), 3)
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.8 * rows), layout="constrained")
    for number, title in enumerate(titles, 1):
        axes = figure.add_subplot(rows, columns, number)
        names = list(dict.fromkeys(n for panels in runs.values() for n in panels.get(title, {})))
        for style, (run, panels) in enumerate(runs.items()):
            for name, (iterations, values) in panels.get(title, {}).items():
                axes.plot(
                    iterations,
                    values,
                    color=_COLORS[names.index(name) % len(_COLORS)],
                    linestyle=_STYLES[style % len(_STYLES)],
                    marker="o" if len(values) < 12 else None,
                    markersize=3,
                    linewidth=1.4,
                    label=name if len(runs) == 1 else f"{run}: {name}",
                )
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("iteration", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if title.startswith("AP"):
            axes.set_ylim(bottom=0)
        if sum(map(len, (panels.get(title, {}) for panels in runs.values()))) <= 24:
            axes.legend(fontsize=7)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw_in_terminal(
    runs: Mapping[str, dict[str, Curves]], width: int = 78, height: int = 10
) -> str:
    """Draw the panels as text: the main curve of each panel, one mark for each run.

    Args:
        width, height: of one panel, in characters.
    """
    titles = list(dict.fromkeys(title for panels in runs.values() for title in panels))
    parts = []
    for title in titles:
        chosen = {}
        for run, panels in runs.items():
            group = panels.get(title, {})
            name = next((n for n in ("total_loss", *group) if n in group), None)
            if name is not None:
                chosen[f"{run}: {name}"] = group[name]
        parts.append(f"{title}\n{_text_panel(chosen, width, height)}")
    return "\n\n".join(parts)


_MARKS = "*o+x#@"


def _text_panel(curves: Curves, width: int, height: int) -> str:
    every = [np.concatenate(axis) for axis in zip(*curves.values(), strict=True)]
    (left, right), (low, high) = ((float(v.min()), float(v.max())) for v in every)
    labels = [f"{high:.4g}", f"{low:.4g}"]
    margin = max(map(len, labels))
    columns = max(width - margin - 2, 10)
    field = [[" "] * columns for _ in range(height)]
    for mark, (iterations, values) in zip(_MARKS, curves.values(), strict=False):
        x = np.linspace(iterations.min(), iterations.max(), columns * 2)
        y = np.interp(x, iterations, values)
        across = (x - left) / max(right - left, 1e-12) * (columns - 1)
        down = (high - y) / max(high - low, 1e-12) * (height - 1)
        for i, j in zip(down.round().astype(int), across.round().astype(int), strict=True):
            field[i][j] = mark
    rows = []
    for i, row in enumerate(field):
        label = labels[0] if i == 0 else labels[1] if i == height - 1 else ""
        rows.append(f"{label:>{margin}} |{''.join(row)}".rstrip())
    ends = f"{int(left)}", f"{int(right)}"
    rows.append(" " * (margin + 2) + ends[0] + ends[1].rjust(columns - len(ends[0])))
    rows += [f"{mark} {name}" for mark, name in zip(_MARKS, curves, strict=False)]
    return "\n".join(rows)


def _batch_of_run(run: str) -> int | None:
    """Return the images per step, from the config.yaml in the folder of a run."""
    import yaml

    folder = run if os.path.isdir(run) else os.path.dirname(run)
    path = os.path.join(folder, "config.yaml")
    if not os.path.isfile(path):
        return None
    try:
        return int(yaml.safe_load(read_text(path))["SOLVER"]["IMS_PER_BATCH"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError):  # of a lazy config
        return None


def read_runs(runs: Sequence[str]) -> dict[str, dict[str, Curves]]:
    """Read the panels of several runs; their names are the last parts of their paths.

    Raises:
        FileNotFoundError, ValueError: see `read_curves`.
    """
    named: dict[str, dict[str, Curves]] = {}
    for run in runs:
        folder = os.path.abspath(run if os.path.isdir(run) else os.path.dirname(run) or ".")
        name = os.path.basename(folder)
        if name in named:
            name = os.path.join(os.path.basename(os.path.dirname(folder)), name)
        named[name] = panels_of(read_curves(run), _batch_of_run(run))
    return named
