#!/bin/sh
# Builds what a release has, into target/packages: packaging/build.sh [STAGE...]
#
#   binaries   the dynamic and the static program, stripped, with the commit in `--version --verbose`
#   static     the static one alone
#   files      manual and completions, as packages install them
#   archive    tcpstate-VERSION-TARGET.tar.gz of the static program with them
#   deb        by cargo-deb, of the dynamic program
#   rpm        by cargo-generate-rpm, of the static program: one package for distributions with an older C library too
#   image      tcpstate-VERSION-oci.tar, by podman or buildah, of the static program
#   sbom       tcpstate-VERSION.cdx.json (CycloneDX), by jq from Cargo.lock
#   sums       SHA256SUMS of all of these
#
# Without a stage: all of them. Two runs of one commit with one toolchain give the same bytes; packaging/verify.sh tries that and
# what is made. PROFILE=quick builds in a part of the time what is as good for such a trial, and is larger and slower.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
target=$(rustc -vV | sed -n 's/^host: //p')
arch=${target%%-*}
profile=${PROFILE:-release}
built=${CARGO_TARGET_DIR:-target}
out=target/packages
bin=$built/$profile/tcpstate
static=$built/$target/$profile/tcpstate
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo "")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
mkdir -p "$out"

[ -z "$commit" ] || export TCPSTATE_COMMIT="$commit"
build=build
# The list of dependencies goes into the program, for `cargo audit bin`.
cargo auditable --version >/dev/null 2>&1 && build="auditable build"
# No folder of this machine is in the program; of two that fit the later one counts.
paths="--remap-path-prefix=$PWD=. --remap-path-prefix=$(realpath -m "$built")=target"
paths="$paths --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"

binaries() {
    # shellcheck disable=SC2086 # two words
    RUSTFLAGS="$paths" cargo $build --profile "$profile" --locked
    static
}

static() {
    # With --target the flags are not those of build scripts and macros, which cannot be static.
    # shellcheck disable=SC2086
    RUSTFLAGS="$paths -C target-feature=+crt-static" cargo $build --profile "$profile" --locked --target "$target"
}

files() {
    dir=$out/files
    rm -rf "$dir"
    mkdir -p "$dir/man" "$dir/completions"
    "$bin" generate man --dir "$dir/man"
    gzip -9n "$dir"/man/*
    "$bin" generate completions bash >"$dir/completions/tcpstate"
    "$bin" generate completions zsh >"$dir/completions/_tcpstate"
    "$bin" generate completions fish >"$dir/completions/tcpstate.fish"
}

# A tar whose bytes depend on nothing but the files.
pack() {
    tar --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime="@$SOURCE_DATE_EPOCH" -cf - -C "$1" "$2"
}

archive() {
    name=tcpstate-$version-$target
    rm -rf "${out:?}/$name"
    mkdir "$out/$name"
    cp "$static" README.md LICENSE-APACHE LICENSE-MIT docs/CHANGELOG.md packaging/config.toml "$out/$name/"
    cp -r "$out/files/man" "$out/files/completions" "$out/$name/"
    pack "$out" "$name" | gzip -9n >"$out/$name.tar.gz"
    rm -rf "${out:?}/$name"
}

deb() {
    cargo deb --profile "$profile" --no-build --no-strip --output "$out/"
}

rpm() {
    cargo generate-rpm --target "$target" --profile "$profile" --target-dir "$built" --output "$out/" \
        --source-date "$SOURCE_DATE_EPOCH"
}

image() {
    dir=$out/image
    rm -rf "$dir"
    mkdir "$dir"
    cp "$static" LICENSE-APACHE LICENSE-MIT "$dir/"
    tool=$(command -v podman || command -v buildah)
    "$tool" build --timestamp "$SOURCE_DATE_EPOCH" --tag "tcpstate:$version" --file packaging/Containerfile "$dir"
    rm -rf "$dir"
    "$tool" push "tcpstate:$version" "oci:$dir:$version"
    # By our own tar: that of the tool has the time of today.
    (cd "$dir" && pack . .) >"$out/tcpstate-$version-oci.tar"
    rm -rf "$dir"
}

sbom() {
    # What the program is built of, without the dependencies of tests and of other platforms.
    cargo metadata --format-version 1 --locked --filter-platform "$target" | jq --sort-keys '
        def purl: "pkg:cargo/\(.name)@\(.version)";
        def used: . as $all | [$all.resolve.root] | until(
            . as $known | ([$all.resolve.nodes[] | select(.id as $i | $known | index($i)) | .deps[]
                | select(any(.dep_kinds[]; .kind != "dev")) | .pkg] | unique) - $known == [];
            . as $known | ($known + [$all.resolve.nodes[] | select(.id as $i | $known | index($i)) | .deps[]
                | select(any(.dep_kinds[]; .kind != "dev")) | .pkg] | unique));
        . as $all | used as $used | [$all.packages[] | select(.id as $i | $used | index($i))] as $packages
        | ($packages | map({key: .id, value: purl}) | from_entries) as $names
        | {
            bomFormat: "CycloneDX", specVersion: "1.5", version: 1,
            metadata: {component: ($packages[] | select(.id == $all.resolve.root)
                | {type: "application", "bom-ref": purl, purl: purl, name, version})},
            components: [$packages[] | select(.id != $all.resolve.root)
                | {type: "library", "bom-ref": purl, purl: purl, name, version}
                + (if .license then {licenses: [{expression: (.license | gsub("/"; " OR "))}]} else {} end)],
            dependencies: [$all.resolve.nodes[] | select(.id as $i | $used | index($i))
                | {ref: $names[.id], dependsOn: [.deps[] | select(any(.dep_kinds[]; .kind != "dev")) | $names[.pkg]] | unique}]
        }' >"$out/tcpstate-$version.cdx.json"
}

sums() {
    (cd "$out" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS)
    cat "$out/SHA256SUMS"
}

[ $# -gt 0 ] || set -- binaries files archive deb rpm image sbom sums
for stage; do
    case $stage in
    binaries | static | files | archive | deb | rpm | image | sbom | sums) "$stage" ;;
    *)
        echo "build.sh: \`$stage\` is not a stage; see the head of packaging/build.sh" >&2
        exit 2
        ;;
    esac
done
