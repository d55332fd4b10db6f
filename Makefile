# A thin face over tools/ and `python -m medssl_nb`; `make` alone lists what there is. Words to add:
#   TORCH=cuda    the build of torch for NVIDIA GPUs (TORCH=cpu goes back)
#   PORT=9000     port of JupyterLab
#   PYTHON=...    the Python to use, by name or path
#   ARGS="..."    further words for the command behind the target, such as ARGS="-k volumes" for `make test`
PYTHON ?=
TORCH ?=
PORT ?=
ARGS ?=
JOBS ?= 2

VENV_PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup lab test lint doctor notebooks students grade course site clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## install everything into .venv (done once; at once when nothing changed)
	@PYTHON="$(PYTHON)" sh tools/find_python.sh tools/setup_venv.py --torch "$(TORCH)"

lab: setup ## open JupyterLab at the first lesson
	@$(VENV_PYTHON) -m medssl_nb lab $(if $(PORT),--port $(PORT)) $(ARGS)

test: lint ## run every test and every notebook
	@$(VENV_PYTHON) -m pytest --nbval --nbval-current-env --nbval-cell-timeout=180 -n $(JOBS) --dist loadfile $(ARGS)

lint: setup ## check the code's style
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .

doctor: setup ## say what is missing on this machine and how to mend it
	@$(VENV_PYTHON) -m medssl_nb doctor

notebooks: setup ## run all notebooks and store their outputs
	@$(VENV_PYTHON) tools/refresh_notebooks.py $(ARGS)

students: setup ## write copies of the notebooks without solutions to build/students; ARGS="--help" lists choices
	@$(VENV_PYTHON) tools/student_copies.py $(ARGS)

grade: setup ## run handed-in notebooks and say who passed which check; ARGS names their folder
	@$(VENV_PYTHON) tools/grade.py $(ARGS)

course: setup ## bring the pages in docs/course up to date with the lessons
	@$(VENV_PYTHON) tools/course_pages.py

site: setup ## make a web book of all lessons in build/site, offline
	@$(VENV_PYTHON) tools/build_site.py $(ARGS)

clean: ## remove what can be made again, except .venv
	@rm -rf build dist .cache .pytest_cache .ruff_cache .coverage
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
