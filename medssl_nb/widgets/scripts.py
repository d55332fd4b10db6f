"""The script of a widget put together from files, so that what several widgets need stands once."""

from pathlib import Path


def script(*names: str) -> str:
    """Text of files of this folder in order, as one module: names declared in one are known in all that follow.

    >>> _esm = script("elements.js", "step_curve.js")

    The last file holds the one `export default { render }`. No two may declare the same name at their top level.
    """
    return "\n".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names)
