"""The checks of lesson 61 pass right answers, and name the fault of each typical wrong one."""

import pytest

from medssl_nb.exercises import four_methods as exercises


def paired_gain(scores, twin):
    gains = [scores[run] - twin[run] for run in scores if run in twin]
    return (sum(gains) / len(gains) if gains else None), len(gains)


def lead(method, table):
    return table.get(method, float("-inf")) - max(value for name, value in table.items() if name != method)


def best_table_for(method, tables):
    leads = [lead(method, table) for table in tables]
    best = max(range(len(tables)), key=leads.__getitem__)
    return best if leads[best] > 0 else None


def worth_the_time(found):
    def beaten(one):
        return any(t <= found[one][0] and g >= found[one][1] and (t, g) != tuple(found[one]) for t, g in found.values())

    return {one for one in found if not beaten(one)}


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_paired_gain, paired_gain),
        (exercises.check_best_table_for, best_table_for),
        (exercises.check_worth_the_time, worth_the_time),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


def mean(scores):
    return sum(scores.values()) / len(scores)


def emptied(scores, twin):
    answer = paired_gain(scores, twin)
    scores.clear()
    return answer


def in_order(scores, twin):
    gains = [a - b for a, b in zip(scores.values(), twin.values(), strict=False)]
    return sum(gains) / len(gains), len(gains)


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_paired_gain, lambda s, t: None, "the same runs in both: return two values"),
        (exercises.check_paired_gain, lambda s, t: (mean(s) - mean(t), len(s)), "a run without a partner, number of"),
        (exercises.check_paired_gain, in_order, "another order, mean gain|a run without a partner"),
        (exercises.check_paired_gain, lambda s, t: (0.0 if not set(s) & set(t) else paired_gain(s, t)[0],
                                                    paired_gain(s, t)[1]), "expected None, found 0.0"),
        (exercises.check_paired_gain, emptied, "your function changed its input"),
        (exercises.check_best_table_for, lambda m, t: None, "A leads twice.*expected 0, found None"),
        (
            exercises.check_best_table_for,
            lambda m, t: max(range(len(t)), key=lambda i: t[i].get(m, -9)),
            "A leads twice.*expected 0, found 1",
        ),
        (
            exercises.check_best_table_for,
            lambda m, t: max(range(len(t)), key=lambda i: lead(m, t[i])),
            "C never leads: expected None",
        ),
        (exercises.check_best_table_for, lambda m, t: False, "found False"),
        (exercises.check_worth_the_time, lambda found: None, "your function returned nothing"),
        (exercises.check_worth_the_time, lambda found: {max(found, key=lambda n: found[n][1])}, "dearer and better"),
        (exercises.check_worth_the_time, lambda found: set(found), r"dearer and worse: expected \['B'\]"),
        (
            exercises.check_worth_the_time,
            lambda found: {n for n in found if not any(t < found[n][0] and g > found[n][1] for t, g in found.values())},
            "as good, but dearer",
        ),
    ],
)  # fmt: skip
def test_wrong_answers_are_named(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
