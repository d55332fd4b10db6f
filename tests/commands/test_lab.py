"""`python -m medssl_nb lab` finds a free port and the lesson, or says in one sentence why not."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from medssl_nb.__main__ import main
from medssl_nb.commands import lab

PROJECT = Path(__file__).parents[2]


@contextmanager
def taken_port(port=0):
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        yield server.getsockname()[1]


def free_port():
    with taken_port() as port:
        return port


@pytest.fixture(autouse=True)
def started(monkeypatch):
    """Command lines of the servers that were to start; this process does not become one."""
    commands = []
    monkeypatch.setattr(lab.os, "execv", lambda program, command: commands.append(command))
    return commands


@pytest.fixture
def lesson(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_start_here.ipynb").write_text("{}")
    return tmp_path


def test_a_named_port_that_is_free_is_used():
    port = free_port()
    assert lab.choose_port(port) == port


def test_a_named_port_that_is_taken_ends_with_one_sentence(capsys, started):
    with taken_port() as port:
        assert main(["lab", "--port", str(port), "README.md"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"Port {port} is taken by another program: choose another, as in `make lab PORT=")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert started == []


def test_the_usual_port_gives_way_to_the_next_one(capsys, monkeypatch):
    with taken_port() as port:
        monkeypatch.setattr(lab, "USUAL_PORT", port)
        chosen = lab.choose_port(None)
    assert chosen > port
    assert capsys.readouterr().out == f"Port {port} is taken, so JupyterLab uses {chosen}.\n"


def test_no_port_left(monkeypatch):
    with taken_port() as port:
        monkeypatch.setattr(lab, "USUAL_PORT", port)
        monkeypatch.setattr(lab, "PORTS_TO_TRY", 1)
        with pytest.raises(OSError, match="end an older JupyterLab first"):
            lab.choose_port(None)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port(port):
    with pytest.raises(ValueError, match=f"from 1 to 65535, found {port}"):
        lab.choose_port(port)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_a_port_taken_in_the_other_family_counts_as_taken():
    with socket.socket(socket.AF_INET6) as server:
        try:
            server.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 address here")
        server.listen()
        assert lab.port_problem(server.getsockname()[1]) == "is taken by another program"


def test_notebook_is_the_first_lesson_unless_named(lesson, monkeypatch):
    first = lesson / "notebooks" / "00_start_here.ipynb"
    monkeypatch.chdir(lesson.parent)
    assert lab.find_notebook(None, lesson) == first
    assert lab.find_notebook(Path("notebooks/00_start_here.ipynb"), lesson) == first
    monkeypatch.chdir(lesson / "notebooks")
    assert lab.find_notebook(Path("00_start_here.ipynb"), lesson) == first


def test_notebooks_that_cannot_be_opened(lesson, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match=r"no notebook nowhere\.ipynb"):
        lab.find_notebook(Path("nowhere.ipynb"), lesson)
    outside = tmp_path_factory.mktemp("outside") / "mine.ipynb"
    outside.write_text("{}")
    with pytest.raises(ValueError, match="copy it into the project"):
        lab.find_notebook(outside, lesson)
    with pytest.raises(FileNotFoundError, match="come with the repository"):
        lab.find_notebook(None, outside.parent)


def test_command_line_of_jupyter(lesson, monkeypatch):
    monkeypatch.setattr(lab.os, "geteuid", lambda: 1000, raising=False)
    command = lab.jupyter_command(lesson / "my book.ipynb", lesson, 9000, browser=True)
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert {"--LabApp.default_url=/lab/tree/my%20book.ipynb", "--ServerApp.port=9000"} <= set(command)
    assert not {"--no-browser", "--allow-root"} & set(command)
    monkeypatch.setattr(lab.os, "geteuid", lambda: 0, raising=False)
    command = lab.jupyter_command(lesson / "my book.ipynb", lesson, 9000, browser=False)
    assert {"--no-browser", "--allow-root"} <= set(command)


def test_server_inherits_one_thread_and_our_settings(monkeypatch, started):
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # restored afterwards
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/mine")
    main(["lab", "--port", str(free_port()), "README.md"])
    assert os.environ["OMP_NUM_THREADS"] == "1"
    ours, *others = os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert (Path(ours) / "labconfig" / "page_config.json").is_file()
    assert others == ["/mine"]
    assert "--LabApp.default_url=/lab/tree/README.md" in started[0]


def test_without_words_the_commands_are_listed(capsys):
    assert main([]) == 2
    assert "doctor" in capsys.readouterr().out


def test_help_costs_no_imports():
    code = "import sys, medssl_nb.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert not {"torch", "numpy", "medssl_nb.commands.lab", "medssl_nb.commands.doctor"} & set(done.stdout.split())


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent another way there")
def test_server_starts_with_the_lesson_and_ends_at_the_first_interrupt(tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "medssl_nb", "lab", "--no-browser", "--port", str(port)]
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path)}
    log = tmp_path / "log.txt"
    terminal, terminal_of_server = os.openpty()  # on a terminal Jupyter would ask whether it shall really end
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdin=terminal_of_server, stdout=stream, stderr=stream
        )
        try:
            assert answer(port, server)["version"]
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=60) == 0
        finally:
            server.kill()
            os.close(terminal)
            os.close(terminal_of_server)
    said = log.read_text()
    assert f"http://localhost:{port}/lab/tree/notebooks/00_start_here.ipynb?token=" in said
    assert "Traceback" not in said
    assert " WARN" not in said and "[W " not in said  # an option that JupyterLab does not know would be warned of


def answer(port, server):
    """The server's first answer to a question that needs no token."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/api", timeout=5) as reply:
                return json.load(reply)
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None, "the server ended by itself"
            time.sleep(0.1)
    raise AssertionError("no answer after a minute")
