"""A point marked once, found in every other patient."""

import base64
import gzip
import math

import numpy as np
import pytest
import torch

from medssl_nb.methods.local_discrimination import l2_normalize, landmark_error, locate_landmark, success_rate
from medssl_nb.widgets import LandmarkExplorer
from medssl_nb.widgets import landmark_explorer as module

SHAPE, OTHER_SHAPE = (10, 8, 6), (9, 8, 7)
SPACING = (2.0, 3.0, 4.0)
G = torch.Generator().manual_seed(0)
TEMPLATE = torch.randn(SHAPE, generator=G)
EMBEDDINGS = l2_normalize(torch.randn(4, *SHAPE, generator=G), dim=0)


def patient(name: str, shape=SHAPE, **more) -> dict:
    embeddings = l2_normalize(torch.randn(4, *shape, generator=G), dim=0)
    return {"name": name, "volume": torch.randn(shape, generator=G), "embeddings": embeddings, **more}


LANDMARKS = {"dome": (3, 4, 2), "pole": (6.4, 2.6, 3.0)}
PATIENTS = [
    patient("A", landmarks={"dome": (4.5, 4, 1.25), "pole": (2, 2, 2)}),
    patient("B", OTHER_SHAPE, landmarks={"pole": (8, 7, 6)}, spacing_mm=(1, 1, 5)),
    patient("C"),
]


def explorer(patients=PATIENTS, **options) -> LandmarkExplorer:
    given = {"landmarks": LANDMARKS, "spacing_mm": SPACING, **options}
    return LandmarkExplorer(TEMPLATE, EMBEDDINGS, patients, **given)


def located(one: dict, point, window_sizes=(7,), sigma=0.5):
    return locate_landmark(one["embeddings"][None], EMBEDDINGS[None], point, window_sizes=window_sizes, sigma=sigma)


def marks(canvas) -> dict:
    return {row["name"]: tuple(row["voxel"]) for row in canvas.mark_table}


# ---------------------------------------------------------------- numbers
@pytest.mark.parametrize("window_sizes", [(1,), (7,), (15,), (5, 3), (7, (3, 1, 5), 3)])
@pytest.mark.parametrize("sigma", [0.5, math.inf])
def test_points_and_maps_are_the_librarys(window_sizes, sigma):
    widget = explorer(window_sizes=window_sizes, sigma=sigma)
    assert widget.window_sizes == window_sizes and widget.sigma == sigma
    for point in ((0, 0, 0), (3, 4, 2), (9, 7, 5)):
        widget.point = point
        for one in PATIENTS:
            result = located(one, point, window_sizes, sigma)
            assert widget.found[one["name"]] == tuple(result.points[0].tolist())
            assert widget.cosines[one["name"]] == pytest.approx(result.similarity.item(), abs=1e-6)
            widget.patient = one["name"]
            np.testing.assert_allclose(widget.similarity, result.maps[0], atol=1e-6)


def test_errors_are_the_librarys_in_mm_of_each_patient():
    widget = explorer()
    assert widget.landmark == "dome" and widget.point == (3, 4, 2)
    expected = landmark_error(torch.tensor(widget.found["A"]), torch.tensor((4.5, 4, 1.25)), spacing=SPACING)
    assert widget.errors == {"A": pytest.approx(expected.item()), "B": None, "C": None}
    assert (widget.mean_error, widget.success) == (widget.errors["A"], float(widget.errors["A"] <= 15))
    widget.landmark = "pole"
    assert widget.point == (6, 3, 3)  # the nearest voxel
    both = [
        landmark_error(torch.tensor(widget.found[one["name"]]), torch.tensor(one["landmarks"]["pole"]), spacing=spacing)
        for one, spacing in zip(PATIENTS, (SPACING, (1, 1, 5)), strict=False)
    ]
    assert list(widget.errors.values()) == [*(pytest.approx(one.item()) for one in both), None]
    assert widget.mean_error == pytest.approx(torch.stack(both).mean().item())
    assert widget.success == success_rate(torch.stack(both), 15.0).item()


