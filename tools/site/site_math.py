"""Equations as MathML, made while the site is built: browsers draw them by themselves, without a script or a font."""

import html
import re
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml

# TeX takes one digit as an argument, docutils a whole number: \frac13, x^23. Braces say the same to both.
_FRACTION = re.compile(r"(\\[td]?frac)\s*(\d)\s*(\w|\{|\\[a-zA-Z]+)")
_SCRIPT = re.compile(r"([\^_])(\d)(?=\d)")
_NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)\w+;")  # HTML has these names, XML has not
_BRACE = "⏟"
_BIG = re.compile(r"\\(big|Big|bigg|Bigg)(\s*)(?=(\)|\]|\\}|\\r[a-zA-Z]+)?)(?![a-zA-Z])")


def mathml(tex: str, block: bool = False) -> str:
    """The `<math>` element of an equation.

    Args:
        tex: LaTeX without dollars.
        block: an equation on lines of its own.

    Raises:
        ValueError: what docutils cannot convert, with the equation.
    """
    try:
        element = latex2mathml.tex2mathml(plain_tex(tex), as_block=block)
    except MathError as error:
        raise ValueError(f"no MathML for the equation {tex!r}: {error}. Write it in other words of LaTeX.") from error
    spelled = _ENTITY.sub(lambda found: html.unescape(found[0]), element.replace(_NAMESPACE, "", 1))
    root = ElementTree.fromstring(spelled)
    _mend(root)
    if block:
        root.set("aria-label", " ".join(tex.split()))
    return ElementTree.tostring(root, encoding="unicode")


def plain_tex(tex: str) -> str:
    """The same equation in the words that docutils knows."""
    tex = re.sub(r"\\dots(?![a-zA-Z])", r"\\ldots", tex).replace("°", r"{}^{\circ}")
    tex = _BIG.sub(lambda found: f"\\{found[1]}{'r' if found[3] else 'l'}{found[2]}", tex)
    tex = _SCRIPT.sub(r"\1{\2}", tex)
    return _FRACTION.sub(_braced, tex)


def _braced(found: re.Match) -> str:
    name, over, under = found.groups()
    return f"{name}{{{over}}}" + (under if under == "{" else f"{{{under}}}")


def _mend(node: ElementTree.Element) -> None:
    """Put right, in place, what docutils converts otherwise than TeX draws it."""
    for place, child in enumerate(list(node)):
        _mend(child)
        node[place] = _mended(child)


def _mended(node: ElementTree.Element) -> ElementTree.Element:
    parts = list(node)
    if node.tag == "munderover" and parts[0].tag != "mo" and parts[2].tag == "mo":
        accented = _element("mover", parts[0], parts[2], accent="true")
        return _element("msub", _mended(accented), parts[1])  # \hat x_i: the index stands beside, not below
    if node.tag == "mover" and parts[1].text == "_":
        return _element("mrow", parts[0], **{"class": "overline"})  # a drawn line: few fonts have one that grows
    if node.tag == "munder" and parts[1].text == _BRACE:
        return _element("mrow", parts[0], **{"class": "underbrace"})
    if node.tag == "msub" and parts[0].get("class") == "underbrace":
        return _element("munder", *parts)
    if node.tag == "mo" and node.text in ("{", "}") and not node.attrib:
        node.set("stretchy", "false")
    if node.tag == "mtext":
        node.text = node.text.replace("\\_", "_")
    return node


def _element(tag: str, *parts: ElementTree.Element, **attributes: str) -> ElementTree.Element:
    element = ElementTree.Element(tag, attributes)
    element.extend(parts)
    return element


def visit_math(self, node) -> None:
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(self, node) -> None:
    self.body.append(f'<div class="equation">{mathml(node.astext(), block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
