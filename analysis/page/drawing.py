"""Drawing primitives of the plots: page width, colours, axes with few round ticks, and SVG.

This module is independent of sweeps. Units are those of the SVG: a Figure is WIDTH units wide, text is TEXT units high.
"""

import base64
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from textwrap import fill

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.path import Path as Outline
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator
from PIL import Image  # comes with matplotlib

from analysis.page.names import readable

WIDTH = 360  # units
TEXT, SMALL = 11, 10
# Each colour is an unusual shade, so that themed_svg can find it and replace it by a colour of the page.
INK, MUTED, FAINT, PAPER = "#1b1f27", "#69707f", "#dde1e8", "#fefefd"
THEME = {
    INK: "currentColor",
    MUTED: f"var(--plot-muted, {MUTED})",
    FAINT: f"var(--plot-faint, {FAINT})",
    PAPER: f"var(--plot-paper, {PAPER})",
}
GREY = "#8b909a"  # unfinished trials; visible on white and on black
RASTER_DPI = 144  # two pixels per unit
RASTER_FROM = 300  # number of marks above which they are rasterised, so that the file stays small
TITLES = "trials:"  # prefix of the id of a group of marks; the rest of the id names them
_SVG_ATTRIBUTES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img"'


def themed_svg(figure: Figure) -> str:
    """Convert a figure to SVG text that fills the available width and uses the colours and font of the page.

    Ink becomes currentColor, the greys and the paper the CSS variables --plot-muted, --plot-faint and --plot-paper,
    text the font --plot-font; each has a fallback, so that the SVG can be used alone.
    """
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "analysis"}):
        figure.savefig(text, format="svg", dpi=RASTER_DPI, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf"<svg {_SVG_ATTRIBUTES} \1>", svg, count=1)
    svg = re.sub(rf'<g id="{TITLES}([^"]*)">(.*?)(?=<g id=|</svg>)', _with_titles, svg, flags=re.DOTALL)
    # Ids of groups would be duplicates in a page with several plots; nothing refers to them.
    svg = re.sub(r' id="[A-Za-z0-9]+_\d+"', "", svg)
    svg = re.sub(r"(\dpx |font-family: )'[^;\"]*", r"\1var(--plot-font, sans-serif)", svg)
    svg = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda place: re.sub(r"(\.\d\d)\d+", r"\1", place[0]), svg)
    svg = re.sub(r"data:image/png;base64,([^\"]*)", lambda found: _slim(found[1]), svg)
    for shade, ink in THEME.items():
        svg = svg.replace(shade, ink)
    return svg


def _with_titles(group: re.Match) -> str:
    """Add the name of its trial as a tooltip to each mark of a group."""
    titles = iter(group[1].split("|"))
    return "<g>" + re.sub(r"<use ([^>]*)/>", lambda use: f"<use {use[1]}><title>{next(titles)}</title></use>", group[2])


def _slim(encoded: str) -> str:
    """Reduce a PNG to at most 256 colours, a third of its size, as a data URI."""
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        return png_uri(picture.convert("RGBA").quantize(256, Image.Quantize.FASTOCTREE))


def png_uri(picture: Image.Image) -> str:
    """Encode an image as a PNG data URI."""
    held = io.BytesIO()
    picture.save(held, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def sheet(height: float) -> Figure:
    """Return an empty figure of the width of a phone."""
    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor=PAPER)


