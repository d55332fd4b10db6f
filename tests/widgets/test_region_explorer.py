"""Regions of two patients: cosines are the library's, every control does its part."""

import base64
import gzip

import numpy as np
import pytest
import torch

from medssl_nb.methods.local_discrimination import region_embeddings, region_prototypes
from medssl_nb.viz.clusters import cluster_colours
from medssl_nb.widgets import RegionExplorer
from medssl_nb.widgets.region_matrix import RegionMatrix

CLUSTERS, DIMENSION = 4, 6
SHAPES = ((6, 7, 5), (6, 7, 5), (5, 4, 6))
GENERATOR = torch.Generator().manual_seed(0)
DIRECTIONS = torch.randn(CLUSTERS, DIMENSION, generator=GENERATOR)
NAMES = {1: "liver", 2: "spleen"}


def one_patient(shape) -> tuple:
    a = (3 * torch.randn(CLUSTERS, *shape, generator=GENERATOR)).softmax(dim=0)
    z = torch.einsum("kxyz,kd->dxyz", a, DIRECTIONS) + 0.1 * torch.randn(DIMENSION, *shape, generator=GENERATOR)
    return torch.randn(shape, generator=GENERATOR), a, torch.nn.functional.normalize(z, dim=0)


PATIENTS = [one_patient(shape) for shape in SHAPES]
VOLUMES, ASSIGNMENTS, EMBEDDINGS = (list(parts) for parts in zip(*PATIENTS, strict=True))
LABELS = [(a.argmax(dim=0) == 1).long() + 2 * (a.argmax(dim=0) == 2) for a in ASSIGNMENTS]
REGIONS = torch.stack([region_embeddings(z[None], a[None])[0] for _, a, z in PATIENTS])


def explorer(volumes=VOLUMES, assignments=ASSIGNMENTS, embeddings=EMBEDDINGS, **options) -> RegionExplorer:
    return RegionExplorer(volumes, assignments, embeddings, **options)


def codes(widget, side: str, layer: str) -> np.ndarray:
    canvas = widget.canvases[side]
    return np.frombuffer(gzip.decompress(getattr(canvas, f"{layer}_bytes")), np.uint8).reshape(canvas.shape)


# ---------------------------------------------------------------- cosines
def test_cosines_are_those_of_the_librarys_regions():
    widget = explorer()
    torch.testing.assert_close(torch.from_numpy(widget.cosines), REGIONS[0] @ REGIONS[1].T)
    np.testing.assert_array_equal(widget.nearest, widget.cosines.argmax(axis=1))
    np.testing.assert_allclose(widget.matrix.cosines, widget.cosines, atol=1e-7)
    assert widget.matrix.nearest == widget.nearest.tolist()
    assert widget.matrix.names == ["cluster of patient 0", "cluster of patient 1"]


def test_patients_and_prototypes_are_chosen():
    widget = explorer(names=["Ann", "Ben", "Cy"], left=2, right=0)
    torch.testing.assert_close(torch.from_numpy(widget.cosines), REGIONS[2] @ REGIONS[0].T)
    assert [canvas.title for canvas in widget.canvases.values()] == ["left: Cy", "right: Ann"]
    widget.controls["against"].value = "prototypes"
    torch.testing.assert_close(torch.from_numpy(widget.cosines), REGIONS[2] @ region_prototypes(REGIONS).T)
    assert widget.matrix.names == ["cluster of Cy", "prototype of 3 patients"]
    widget.left, widget.right = 1, 1
    torch.testing.assert_close(torch.from_numpy(widget.cosines), REGIONS[1] @ region_prototypes(REGIONS).T)
    widget.against = "right patient"
    np.testing.assert_allclose(widget.cosines.diagonal(), 1, atol=1e-6)
    np.testing.assert_array_equal(widget.matrix.nearest, range(CLUSTERS))


