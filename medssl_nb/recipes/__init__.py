"""Recipes: one small TOML file per run, method x profile; what the command line and the lessons' last cells start from.

`NAME.demo.toml` runs in minutes on a CPU, `NAME.full.toml` is the real size. A recipe has

- `about`, `method` (a name of `METHODS`, or "none"),
- `after`, if the method stands on another: the recipe that is run first, at the same profile, cohort and seed; the task
  is given its encoder as `embedding`,
- `[cohort]`: `name`, options of `load_cohort`, and `organs`, the names to learn and score (all, if it does not say),
- `[encoder]`: see `medssl_nb.networks.build_encoder`,
- `[task]`: arguments of the method,
- `[pretraining]`: a `Profile`,
- `[transfer]`: `labelled`, `draws`, `seeds`, and a `TransferSettings`.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parent
METHODS = {
    "masked_autoencoding": "medssl_nb.methods.baselines:MaskedAutoencoding",
    "view_contrast": "medssl_nb.methods.baselines:ViewContrast",
    "adaptive_masking": "medssl_nb.methods.adaptive_masking:AdaptiveMasking",
    "boundary_infomax": "medssl_nb.methods.boundary_infomax:BoundaryInfoMax",
    "local_discrimination": "medssl_nb.methods.local_discrimination:LocalDiscrimination",
    "anatomical_embedding": "medssl_nb.methods.alice:AnatomicalEmbeddingTask",
    "alice": "medssl_nb.methods.alice:Alice",
}
_SECTIONS = ("cohort", "encoder", "task", "pretraining", "transfer")
_PROTOCOL = ("cohort", "encoder", "pretraining", "transfer")  # what one recipe may lend to another


@dataclass(frozen=True)
class Recipe:
    """What one run is made of; see the module's text.

    Attributes:
        name, profile: "masked_autoencoding", "demo".
        after: name of the recipe that is run first, None if there is none.
        like: title of the recipe that lent its protocol, None if it is this recipe's own.
        about: one sentence.
        method: a name of `METHODS`, or "none" for no pre-training.
        cohort, encoder, task: as in the file.
        pretraining: a `medssl_nb.training.Profile`, None for method "none".
        transfer: a `medssl_nb.evaluation.transfer.TransferSettings`.
        labelled, draws, seeds: which transfer runs.
    """

    name: str
    profile: str
    about: str
    method: str
    cohort: dict
    encoder: dict
    task: dict
    pretraining: object
    transfer: object
    labelled: tuple[int | str, ...]
    draws: int
    seeds: tuple[int, ...]
    like: str | None = None
    after: str | None = None

    @property
    def title(self) -> str:
        """ "masked_autoencoding.demo", with "-like-OTHER" if the protocol is another recipe's."""
        return f"{self.name}.{self.profile}" + (f"-like-{self.like}" if self.like else "")

    def open_cohort(self):
        """The cohort of this recipe."""
        from medssl_nb.data import load_cohort

        try:
            return load_cohort(**self.cohort)
        except TypeError as error:
            raise ValueError(f"recipe {self.title}, section [cohort]: {error}.") from error

    def make_encoder(self, seed: int = 0):
        """A new encoder; its random weights follow from `seed`."""
        import torch

        from medssl_nb.networks import build_encoder
        from medssl_nb.training.randomness import seed_of

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("weights", seed))
            return build_encoder(self.encoder)

    def make_task(self, seed: int = 0, embedding=None):
        """The pretext task with a new encoder; all its random weights follow from `seed`.

        Args:
            embedding: the encoder of the recipe `after`, trained; None: the task can be looked at, but not trained.
        """
        import torch

        from medssl_nb.training.randomness import seed_of

        if self.method == "none":
            raise ValueError(f"recipe {self.title} is the one without pre-training: there is no task to train.")
        module, name = METHODS[self.method].split(":")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("task", seed))
            given = {} if embedding is None else {"embedding": embedding}
            try:
                return getattr(import_module(module), name)(self.make_encoder(seed), **self.task, **given)
            except TypeError as error:
                raise ValueError(f"recipe {self.title}, section [task]: {error}.") from None


def recipe_names(profile: str | None = None) -> list[str]:
    """Titles ("masked_autoencoding.demo") of all recipes, of one profile if given."""
    titles = sorted(path.stem for path in FOLDER.glob("*.toml"))
    return [title for title in titles if profile is None or title.endswith(f".{profile}")]


