"""Every recipe builds; changes reach it; what does not fit is named."""

import pytest
import torch

from medssl_nb.recipes import METHODS, load_recipe, recipe_names

TITLES = recipe_names()


def test_every_method_has_both_profiles():
    names = (*METHODS, "random", "simmim")  # simmim is adaptive_masking without its parts
    assert {f"{name}.{profile}" for name in names for profile in ("demo", "full")} == set(TITLES)
    assert recipe_names("demo") == [title for title in TITLES if title.endswith(".demo")]


@pytest.mark.parametrize("title", TITLES)
def test_every_recipe_builds_what_it_says(title):
    recipe = load_recipe(title)
    assert recipe.title == title
    assert recipe.about.endswith(".")
    encoder = recipe.make_encoder(seed=1)
    assert encoder.description == recipe.encoder
    if recipe.method == "none":
        with pytest.raises(ValueError, match="no task to train"):
            recipe.make_task()
    else:
        task = recipe.make_task(seed=1)
        assert type(task).name == recipe.method
        assert all(side % 8 == 0 for side in recipe.pretraining.crop)


BASELINES = ("masked_autoencoding", "random", "view_contrast")


def test_the_demo_recipes_share_one_protocol():
    demos = [load_recipe(title, "demo") for title in BASELINES]
    assert len({str(r.transfer) for r in demos}) == 1
    assert len({str(r.cohort) for r in demos}) == 1
    assert len({str(r.encoder) for r in demos}) == 1


@pytest.mark.parametrize("profile", ["demo", "full"])
def test_simmim_differs_from_adaptive_masking_in_its_parts_alone(profile):
    ours, plain = (load_recipe(name, profile) for name in ("adaptive_masking", "simmim"))
    for section in ("cohort", "encoder", "pretraining", "transfer", "labelled", "draws", "seeds"):
        assert getattr(ours, section) == getattr(plain, section)
    assert plain.task == {"parts": [], "foreground": ours.task["foreground"]}


@pytest.mark.parametrize("name", BASELINES)
def test_a_recipe_may_take_the_protocol_of_another(name):
    ours, lent = load_recipe("adaptive_masking.demo"), load_recipe(name, "demo", like="adaptive_masking")
    assert lent.title == f"{name}.demo-like-adaptive_masking"
    assert (lent.name, lent.method, lent.task) == (name, (own := load_recipe(name, "demo")).method, own.task)
    for section in ("cohort", "encoder", "transfer", "labelled", "draws", "seeds"):
        assert getattr(lent, section) == getattr(ours, section)
    assert lent.pretraining == (None if name == "random" else ours.pretraining)
    changed = load_recipe(name, "demo", ["transfer.draws=1"], "hippocampus", like="adaptive_masking")
    assert (changed.draws, changed.cohort) == (1, {"name": "hippocampus"})
    assert load_recipe(name, "demo", like=name).title == f"{name}.demo"


def test_a_recipe_of_the_same_protocol_stays_itself():
    assert load_recipe("simmim", "demo", like="adaptive_masking") == load_recipe("simmim", "demo")


def test_weights_follow_the_seed_and_leave_the_global_generator_alone():
    recipe = load_recipe("masked_autoencoding.demo")
    before = torch.random.get_rng_state()
    a, b, c = recipe.make_task(0), recipe.make_task(0), recipe.make_task(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [task.encoder.conv_0.conv_0.conv.weight for task in (a, b, c)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_one_seed_gives_all_methods_the_same_encoder():
    weights = [
        load_recipe(name).make_task(3).encoder.conv_0.conv_0.conv.weight
        for name in ("masked_autoencoding.demo", "view_contrast.demo")
    ]
    assert torch.equal(*weights)
    assert torch.equal(weights[0], load_recipe("random.demo").make_encoder(3).conv_0.conv_0.conv.weight)


def test_the_profile_comes_from_word_name_or_environment(monkeypatch):
    assert load_recipe("random").profile == "demo"
    assert load_recipe("random.full").profile == "full"
    assert load_recipe("random", "full").profile == "full"
    monkeypatch.setenv("MEDSSL_PROFILE", "full")
    assert load_recipe("random").profile == "full"
    assert load_recipe("random.demo").profile == "demo"


def test_changes_and_another_cohort():
    recipe = load_recipe(
        "masked_autoencoding.demo",
        changes=["pretraining.steps=7", "pretraining.crop=[16, 16, 16]", "task.error=l1", "transfer.draws=1"],
        cohort="hippocampus",
    )
    assert (recipe.pretraining.steps, recipe.pretraining.crop, recipe.draws) == (7, (16, 16, 16), 1)
    assert recipe.task["error"] == "l1"
    assert recipe.cohort == {"name": "hippocampus"}
    assert recipe.transfer.organs is None  # those of the phantom are not those of the hippocampus
    assert load_recipe("random.demo").transfer.organs[0] == "liver"


def test_a_recipe_of_your_own(tmp_path):
    from medssl_nb.recipes import FOLDER

    path = tmp_path / "mine.toml"
    path.write_text(
        (FOLDER / "masked_autoencoding.demo.toml").read_text().replace("mask_ratio = 0.6", "mask_ratio = 0.3")
    )
    recipe = load_recipe(str(path))
    assert (recipe.title, recipe.task["mask_ratio"]) == ("mine.own", 0.3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"name": "nothing"}, "no recipe nothing.demo; there are adaptive_masking.demo"),
        ({"name": "gone.toml"}, "no recipe file gone.toml"),
        ({"name": "random.huge"}, "profile is .* got 'huge'"),
        ({"name": "random", "changes": ["steps=3"]}, "section.name=value"),
        ({"name": "random", "changes": ["transfer.step=3"]}, r"\[transfer\] has no setting 'step'; it has labelled"),
        ({"name": "masked_autoencoding", "changes": ["pretraining.steps=0"]}, r"\[pretraining\]: steps .* got 0"),
    ],
)
def test_messages(words, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(**words)


def test_task_options_that_do_not_exist():
    with pytest.raises(ValueError, match=r"section \[task\].*ratio"):
        load_recipe("masked_autoencoding.demo", changes=["task.ratio=0.5"]).make_task()


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "mine.demo.toml"
    path.write_text("about = \n")
    with pytest.raises(ValueError, match=r"mine\.demo\.toml is not valid TOML"):
        load_recipe(str(path))
    path.write_text('about = "x"\nmethod = "none"\n')
    with pytest.raises(ValueError, match="missing cohort, encoder, transfer"):
        load_recipe(str(path))
    path.write_text('method = "magic"\nabout = "x"\n[cohort]\nname="phantom"\n[encoder]\n[transfer]\n')
    with pytest.raises(ValueError, match=r"method is one of .*got 'magic'"):
        load_recipe(str(path))
