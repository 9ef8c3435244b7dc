#!/bin/sh
# A virtual display for the GUI tests and screenshots, where there is no screen.
# Debian and Ubuntu as root install what is missing; elsewhere one sentence says what to install.
set -eu
[ "$(uname -s)" = Linux ] || exit 0
[ -n "${DISPLAY:-}" ] && exit 0
packages="xvfb xauth libegl1 libgl1 libopengl0 libglib2.0-0 libdbus-1-3 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1"
if command -v dpkg-query >/dev/null 2>&1; then
    missing=""
    for package in $packages; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -z "$missing" ] && exit 0
    if [ "$(id -u)" = 0 ]; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        # shellcheck disable=SC2086
        apt-get install -y -qq --no-install-recommends $missing >/dev/null
        exit 0
    fi
    echo "The GUI tests need a virtual display; install:$missing" >&2
    command -v Xvfb >/dev/null 2>&1 || exit 1
    exit 0
fi
command -v Xvfb >/dev/null 2>&1 || { echo "The GUI tests need Xvfb: please install it." >&2; exit 1; }