def load_recipe(
    name: str,
    profile: str | None = None,
    changes: Sequence[str] = (),
    cohort: str | None = None,
    like: str | None = None,
) -> Recipe:
    """Read a recipe.

    Args:
        name: "masked_autoencoding", "masked_autoencoding.full", or the path of a TOML file of your own, named
            NAME.PROFILE.toml or NAME.toml.
        profile: "demo" or "full"; None: from the name, else from `MEDSSL_PROFILE`, else "demo".
        changes: "pretraining.steps=500" and the like, applied to the file's contents; values are written as in TOML.
        cohort: another cohort than the recipe's: a name, or a folder.
        like: another recipe whose protocol is taken: its cohort, encoder, pre-training and transfer. What stays is the
            method with its task, so that both can be compared.

    Raises:
        ValueError: no such recipe, a section or setting that does not exist, a value that does not fit.
    """
    path = _find(name, profile)
    title, _, of_profile = path.stem.partition(".")
    contents = _contents(path)
    if like is not None:
        lender = _find(like, profile)
        lent = {section: part for section, part in _contents(lender).items() if section in _PROTOCOL}
        # A recipe that has this protocol already stays what it is, and finds its runs under its own name.
        same = all(contents.get(section) == part for section, part in lent.items())
        like = None if same else lender.stem.partition(".")[0]
        contents |= lent
    if cohort is not None and cohort != contents.get("cohort", {}).get("name"):
        contents["cohort"] = {"name": cohort}
    for change in changes:
        _apply(contents, change)
    return replace(_recipe(title, of_profile or "own", contents), like=like)


def recipe_contents(name: str, profile: str | None = None) -> dict:
    """What the file of a recipe says, as it stands there; arguments and errors as in `load_recipe`."""
    return _contents(_find(name, profile))


def _contents(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"recipe {path.name} is not valid TOML: {error}.") from None


def _find(name: str, profile: str | None) -> Path:
    from medssl_nb.lessons import PROFILES, run_profile

    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise ValueError(f"there is no recipe file {name}.")
        return Path(name)
    base, _, of_name = name.partition(".")
    wanted = profile or of_name or run_profile()
    if wanted not in PROFILES:
        raise ValueError(f'the profile is "demo" or "full", got {wanted!r}.')
    path = FOLDER / f"{base}.{wanted}.toml"
    if not path.is_file():
        raise ValueError(f"no recipe {base}.{wanted}; there are {', '.join(recipe_names())}, or give a .toml file.")
    return path


def _apply(contents: dict, change: str) -> None:
    """Set one value, given as "section.name=value", or "section.table.name=value" in a table of the section."""
    key, equals, value = change.partition("=")
    section, *tables, name = key.strip().split(".") if "." in key else (key, "")
    if not (equals and name and section in _SECTIONS):
        raise ValueError(f"a change reads section.name=value, section one of {', '.join(_SECTIONS)}; got {change!r}.")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a bare word is meant as text
    place = contents.setdefault(section, {})
    for table in tables:
        place = place.setdefault(table, {})
    place[name] = parsed


def _recipe(name: str, profile: str, contents: Mapping) -> Recipe:
    from medssl_nb.evaluation.transfer import TransferSettings
    from medssl_nb.training.profile import Profile

    unknown = sorted(set(contents) - {"about", "method", "after", *_SECTIONS})
    missing = sorted({"about", "method", "cohort", "encoder", "transfer"} - set(contents))
    if unknown or missing:
        what = f"unknown {', '.join(unknown)}" if unknown else f"missing {', '.join(missing)}"
        raise ValueError(f"recipe {name}.{profile}: {what}; it has about, method, [{'], ['.join(_SECTIONS)}].")
    method = contents["method"]
    if method not in (*METHODS, "none"):
        raise ValueError(f"recipe {name}.{profile}: method is one of {', '.join((*METHODS, 'none'))}, got {method!r}.")
    cohort, transfer = dict(contents["cohort"]), dict(contents["transfer"])
    if "organs" in cohort:  # they belong to the data: another cohort has others
        transfer["organs"] = cohort.pop("organs")
    runs = {word: transfer.pop(word) for word in ("labelled", "draws", "seeds") if word in transfer}
    return Recipe(
        name,
        profile,
        contents["about"],
        method,
        cohort,
        dict(contents["encoder"]),
        dict(contents.get("task", {})),
        None if method == "none" else _settings(Profile, "pretraining", contents.get("pretraining", {})),
        _settings(TransferSettings, "transfer", transfer, also=("labelled", "draws", "seeds")),
        tuple(runs.get("labelled", (1, 2, 4, 8))),
        runs.get("draws", 3),
        tuple(runs.get("seeds", (0, 1, 2))),
        after=contents.get("after"),
    )


def _settings(kind: type, section: str, values: Mapping, also: tuple[str, ...] = ()):
    """A dataclass from a section, with errors that name the section."""
    known = [f.name for f in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"[{section}] has no setting {unknown[0]!r}; it has {', '.join((*also, *known))}.")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except (ValueError, TypeError) as error:
        raise ValueError(f"[{section}]: {error}") from None
