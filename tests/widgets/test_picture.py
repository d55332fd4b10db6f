import base64

import ipywidgets
import numpy as np
import pytest

from medssl_nb.widgets import Panel, SliceCanvas, WithPicture


def test_a_panel_carries_the_picture_of_its_canvas():
    canvas = SliceCanvas(np.zeros((4, 4, 4)))
    panel = Panel(ipywidgets.FloatSlider(description="ratio"), ipywidgets.HBox([canvas]))
    data, _ = panel._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == canvas._static_png()
    assert data["text/plain"] == "<Panel>"
    assert "application/vnd.jupyter.widget-view+json" in data


def test_the_picture_can_be_chosen():
    first, second = SliceCanvas(np.zeros((4, 4, 4))), SliceCanvas(np.zeros((5, 4, 4)))
    assert Panel(first, second)._static_png() == first._static_png()
    assert Panel(first, second, picture=second)._static_png() == second._static_png()


def test_a_panel_without_a_picture_is_refused():
    with pytest.raises(ValueError, match="found no widget with a picture"):
        Panel(ipywidgets.FloatSlider())


def test_a_widget_of_ones_own():
    class Dot(WithPicture, ipywidgets.HTML):
        def _static_png(self):
            return b"a picture"

    data, _ = Dot("text")._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == b"a picture"
    assert data["text/plain"] == "<Dot>"


def test_a_widget_that_forgot_its_picture_says_so():
    class Nothing(WithPicture, ipywidgets.HTML):
        pass

    with pytest.raises(NotImplementedError, match="Nothing needs a method _static_png"):
        Nothing("text")._repr_mimebundle_()