@pytest.mark.parametrize("kind", ["arrays", "batches of one", "double", "bfloat16", "mixed"])
def test_kinds_of_maps(kind):
    change = {
        "arrays": lambda x, n: x.numpy(),
        "batches of one": lambda x, n: x[None],
        "double": lambda x, n: x.double(),
        "bfloat16": lambda x, n: x.bfloat16(),
        "mixed": lambda x, n: x.double() if n else x.requires_grad_(False),
    }[kind]
    maps = [[change(x, n) for n, x in enumerate(all_maps)] for all_maps in (ASSIGNMENTS, EMBEDDINGS)]
    widget = explorer(VOLUMES, *maps, cell=(0, 0))
    tolerance = 2e-2 if kind == "bfloat16" else 1e-5
    np.testing.assert_allclose(widget.cosines, (REGIONS[0] @ REGIONS[1].T).numpy(), atol=tolerance)
    np.testing.assert_allclose(widget.heats[0], ASSIGNMENTS[0][0].numpy(), atol=tolerance)


# ---------------------------------------------------------------- slices
def test_all_clusters_are_shown_in_their_colours():
    widget = explorer()
    for side, number in (("left", 0), ("right", 1)):
        canvas = widget.canvases[side]
        np.testing.assert_array_equal(codes(widget, side, "label"), ASSIGNMENTS[number].argmax(dim=0) + 1)
        assert canvas.visible_labels == (1, 2, 3, 4) and canvas.heat_bytes == b""
        assert tuple(row["colour"] for row in canvas.label_table) == cluster_colours(CLUSTERS)


def test_a_cell_shows_two_soft_assignments_on_one_scale():
    widget = explorer(cell=(3, 1))
    top = float(max(ASSIGNMENTS[0][3].max(), ASSIGNMENTS[1][1].max()))
    for side, number, cluster in (("left", 0, 3), ("right", 1, 1)):
        canvas, heat = widget.canvases[side], ASSIGNMENTS[number][cluster].numpy()
        np.testing.assert_array_equal(widget.heats[number], heat)
        assert canvas.heat_range == pytest.approx([0, top]) and canvas.heat_name == f"cluster {cluster}"
        expected = np.where(heat >= 0.02 * top, 1 + np.round(254 * heat / np.float32(top)), 0)
        np.testing.assert_allclose(codes(widget, side, "heat"), expected, atol=1)
        assert heat[canvas.crosshair] >= 0.95 * heat.max()
        assert canvas.visible_labels == ()
    widget.all_button.click()
    assert widget.cell is None and widget.heats is None
    assert all(c.heat_bytes == b"" and c.visible_labels == (1, 2, 3, 4) for c in widget.canvases.values())


def test_another_patient_keeps_the_cell_and_the_other_side():
    widget = explorer(cell=(3, 1), spacing_mm=[(1, 1, 1), (1, 1, 1), (2, 2, 3)])
    before = widget.canvases["right"].crosshair
    widget.controls["left"].value = 2
    left = widget.canvases["left"]
    assert tuple(left.shape) == SHAPES[2] and left.spacing == [2, 2, 3] and left.title == "left: patient 2"
    np.testing.assert_array_equal(widget.heats[0], ASSIGNMENTS[2][3].numpy())
    np.testing.assert_array_equal(codes(widget, "left", "label"), ASSIGNMENTS[2].argmax(dim=0) + 1)
    assert ASSIGNMENTS[2][3].numpy()[left.crosshair] >= 0.95 * ASSIGNMENTS[2][3].max()
    assert left.visible_labels == () and widget.canvases["right"].crosshair == before
    widget.cell = None
    widget.left = 1
    np.testing.assert_array_equal(codes(widget, "left", "label"), ASSIGNMENTS[1].argmax(dim=0) + 1)
    assert left.visible_labels == (1, 2, 3, 4)


def test_an_affine_tells_the_spacing():
    from monai.data import MetaTensor

    volumes = [MetaTensor(volume, affine=torch.diag(torch.tensor([2.0, 3, 4, 1]))) for volume in VOLUMES]
    widget = explorer(volumes)
    assert [canvas.spacing for canvas in widget.canvases.values()] == [[2, 3, 4]] * 2
    assert explorer(volumes, spacing_mm=(1, 1, 2)).canvases["left"].spacing == [1, 1, 2]


