"""A widget on a web page without a kernel: for the site, for a colleague without Python, for measuring."""

import base64
import html
import json

import anywidget

# All that a widget's script needs of a kernel's side: one value per name, and who wants to know when it changes.
_MODEL = """
class Model {
  constructor(state) { this.state = state; this.handlers = {}; }
  get(name) { return this.state[name]; }
  set(name, value) {
    this.state[name] = value;
    for (const handler of this.handlers[`change:${name}`] ?? []) handler();
  }
  on(event, handler) { (this.handlers[event] ??= []).push(handler); }
  off() {}
  save_changes() {}
}
const fromText = (text) => new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
"""

_START = """
const holder = document.getElementById(ID);
const { state, bytes, esm } = JSON.parse(document.getElementById(`${ID}-data`).textContent);
for (const [name, text] of Object.entries(bytes)) state[name] = fromText(text);
const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
const { default: widget } = await import(url);
const model = new Model(state);
holder.model = model;
await widget.render({ model, el: holder });
"""


def standalone_fragment(widget: anywidget.AnyWidget, element_id: str = "widget") -> str:
    """HTML to put into a page: the widget with all its data, running without a kernel and without the network.

    Args:
        widget: a `SliceCanvas`, a `VolumeExplorer`, or any anywidget whose script uses get, set, on and save_changes.
        element_id: unlike that of every other element of the page.
    """
    state = {name: value for name, value in widget.get_state().items() if _is_own(name)}
    data = {
        "state": {name: value for name, value in state.items() if not isinstance(value, bytes)},
        "bytes": {name: base64.b64encode(value).decode() for name, value in state.items() if isinstance(value, bytes)},
        "esm": str(widget._esm),
    }
    packed = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # no text of ours ends the script early
    script = f'const ID = "{element_id}";{_MODEL}{_START}'
    return (
        f"<style>{widget._css}</style>\n"
        f'<div id="{element_id}"></div>\n'
        f'<script type="application/json" id="{element_id}-data">{packed}</script>\n'
        f'<script type="module">{script}</script>\n'
    )


def standalone_page(widget: anywidget.AnyWidget, title: str = "Volume") -> str:
    """A whole HTML page with one widget; `standalone_fragment` for the rest."""
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">\n'
        f"<body>\n{standalone_fragment(widget)}</body></html>\n"
    )


def _is_own(name: str) -> bool:
    return not name.startswith("_") and name not in ("layout", "tabbable", "tooltip")
