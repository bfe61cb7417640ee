# Sourced by the scripts beside it: where things stand, and how to get what is missing.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Rust's own installer puts cargo here, and a fresh shell may not know yet.
command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

command -v rustc >/dev/null || fail "there is no Rust on this machine: https://rustup.rs has it for you alone, without root"

target=${CARGO_TARGET_DIR:-$PWD/target}
host=$(rustc -vV | sed -n 's/^host: //p')

# Runs a command as root, with our environment.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -E env "PATH=$PATH" "$@"; fi
}

# need PACKAGE...: installs those of Debian's packages that are not there yet.
need() {
    local missing=() package
    for package; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    install "${missing[@]}" || {
        say "refreshing the package lists"
        as_root apt-get update -qq
        install "${missing[@]}"
    }
}

install() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

# Gets Docker's engine and containerd where they are not installed, and only unpacks them: installed, they would run as
# services and change the host's network.
unpack_engines() {
    local engines=$target/engines
    if ! { command -v dockerd && command -v docker && command -v ctr; } >/dev/null; then
        need libdevmapper1.02.1
        [ -x "$engines/usr/bin/ctr" ] || {
            say "unpacking docker.io and containerd (kept in $engines)"
            rm -rf "$engines" && mkdir -p "$engines"
            (cd "$engines" && { apt-get download -qq docker.io containerd ||
                { as_root apt-get update -qq && apt-get download -qq docker.io containerd; }; } &&
                for package in *.deb; do dpkg -x "$package" .; done && rm ./*.deb) >/dev/null
        }
        PATH=$PATH:$engines/usr/sbin:$engines/usr/bin
    fi
}

# Makes the root file system of this machine's own distribution, minimal, and sets `debian` to its tar. It is made once.
make_debian() {
    need mmdebstrap
    debian=$target/demo/debian.tar
    [ -f "$debian" ] && return
    # The distribution, its mirror and its release, as this machine has them configured.
    . /etc/os-release
    local mirror
    mirror=$(apt-get indextargets --format '$(RELEASE) $(SITE)' 'Identifier: Packages' |
        awk -v release="$VERSION_CODENAME" '$1 == release { print $2; exit }')
    [ -n "$mirror" ] || fail "apt has no source for $VERSION_CODENAME"
    say "making a base image of $ID $VERSION_CODENAME from $mirror (half a minute; kept in $debian)"
    mkdir -p "$target/demo"
    as_root mmdebstrap --quiet --format=tar --variant=minbase "$VERSION_CODENAME" "$debian.part" "$mirror"
    as_root mv "$debian.part" "$debian"
}