def test_both_sides_have_one_opacity():
    widget = explorer()
    widget.canvases["left"].opacity = 0.25
    assert widget.canvases["right"].opacity == 0.25


# ---------------------------------------------------------------- words
def halves() -> tuple:
    """Two voxels, two clusters: hard assignments, embeddings along the axes."""
    a = torch.zeros(2, 2, 1, 1)
    a[0, 0], a[1, 1] = 1, 1
    return torch.zeros(2, 1, 1), a, a.clone()


def test_words_by_hand():
    volume, a, z = halves()
    widget = RegionExplorer([volume] * 2, [a, a], [z, z.flip(0)], names=["A & B", "C"])
    assert widget.line.value == (
        "0 of 2 clusters of A &amp; B lie nearest to the same cluster of C; mean cosine of the same cluster 0.00, of "
        "different ones 1.00"
    )
    widget.cell = (0, 0)
    assert widget.line.value == (
        "cluster 0 left and cluster 0 right: cosine 0.00; nearest is cluster 1 right, 1.00; cluster 0 left is the "
        "strongest in 50 % of voxels; cluster 0 right is the strongest in 50 % of voxels"
    )
    widget.cell = (0, 1)
    assert "cluster 0 left and cluster 1 right: cosine 1.00; it is the nearest of all; " in widget.line.value
    widget.against = "prototypes"  # both are between the axes
    assert widget.line.value.startswith("cluster 0 left and prototype 1: cosine 0.71; nearest is prototype 0, 0.71; ")


