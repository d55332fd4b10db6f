"""The static picture that stands beside every widget, wherever a browser cannot run it."""

import base64

import ipywidgets


class WithPicture:
    """Mixin for widgets: adds a PNG and a fixed text to what a notebook stores of them.

    Put it before the widget class, and write `_static_png`: pure, the same state gives the same bytes.
    """

    def _static_png(self) -> bytes:
        raise NotImplementedError(f"{type(self).__name__} needs a method _static_png that returns its picture.")

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
        data["text/plain"] = f"<{type(self).__name__}>"  # the usual text holds a memory address
        data["image/png"] = base64.b64encode(self._static_png()).decode()
        return data, {}


class Panel(WithPicture, ipywidgets.VBox):
    """Widgets below each other, with the picture of one of them for viewers that cannot run widgets.

    >>> Panel(ratio_slider, explorer)

    Args:
        *children: widgets, top to bottom; `ipywidgets.HBox` inside for a row.
        picture: the widget (one `WithPicture`) whose picture stands for all; the first one of `children` if not given.
    """

    def __init__(self, *children: ipywidgets.Widget, picture: WithPicture | None = None, **kwargs):
        super().__init__(children=list(children), **kwargs)
        self.picture = picture or next(filter(_has_picture, _all_inside(children)), None)
        if self.picture is None:
            raise ValueError(
                "Panel found no widget with a picture among its children; name one with picture=..., or add one: "
                "a SliceCanvas, a VolumeExplorer, or your own class built on WithPicture."
            )

    def _static_png(self) -> bytes:
        return self.picture._static_png()


def _has_picture(widget) -> bool:
    return isinstance(widget, WithPicture)


def _all_inside(widgets):
    for widget in widgets:
        yield widget
        yield from _all_inside(getattr(widget, "children", ()))
