#!/bin/sh
# install.sh PYTHON TARGET: installs TARGET (such as ".[dev]") editable. A torch >= 2.10 that is there stays as it is;
# otherwise the one pinned in constraints.txt is installed first, so that no looser range can bring another build.
set -eu
python=$1
target=$2
have=$("$python" - <<'PY'
try:
    from importlib.metadata import version
    found = version("torch")
    numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:2])
    print(found if numbers >= (2, 10) else "")
except Exception:
    print("")
PY
)
if [ -n "$have" ]; then
    printf 'torch==%s\n' "${have%%+*}" > "$(dirname "$0")/.venv/constraints.txt"
    exec "$python" -m pip install --quiet --disable-pip-version-check -c "$(dirname "$0")/.venv/constraints.txt" -e "$target"
fi
exec "$python" -m pip install --quiet --disable-pip-version-check -c "$(dirname "$0")/constraints.txt" -e "$target"
