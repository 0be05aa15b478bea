# Shared by the scripts beside it: sourced, never run. Sets ROOT (the repository) and CACHE, and fails on the first error.
# shellcheck shell=bash
set -euo pipefail
shopt -s inherit_errexit

# shellcheck disable=SC2034 # used by those who source this
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# What is fetched or built once for the tests and kept between runs.
# shellcheck disable=SC2034 # used by those who source this
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/distributest-test

say() { echo "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
seconds_between() { awk -v from="$1" -v to="$2" 'BEGIN { printf "%.1f", to - from }'; }

# The Debian or Ubuntu packages among the arguments that are not installed.
missing_packages() {
  local package
  for package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

# Installs the packages that are missing; where it can't, says what to install and fails.
install_packages() {
  local missing
  have dpkg-query || die "this is neither Debian nor Ubuntu; install what these packages hold: $*"
  mapfile -t missing < <(missing_packages "$@")
  (( ${#missing[@]} > 0 )) || return 0
  [ "$(id -u)" = 0 ] || die "missing packages; install them with: sudo apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  # The lists of a fresh machine are empty or old; both show as a failed installation.
  apt_install "${missing[@]}" 2>/dev/null || { apt-get -qq update && apt_install "${missing[@]}"; } ||
    die "apt-get could not install ${missing[*]}"
}
apt_install() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@" </dev/null >/dev/null; }

# What the scripts need, by what they do with it.
# shellcheck disable=SC2034
{
  BUILD_PACKAGES=(gcc libc6-dev)
  PYTHON_PACKAGES=(python3 python3-venv ca-certificates)
  TEST_PACKAGES=("${BUILD_PACKAGES[@]}" "${PYTHON_PACKAGES[@]}"
    dpkg-dev
    git
    openssh-client
    openssh-server
    openssl
    procps
    rsync
    # pytest with plugins, unittest, Django
    python3-django
    python3-pytest
    python3-pytest-asyncio
    python3-pytest-cov
    python3-pytest-subtests
    python3-pytest-timeout
    python3-pytest-xdist
    # RSpec, Minitest, test-unit, Rails, and what their third-party projects use
    ruby
    ruby-activerecord
    ruby-activesupport
    ruby-minitest
    ruby-parallel-tests
    ruby-railties
    ruby-redis
    ruby-rspec
    ruby-rspec-pending-for
    ruby-rspec-rails
    ruby-sequel
    ruby-simplecov
    ruby-sqlite3
    ruby-test-unit
    # ExUnit, EUnit
    elixir
    erlang-base
    erlang-dev
    erlang-eunit
    rebar3
    # the others
    bats
    g++
    golang-go
    libgtest-dev
    perl
    phpunit
  )
  BENCH_PACKAGES=(make findutils parallel ruby-parallel-tests valgrind)
  LAB_PACKAGES_HERE=(systemd-container mmdebstrap nftables iproute2 iputils-ping netcat-openbsd util-linux procps)
}

# Packages with node and npm, where they are not there in another way: Debian's npm can't be installed beside a node that
# is not Debian's.
node_packages() { { have node && have npm; } || echo nodejs npm; }

# Why the lab can't run here; nothing where it can.
why_no_lab() {
  if [ "$(id -u)" != 0 ]; then echo "it needs root"
  elif [ "$(uname)" != Linux ]; then echo "it needs Linux"
  elif ! unshare --mount --net true 2>/dev/null; then echo "this machine lets nobody make namespaces"
  fi
}
