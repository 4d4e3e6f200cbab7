"""Colours and markers of methods, and the keys that explain them beside a plot.

Up to seven methods have a colour each and a key above the plot. More methods are coloured by family and distinguished
by their markers; the best are named beside the plot, so that no key is taller than its plot. The colours are those of
Okabe and Ito that are visible on white and on black, with a purple.
"""

from collections.abc import Collection, Iterable, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.page import drawing
from analysis.page.drawing import INK, MUTED, PAPER, SMALL, WIDTH
from analysis.page.names import METHODS, bare_method, method_name

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#8561c5")
MARKERS = ("s", "D", "^", "v", "o", "P", "X", "p", "<", ">", "h", "d")
FAMILIES = {  # at most as many as COLOURS, with the last for methods outside the repository
    "variational": (
        *("vae", "beta_vae", "factor_vae", "beta_tcvae", "info_vae", "vamp_vae", "gmvae", "vade", "gaussian_vae"),
        *("geco", "kl_ae"),
    ),
    "deterministic": ("wae", "rae_l2", "gae", "rae_sn", "fsq", "vq_vae", "ae"),
    "two-stage": ("two_stage_vae", "ae_vae", "vae_plus", "ae_wae"),
    "adversarial": ("aae", "iaae_mapping", "iaae_niter", "iaae_kld", "iaae_feature", "iaae_equal"),
    "VAE-GAN": ("vae_gan", "vg", "vg_bn", "vg_denoise", "vg_denoise_bn"),
    "other": (),
}
LINE = 17  # height of a line of a key
NAMED, NAMES = 14, 104  # maximum number of methods named beside a plot, and the width for their names


def method_style(method: str, methods: Iterable[str]) -> tuple[str, str]:
    """Return colour and marker of a method among all methods of a page."""
    cast = _cast({*methods, method})
    if len(cast) <= len(COLOURS):
        slot = cast.index(method)
        return COLOURS[slot], MARKERS[slot]
    family = _family(method)
    slot = [other for other in cast if _family(other) == family].index(method)
    return COLOURS[list(FAMILIES).index(family)], MARKERS[slot % len(MARKERS)]


def with_key(methods: Collection[str], shown: Collection[str], height: float) -> tuple[Figure, float, float]:
    """Return a figure with a key on top, and the top and the width of the axes below it.

    methods: all methods of the page, shown: those of this plot, height: that of the axes.
    """
    if _many(methods):
        entries = [(name, COLOURS[i], "s") for i, name in enumerate(FAMILIES) if any(_family(m) == name for m in shown)]
        width = WIDTH - 56 - NAMES
    else:
        entries, width = [(method_name(method), *method_style(method, methods)) for method in shown], WIDTH - 56
    longest = max((len(name) for name, _, _ in entries), default=0)
    columns = max(1, min(3, 48 // (longest + 3)))
    rows = -(-len(entries) // columns)
    top = 6 + rows * LINE + 24
    figure = drawing.sheet(top + height + 38)
    ax = drawing.box(figure, 10, 0, WIDTH - 20, 6 + rows * LINE)
    ax.axis("off")
    ax.set_xlim(0, columns)
    ax.set_ylim(6 + rows * LINE, 0)
    for i, (name, colour, marker) in enumerate(entries):
        x, y = i % columns, 12 + LINE * (i // columns)
        ax.plot(x + 0.04, y, marker, ms=7, mfc=colour, mec=PAPER, mew=0.6, clip_on=False)
        ax.text(x + 0.11, y, name, va="center_baseline", **drawing.plain(INK))
    return figure, top, width


def name_ends(ax: Axes, methods: Collection[str], ends: Mapping[str, tuple[float, float]]) -> None:
    """Name the methods with the lowest ends (x, y) to the right of the axes, if the key on top names families only.

    The scales of the axes must have been set.
    """
    if not _many(methods):
        return
    named = sorted(ends, key=lambda method: ends[method][1])[:NAMED]
    edge = ax.get_xlim()[1]
    inverse = ax.transAxes.inverted()
    heights = [inverse.transform(ax.transData.transform((edge, ends[method][1])))[1] for method in named]
    line = (SMALL + 1.5) / (ax.get_position().height * ax.figure.get_figheight() * 72)
    label = {"transform": ax.transAxes, "va": "center_baseline", "fontsize": SMALL}
    places = drawing.apart(heights, line)
    for method, height, place in zip(named, heights, places, strict=True):
        colour, marker = method_style(method, methods)
        x, y = ends[method]
        ax.plot([x, edge], [y, y], color=colour, lw=0.6, alpha=0.6, zorder=1.5)
        style = {"transform": ax.transAxes, "clip_on": False}
        ax.plot([1, 1.04], [height, place], color=colour, lw=0.6, alpha=0.6, **style)
        ax.plot(1.06, place, marker, ms=5.5, mfc=colour, mec="none", **style)
        ax.text(1.095, place, drawing.shortened(method_name(method), 17), color=INK, **label)
    if more := len(ends) - len(named):
        ax.text(1.095, places[-1] + line, f"{more} more", color=MUTED, **label)


def _many(methods: Collection[str]) -> bool:
    return len(set(methods)) > len(COLOURS)


def _cast(methods: Iterable[str]) -> list[str]:
    """Order methods: the built-in ones first, in the order of their names."""
    known = list(METHODS)
    return sorted(methods, key=lambda method: (known.index(method) if method in METHODS else len(known), method))


def _family(method: str) -> str:
    return next((family for family, members in FAMILIES.items() if bare_method(method) in members), "other")
