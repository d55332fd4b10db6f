"""The helpers every lesson starts with."""

import pytest

from medssl_nb.lessons import check, print_setup, run_profile


def test_profile_is_demo_unless_asked(monkeypatch):
    monkeypatch.delenv("MEDSSL_PROFILE", raising=False)
    assert run_profile() == "demo"
    monkeypatch.setenv("MEDSSL_PROFILE", "full")
    assert run_profile() == "full"
    monkeypatch.setenv("MEDSSL_PROFILE", "huge")
    with pytest.raises(ValueError, match="'huge'"):
        run_profile()


def test_check_prints_what_was_expected_not_what_came(capsys):
    check("Dice", 0.8123, 0.81, 0.01)
    assert capsys.readouterr().out == "Dice: 0.81 ± 0.01 reached\n"
    for bad in (0.83, float("nan")):
        with pytest.raises(AssertionError, match=r"expected 0\.81 ± 0\.01"):
            check("Dice", bad, 0.81, 0.01)


def test_setup_names_versions_device_and_profile(capsys, monkeypatch):
    monkeypatch.setenv("MEDSSL_PROFILE", "full")
    print_setup()
    printed = capsys.readouterr().out
    assert "torch 2." in printed
    assert "profile: full" in printed
