"""Who trains and who tests: fixed, repeatable, never one subject on both sides."""

import json

import pytest

from medssl_nb.data.splits import Split, check_split, draw_few_shot, draw_split, read_split, shipped_split


def subjects(n=30, scans=2):
    return {f"case_{s:02d}_{v}": f"subject_{s:02d}" for s in range(n) for v in range(scans)}


def test_a_drawn_split_repeats_covers_and_keeps_subjects_together():
    of = subjects()
    split = draw_split(of)
    assert split == draw_split(dict(reversed(of.items())))
    parts = [split.train, split.validation, split.test]
    assert sorted(case for part in parts for case in part) == sorted(of)
    assert [len(part) for part in parts] == [42, 6, 12]
    owners = [{of[case] for case in part} for part in parts]
    assert not (owners[0] & owners[1] or owners[0] & owners[2] or owners[1] & owners[2])
    check_split(split, of.__getitem__, of, "drawn")


@pytest.mark.parametrize(("n", "sizes"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (10, (7, 1, 2))])
def test_small_cohorts(n, sizes):
    split = draw_split(subjects(n, scans=1))
    assert (len(split.train), len(split.validation), len(split.test)) == sizes


def test_few_shot_orders_visit_every_subject_before_one_comes_back():
    of = subjects(8)
    for order in draw_few_shot(of, of):
        assert sorted(order) == sorted(of)
        assert len({of[case] for case in order[:8]}) == 8
    first, second, third = draw_few_shot(of, of)
    assert first != second != third


@pytest.mark.parametrize("name", ["hippocampus", "headneck_ct"])
def test_shipped_splits_fit_themselves(name):
    split = shipped_split(name)
    cases = [*split.train, *split.validation, *split.test]
    check_split(split, str, cases, name)
    assert len(set(cases)) == len(cases)
    assert len(split.few_shot) == 3


def test_both_heads_halves_stay_in_one_part():
    from medssl_nb.data.real import hippocampus_subject

    assert hippocampus_subject("hippocampus_007") == hippocampus_subject("hippocampus_008") == "head_004"
    split = shipped_split("hippocampus")
    check_split(split, hippocampus_subject, [*split.train, *split.validation, *split.test], "hippocampus")


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (Split(("a1",), (), ("a2",), ()), "subject 'a' is in two parts"),
        (Split(("a1", "a1"), (), ("b1",), ()), "names a case twice"),
        (Split(("a1", "zz"), (), ("b1",), ()), "case 'zz' of 'train' has no labelled image"),
        (Split(("a1",), (), ("b1",), (("b1",),)), "not in 'train'"),
        (Split(("a1", "a2"), (), ("b1",), (("a1", "a1"),)), "draw 0 names a case twice"),
    ],
)
def test_splits_that_leak_or_lie_are_refused(split, words):
    with pytest.raises(ValueError, match=words):
        check_split(split, lambda case: case[0], {"a1", "a2", "b1"}, "splits.json")


def test_split_files(tmp_path):
    file = tmp_path / "splits.json"
    content = {"train": ["a", "b", "c"], "validation": ["d"], "test": ["e"]}
    file.write_text(json.dumps({**content, "few_shot": {"seed0": {"1": ["b"], "2": ["a", "b"]}}}))
    assert read_split(file).few_shot == (("b", "a"),)
    file.write_text(json.dumps(content))
    assert read_split(file).few_shot == ()  # the cohort draws them, since it knows the subjects
    file.write_text(json.dumps({**content, "few_shot": {"seed0": {"1": ["c"], "2": ["a", "b"]}}}))
    with pytest.raises(ValueError, match="nested"):
        read_split(file)
    file.write_text('{"train": ["a"]}')
    with pytest.raises(ValueError, match="missing: 'validation'"):
        read_split(file)
    file.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_split(file)
