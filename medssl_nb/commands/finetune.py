"""`python -m medssl_nb finetune RECIPE`: train a segmentation network on labelled scans and keep it."""

import argparse
import json
from dataclasses import asdict

from medssl_nb.commands.common import (
    add_device_words,
    add_recipe_words,
    cohort_facts,
    recipe_of,
    run_folder,
    torch_device,
)
from medssl_nb.commands.transfer import count_or_all, encoder_source, how_it_started
from medssl_nb.data.files import write_atomically
from medssl_nb.recipes import Recipe

SEGMENTER = "segmenter.safetensors"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's words to `parser`."""
    parser.add_argument("recipe", help='a recipe that was pre-trained, or "random" for no pre-training')
    add_recipe_words(parser)
    parser.add_argument("--labelled", type=count_or_all, default="all", metavar="N", help="labelled cases (all)")
    parser.add_argument("--draw", type=int, default=0, help="which choice of the labelled cases (0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of pre-training and of fine-tuning (0)")
    add_device_words(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fine-tune, choose the step on the validation cases, test once, save. Returns 0."""
    from medssl_nb.evaluation import train_segmenter
    from medssl_nb.networks import save_segmenter

    recipe, device = recipe_of(options, options.recipe), torch_device(options.accelerator)
    cohort = recipe.open_cohort()
    check_parts(cohort)
    options.seeds = [options.seed]  # as `transfer` takes them
    encoder, pretrained_with = encoder_source(recipe, options, options.recipe)
    cases = cohort.train if options.labelled == "all" else cohort.few_shot(options.labelled, options.draw)
    names = learnt_names(cohort.label_names, recipe.transfer.organs)
    print(f"{recipe.title}: {len(cases)} labelled cases, {recipe.transfer.steps} steps, on {device}.", flush=True)
    trained = train_segmenter(
        encoder(options.seed),
        cases,
        cohort.validation,
        cohort.label_names,
        recipe.transfer,
        seed=options.seed,
        draw=options.draw,
        device=device,
    )
    scores = scores_of(trained.network, cohort.test, names, recipe.transfer)
    part = "finetuned-all" if options.labelled == "all" else f"finetuned-{options.labelled}-draw{options.draw}"
    folder = run_folder(options.runs, recipe, options.seed) / part
    facts = {
        "recipe": recipe.title,
        "data": without_case_names(cohort_facts(cohort, recipe)),
        "started_from": how_it_started(recipe, pretrained_with),
        "labelled_cases": len(cases),
        "chosen_step": trained.chosen_step,
        "validation_dice": max(dice for _, dice in trained.curve),
        "test_dice": scores["mean_dice"],
    }
    path = save_segmenter(
        folder / SEGMENTER,
        trained.network,
        label_names=names,
        modality=cohort.modality,
        spacing_mm=working_spacing(recipe),
        crop=recipe.transfer.crop,
        spacing_seen_mm=spacing_range(cases),
        **facts,
    )
    record = {**facts, "settings": asdict(recipe.transfer), "curve": trained.curve, "test": scores}
    text = json.dumps(record, indent=1, default=str)
    write_atomically(folder / "scores.json", lambda draft: draft.write_text(text, encoding="utf-8"))
    for step, dice in trained.curve:
        print(f"step {step}: validation Dice {dice:.3f}")
    dice = "not defined, no organ is drawn there" if scores["mean_dice"] is None else f"{scores['mean_dice']:.3f}"
    print(f"Test Dice of step {trained.chosen_step}, {len(cohort.test)} case(s): {dice}")
    if facts["validation_dice"] < 0.05:
        print("It found next to nothing. More steps help, and --set transfer.class_balance=0.5 where organs are small.")
    print(f"Segmenter: {path}\nNext: python -m medssl_nb predict {path} SCANS --to FOLDER")
    return 0


def check_parts(cohort) -> None:
    """Raise ValueError unless there are cases to learn from, to choose the step on and to test on."""
    parts = {part: len(getattr(cohort, part)) for part in ("train", "validation", "test")}
    if all(parts.values()):
        return
    counts = ", ".join(f"{count} {part}" for part, count in parts.items())
    raise ValueError(
        f"cohort {cohort.name} has {counts} case(s) with labels. Fine-tuning learns from one at least, chooses the "
        "step on another and is tested on a third: label three or more patients (or list them in splits.json). With "
        "fewer, pre-train, and look at features, clusters and landmarks."
    )


def learnt_names(label_names: dict[int, str], organs) -> dict[int, str]:
    """Number -> name of the classes that are learnt, background first."""
    learnt = {number: name for number, name in sorted(label_names.items()) if organs is None or name in organs}
    return {0: label_names.get(0, "background"), **{number: name for number, name in learnt.items() if number}}


def without_case_names(facts: dict) -> dict:
    """The facts as they may travel with a network: how many cases were skipped, not which; names can tell who it is."""
    options = {key: len(value) if key == "skip" else value for key, value in facts["options"].items()}
    return {**facts, "options": options}


def scores_of(network, cases, names: dict[int, str], settings) -> dict:
    """What `summarise_scores` says of the test cases."""
    from medssl_nb.data import spacing_mm
    from medssl_nb.evaluation import segment, segmentation_scores, summarise_scores

    scores = {}
    for case in cases:
        image, label = case.normalised(), case.label()
        found = segment(network, image, names, settings)
        scores[case.name] = segmentation_scores(found, label.as_tensor(), names, spacing_mm(image.affine))
    return summarise_scores(scores)


def working_spacing(recipe: Recipe) -> list[float] | None:
    """Spacing of the working grid in mm, None for scans as they are stored."""
    spacing = recipe.cohort.get("spacing_mm")
    if spacing is None:
        return None
    return [float(side) for side in (spacing if isinstance(spacing, list | tuple) else [spacing] * 3)]


def spacing_range(cases) -> list[list[float]]:
    """Smallest and largest spacing in mm along each axis of what was learnt from."""
    from medssl_nb.data import spacing_mm

    found = [spacing_mm(case.image().affine) for case in cases]
    return [[round(min(axis), 4), round(max(axis), 4)] for axis in zip(*found, strict=True)]
