"""Weights in and out: safetensors files that carry their own model card, and loading that says what it loaded."""

import hashlib
import inspect
import json
import os
import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import torch
from torch import Tensor, nn

import medssl_nb
from medssl_nb.data.files import write_atomically
from medssl_nb.data.intensity import modality_family

_CARD_KEY = "medssl_nb"  # one key only: safetensors writes several in random order, and equal runs give equal bytes
_WRAPPERS = ("state_dict", "model", "task", "student", "encoder")  # where training scripts, and ours, keep weights
_PREFIX_WORDS = {"module", "model", "student", "encoder"}
# A root (/, ~/, C:\, file:///) and the folders after it; "mm/s", "a/b" and web addresses have something before the "/".
_FOLDERS_IN_TEXT = re.compile(r"(?<![\w:./\\~])(?:file://)?(?:~?/|[A-Za-z]:[/\\])(?:[^\s/\\,;:'\"]+[/\\])*(?=[^\s/\\])")
_OWN_FIELDS = ("medssl_nb", "torch", "encoder", "parameters", "weights_sha256", "card_sha256")


class _Names(NamedTuple):
    loaded: list[str]
    missing: list[str]
    unexpected: list[str]


class LoadReport(_Names):
    """What loading did: names of tensors `loaded`, `missing` from the file, `unexpected` in the file.

    A tensor of another shape is missing and unexpected. `notes` says so with both shapes, and which prefix was taken
    off the names of the file. `str(report)` is one line, such as
    "loaded 148, missing 2 (head.weight, head.bias), unexpected 0".
    """

    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        missing, unexpected = (f" ({_few(names)})" if names else "" for names in self[1:])
        counts = f"loaded {len(self.loaded)}, missing {len(self.missing)}{missing}"
        return "; ".join([f"{counts}, unexpected {len(self.unexpected)}{unexpected}", *self.notes[:4]])


# ------------------------------------------------------------------------------------------------ saving


def save_encoder(
    encoder: nn.Module,
    path: str | os.PathLike,
    *,
    method: str,
    data: object,
    recipe: object,
    commit: str | None = None,
    **more: object,
) -> Path:
    """Write the weights of an encoder with its model card, in the file's header and as a readable ".md" beside it.

    Equal weights and card give equal bytes. A reader never meets half a file.

    Args:
        encoder: made by `build_encoder`, or with a `description` of the same kind.
        path: ends in ".safetensors"; the readable card gets the ending ".md".
        method: what pre-trained it, such as "masked_autoencoding".
        data: name of the cohort or a dict that describes it.
        recipe: name or settings of the run.
        commit: state of the code that made it.
        more: further fields of the card. All fields are plain values (JSON); of a path that starts at the root only
            the last part is kept, because cards travel and folders of a machine do not.

    Returns:
        The path of the weights.

    Raises:
        ValueError: another ending, no usable description, fields that are not plain values or bear a reserved name,
            weights with NaN or infinity. Nothing is written then.
    """
    fields = {"method": method, "data": data, "recipe": recipe, "commit": commit, **more}
    return _save(path, encoder, encoder, fields, _card_text)


def save_segmenter(
    path: str | os.PathLike,
    segmenter: nn.Module,
    *,
    label_names: Mapping[int, str],
    modality: str,
    spacing_mm: Sequence[float] | None,
    crop: Sequence[int],
    **more: object,
) -> Path:
    """Write a fine-tuned `Segmenter` with all that a prediction needs to know, as `save_encoder` writes an encoder.

    Args:
        path: ends in ".safetensors"; the readable card gets the ending ".md".
        segmenter: its encoder made by `build_encoder`.
        label_names: number in the label map -> name of each class, in rising order; 0 is background.
        modality: of the scans, decides how grey values are scaled; see `medssl_nb.data.normalise`.
        spacing_mm: three numbers, of the working grid that it was trained on; None: scans as they are stored.
        crop: voxels of the window that slides over a scan.
        more: further fields of the card, such as scores.

    Returns:
        The path of the weights.

    Raises:
        ValueError: as `save_encoder`; names that do not match the classes.
    """
    numbers = [int(number) for number in label_names]
    classes = segmenter.head.conv.out_channels
    if numbers != sorted(set(numbers)) or numbers[:1] != [0] or len(numbers) != classes:
        raise ValueError(
            f"label_names names the {classes} classes of the network by rising numbers from 0, the background; "
            f"got {dict(label_names)}."
        )
    fields = {
        "segmenter": {"features": _decoder_features(segmenter)},
        "label_names": {str(number): name for number, name in label_names.items()},
        "modality": modality_family(modality),
        "spacing_mm": None if spacing_mm is None else [float(side) for side in spacing_mm],
        "crop": [int(side) for side in crop],
        **more,
    }
    return _save(path, segmenter, segmenter.encoder, fields, _segmenter_text)


