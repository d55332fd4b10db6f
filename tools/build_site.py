"""The lessons as a static web book: `python tools/build_site.py`, or `make site`.

Made from the stored notebooks, without running them and without the network; the pages need neither a server nor a
network either: open `index.html`. Address of the repository at GitHub, for links to source files, Binder and Colab:
`--repository`, else MEDSSL_SITE_REPOSITORY, as OWNER/NAME or OWNER/NAME@BRANCH; without one there are no such links.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
PROJECT = TOOLS.parent
sys.path[:0] = [place for place in (str(TOOLS), str(TOOLS / "site")) if place not in sys.path]

from site_explorers import LIVE, cell_of  # noqa: E402
from site_pages import Site, write_sources  # noqa: E402

PLOTLY_SIGN = 'class="plotly-figure"'


def main(argv: list[str] | None = None) -> int:
    """Build the site. Returns 0, or 1 when Sphinx failed."""
    parser = argparse.ArgumentParser(description="Make a web book of the lessons and pages, offline.")
    parser.add_argument("--to", type=Path, default=PROJECT / "build" / "site", help="folder for the site")
    address = os.environ.get("MEDSSL_SITE_REPOSITORY", "")
    parser.add_argument("--repository", default=address, help="OWNER/NAME[@BRANCH] at GitHub; default: none")
    options = parser.parse_args(argv)
    started = time.monotonic()
    dead = build(options.to, PROJECT, options.repository)
    for link in dead:
        print(f"leads nowhere: {link}", file=sys.stderr)
    size = sum(path.stat().st_size for path in options.to.rglob("*") if path.is_file()) / 1e6
    print(f"{size:.0f} MB in {time.monotonic() - started:.0f} s: open {options.to / 'index.html'}")
    return 0


def build(target: Path, top: Path = PROJECT, repository: str = "") -> list[str]:
    """Write the site of the project in `top` to the folder `target`. Returns links that lead nowhere.

    Raises:
        SystemExit: a target with files that are no site, an address of another form, or what Sphinx cannot build.
    """
    if repository and not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", repository):
        sys.exit(f"the repository is OWNER/NAME or OWNER/NAME@BRANCH, such as ana/medssl_nb; got {repository!r}.")
    if target.is_dir() and any(target.iterdir()) and not (target / "searchindex.js").is_file():
        sys.exit(f"{target} holds files that are no site: move them away or name another folder with --to.")
    explorers = recorded_explorers(top / "build" / "explorers")  # these and the pages are made side by side
    with tempfile.TemporaryDirectory() as folder:
        site = Site(top, Path(folder) / "source", repository)
        for live in LIVE:
            site.live.setdefault(live.notebook, {})[cell_of(live, top)] = live
        write_sources(site)
        copy_downloads(site)
        made = Path(folder) / "site"
        run_sphinx(site.source, made, Path(folder) / "read")
        add_plotly(made)
        shutil.copytree(explorers(), made / "_static" / "explorers")
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, target)
    return site.dead


def copy_downloads(site: Site) -> None:
    """The notebooks as they are, each beside its page."""
    for path in site.notebooks():
        copy = site.source / "_extra" / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(site.top / path, copy)


def recorded_explorers(cache: Path) -> Callable[[], Path]:
    """Start recording the explorers, unless `cache` has them. Returns a function that waits for their folder."""
    ready = cache / fingerprint()
    if ready.is_dir():
        return lambda: ready
    cache.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(dir=cache, prefix="half_"))
    command = [sys.executable, "-W", "ignore", str(TOOLS / "site" / "site_explorers.py"), str(half)]
    running = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def wait() -> Path:
        if running.wait():
            sys.exit("the explorers could not be recorded; the error stands above.")
        for old in set(cache.glob("[0-9a-f]*")) - {ready}:  # of sources that are no more
            shutil.rmtree(old, ignore_errors=True)
        if ready.is_dir():  # a build beside this one was faster
            shutil.rmtree(half)
        else:
            half.rename(ready)
        return ready

    return wait


def fingerprint() -> str:
    """Of all that the explorers are made from."""
    files = sorted({PROJECT / live.notebook for live in LIVE})
    files += [TOOLS / "site" / "site_explorers.py"]
    files += sorted(
        path for path in (PROJECT / "medssl_nb").rglob("*") if path.suffix in (".py", ".js", ".css", ".toml")
    )
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def add_plotly(made: Path) -> None:
    """plotly's own script, from the installed package, if a page has a plotly figure."""
    if any(PLOTLY_SIGN in page.read_text(encoding="utf-8") for page in made.rglob("*.html")):
        import plotly

        script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
        shutil.copyfile(script, made / "_static" / "plotly.min.js")


def run_sphinx(source: Path, target: Path, cache: Path) -> None:
    from sphinx.cmd.build import build_main

    options = ["-q", "-b", "html", "-j", "2", "-c", str(TOOLS / "site"), "-d", str(cache)]
    extra = ["-D", f"html_extra_path={source / '_extra'}"]
    if build_main([*options, *extra, str(source), str(target)]):
        sys.exit("Sphinx could not build the site; its words stand above.")


if __name__ == "__main__":
    sys.exit(main())
