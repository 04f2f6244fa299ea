#!/bin/sh
# A browser for tests/inspect/test_page_browser.py and docs/pictures/inspect_page.py: Debian's chromium.
# Does nothing where one is found. Never fails: without a browser these tests are skipped, and say so.

for browser in chromium chromium-browser google-chrome; do
    command -v "$browser" >/dev/null 2>&1 && exit 0
done

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    as_root="none"
fi

if [ "$as_root" != none ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing chromium for the tests of the HTML page"
    $as_root apt-get update -qq &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi

if ! command -v chromium >/dev/null 2>&1; then
    echo "*** NO BROWSER: chromium could not be installed, so the tests of the HTML page will be SKIPPED. ***" >&2
    echo "*** Install chromium (Debian: apt-get install chromium) and run the tests again. ***" >&2
fi
exit 0