def _decoder_features(segmenter: nn.Module) -> int:
    """What `Segmenter(features=...)` was; without a decoder it means nothing, and is the default."""
    return segmenter.head.conv.in_channels if len(segmenter.stages) else 16


def _save(path: str | os.PathLike, network: nn.Module, encoder: nn.Module, fields: dict, text_of: Callable) -> Path:
    """Weights of `network` with a card that describes its `encoder`, and the readable card beside it."""
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f'path must end in ".safetensors", got {path.name!r}.')
    tensors = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in network.state_dict().items()}
    _check_finite(tensors)
    card = _card(network, encoder, tensors, fields)
    header = {_CARD_KEY: json.dumps(card, sort_keys=True)}
    text = text_of(card, path.name)
    write_atomically(path, lambda draft: save_file(tensors, draft, metadata=header))
    write_atomically(path.with_suffix(".md"), lambda draft: draft.write_text(text, encoding="utf-8"))
    return path


def _card(network: nn.Module, encoder: nn.Module, tensors: dict[str, Tensor], fields: dict) -> dict:
    if clash := sorted(set(fields).intersection(_OWN_FIELDS)):
        saver = "save_segmenter" if "segmenter" in fields else "save_encoder"
        raise ValueError(f"{saver} fills in {', '.join(clash)} itself; give your field another name.")
    description = getattr(encoder, "description", None)
    _arguments(description)  # refuses what build_encoder could not build again
    card = {
        **_without_folders(fields),
        "encoder": dict(description),
        "parameters": sum(p.numel() for p in network.parameters()),
        "medssl_nb": medssl_nb.__version__,
        "torch": torch.__version__,
        "weights_sha256": _weights_digest(tensors),
    }
    try:
        card = json.loads(json.dumps(card, allow_nan=False))  # as a reader will see it: lists, text keys
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"a card holds plain values only (text, numbers, lists, dicts, None; no NaN): {error}."
        ) from None
    return {**card, "card_sha256": _card_digest(card)}


def _without_folders(value: object) -> object:
    """`value` with every absolute path, alone or inside text, cut to its last part."""
    if isinstance(value, Mapping):
        return {_without_folders(key): _without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(entry) for entry in value]
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        for flavour in (PurePosixPath(text), PureWindowsPath(text)):
            if flavour.is_absolute() and flavour.name:
                return flavour.name
        return _FOLDERS_IN_TEXT.sub("", text)
    return value