def box(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return axes with the given inner box, in units from the upper left corner."""
    whole = figure.get_figheight() * 72
    ax = figure.add_axes((left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))
    ax.patch.set_visible(False)
    ax.tick_params(length=0, labelsize=SMALL, labelcolor=MUTED, pad=4)
    return ax


def frame(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return axes with the given inner box, a grid and a bottom line."""
    ax = box(figure, left, top, width, height)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(MUTED)
    ax.grid(True, color=FAINT, lw=0.8)
    ax.set_axisbelow(True)
    return ax


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """Return small axes in two columns that share their vertical axis."""
    left, right, across, height, gap = 36, 12, 22, 104, 52
    columns = min(2, count)
    width = (WIDTH - left - right - across * (columns - 1)) / columns
    figure = sheet(24 + math.ceil(count / 2) * (height + gap) - gap + 28)
    boxes = [(left + (width + across) * (i % 2), 24 + (height + gap) * (i // 2)) for i in range(count)]
    return figure, [frame(figure, x, y, width, height) for x, y in boxes]


def plain(colour: str = MUTED) -> dict:
    """Return the style of text."""
    return {"fontsize": TEXT, "color": colour}


def bold() -> dict:
    """Return the style of names."""
    return {"fontsize": TEXT + 1, "color": INK, "fontweight": "bold"}


def title(ax: Axes, text: str) -> None:
    """Set a left-aligned title."""
    ax.set_title(text, loc="left", fontsize=TEXT, color=INK, fontweight="bold", pad=7)


def wide(values: np.ndarray) -> bool:
    """Return whether positive values span a range that needs a logarithmic axis."""
    return len(values) > 0 and values.min() > 0 and values.max() / values.min() > 5


def round_ticks(low: float, high: float, log: bool, *, most: int = 6, whole: bool = False) -> list[float]:
    """Return a few round numbers between two bounds."""
    if not log:
        ticks = MaxNLocator(most - 1, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high)
        return [float(t) for t in ticks if low <= t <= high]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [
            m * 10.0**p
            for p in powers
            for m in mantissas
            if low <= m * 10.0**p * 1.0001 and m * 10.0**p <= high * 1.0001
        ]
        if len(ticks) <= most:
            break
    if len(ticks) > most:
        ticks = ticks[:: math.ceil(len(ticks) / most)]
    return ticks if len(ticks) > 1 else round_ticks(low, high, log=False, most=most)


def bounds(values: Iterable[float], log: bool, pad: float) -> tuple[float, float]:
    finite = np.asarray(list(values), float)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    if log:
        span = (math.log(high) - math.log(low)) or 1.0
        return low * math.exp(-pad * span), high * math.exp(pad * span)
    span = (high - low) or abs(high) or 1.0
    return low - pad * span, high + pad * span


def scale(
    axis: Axis,
    values: Iterable[float],
    *,
    log: bool | None = None,
    pad: float = 0.06,
    whole: bool = False,
    most: int = 6,
) -> None:
    """Set scale, bounds and a few round ticks of an axis; log None decides by the values."""
    values = np.asarray(list(values), float)
    values = values[np.isfinite(values)]
    log = wide(values) if log is None else log
    low, high = bounds(values, log, pad)
    side = axis.axis_name
    axis.axes.set(**{f"{side}scale": "log" if log else "linear", f"{side}lim": (low, high)})
    ticks = round_ticks(low, high, log, most=most, whole=whole)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter([readable(tick) for tick in ticks]))
    axis.set_minor_locator(NullLocator())


def scale_together(panels: list[Axes], values: pd.Series, log: bool | None) -> None:
    """Set one vertical scale for all panels, with labels on the left ones only."""
    for i, ax in enumerate(panels):
        scale(ax.yaxis, values, log=log, most=5)
        if i % 2:
            ax.tick_params(labelleft=False)


def thin(count: int, alpha: float) -> float:
    """Return an opacity that decreases with the number of marks."""
    return alpha * min(1.0, math.sqrt(80 / max(count, 1)))


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Move ascending places up, so that neighbours are at least `gap` apart, then all down to keep within 0..1."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    for i in reversed(range(len(moved))):  # those above 1 come down and push their neighbours
        moved[i] = min(moved[i], moved[i + 1] - gap if i + 1 < len(moved) else 1.0)
    return moved


def shortened(text: str, letters: int) -> str:
    """Return a text of at most `letters` characters, with an ellipsis if it was longer."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def value_scale(values: pd.Series) -> tuple[Callable, list[tuple[float, str]]]:
    """Return a map from values to [0, 1], and its ticks as (position, text)."""
    finite = values.dropna().to_numpy(float)
    log = wide(finite)
    return number_scale(*bounds(finite, log, 0.02), log)


def roomy(ticks: list[tuple[float, str]], letters: int) -> list[tuple[float, str]]:
    """Return evenly spaced ticks that fit an axis with room for `letters` characters."""
    step = math.ceil(sum(len(text) + 1 for _, text in ticks) / letters)
    return ticks[:: max(1, step)]


def number_scale(low: float, high: float, log: bool) -> tuple[Callable, list[tuple[float, str]]]:
    """Return a map from numbers between two bounds to [0, 1], and its ticks as (position, text)."""
    bend = math.log if log else float
    start, span = bend(low), (bend(high) - bend(low)) or 1.0

    def place(value: float) -> float:
        return (bend(value) - start) / span

    return place, [(place(tick), readable(tick)) for tick in round_ticks(low, high, log)]


def lying_axis(ax: Axes, level: float, name: str, ticks: list[tuple[float, str]]) -> None:
    """Draw a horizontal axis across the whole width, with its name above and its ticks below."""
    ax.plot([0, 1], [level, level], color=MUTED, lw=1, zorder=3, clip_on=False)
    ax.text(0, level - 8, name, zorder=7, **(plain(INK) | {"fontweight": "bold"}), bbox=halo())
    for x, text in ticks:
        ax.plot([x, x], [level, level + 3], color=MUTED, lw=1, zorder=3, clip_on=False)
        ax.text(x, level + 13, text, ha="center", fontsize=SMALL, color=MUTED, zorder=7, bbox=halo())


def halo() -> dict:
    """Return the style of a background behind text that overlaps lines."""
    return {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.8}


def curves(ax: Axes, courses: pd.DataFrame, colours: list, width: float, zorder: int, **style) -> None:
    """Plot each row as a smooth curve through horizontal axes at the levels given by the columns.

    A curve leaves each axis at a right angle, so that crossings are readable.
    """
    levels, outlines = list(courses.columns), []
    if not levels:
        return  # nothing is searched, and the trials have no value yet
    codes = [Outline.MOVETO, *[Outline.CURVE4] * 3 * (len(levels) - 1)]
    for places in courses.to_numpy(float):
        vertices = [(places[0], levels[0])]
        for x0, y0, x1, y1 in zip(places, levels, places[1:], levels[1:], strict=False):
            vertices += [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1)]
        outlines.append(Outline(vertices, codes))
    ax.add_collection(
        PathCollection(
            outlines,
            facecolors="none",
            edgecolors=colours,
            linewidths=width,
            zorder=zorder,
            rasterized=len(outlines) > RASTER_FROM,
            transform=ax.transData,
            **style,
        ),
        autolim=False,
    )


def blend(first: str, second: str, share: float) -> tuple[float, float, float]:
    """Interpolate between two colours."""
    a, b = np.array(to_rgb(first)), np.array(to_rgb(second))
    return tuple((1 - share) * a + share * b)


def grids(pictures: Sequence[tuple[str, Path]]) -> Figure:
    """Plot images of samples side by side under their titles, at most five per row; missing files are blank."""
    rows = math.ceil(len(pictures) / 5) or 1
    columns = math.ceil(len(pictures) / rows) or 1
    figure = Figure(figsize=(2.2 * columns, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax in axes:
        ax.axis("off")
    for ax, (name, picture) in zip(figure.axes, pictures, strict=False):
        ax.set_title("\n".join(fill(line, 34) for line in name.split("\n")), fontsize=8)
        if picture.exists():
            ax.imshow(imread(picture), cmap="gray", vmin=0, vmax=1)
    return figure
