# make demo    the main job on loopback, no root, nothing to prepare
# make test    what the tests need (Debian packages: as root), then all tests
# make lint    ruff, mypy --strict, import-linter
# make fuzz TARGET=mime SECONDS=60   one target of tests/fuzz under atheris
# make bench   measurements: a table, compared with the targets; CORPUS=DIR: on the benign documents of a corpus,
#              BENCH_ARGS="--only replay": only the reading of captures
# make corpus DIR=... SCORER=...   how much of a corpus of known files is judged rightly
# make pcaps   as root: record the captures of pcaps/ anew (NAMES="clean infected": these only), and
#              make pcaps-expected: take what replay says of them now as what is expected
# PYTHON=/path/to/python3 chooses the interpreter; otherwise the newest supported one is found.

VENV ?= .venv
# A second interpreter for the tests that need no root, if there is one (.ci/run: 3.11).
ALSO ?=
PYTEST_ARGS ?=
export PYTHON PYTEST_ARGS

TEST_PACKAGES = chromium clamav-daemon iproute2 iputils-ping libio-socket-inet6-perl nftables openssl postfix procps swaks \
	tcpdump libreoffice-writer-nogui libreoffice-calc-nogui libreoffice-impress-nogui poppler-utils
BENCH_PACKAGES = clamav-daemon clamsmtp postfix tcpflow tshark

TARGET ?= mime
SECONDS ?= 60

CORPUS ?=
BENCH_ARGS ?=
DIR ?=
SCORER ?=
FOLDERS ?= eml-* docs-* archives-*
LEAST ?= 97

.PHONY: help demo venv test test-all lint format fuzz bench corpus pcaps pcaps-expected clean

help:
	@sed -n 's/^# //p' Makefile

demo: venv
	@$(VENV)/bin/netinspect demo

venv:
	@scripts/venv $(VENV) base

test:
	@scripts/debian-packages $(TEST_PACKAGES)
	@scripts/venv $(VENV) test
	@scripts/run-tests $(VENV) $(ALSO)

# All tests under each supported interpreter of this machine.
test-all:
	@set -e; for python in $$(PYTHON= scripts/find-python --all); do \
		$(MAKE) --no-print-directory test PYTHON=$$python VENV=.venv-$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	done

lint:
	@scripts/venv $(VENV) dev
	@status=0; \
	for tool in "ruff check ." "mypy --strict netinspect addons" "lint-imports"; do \
		echo "$$tool"; $(VENV)/bin/$$tool || status=1; \
	done; exit $$status

format:
	@scripts/venv $(VENV) dev
	$(VENV)/bin/ruff check --fix .

# atheris is for this only: it stays out of the environment.
fuzz:
	@scripts/venv $(VENV) test
	@test -d .fuzz/lib || $(VENV)/bin/python -m pip install -q --no-deps --target .fuzz/lib atheris==3.1.0
	PYTHONPATH=.fuzz/lib $(VENV)/bin/python -m tests.fuzz $(TARGET) $(SECONDS)

bench:
	@scripts/debian-packages $(BENCH_PACKAGES)
	@scripts/venv $(VENV) test
	@$(VENV)/bin/python -m tests.bench $(if $(CORPUS),--corpus '$(CORPUS)') $(BENCH_ARGS)

# Nothing of the corpus is kept here: folder and scorer are named by whoever has them.
corpus:
	@test -n '$(DIR)' -a -n '$(SCORER)' || { echo "make corpus DIR=/path/to/corpus SCORER=/path/to/score.py" >&2; exit 2; }
	@scripts/debian-packages clamav-daemon
	@scripts/venv $(VENV) test
	@set -f; $(VENV)/bin/python -m tests.bench.corpus '$(DIR)' --scorer '$(SCORER)' --folders $(FOLDERS) --least $(LEAST)

# As root: namespaces, the gateway, real clients and servers. Ends with what the gateway and the replay disagree on.
pcaps:
	@scripts/debian-packages $(TEST_PACKAGES)
	@scripts/venv $(VENV) test
	@$(VENV)/bin/python -m tests.pcaps record $(NAMES)

pcaps-expected:
	@scripts/venv $(VENV) test
	@$(VENV)/bin/python -m tests.pcaps expect

clean:
	rm -rf .venv .venv-3.* .fuzz .pcaps .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage* htmlcov dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
