"""Pictures of embeddings: their principal components as colours, and how far off landmarks were found."""

from collections.abc import Mapping, Sequence

import numpy as np

from medssl_nb.viz.figures import png, show

_SOFT_INK = "#595959"
_WITHIN, _BEYOND = "#2a74b8", "#f08a2c"


def embedding_colours(embeddings: Sequence) -> list[np.ndarray]:
    """Three principal components of the embeddings of all volumes together as red, green and blue.

    One colour means the same in every volume; two lists of volumes cannot be compared. Each component is spread from
    its 1st to its 99th percentile; one that is the same everywhere, as in a collapsed network, gives middle values.

    Args:
        embeddings: for each volume (D, X, Y, Z) or (1, D, X, Y, Z), numpy array or tensor, the same D.

    Returns:
        For each volume (X, Y, Z, 3) uint8.

    Raises:
        ValueError: no volume, another rank, other numbers of channels, NaN or infinity.
    """
    maps = [_channels_first(one) for one in embeddings]
    if not maps:
        raise ValueError("embedding_colours got no embeddings; give a list with those of at least one volume.")
    if len({len(one) for one in maps}) > 1:
        raise ValueError(f"embeddings must have the same number of channels, got {[len(one) for one in maps]}.")
    rows = np.concatenate([one.reshape(len(one), -1).T for one in maps])  # (voxels of all, D)
    found = _principal_components(rows)
    low, high = np.percentile(found, [1, 99], axis=0)
    there = high - low > 1e-5 * np.abs(rows).max()  # else what differs is rounding
    spread = np.where(there, np.clip((found - low) / np.where(there, high - low, 1), 0, 1), 0.5)
    colours = np.full((len(rows), 3), 128, np.uint8)
    colours[:, : found.shape[1]] = np.round(255 * spread)
    ends = np.cumsum([one[0].size for one in maps])[:-1]
    return [part.reshape(*one.shape[1:], 3) for part, one in zip(np.split(colours, ends), maps, strict=True)]


def show_landmark_errors(errors: Mapping[str, float | None], **options) -> None:
    """Show how far off a landmark was found in each patient, a bar for each, beside the radius that counts as found.

    Args:
        errors: {patient: distance}; None where the true point is not known.
        **options:
            radius: distance up to which a landmark counts as found, a dotted line; None draws none.
            unit: of distances.
            title: a line above.

    Raises:
        ValueError: no patient.
    """
    draw, size = _errors_picture(errors, **options)
    show(draw, size)


def landmark_errors_png(errors: Mapping[str, float | None], *, dpi: int = 90, **options) -> bytes:
    """The picture of `show_landmark_errors` as PNG bytes; the same input gives the same bytes."""
    draw, size = _errors_picture(errors, **options)
    return png(draw, size, dpi)


def _principal_components(rows: np.ndarray) -> np.ndarray:
    """The first three principal components of (N, D), fewer where D is: (N, 3).

    By the covariance, as scikit-learn does it for few channels; importing that takes longer than a reader waits.
    """
    centred = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # rising
    axes = axes[:, ::-1][:, :3]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return centred @ (axes * np.sign(largest))  # an axis may point either way: its largest part is made positive


def _errors_picture(errors, *, radius: float | None = None, unit: str = "mm", title: str | None = None):
    if not errors:
        raise ValueError("errors is empty: give {patient: distance} for at least one patient.")
    names, values = list(errors), [np.nan if v is None else float(v) for v in errors.values()]
    farthest = max([v for v in values if v == v] + [radius or 1.0])

    def draw(figure):
        ax = figure.subplots()
        beyond = [radius is not None and v > radius for v in values]
        bars = ax.barh(range(len(names)), np.nan_to_num(values), height=0.6)
        for bar, value, far in zip(bars, values, beyond, strict=True):
            bar.set(facecolor=_BEYOND if far else _WITHIN, hatch="//" if far else None, edgecolor="white")
            text = "true point not known" if value != value else f"{value:.1f}"
            place = (bar.get_width(), bar.get_y() + bar.get_height() / 2)
            ax.annotate(text, place, (4, 0), textcoords="offset points", va="center", fontsize=8.5)
        if radius is not None:
            ax.axvline(radius, color=_SOFT_INK, linestyle=":", linewidth=1.2)
            note = f"found: within {radius:g} {unit}"
            ax.annotate(
                note, (radius, 1), (0, 4), ("data", "axes fraction"), "offset points", ha="center", fontsize=8.5
            )
        ax.set_yticks(range(len(names)), labels=names, fontsize=8.5)
        ax.set(xlim=(0, 1.15 * farthest), ylim=(len(names) - 0.5, -0.5))
        ax.set_xlabel(f"distance from the true point ({unit})", color=_SOFT_INK, fontsize=9)
        ax.tick_params(length=2, width=0.6, labelsize=8.5, colors=_SOFT_INK)
        ax.spines[["top", "right"]].set_visible(False)
        if title:
            ax.set_title(title, loc="left", fontsize=10.5, pad=18)

    return draw, (6.4, 1.1 + 0.32 * len(names))


def _channels_first(embeddings) -> np.ndarray:
    """(D, X, Y, Z) floating of an array or tensor."""
    array = embeddings.detach().cpu().float().numpy() if hasattr(embeddings, "detach") else np.asarray(embeddings)
    if array.ndim == 5 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 4 or 0 in array.shape:
        raise ValueError(f"embeddings of a volume must be (D, X, Y, Z), none of it empty; got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError("embeddings hold NaN or infinity, which have no colour; look for where they come from.")
    return array.astype(np.float32, copy=False)
