"""One colour per structure in the whole project, and maps from scores to colours.

The organs of each set (abdomen, hippocampus, brain tissues, head and neck) were chosen together: any two of one set
stay apart (CIEDE2000 of 9 or more) for normal sight and for red-, green- and blue-blind sight. Pictures also name them.
"""

import re
import zlib

import numpy as np

ORGAN_COLOURS: dict[str, str] = {
    "background": "#000000",
    # abdomen and chest
    "body": "#cfbcb1",
    "bone": "#fffdd5",
    "lung": "#7fd8f0",
    "liver": "#a7600c",
    "spleen": "#6b4593",
    "kidney_r": "#ebb618",
    "kidney_l": "#ffee60",
    "aorta": "#aa0d12",
    "ivc": "#2a5fe0",
    "stomach": "#f58fbb",
    "pancreas": "#c09f77",
    "gallbladder": "#74a235",
    "colon": "#5f8246",
    "heart": "#d6006f",
    "muscle": "#834c4b",
    # hippocampus
    "anterior": "#e69f00",
    "posterior": "#56b4e9",
    # brain tissues
    "grey matter": "#f0a143",
    "white matter": "#f2f0e0",
    "csf": "#4a80e8",
    # head and neck
    "brainstem": "#c97bff",
    "spinal cord": "#ffe45c",
    "right parotid": "#e99022",
    "left parotid": "#38e29d",
    "mandible": "#fcfde7",
    "larynx": "#acceee",
    "esophagus": "#b51e45",
    # what is looked for, or marked
    "lesion": "#ff2a88",
    "mask": "#ff2a88",
}

# Clusters have no names, so they get colours that no organ has.
CLUSTER_COLOURS: tuple[str, ...] = (
    "#004afa",
    "#c1e608",
    "#bd7cfa",
    "#e5757b",
    "#85c7be",
    "#fbdbb0",
    "#456c05",
    "#7d538a",
    "#99920e",
    "#c8c7fc",
    "#9d4c5a",
    "#8c88a8",
)
MASK_COLOUR = ORGAN_COLOURS["mask"]
CONTOUR_COLOUR = "#5cf2ff"

_SAME_WORD = {
    "r": "right",
    "l": "left",
    "oesophagus": "esophagus",
    "gray": "grey",
    "tumour": "lesion",
    "tumor": "lesion",
}
_SAME_ORGAN = {
    "inferior vena cava": "ivc",
    "vena cava": "ivc",
    "cerebrospinal fluid": "csf",
    "gm": "grey matter",
    "wm": "white matter",
    "parotid gland right": "right parotid",
    "parotid gland left": "left parotid",
}

# From dark and few to bright and many; and from one sign over black (zero) to the other.
_PALETTES = {
    "score": "#000004 #1b0c41 #4a0c6b #781c6d #a52c60 #cf4446 #ed6925 #fb9b06 #f7d13d #fcffa4",
    "difference": "#b9e6ff #5fb4f0 #2a74b8 #17395c #141414 #5e2c10 #b8561a #f08a2c #ffd9a8",
}


def label_colour(name_or_id: str | int) -> str:
    """Colour "#rrggbb" of a structure, the same in every picture.

    Args:
        name_or_id: a name ("kidney_r", "right kidney" and "kidney_right" are one); names that are not in
            `ORGAN_COLOURS` get a colour that depends on the name alone. A number is a cluster or an unnamed label:
            1 gets the first of `CLUSTER_COLOURS` and so on, round and round; 0 is background.
    """
    if not isinstance(name_or_id, str):
        number = int(name_or_id)
        return "#000000" if number == 0 else CLUSTER_COLOURS[(number - 1) % len(CLUSTER_COLOURS)]
    key = _key(name_or_id)
    return _BY_KEY.get(key) or _colour_of_text(" ".join(sorted(key)))


def rgb(colour: str) -> np.ndarray:
    """ "#rrggbb" as three uint8."""
    return np.frombuffer(bytes.fromhex(colour.removeprefix("#")), np.uint8)


def heat_palette(style: str = "score") -> np.ndarray:
    """256 colours, uint8 (256, 3): "score" runs from dark to bright, "difference" has zero, black, in the middle."""
    if style not in _PALETTES:
        raise ValueError(f'heat_style is "score" or "difference", got {style!r}.')
    anchors = np.array([rgb(colour) for colour in _PALETTES[style].split()], float)
    at = np.linspace(0, len(anchors) - 1, 256)
    steps = [np.interp(at, np.arange(len(anchors)), channel) for channel in anchors.T]
    return np.round(np.stack(steps, axis=1)).astype(np.uint8)


def heat_range_of(heat: np.ndarray, style: str = "score", given: tuple[float, float] | None = None):
    """Scores (low, high) at the ends of the palette: those given, else the extremes (± the largest for differences).

    A constant map gets a range of width 1, so that it is drawn in one colour.
    """
    heat_palette(style)  # refuses an unknown style
    if given is not None:
        low, high = (float(v) for v in given)
        if not low < high:
            raise ValueError(f"heat_range is (low, high) with low < high, got ({low:g}, {high:g}).")
        return low, high
    low, high = float(np.nanmin(heat)), float(np.nanmax(heat))
    if style == "difference":
        high = max(abs(low), abs(high))
        low = -high
    around = max(0.5, abs(low) * 1e-3)
    return (low, high) if low < high else (low - around, high + around)


def _key(name: str) -> frozenset[str]:
    """Words of a name in no order, so that "kidney_r", "right kidney" and "RightKidney" are one."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # RightParotid -> Right Parotid
    text = " ".join(apart.lower().replace("_", " ").replace("-", " ").split())
    text = _SAME_ORGAN.get(text, text)
    return frozenset(_SAME_WORD.get(word, word) for word in text.split())


def _colour_of_text(text: str) -> str:
    """A bright colour that depends on the text alone: hue, lightness and strength from its checksum."""
    import colorsys

    number = zlib.crc32(text.encode())
    hue, lightness, strength = number % 360, number // 360 % 5, number // 1800 % 3
    red, green, blue = colorsys.hls_to_rgb(hue / 360, 0.42 + 0.08 * lightness, 0.55 + 0.2 * strength)
    return "#" + "".join(f"{round(255 * part):02x}" for part in (red, green, blue))


_BY_KEY = {_key(name): colour for name, colour in ORGAN_COLOURS.items()}
