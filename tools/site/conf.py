"""Sphinx's settings; `tools/build_site.py` writes what it reads and calls it."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

project = "medssl_nb"
author = "The medssl_nb authors"
root_doc = "index"
extensions = ["myst_nb", "site_math"]
exclude_patterns = ["_extra"]
language = "en"

nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # tables that cells print hold equations
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_dmath_double_inline = True
myst_dmath_allow_labels = False
myst_heading_anchors = 4
suppress_warnings = ["myst.header", "misc.highlighting_failure"]

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "medssl_nb"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [(name, {"defer": "defer"}) for name in ("site.js", "explorers.js")]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
