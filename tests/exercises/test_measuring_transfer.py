"""The checks of lesson 13 pass right answers, and name the fault of each typical wrong one."""

import numpy as np
import pytest

from medssl_nb import exercises


def split_by_subject(subjects, test_share):
    chosen = []
    for patient in dict.fromkeys(subjects):
        if len(chosen) < test_share * len(subjects):
            chosen += [i for i, subject in enumerate(subjects) if subject == patient]
    return sorted(chosen)


def split_by_scan(subjects, test_share):
    return list(range(round(test_share * len(subjects))))


def split_by_neighbours(subjects, test_share):
    """Goes on only while the next scan is of the same patient."""
    end = round(test_share * len(subjects))
    while 0 < end < len(subjects) and subjects[end] == subjects[end - 1]:
        end += 1
    return list(range(end))


def at_least_one_patient(subjects, test_share):
    return split_by_subject(subjects, max(test_share, 1e-9))


def bootstrap_interval(first, second, draws, generator):
    d = first - second
    return np.quantile(generator.choice(d, (draws, len(d))).mean(1), [0.025, 0.975])


def unpaired(first, second, draws, generator):
    a, b = (generator.choice(x, (draws, len(x))).mean(1) for x in (first, second))
    return np.quantile(a - b, [0.025, 0.975])


def turned_round(first, second, draws, generator):
    return bootstrap_interval(second, first, draws, generator)


def narrower(first, second, draws, generator):
    d = first - second
    return np.quantile(generator.choice(d, (draws, len(d))).mean(1), [0.25, 0.75])


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_split_by_subject, split_by_subject),
        (exercises.check_bootstrap_interval, bootstrap_interval),
        (exercises.check_bootstrap_interval, lambda *given: tuple(bootstrap_interval(*given))),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_split_by_subject, lambda *given: None, "your function returned nothing"),
        (exercises.check_split_by_subject, split_by_scan, "is on both sides"),
        (exercises.check_split_by_subject, split_by_neighbours, "do not follow each other: patient 'a' is on both"),
        (exercises.check_split_by_subject, at_least_one_patient, "no test scans wanted: expected shape"),
        (exercises.check_split_by_subject, lambda s, share: [], r"expected shape \(2,\), found \(0,\)"),
        (exercises.check_bootstrap_interval, unpaired, "all differences equal: expected 0.05"),
        (exercises.check_bootstrap_interval, turned_round, "expected 0.05 at .*, found -0.05"),
        (exercises.check_bootstrap_interval, narrower, "pairs drawn together: expected"),
        (exercises.check_bootstrap_interval, lambda a, b, *rest: np.mean(a - b), r"expected shape \(2,\), found \(\)"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
