"""The command line: `python -m medssl_nb COMMAND`. Each command lives in a module of its own, imported when called."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "lab": "open JupyterLab at the first lesson",
    "doctor": "check this machine and say how to mend what is missing",
    "check": "look at a folder of your own scans, say what is wrong with it and what to run next",
    "recipes": "list what can be run, or print one recipe",
    "pretrain": "pre-train an encoder, or go on where a run stopped",
    "transfer": "fine-tune on a few labels, with and without pre-training, and test once",
    "finetune": "train a segmentation network on labelled scans and keep it",
    "predict": "segment new scans with a network that finetune kept",
    "evaluate": "probe frozen features and find landmarks with them",
    "report": "make tables and pictures from the results",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0 all is well, 1 a problem (it was printed), 2 wrong words."""
    parser = argparse.ArgumentParser(prog="python -m medssl_nb", description="Learn self-supervised learning in 3D.")
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    words = list(sys.argv[1:] if argv is None else argv)
    for name, text in COMMANDS.items():
        command = choices.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name in words[:1]:  # only the called command is imported
            import_module(f"medssl_nb.commands.{name}").configure(command)
    options = parser.parse_args(words)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        return options.run(options)
    except (ValueError, OSError, MemoryError) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