def _check_finite(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(
                f"{name} holds NaN or infinity: the training diverged, and nothing was saved. Go back to an earlier "
                "checkpoint, or train again with a lower learning rate."
            )


def _weights_digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, the same in whatever file they lie."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()


def _card_digest(card: dict) -> str:
    rest = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------ the readable card


def _card_text(card: dict, file: str) -> str:
    network = card["encoder"]["network"]
    fields = {key: value for key, value in card.items() if key not in _OWN_FIELDS}
    lines = [f"- **{key}**: {_plain(value)}" for key, value in fields.items()]
    plain_monai = _monai_code(card["encoder"], file)
    return "\n".join(
        [
            f"# {Path(file).stem}",
            "",
            f"Weights of a `{network}` encoder for medical images ({card['parameters']:,} parameters), as "
            f"{card['method']} left it. A starting point for fine-tuning and research; not a medical device.",
            "",
            *lines,
            f"- **encoder**: {_plain(card['encoder'])}",
            f"- **written with**: medssl_nb {card['medssl_nb']}, torch {card['torch']}",
            f"- **SHA-256 of the weights** (names, types, shapes, values): `{card['weights_sha256']}`",
            "",
            "## Load it",
            "",
            "With medssl_nb, which also checks that nothing was changed:",
            "",
            "```python",
            "from medssl_nb.networks import load_encoder",
            f"encoder = load_encoder({file!r})",
            "```",
            "",
            *(plain_monai or [f"No class of MONAI alone is built like this `{network}`."]),
            "",
        ]
    )


def _segmenter_text(card: dict, file: str) -> str:
    fields = {key: value for key, value in card.items() if key not in (*_OWN_FIELDS, "segmenter")}
    return "\n".join(
        [
            f"# {Path(file).stem}",
            "",
            f"Weights of a segmentation network for medical images, with a `{card['encoder']['network']}` as encoder "
            f"({card['parameters']:,} parameters in all). For research; not a medical device.",
            "",
            *(f"- **{key}**: {_plain(value)}" for key, value in fields.items()),
            f"- **encoder**: {_plain(card['encoder'])}",
            f"- **written with**: medssl_nb {card['medssl_nb']}, torch {card['torch']}",
            f"- **SHA-256 of the weights** (names, types, shapes, values): `{card['weights_sha256']}`",
            "",
            "## Use it",
            "",
            f"On the command line: `python -m medssl_nb predict {file} SCANS --to FOLDER`. In Python:",
            "",
            "```python",
            "from medssl_nb.evaluation import predict_scan",
            "from medssl_nb.networks import load_segmenter",
            f"segmenter, card = load_segmenter({file!r})",
            'predict_scan(segmenter, "scan.nii.gz", "labels.nii.gz", card)',
            "```",
            "",
        ]
    )


def _plain(value: object) -> str:
    if value is None:
        return "not recorded"
    return value if isinstance(value, str) else f"`{json.dumps(value, ensure_ascii=False)}`"


def _monai_code(description: Mapping, file: str) -> list[str]:
    """Markdown that loads the file into MONAI's own class; nothing where MONAI has none."""
    network, given = description["network"], _arguments(description)
    if network == "FeatureUNet" and len(given["channels"]) == 5:
        norm = (
            ("batch", {"momentum": given["momentum"]}) if given["norm"] == "batch" else ("instance", {"affine": True})
        )
        options = {
            "spatial_dims": given["spatial_dims"],
            "in_channels": given["in_channels"],
            "out_channels": given["num_classes"],
            "features": (*given["channels"], given["channels"][0]),
            "act": "relu",
            "norm": norm,
            "bias": False,
        }
        way_down = "the way down (`conv_0`, `down_1` to `down_4`)"
        return _monai_block("BasicUNet", options, file, way_down, ("conv_0.", "down_"))
    if network == "MaskedPatchTransformer":
        mlp_size = 4 * given["hidden_size"] if given["mlp_size"] is None else given["mlp_size"]
        options = {
            "in_channels": given["in_channels"],
            "img_size": tuple(given["volume_size"]),
            "patch_size": given["patch_size"],
            "hidden_size": given["hidden_size"],
            "mlp_dim": mlp_size,
            "num_layers": given["layers"],
            "num_heads": given["heads"],
            "pos_embed_type": given["position"],
            "spatial_dims": len(given["volume_size"]),
        }
        return _monai_block("ViT", options, file, "the transformer, without the head", "encoder.")
    if network == "SwinBackbone":
        own = {"in_channels": given["in_channels"], "out_channels": given["in_channels"]}
        options = {**own, "feature_size": given["feature_size"], **given.get("swin_unetr_options", {})}
        return _monai_block("SwinUNETR", options, file, "the whole network", "swin_unetr.")
    return []


def _monai_block(name: str, options: Mapping, file: str, part: str, kept: str | tuple[str, ...]) -> list[str]:
    """`kept` is the lead of the names that belong to MONAI's class, and comes off; of several leads, none does."""
    own_name, rest = (f"name.removeprefix({kept!r})", "") if isinstance(kept, str) else ("name", ", strict=False")
    return [
        f"In plain MONAI, {part}:",
        "",
        "```python",
        f"from monai.networks.nets import {name}",
        "from safetensors.torch import load_file",
        f"network = {name}({', '.join(f'{key}={value!r}' for key, value in options.items())})",
        f"weights = {{{own_name}: t for name, t in load_file({file!r}).items() if name.startswith({kept!r})}}",
        f"network.load_state_dict(weights{rest})",
        "```",
    ]


def _arguments(description: object) -> dict:
    """All arguments of the described network's constructor, defaults filled in."""
    from medssl_nb import networks
    from medssl_nb.networks.build import ENCODERS

    options = dict(description) if isinstance(description, Mapping) else {}
    name = options.pop("network", None)
    if name not in ENCODERS:
        raise ValueError(
            f"an encoder is saved with the description from which build_encoder makes it again; found {description!r}. "
            f"Make it with build_encoder, or set encoder.description to {{'network': one of {', '.join(ENCODERS)}, "
            "**its arguments}."
        )
    try:
        bound = inspect.signature(getattr(networks, name)).bind(**options)
    except TypeError as error:
        raise ValueError(f"encoder.description does not fit {name}: {error}. Found {description!r}.") from None
    bound.apply_defaults()
    return bound.arguments


# ------------------------------------------------------------------------------------------------ loading


def read_card(path: str | os.PathLike) -> dict:
    """The model card in the header of a file that `save_encoder` wrote; the weights are not read.

    Returns:
        "encoder" (the description for `build_encoder`), "method", "data", "recipe", "commit", "parameters",
        "weights_sha256", versions, and what else was given.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole safetensors file, one without a card, or a card that was changed.
    """
    card, _ = _read_safetensors(Path(path), weights=False)
    if card is None:
        raise ValueError(
            f"{path} has no model card of medssl_nb, so what network it belongs to is not known. Build that network "
            "and load the weights with load_pretrained(network, path)."
        )
    return card


def load_encoder(path: str | os.PathLike) -> nn.Module:
    """The encoder that `save_encoder` wrote, on the CPU and in training mode as `build_encoder` makes it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole file of `save_encoder`, or weights or card were changed since.
    """
    from medssl_nb.networks.build import build_encoder

    card = read_card(path)
    if "segmenter" in card:
        raise ValueError(f"{path} holds a whole segmentation network; take load_segmenter(path)[0].encoder.")
    with torch.random.fork_rng(devices=[]):  # the first weights are replaced; the caller's random numbers do not move
        encoder = build_encoder(card["encoder"])
    _fill(encoder, path, card)
    return encoder


def load_segmenter(path: str | os.PathLike) -> tuple[nn.Module, dict]:
    """The network that `save_segmenter` wrote, on the CPU and in `eval()` mode, and its card.

    Returns:
        `Segmenter`, and the card of `read_card`: "label_names" (whole numbers -> names, in the order of the classes),
        "modality", "spacing_mm", "crop" and what else was given.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole file of `save_segmenter`, or weights or card were changed since.
    """
    from medssl_nb.networks.build import build_encoder
    from medssl_nb.networks.segmenter import Segmenter

    card = read_card(path)
    if "segmenter" not in card:
        raise ValueError(
            f"{path} holds an encoder alone, which names no organs; fine-tune it first: python -m medssl_nb finetune."
        )
    card["label_names"] = {number: card["label_names"][str(number)] for number in sorted(map(int, card["label_names"]))}
    with torch.random.fork_rng(devices=[]):
        segmenter = Segmenter(build_encoder(card["encoder"]), len(card["label_names"]), **card["segmenter"])
    _fill(segmenter, path, card)
    return segmenter.eval(), card


def _fill(network: nn.Module, path: str | os.PathLike, card: Mapping) -> None:
    """Give a network that was built from a card the weights beside it; all of them, and no others."""
    _, tensors = _read_safetensors(Path(path))
    report = _load(network, tensors, str(path), prefix="", minimum=1.0)
    if report.missing or report.unexpected:
        raise ValueError(f"{path} does not hold the {card['encoder']['network']} that its card describes: {report}.")


def load_pretrained(
    network: nn.Module,
    file_or_state_dict: str | os.PathLike | Mapping,
    *,
    prefix: str | None = None,
    minimum: float = 0.5,
) -> LoadReport:
    """Load the tensors whose name and shape match, and say which; refuse when too few do.

    Args:
        network: its values are replaced in place, device and number type stay.
        file_or_state_dict: a ".safetensors" file, a file of `torch.save` (tensors and plain values only, nothing is
            unpickled beyond), or a state dict; also nested under "state_dict", "model", "task" (checkpoints of
            `pretrain`), "student" or "encoder".
        prefix: what the names of the file have in front, such as "backbone."; "" for nothing. None tries nothing and
            then what training scripts put there ("module.", "encoder.", "model.", "student.", also one after the
            other), takes what matches most, and says so in the report's `notes`.
        minimum: smallest share of the network's parameters (count of tensors, buffers aside) that must match, 0 to 1;
            one must match in any case.

    Returns:
        LoadReport; its `loaded` and `missing` are names of the network, `unexpected` names of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged or changed file, one that would have to be unpickled, no weights in it, or too few that
            match. The network is unchanged then.
    """
    if not 0 <= minimum <= 1:
        raise ValueError(f"minimum is a share of the network's parameters, 0 to 1, got {minimum}. For 50 % write 0.5.")
    if isinstance(file_or_state_dict, Mapping):
        source, content = "the state dict", file_or_state_dict
    else:
        path = Path(file_or_state_dict)
        source = str(path)
        content = _read_safetensors(path)[1] if path.suffix == ".safetensors" else _read_torch(path)
    if prefix:
        prefix = prefix.removesuffix(".") + "."
    return _load(network, _weights_in(content, source), source, prefix, minimum)


def _load(
    network: nn.Module, tensors: dict[str, Tensor], source: str, prefix: str | None, minimum: float
) -> LoadReport:
    own = {name: t for name, t in network.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    parameters = {name for name, tensor in own.items() if isinstance(tensor, nn.Parameter)}
    if prefix is None:
        prefix = max(_usual_prefixes(tensors), key=lambda p: len(parameters.intersection(_fitting(own, tensors, p))))
    fitting = _fitting(own, tensors, prefix)
    used = {prefix + name for name in fitting}
    report = LoadReport(fitting, [n for n in own if n not in set(fitting)], [n for n in tensors if n not in used])
    report.notes = _notes(own, tensors, prefix, report)
    matched = len(parameters.intersection(fitting))
    if matched == 0 or matched / len(parameters) < minimum:
        raise ValueError(_refusal(own, tensors, source, report, matched, len(parameters), minimum))
    network.load_state_dict({name: tensors[prefix + name] for name in fitting}, strict=False)
    return report


def _fitting(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Names of the network that the file has, after `prefix`, in the same shape."""
    return [name for name, t in own.items() if prefix + name in tensors and tensors[prefix + name].shape == t.shape]


def _usual_prefixes(names: Iterable[str]) -> list[str]:
    """ "" and every run of usual words that some name begins with, the shortest first."""
    found = {""}
    for name in names:
        prefix = ""
        for word in name.split(".")[:-1]:
            if word not in _PREFIX_WORDS:
                break
            prefix += word + "."
            found.add(prefix)
    return sorted(found, key=lambda p: (p.count("."), p))


def _notes(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], prefix: str, report: LoadReport) -> tuple:
    taken_off = [f"names in the file begin with {prefix!r}, which was taken off"] if prefix and report.loaded else []
    shapes = [
        f"{name} is {tuple(own[name].shape)} in the network, {tuple(tensors[prefix + name].shape)} in the file"
        for name in report.missing
        if prefix + name in tensors
    ]
    return (*taken_off, *shapes)


def _refusal(
    own: Mapping, tensors: Mapping, source: str, report: LoadReport, matched: int, parameters: int, minimum: float
) -> str:
    """What did not match, and the likeliest way to mend it."""
    found, needed = f"{matched} of the network's {parameters} parameters", f"at least {minimum:.0%} were asked for"
    in_file, inside = _common_lead(tensors, own), _common_lead(own, tensors)
    if in_file[1] > max(matched, inside[1]):
        mend = f"With prefix={in_file[0]!r}, {in_file[1]} tensors would match."
    elif inside[1] > matched:
        mend = f"The file fits a part of the network: load it into network.{inside[0].removesuffix('.')}."
    else:
        mend = (
            "Build the network with the widths and options that the file was made with, or name what its tensors have "
            "in front (prefix=...); if so little is meant to match, lower minimum."
        )
    return (
        "; ".join(
            [
                f"{source} fits only {found} by name and shape, {needed}, so nothing was loaded",
                f"in the network: {_few(report.missing)}",
                f"in the file: {_few(report.unexpected)}",
                *report.notes[:3],
            ]
        )
        + f". {mend}"
    )


def _common_lead(longer: Mapping[str, Tensor], shorter: Mapping[str, Tensor]) -> tuple[str, int]:
    """The lead that turns most names of `shorter` into names of `longer` with the same shape, and how many."""
    leads = Counter()
    for name, tensor in longer.items():
        words = name.split(".")
        for k in range(1, len(words)):
            namesake = shorter.get(".".join(words[k:]))
            if namesake is not None and namesake.shape == tensor.shape:
                leads[".".join(words[:k]) + "."] += 1
    return leads.most_common(1)[0] if leads else ("", 0)


def _weights_in(content: object, source: str) -> dict[str, Tensor]:
    """The tensors by name in what a file held, out of the dicts that training scripts wrap around them."""
    while isinstance(content, Mapping):
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    is_dict = isinstance(content, Mapping)
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)} if is_dict else {}
    if not tensors:
        found = f"a dict with {_few([str(key) for key in content])}" if is_dict else f"a {type(content).__name__}"
        raise ValueError(
            f"{source} holds no weights by name: found {found}. Needed is a state dict (name -> tensor), which may lie "
            f"under {', '.join(map(repr, _WRAPPERS))}; take it out of the file and pass it."
        )
    return tensors


def _read_safetensors(path: Path, *, weights: bool = True) -> tuple[dict | None, dict[str, Tensor]]:
    """Card (None where the file has none) and tensors, checked against each other."""
    from safetensors import SafetensorError, safe_open

    _check_is_file(path)
    try:
        with safe_open(path, framework="pt") as stream:
            header = (stream.metadata() or {}).get(_CARD_KEY)
            tensors = {name: stream.get_tensor(name) for name in stream.keys()} if weights else {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}): it was cut short, damaged, or is of another kind. Copy "
            "or download it again."
        ) from error
    card = None if header is None else _checked_card(header, path)
    if card is not None and weights and _weights_digest(tensors) != card["weights_sha256"]:
        raise ValueError(_changed(path, "weights"))
    return card, tensors


def _checked_card(header: str, path: Path) -> dict:
    try:
        card = json.loads(header)
        whole = card["card_sha256"] == _card_digest(card)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(_changed(path, "model card")) from error
    if not whole:
        raise ValueError(_changed(path, "model card"))
    return card


def _changed(path: Path, part: str) -> str:
    return (
        f"{path} is not what was saved: the SHA-256 of its {part} is not the one on record. It was damaged or changed; "
        "copy or download it again."
    )


def _read_torch(path: Path) -> object:
    """What a file of `torch.save` holds, without running any code in it."""
    _check_is_file(path)
    with path.open("rb") as stream:  # what fails from here on lies in the content
        try:
            return torch.load(stream, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except pickle.UnpicklingError as error:
            # torch's own message tells how to switch the safety off; ours does not.
            unsafe = re.search(r"GLOBAL:? (\S+)", str(error))
            found = f"it names {unsafe[1]}" if unsafe else "it is damaged, of another kind, or holds code"
            raise ValueError(
                f"{path} holds more than tensors and plain values ({found}), and nothing else is unpickled, because "
                "that can run code. Where you trust the file, read it there, and save its state_dict() with "
                "safetensors.torch.save_file."
            ) from error
        except Exception as error:  # a damaged pickle can fail in any way
            raise ValueError(
                f"{path} is not a whole file of torch.save: it was cut short, damaged, or is of another kind (weights "
                "are read from .safetensors files and from what torch.save writes). Copy or download it again."
            ) from error


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; weights are read from .safetensors files or torch.save's.")


def _few(names: Sequence[str], shown: int = 4) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "") or "nothing"
