"""The monitor shows what a run does, passes every record on, and keeps its picture."""

from types import SimpleNamespace

import pytest

from medssl_nb.training import StepRecord
from medssl_nb.widgets import TrainingMonitor


def records(count=6, health=True):
    return [
        StepRecord(
            i, count, {"total": 2 / i}, 1e-3, 1.0, {"spread": 0.1 * i} if health else {}, 0.1, 60.0 * (count - i)
        )
        for i in range(1, count + 1)
    ]


def test_records_are_passed_on_and_the_picture_follows():
    monitor = TrainingMonitor(SimpleNamespace(trivial_losses={"total": 1.5}), every_seconds=0)
    pictures, lines = [monitor.image.value], [monitor.status.value]
    seen = []
    for record in monitor.watch(records(3)):
        seen.append(record.step)
        pictures.append(monitor.image.value)
        lines.append(monitor.status.value)
    assert seen == [1, 2, 3]
    assert len(set(map(bytes, pictures))) == 4
    assert lines == [
        "waiting for the first step",
        "step 1 of 3, 2 min 00 s left",
        "step 2 of 3, 1 min 00 s left",
        "3 steps done",
    ]
    assert [step["losses"]["total"] for step in monitor.history] == [2.0, 1.0, pytest.approx(2 / 3)]


def test_a_run_cut_short_says_so():
    monitor = TrainingMonitor(every_seconds=1e6)
    watched = monitor.watch(records(6))
    before = [next(watched), next(watched)] and bytes(monitor.image.value)
    watched.close()  # what `break` does
    assert monitor.status.value == "stopped after step 2 of 6"
    assert bytes(monitor.image.value) != before  # the second step was not drawn yet


def test_pictures_are_not_drawn_more_often_than_asked_but_the_last_is(monkeypatch):
    monitor = TrainingMonitor(every_seconds=1e6)
    drawn = []
    real = monitor._static_png
    monkeypatch.setattr(monitor, "_static_png", lambda: drawn.append(len(monitor.history)) or real())
    list(monitor.watch(records(5)))
    assert drawn == [1, 5]


def test_what_a_notebook_stores_is_the_picture_of_now_and_no_address():
    import base64

    monitor = TrainingMonitor()
    list(monitor.watch(records(2, health=False)))
    bundle, _ = monitor._repr_mimebundle_()
    assert bundle["text/plain"] == "<TrainingMonitor>"
    assert base64.b64decode(bundle["image/png"]) == bytes(monitor.image.value)


def test_the_trivial_line_changes_the_picture():
    plain, dashed = TrainingMonitor(), TrainingMonitor(SimpleNamespace(trivial_losses={"total": 1.5}))
    for monitor in (plain, dashed):
        list(monitor.watch(records(3)))
    assert plain.image.value != dashed.image.value


def test_a_term_that_starts_later_has_its_line_from_then_on():
    early = [StepRecord(1, 2, {"total": 2.0}, 1e-3, 1.0)]
    late = [StepRecord(2, 2, {"total": 3.0, "region": 1.0}, 1e-3, 1.0)]
    monitor = TrainingMonitor(SimpleNamespace(trivial_losses={"region": 1.8}), every_seconds=0)
    pictures = [bytes(monitor.image.value) for _ in monitor.watch([*early, *late])]
    assert len(set([*pictures, bytes(monitor.image.value)])) == 2
