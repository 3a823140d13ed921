#!/bin/sh
# install.sh PYTHON TARGET: makes .venv/ if need be and installs TARGET, such as ".[dev]", into it, editable.
# A torch >= 2.10 that PYTHON or .venv/ already has is kept; otherwise the one of constraints.txt is installed, pinned, so
# that no looser range can bring another build.
set -eu
base=$1
target=$2
here=$(cd "$(dirname "$0")" && pwd)
venv=$here/.venv

torch_of() {
    "$1" - <<'PY'
from importlib.metadata import PackageNotFoundError, version

try:
    found = version("torch").split("+")[0]
except PackageNotFoundError:
    found = ""
print(found if found and tuple(int(part) for part in found.split(".")[:2]) >= (2, 10) else "")
PY
}

if [ ! -x "$venv/bin/python" ]; then
    if [ -n "$(torch_of "$base")" ]; then
        "$base" -m venv --system-site-packages "$venv"
    else
        "$base" -m venv "$venv"
    fi
fi
have=$(torch_of "$venv/bin/python")
if [ -n "$have" ]; then
    echo "torch==$have" > "$venv/constraints.txt"
else
    cp "$here/constraints.txt" "$venv/constraints.txt"
fi
cd "$here"
exec "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$venv/constraints.txt" -e "$target"
