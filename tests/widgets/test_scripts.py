"""Scripts put together from files."""

import re

import pytest

from medssl_nb.widgets.distribution_map import DistributionMap
from medssl_nb.widgets.image_row import ImageRow
from medssl_nb.widgets.matrix_canvas import MatrixCanvas
from medssl_nb.widgets.patch_scatter import PatchScatter
from medssl_nb.widgets.region_matrix import RegionMatrix
from medssl_nb.widgets.scripts import script
from medssl_nb.widgets.step_curve import StepCurve

PUT_TOGETHER = (DistributionMap, ImageRow, MatrixCanvas, PatchScatter, RegionMatrix, StepCurve)


def test_files_come_in_the_order_asked_for():
    assert script("tile_page.js").startswith("// A page of tiles")
    both = script("elements.js", "tile_page.js")
    assert both.startswith("// What the scripts of several widgets need") and both.endswith(script("tile_page.js"))
    with pytest.raises(FileNotFoundError, match=r"absent\.js"):
        script("absent.js")


@pytest.mark.parametrize("widget", PUT_TOGETHER)
def test_a_script_declares_each_name_once_and_renders(widget):
    declared = re.findall(r"^(?:const|let|class|function) (?:\[([^\]]+)\]|(\w+))", str(widget._esm), re.MULTILINE)
    names = [name for pair in declared for name in re.findall(r"\w+", "".join(pair))]
    assert {"make", "render"} < set(names)
    assert sorted(set(names)) == sorted(names)  # a second one would keep the browser from running any of it
    assert re.findall(r"^export .*", str(widget._esm), re.MULTILINE) == ["export default { render };"]
