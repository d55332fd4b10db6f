"""Drop-downs of ipywidgets that keep their arrow keys in JupyterLab."""

import anywidget

from medssl_nb.widgets.scripts import script


class KeepKeys(anywidget.AnyWidget):
    """An unseen widget that, put into a box, lets the drop-downs beside it be used from the keyboard.

    JupyterLab takes the arrow keys of a drop-down as "next cell", unless the page says otherwise; only a script can say
    so. Explorers with a `SliceCanvas` do it already.

    >>> ipywidgets.VBox([ipywidgets.Dropdown(options=["a", "b"]), KeepKeys()])
    """

    _esm = script("keep_arrows.js", "keep_keys.js")
