"""A drawing into a notebook, or as PNG bytes: the same drawing, the same bytes."""

import io
from collections.abc import Callable


def show(draw: Callable, size: tuple[float, float]) -> None:
    """Show what `draw(figure)` draws on a figure of `size` inches, and let go of it."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=size, layout="constrained")
    draw(figure)
    plt.show()
    plt.close(figure)


def png(draw: Callable, size: tuple[float, float], dpi: int) -> bytes:
    """PNG of what `draw(figure)` draws; the same drawing gives the same bytes, whatever a notebook has set."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context("default"):
        figure = Figure(figsize=size, dpi=dpi, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})  # no version in it
    return stream.getvalue()
