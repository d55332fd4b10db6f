"""The explorer of lesson one: look around in a volume, its labels and its scores."""

from medssl_nb.widgets.slice_canvas import CONTROLS, SliceCanvas


class VolumeExplorer(SliceCanvas):
    """Three linked planes of a volume with everything to explore it.

    Click or drag to move the crosshair, scroll through slices, choose the window, blend labels and scores, show or hide
    labels by name. Read `.crosshair`, `.crosshair_mm`, `.value_at_crosshair`, `.window`, `.visible_labels` in the next
    cell, or set them. Without a browser: set a trait, read `.value_at_crosshair`; the picture beside it follows.

    >>> explorer = VolumeExplorer(ct, organs, label_names=names, window="soft tissue", title="Abdomen")
    >>> explorer

    Args:
        volume, label, **options: as in `SliceCanvas`.
    """

    def __init__(self, volume, label=None, **options):
        options.setdefault("controls", CONTROLS)
        super().__init__(volume, label, **options)