def test_organs_of_clusters():
    widget = explorer(label=LABELS, label_names=NAMES, cell=(1, 2))
    assert widget.line.value.endswith("; 100 % of cluster 1 left is liver; 100 % of cluster 2 right is spleen")
    widget.cell = (0, 0)
    assert widget.line.value.endswith("; 100 % of cluster 0 left is background; 100 % of cluster 0 right is background")
    mixed = [label.clone() for label in LABELS]
    inside = (ASSIGNMENTS[0].argmax(dim=0) == 1).nonzero()
    mixed[0][tuple(inside[: len(inside) // 4].T)] = 7
    share = 1 - (len(inside) // 4) / len(inside)
    words = explorer(label=mixed, label_names=NAMES, cell=(1, 1)).line.value
    assert f"; {100 * share:.0f} % of cluster 1 left is liver; " in words
    mixed[0][tuple(inside.T)] = 7
    assert "; 100 % of cluster 1 left is label 7; " in explorer(label=mixed, label_names=NAMES, cell=(1, 1)).line.value


def test_a_cluster_without_voxels():
    volume, a, z = halves()
    empty = torch.cat([a, torch.zeros(1, 2, 1, 1)])
    widget = RegionExplorer([volume] * 2, [empty] * 2, [z] * 2, cell=(2, 2))
    assert widget.nearest.tolist() == [0, 1, -1]
    assert widget.line.value == (
        "cluster 2 left and cluster 2 right: cosine 0.00; cluster 2 left is nowhere the strongest; cluster 2 right is "
        "nowhere the strongest"
    )
    assert widget.canvases["left"].heat_bytes == b""
    widget.cell = None
    assert widget.line.value == (
        "2 of 2 clusters of patient 0 lie nearest to the same cluster of patient 1 (1 without voxels); mean cosine of "
        "the same cluster 1.00, of different ones 0.00"
    )


# ---------------------------------------------------------------- picture and many clusters
def test_the_picture_is_pure_and_follows():
    widget = explorer(label=LABELS, title="trained")
    pictures = [widget._static_png()]
    assert widget._static_png() == pictures[0]
    for name, value in (("cell", (2, 3)), ("left", 2), ("against", "prototypes"), ("right", 0)):
        setattr(widget, name, value)
        pictures.append(widget._static_png())
    assert len(set(pictures)) == 5
    data, _ = widget._repr_mimebundle_()
    assert data["text/plain"] == "<RegionExplorer>" and base64.b64decode(data["image/png"]) == pictures[-1]


def test_forty_clusters():
    generator = torch.Generator().manual_seed(0)
    a = [torch.rand(40, 6, 6, 6, generator=generator).softmax(dim=0) for _ in range(2)]
    z = [torch.randn(3, 6, 6, 6, generator=generator) for _ in range(2)]
    widget = explorer(VOLUMES[:1] * 2, [maps[..., :5] for maps in padded(a)], [maps[..., :5] for maps in padded(z)])
    widget.cell = (39, 39)
    assert len(widget.matrix.nearest) == len(widget.matrix.colours) == 40
    assert widget._static_png().startswith(b"\x89PNG")


def padded(maps) -> list:
    return [torch.cat([one, one[:, :, :1]], dim=2) for one in maps]


# ---------------------------------------------------------------- what is refused
def test_lists_must_agree():
    with pytest.raises(ValueError, match="2 to 4 patients, got 1"):
        explorer(VOLUMES[:1], ASSIGNMENTS[:1], EMBEDDINGS[:1])
    with pytest.raises(ValueError, match="assignments holds 2 entries, volumes 3"):
        explorer(assignments=ASSIGNMENTS[:2])
    with pytest.raises(ValueError, match="names holds 1 entries"):
        explorer(names=["a"])
    with pytest.raises(ValueError, match=r"names must differ, got \['a', 'a', 'b'\]"):
        explorer(names=["a", "a", "b"])
    with pytest.raises(ValueError, match="one triple for each of 3 patients"):
        explorer(spacing_mm=[(1, 1, 1)] * 2)


def test_maps_must_fit():
    with pytest.raises(
        ValueError, match=r"embeddings of patient 0 must be \(channels, X, Y, Z\) on the grid \(6, 7, 5\)"
    ):
        explorer(embeddings=[EMBEDDINGS[2], *EMBEDDINGS[1:]])
    with pytest.raises(ValueError, match=r"embeddings have \[5, 6\] channels"):
        explorer(embeddings=[EMBEDDINGS[0][:5], *EMBEDDINGS[1:]])
    with pytest.raises(ValueError, match="embeddings of patient 1 hold NaN"):
        explorer(embeddings=[EMBEDDINGS[0], EMBEDDINGS[1] * np.nan, EMBEDDINGS[2]])
    with pytest.raises(ValueError, match=r"sum to 1 over the clusters.* take cluster_assignments\(logits\)"):
        explorer(assignments=[2 * a for a in ASSIGNMENTS])
    with pytest.raises(ValueError, match="2 to 40 clusters, whose colours can be told apart; got 1"):
        explorer(assignments=[torch.ones(1, *shape) for shape in SHAPES])
    with pytest.raises(ValueError, match="label of patient 0 has shape"):
        explorer(label=LABELS[::-1])


def test_settings_outside_their_range():
    for name, value in (("left", 3), ("right", -1), ("against", "nothing")):
        with pytest.raises(ValueError, match=f"{name} is .*: one of .*; got"):
            explorer(**{name: value})
    with pytest.raises(ValueError, match="each from 0 to 3, or None"):
        explorer(cell=(0, 4))
    with pytest.raises(ValueError, match="each from 0 to 3, or None"):
        explorer().cell = (4, 0)


def test_a_matrix_keeps_its_number_of_clusters():
    matrix = RegionMatrix(np.eye(3), cell=(0, 1))
    with pytest.raises(ValueError, match="this matrix shows 3 clusters, got one of 4"):
        matrix.set_cosines(np.eye(4))
    matrix.set_cosines(-np.eye(3))
    assert matrix.nearest == [1, 0, 0] and matrix.cell == (0, 1)
    assert matrix._static_png() == matrix.picture() != matrix.picture("a line")