def test_a_landmark_that_is_there_is_found_exactly():
    moved = {**patient("D"), "embeddings": EMBEDDINGS.roll(2, dims=1), "landmarks": {"dome": (5, 4, 2)}}
    widget = explorer([moved], window_sizes=(3,))
    assert widget.found == {"D": (5, 4, 2)} and widget.errors == {"D": 0} and widget.success == 1


def test_by_hand_nothing_is_known():
    widget = explorer(point=(0, 7, 5))
    assert widget.landmark is None and widget.point == (0, 7, 5)
    assert set(widget.errors.values()) == {None} and widget.mean_error is None and widget.success is None
    assert "not known, so nothing can be scored" in widget.table.value


# ---------------------------------------------------------------- what follows what
def test_a_click_marks_the_point_and_moving_the_crosshair_does_not():
    widget = explorer()
    widget.template.set_state({"crosshair": [9, 0, 1]})  # as from the browser
    assert widget.point == (3, 4, 2) and widget.landmark == "dome"
    widget.template.set_state({"clicked": [9, 0, 1], "clicks": 1})
    assert widget.point == (9, 0, 1) and widget.landmark is None
    assert marks(widget.template) == {"marked": (9, 0, 1)}
    assert widget.found == explorer(point=(9, 0, 1)).found
    assert marks(widget.canvas) == {"found": widget.found["A"]}
    widget.template.set_state({"clicked": [9, 0, 2], "clicks": 2})
    assert widget.point == (9, 0, 2)


def test_a_name_marks_its_point_and_shows_the_true_one():
    widget = explorer(point=(0, 0, 0))
    widget.controls["landmark"].value = "dome"
    assert widget.point == widget.template.crosshair == (3, 4, 2)
    assert marks(widget.template) == {"marked": (3, 4, 2)}
    assert marks(widget.canvas) == {"found": widget.found["A"], "true": (4.5, 4, 1.25)}
    assert widget.canvas.crosshair == widget.found["A"]
    widget.landmark = None  # the point stays, what is known of it goes
    assert widget.point == (3, 4, 2) and marks(widget.canvas) == {"found": widget.found["A"]}


def test_the_patient_shown():
    widget = explorer(patient="C")
    assert widget.canvas.title == "C" and widget.canvas.crosshair == widget.found["C"]
    widget.controls["patient"].value = "B"
    assert widget.canvas.shape == list(OTHER_SHAPE) and widget.canvas.spacing == [1, 1, 5]
    assert widget.canvas.crosshair == widget.found["B"] and marks(widget.canvas) == {"found": widget.found["B"]}
    np.testing.assert_allclose(widget.similarity, located(PATIENTS[1], (3, 4, 2)).maps[0], atol=1e-6)
    heat = np.frombuffer(gzip.decompress(widget.canvas.heat_bytes), np.uint8).reshape(OTHER_SHAPE)
    np.testing.assert_array_equal(heat, 1 + np.round(254 * widget.similarity.clip(0, 1)))
    widget.patient = "A"
    assert widget.canvas.shape == list(SHAPE) and "true" in marks(widget.canvas)


def test_window_and_sigma_search_again_and_leave_the_template_alone():
    widget = explorer()
    widget.template.crosshair = (0, 0, 0)
    widget.controls["window_size"].value = 3
    assert widget.window_sizes == (3,)
    assert widget.found["B"] == tuple(located(PATIENTS[1], (3, 4, 2), (3,)).points[0].tolist())
    widget.controls["sigma"].value = math.inf
    assert widget.controls["sigma"].label == "plain mean"
    result = located(PATIENTS[1], (3, 4, 2), (3,), math.inf)
    assert widget.cosines["B"] == pytest.approx(result.similarity.item(), abs=1e-6)
    assert widget.template.crosshair == (0, 0, 0) and widget.point == (3, 4, 2)


