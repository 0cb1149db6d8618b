"""The page of `d2lite data check`: one self-contained HTML file with plots and pictures."""

import base64
import html
import io
import os

import numpy as np
from PIL import Image

from d2lite.commands.data import class_table, split_table, spread
from d2lite.data import Metadata
from d2lite.data.datasets.preview import draw_dataset_dicts
from d2lite.data.layouts import LAYOUTS
from d2lite.data.layouts.check import DataReport
from d2lite.utils.file_io import PathManager

THUMBNAIL = 320
"""Pixels of the longer side."""
FINDING_PICTURES = 4
HEAT_CELLS = 48

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse}
td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}
.error{color:#b00020;font-weight:600}.warning{color:#8a5a00;font-weight:600}
figure{display:inline-block;margin:.3rem;vertical-align:top}
figcaption{font-size:12px;max-width:20rem;overflow-wrap:anywhere}img{max-width:100%}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td,th{border-color:#444}
.error{color:#ff8a80}.warning{color:#ffc400}img.plot{background:#fff}}
"""


def write_page(report: DataReport, path: str, pictures: int) -> None:
    """Write the page of a report.

    Args:
        report: what `check_folder` returned.
        path: of the HTML file; its folder is created.
        pictures: how many images to draw, in addition to those named by findings.
    """
    PathManager.mkdirs(os.path.dirname(path) or ".")
    root = html.escape(report.data.root)
    title = f"{root}: {LAYOUTS[report.data.layout].title}"
    parts = [
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width,initial-scale=1'>",
        f"<title>{root}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>",
        _table(*split_table(report)),
        "<h2>Findings</h2>",
    ]
    if not report.findings:
        parts.append("<p>No problems found.</p>")
    by_name = {report.data.relative(record): record for record in report.data.records()}
    for finding in sorted(report.findings, key=lambda finding: finding.severity != "error"):
        kind = finding.severity
        parts.append(f"<p><span class='{kind}'>{kind}</span> {html.escape(finding.text)}</p>")
        shown = [by_name[name] for name in finding.files[:FINDING_PICTURES] if name in by_name]
        parts.append(_pictures(report, shown))
    parts += ["<h2>Classes</h2>", _table(*class_table(report))]
    if len(report.sizes):
        parts += ["<h2>Boxes</h2>", f"<img class='plot' alt='' src='{_plots(report)}'>"]
    chosen = spread(report.data.records(), pictures) if pictures > 0 else []
    parts += ["<h2>Pictures</h2>", _pictures(report, chosen), "</body></html>"]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(parts))


def _table(headers: list[str], rows: list[list]) -> str:
    def line(tag: str, cells: list) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + line("th", headers) + "".join(line("td", row) for row in rows) + "</table>"


def _pictures(report: DataReport, records: list[dict]) -> str:
    """Return drawings of records, each with its name, or the reason why it was not decoded."""
    metadata = Metadata(name=report.data.root).set(**report.data.metadata())
    figures = []
    for record in records:
        name = html.escape(report.data.relative(record))
        try:
            ((_, picture),) = draw_dataset_dicts([record], metadata)
        except (OSError, ValueError) as error:
            figures.append(
                f"<figure><figcaption>{name}: {html.escape(str(error))}</figcaption></figure>"
            )
            continue
        image = Image.fromarray(picture)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        content = io.BytesIO()
        image.save(content, "JPEG", quality=80)
        count = len(record["annotations"])
        figures.append(
            f"<figure><img alt='{name}' src='{_embedded(content, 'jpeg')}'>"
            f"<figcaption>{name} ({count} object{'' if count == 1 else 's'})</figcaption></figure>"
        )
    return "".join(figures)


def _embedded(content: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def _plots(report: DataReport) -> str:
    """Draw six plots in one PNG: classes, sizes, ratios, objects per image, centers, areas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(14, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).ravel()
    most = sorted(report.classes, key=lambda row: -sum(row["objects"].values()))[:20][::-1]
    left = np.zeros(len(most))
    for split in report.images:
        counts = np.array([row["objects"][split] for row in most])
        axes[0].barh(
            [row["name"].replace("$", r"\$") for row in most], counts, left=left, label=split
        )
        left += counts
    axes[0].set(title="objects of each class", xlabel="objects")
    axes[0].legend()
    step = -(-len(report.sizes) // 5000)
    width, height = report.sizes[::step].T
    axes[1].scatter(width, height, s=4, alpha=0.3)
    axes[1].set(title="sizes", xlabel="width, pixels", ylabel="height, pixels")
    axes[1].set(xscale="log", yscale="log")
    for axis in (axes[1].xaxis, axes[1].yaxis):  # 10, 20, 50, 100, ...
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:.0f}")
        axis.set_minor_formatter("")
    ratios = np.log2(report.sizes[:, 1] / report.sizes[:, 0]).clip(-4, 4)
    axes[2].hist(ratios, bins=np.linspace(-4, 4, 33))
    axes[2].set(title="aspect ratios", xlabel="log2(height / width)", ylabel="boxes")
    most_objects = int(report.per_image.max())
    axes[3].hist(report.per_image, bins=np.arange(0, most_objects + 2, max(most_objects // 40, 1)))
    axes[3].set(title="crowding", xlabel="objects per image", ylabel="images")
    x, y = (report.shares[:, :2] + report.shares[:, 2:]).T / 2
    axes[4].hist2d(x, y, bins=HEAT_CELLS, range=((0, 1), (0, 1)), cmap="magma")
    axes[4].invert_yaxis()
    axes[4].set(title="centers", xlabel="share of the width", ylabel="share of the height")
    area = np.sqrt((report.shares[:, 2:] - report.shares[:, :2]).prod(axis=1))
    axes[5].hist(area.clip(0, 1), bins=40, range=(0, 1))
    axes[5].set(title="sizes in the image", xlabel="root of the share of its area", ylabel="boxes")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=80)
    return _embedded(content, "png")
