"""`python -m medssl_nb recipes [NAME]`: the list of recipes, or one of them as it stands in its file."""

import argparse

from medssl_nb.recipes import FOLDER, load_recipe, recipe_names


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's words to `parser`."""
    parser.add_argument("name", nargs="?", help='a recipe, such as "masked_autoencoding.full"')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the list, or one recipe."""
    if options.name:
        print((FOLDER / f"{load_recipe(options.name).title}.toml").read_text(encoding="utf-8"), end="")
        return 0
    recipes = [load_recipe(title) for title in recipe_names()]
    width = max(len(recipe.title) for recipe in recipes)
    for recipe in recipes:
        print(f"{recipe.title:{width}}  {recipe.cohort['name']:12} {recipe.about}")
    print("\nOne of them whole: python -m medssl_nb recipes NAME. Your own: copy one, and give its path.")
    return 0