def test_unusual_settings_join_the_sliders():
    widget = explorer(window_sizes=(21,), sigma=0.45)
    assert widget.window_size == 21 and widget.controls["window_size"].options == (*range(1, 16, 2), 21)
    assert widget.sigma == 0.45 and widget.controls["sigma"].label == "0.45"


def test_the_map_can_be_taken_away():
    widget = explorer()
    widget.map_box.value = False
    assert not widget.show_map and widget.canvas.heat_bytes == b"" and len(widget.canvas.mark_table) == 2
    widget.point = (0, 0, 0)
    assert widget.canvas.heat_bytes == b""
    widget.show_map = True
    assert widget.canvas.value_at_crosshair.heat == pytest.approx(widget.cosines["A"], abs=1e-6)


def test_averaged_embeddings_are_kept(monkeypatch):
    import medssl_nb.methods.local_discrimination as library

    made = []

    def counted(embeddings, window, *, sigma):
        made.append((tuple(embeddings.shape[2:]), window))
        return center_sensitive(embeddings, window, sigma=sigma)

    center_sensitive = library.center_sensitive_embeddings
    monkeypatch.setattr(library, "center_sensitive_embeddings", counted)
    widget = explorer(window_sizes=(3,))

    def whole(shape) -> int:
        return sum(made_for == shape for made_for, _ in made)

    assert whole(SHAPE) == 2 and whole(OTHER_SHAPE) == 1
    widget.point, widget.landmark = (5, 5, 3), "pole"
    assert whole(SHAPE) == 2  # of the template no more than a window is averaged
    for window in (5, 7, 3, 9, 11, 3):
        widget.window_size = window
    assert whole(SHAPE) == 2 * 5  # 3 was among the last four
    assert len(widget._averages) == module._MOST_SETTINGS
    widget.window_size = 5
    assert whole(SHAPE) == 2 * 6  # 5 was not


# ---------------------------------------------------------------- words and pictures
def test_words_by_hand():
    widget = explorer()
    voxel, cosine, error = widget.found["A"], widget.cosines["A"], widget.errors["A"]
    where = f"in A found at ({', '.join(map(str, voxel))}), cosine {cosine:.2f}"
    assert widget.line.value == f"dome at (3, 4, 2) of the template: {where}; {error:.1f} mm from the true point"
    widget.landmark = None
    assert widget.line.value == f"voxel (3, 4, 2) of the template: {where}"


def test_the_table_by_hand():
    flat = EMBEDDINGS[:, 3, 4, 2, None, None, None].expand(4, *SHAPE)  # all voxels alike: the first is found
    far = {**patient("<far>"), "embeddings": flat, "landmarks": {"dome": (9, 0, 0)}}
    near = {**patient("near"), "embeddings": flat, "landmarks": {"dome": (0, 1, 1)}}
    widget = explorer([far, near, {**patient("lost"), "embeddings": -flat}], window_sizes=(1,), radius_mm=5)
    assert widget.errors == {"<far>": 18, "near": 5, "lost": None}
    rows = widget.table.value.split("<tr>")[2:]
    for row, parts in zip(
        rows,
        (
            ("&lt;far&gt;", "(0, 0, 0)", "1.00", "18.0 mm ✗", "width:140px"),
            ("near", "5.0 mm ✓", "width:39px"),
            ("lost", "−1.00", "true point not known", "width:0px"),
        ),
        strict=True,
    ):
        assert all(part in row for part in parts), row
    assert widget.table.value.endswith("Mean 11.5 mm; ✓ within 5 mm: 1 of 2.")


def test_without_mm_voxels_are_counted():
    patients = [{key: value for key, value in one.items() if key != "spacing_mm"} for one in PATIENTS]
    widget = explorer(patients, spacing_mm=None)
    plain = landmark_error(torch.tensor(widget.found["A"]), torch.tensor((4.5, 4, 1.25)))
    assert widget.errors["A"] == pytest.approx(plain.item())
    assert widget.line.value.endswith(" voxels from the true point") and " voxels; ✓ within" in widget.table.value


