#!/bin/sh
# browser.sh: sees to it that there is a Chromium for the tests of pages; installs Debian's where that is allowed.
set -eu
for name in chromium chromium-browser google-chrome; do
    command -v "$name" > /dev/null 2>&1 && exit 0
done
if command -v apt-get > /dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends chromium > /dev/null
else
    echo "browser.sh: tests of pages need Chromium; install it so that 'chromium' is found." >&2
    exit 1
fi
