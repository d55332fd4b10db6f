import json
import re

import numpy as np

from medssl_nb.widgets import SliceCanvas, standalone_fragment, standalone_page


def test_a_page_holds_all_it_needs_and_asks_for_nothing():
    canvas = SliceCanvas(np.arange(24.0).reshape(2, 3, 4), title="</script><b>")
    page = standalone_page(canvas, title="a < b")
    assert "a &lt; b" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page
    (packed,) = re.findall(r'<script type="application/json" id="widget-data">(.*?)</script>', page)
    data = json.loads(packed)
    assert data["state"]["title"] == "</script><b>"
    assert data["state"]["crosshair"] == [1, 1, 2]
    layers = {"volume_bytes", "label_bytes", "contour_bytes", "heat_bytes", "heat_palette", "colour_bytes"}
    assert set(data["bytes"]) == layers
    assert "export default" in data["esm"]


def test_two_fragments_on_one_page_keep_apart():
    canvas = SliceCanvas(np.zeros((2, 2, 2)))
    one, two = standalone_fragment(canvas, "one"), standalone_fragment(canvas, "two")
    assert 'id="one"' in one and 'id="two"' in two and 'id="one"' not in two


def test_the_same_state_gives_the_same_page():
    pages = {standalone_page(SliceCanvas(np.arange(24.0).reshape(2, 3, 4))) for _ in range(2)}
    assert len(pages) == 1