def test_without_landmarks_there_is_nothing_to_choose():
    widget = explorer(landmarks=None)
    assert widget.point == (5, 4, 3) and widget.landmark is None
    assert widget.controls["landmark"] not in widget.children[0].children
    with pytest.raises(ValueError, match=r"no such landmark of the template: 'dome'; there are none: give landmarks"):
        widget.landmark = "dome"


def test_the_picture_beside_the_widget_follows_and_is_pure():
    look = {"planes": ["axial"], "title": "a try"}
    widget = explorer(**look)
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "<LandmarkExplorer>"
    first = base64.b64decode(bundle["image/png"])
    assert first == widget._static_png() == explorer(**look)._static_png()
    seen = {first}
    for name, value in (("show_map", False), ("patient", "B"), ("sigma", math.inf), ("point", (0, 0, 0))):
        setattr(widget, name, value)
        seen.add(widget._static_png())
    assert len(seen) == 5


# ---------------------------------------------------------------- wrong arguments
def one(**changes) -> dict:
    return {"patients": [{**PATIENTS[0], **changes}]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patients": []}, r"patients must be one or more with different names, got \[\]"),
        ({"patients": [PATIENTS[0], PATIENTS[0]]}, r"different names, got \['A', 'A'\]"),
        ({"patients": [{"name": "A"}]}, "a patient lacks volume, embeddings; it has name"),
        (one(mask=1), "a patient has mask; known are name, volume, embeddings, landmarks, spacing_mm"),
        (one(embeddings=EMBEDDINGS[:, 1:]), r"embeddings of A must be \(D, X, Y, Z\)"),
        (one(embeddings=EMBEDDINGS[:1].sign()), "embeddings of A have 1 channels, those of the template 4"),
        (one(embeddings=3 * EMBEDDINGS), "embeddings of A must be unit vectors"),
        (one(landmarks={"dome": (0, 0, 6)}), r"landmark 'dome' of A \[0.0, 0.0, 6.0\] lies outside"),
        (one(landmarks={"dome": (0, 0)}), "landmark 'dome' of A is a point, three numbers"),
        (
            {"landmarks": {"by hand": (0, 0, 0)}},
            "a landmark of the template is called 'by hand', which stands for none",
        ),
        ({"spacing_mm": None}, "spacing_mm is known for some patients but not for A, C; give it for all"),
        ({"window_sizes": ()}, r"window_sizes must end with a whole number"),
        ({"window_sizes": (7, (3, 3, 3))}, r"window_sizes must end with a whole number.*got \(7, \(3, 3, 3\)\)"),
        ({"window_sizes": (8, 3)}, "a window has an odd number of voxels from 1, so that it has a middle; got 8"),
        ({"window_sizes": ((3, 3, 2), 3)}, r"odd number .* got \(3, 3, 2\)"),
        ({"sigma": 0}, "sigma must be above 0"),
        ({"radius_mm": 0}, "radius_mm must be above 0, got 0"),
        ({"point": (10, 0, 0)}, "point .* lies outside the volume of shape"),
        ({"point": (0.5, 0, 0)}, "point is a voxel of the template, three whole numbers; got"),
        ({"patient": "E"}, "patient is the patient shown at the right: one of 'A', 'B', 'C'; got 'E'"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        explorer(**options)


def test_wrong_settings_change_nothing():
    widget = explorer()
    before = widget.line.value
    for name, value in (("point", (0, 0, 9)), ("landmark", "none"), ("patient", "E"), ("window_size", 4), ("sigma", 3)):
        with pytest.raises(ValueError, match=r"outside|no such|one of"):
            setattr(widget, name, value)
    assert widget.line.value == before and widget.point == (3, 4, 2)
