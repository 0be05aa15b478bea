# Where test suites come from: what `fetch` of a project uses; sourced by third-party. Each function prints the directory
# of an unpacked project below WORK. Everything is pinned: by its hash, or by the signatures that apt checks.
# shellcheck shell=bash

# pypi NAME VERSION SHA256: a source distribution.
pypi() {
  local name=$1 version=$2 work=$WORK/$1
  mkdir -p "$work"
  echo "$name==$version --hash=sha256:$3" >"$work/requirements"
  "$PYTHON_TOOLS/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary "$name" \
    --require-hashes -r "$work/requirements" -d "$work" >&2
  tar -xf "$work"/*.tar.gz -C "$work"
  find "$work" -mindepth 1 -maxdepth 1 -type d
}

# npm_tarball NAME VERSION INTEGRITY: what `npm pack` gives; INTEGRITY is `npm view NAME@VERSION dist.integrity`.
npm_tarball() {
  local work=$WORK/npm-${1//\//-} integrity
  mkdir -p "$work"
  npm pack --loglevel=error --pack-destination "$work" "$1@$2" >/dev/null
  integrity=sha512-$(openssl dgst -sha512 -binary "$work"/*.tgz | base64 --wrap=0)
  [ "$integrity" = "$3" ] || die "$1@$2 from npm has the integrity $integrity instead of $3"
  tar -xf "$work"/*.tgz -C "$work"
  find "$work" -mindepth 1 -maxdepth 1 -type d
}

# crate NAME VERSION SHA256: what `cargo publish` packed; SHA256 is its checksum in the index.
crate() {
  local name=$1 work=$WORK/crate-$1 checksum
  mkdir -p "$work/src"
  touch "$work/src/lib.rs"
  printf '%s\n' '[package]' 'name = "fetch"' '[dependencies]' "$name = { version = \"=$2\", default-features = false }" '[workspace]' >"$work/Cargo.toml"
  (cd "$work" && cargo vendor --quiet --versioned-dirs) >&2
  checksum=$(sed -n 's/.*"package":"\([0-9a-f]*\)".*/\1/p' "$work/vendor/$name-$2/.cargo-checksum.json")
  [ "$checksum" = "$3" ] || die "$name $2 from crates.io has the checksum $checksum instead of $3"
  echo "$work/vendor/$name-$2"
}

# debian_source PACKAGE: a patched source package of this machine's release.
debian_source() {
  local work=$WORK/debian-$1
  mkdir -p "$work/unpacked"
  (cd "$work/unpacked" && use_package_sources "$work" && apt-get -qq source "$1") >&2
  find "$work/unpacked" -mindepth 1 -maxdepth 1 -type d
}

# debian_upstream PACKAGE: what a source package of this machine's release was made from, without Debian's patches.
debian_upstream() {
  local work=$WORK/upstream-$1
  mkdir -p "$work/fetched" "$work/unpacked"
  (cd "$work/fetched" && use_package_sources "$work" && apt-get -qq source --tar-only --download-only "$1") >&2
  tar -xf "$work/fetched"/*.orig.tar.* -C "$work/unpacked"
  find "$work/unpacked" -mindepth 1 -maxdepth 1 -type d
}

# use_package_sources DIRECTORY: tells the package sources to a private apt, so that /etc stays as it is.
use_package_sources() {
  local file
  mkdir -p "$1"/{sources,lists/partial,cache/archives/partial}
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/{debian,ubuntu}.sources; do
    [ ! -f "$file" ] || sed 's/^Types:.*/Types: deb-src/; s/^deb /deb-src /' "$file" >"$1/sources/${file##*/}"
  done
  cat >"$1/apt.conf" <<APT
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$1/sources";
Dir::State::Lists "$1/lists";
Dir::Cache "$1/cache";
APT::Sandbox::User "";
APT
  export APT_CONFIG=$1/apt.conf
  apt-get -qq update
}

# debian_package PACKAGE DIRECTORY: a directory of a binary package of this machine's release, `*` allowed in its name.
debian_package() {
  local work=$WORK/debian-package-$1
  mkdir -p "$work/unpacked"
  (cd "$work" && apt-get -qq -o APT::Sandbox::User= download "$1" && dpkg-deb --extract ./*.deb unpacked) >&2
  # shellcheck disable=SC2086 # a pattern
  echo "$work/unpacked"/$2
}

# repository DIRECTORY: a project of this repository, copied.
repository() {
  cp -a "$ROOT/$1" "$WORK/${1##*/}"
  echo "$WORK/${1##*/}"
}
