"""`python -m medssl_nb lab`: JupyterLab at the first lesson, on a port that is free."""

import argparse
import errno
import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

USUAL_PORT = 8888
PORTS_TO_TRY = 50
FIRST_LESSON = Path("notebooks") / "00_start_here.ipynb"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's words to `parser`."""
    parser.add_argument("notebook", nargs="?", type=Path, help=f"notebook to open (default {FIRST_LESSON})")
    parser.add_argument("--port", type=int, help=f"port to serve on (default {USUAL_PORT}, or the next free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Become JupyterLab. Returns only if it cannot start: 1, after one sentence on why."""
    top = Path(__file__).resolve().parents[2]
    try:
        notebook = find_notebook(options.notebook, top)
        port = choose_port(options.port)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if find_spec("jupyterlab") is None:
        print("JupyterLab is not installed: run `make setup` once, or `pip install -e .`.", file=sys.stderr)
        return 1
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # kernels inherit it: lessons print the same numbers everywhere
    settings = [str(Path(__file__).parents[1] / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, settings))  # no question about Jupyter's news
    command = jupyter_command(notebook, top, port, browser=not options.no_browser)
    print(f"JupyterLab starts with {notebook.name}. Ctrl-C here ends it.", flush=True)
    os.execv(command[0], command)


def find_notebook(chosen: Path | None, top: Path) -> Path:
    """The notebook to open: `chosen`, looked for from here and from `top`, else the first lesson.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it lies outside the project, where the server does not look.
    """
    places = [Path.cwd() / chosen, top / chosen] if chosen else [top / FIRST_LESSON]
    found = next((place.resolve() for place in places if place.is_file()), None)
    if found is None and chosen:
        raise FileNotFoundError(f"There is no notebook {chosen}; look into {top / 'notebooks'}.")
    if found is None:
        raise FileNotFoundError(
            f"There is no {FIRST_LESSON} in {top}: the lessons come with the repository, not with the package alone; "
            "clone it and run `make lab` there."
        )
    if not found.is_relative_to(top):
        raise ValueError(f"{found} lies outside {top}, where JupyterLab cannot open it: copy it into the project.")
    return found


def choose_port(named: int | None) -> int:
    """Port to serve on: the named one, else the usual one or, said in one sentence, the next free one.

    Raises:
        OSError: the named port, or every port tried, is taken or not allowed.
        ValueError: the named number is no port.
    """
    if named is not None:
        if not 1 <= named <= 65535:
            raise ValueError(
                f"A port is a number from 1 to 65535, found {named}: choose another, as in `make lab PORT=9000`."
            )
        if problem := port_problem(named):
            raise OSError(
                f"Port {named} {problem}: choose another, as in `make lab PORT={max(named + 1, 9000)}`, or name none."
            )
        return named
    for port in range(USUAL_PORT, USUAL_PORT + PORTS_TO_TRY):
        if not port_problem(port):
            if port != USUAL_PORT:
                print(f"Port {USUAL_PORT} is taken, so JupyterLab uses {port}.")
            return port
    raise OSError(
        f"Ports {USUAL_PORT} to {USUAL_PORT + PORTS_TO_TRY - 1} are all taken: end an older JupyterLab first."
    )


def port_problem(port: int) -> str:
    """Why nobody could serve on `port` of this machine, or "" if one could. It is bound for a moment to find out."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if os.name != "nt":  # as the server does: a port left a moment ago counts as free
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "is taken by another program"
            if error.errno == errno.EACCES:
                return "is not allowed for your user"
            if family == socket.AF_INET:  # without IPv6 the second family fails, and nobody misses it
                raise
    return ""


def jupyter_command(notebook: Path, top: Path, port: int, *, browser: bool) -> list[str]:
    """The command line of JupyterLab: it serves the whole project and ends at the first Ctrl-C."""
    import zmq

    address = f"/lab/tree/{quote(notebook.relative_to(top).as_posix())}"  # also in the address that is printed
    command = [
        *(sys.executable, "-m", "jupyterlab"),
        f"--ServerApp.root_dir={top}",
        f"--LabApp.default_url={address}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.answer_yes=True",
        "--log-level=WARN",  # the address is printed all the same
    ]
    if zmq.has("curve"):
        command.append("--KernelManager.transport_encryption=auto")  # others on this machine cannot listen
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in containers everybody is root
    return command
