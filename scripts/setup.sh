# Sourced by the other scripts: goes to the project's folder, makes .venv when there is none, installs what is missing.
# shellcheck shell=sh
cd "$(dirname "$0")/.." || exit 1

if [ ! -x .venv/bin/python ]; then
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi
        candidate=
    done
    [ -n "$candidate" ] || { echo "anykontext needs Python 3.11 or newer; set PYTHON to one" >&2; exit 1; }
    "$candidate" -m venv .venv || {
        rm -rf .venv
        echo "could not make .venv: on Debian and Ubuntu install python3-venv" >&2
        exit 1
    }
fi

if ! cmp -s pyproject.toml .venv/installed-pyproject.toml; then
    echo "installing into .venv …" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' || exit 1
    cp pyproject.toml .venv/installed-pyproject.toml
fi
