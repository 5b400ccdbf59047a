#!/bin/sh
# Tries what packaging/build.sh made, in places that have nothing else. As root, on Debian or its relatives:
#
#   packaging/verify.sh [STAGE...]
#
#   chroot   the static program in an empty root: it counts, lists, judges, and finds users and hosts without modules of the C library
#   deb      installed into a fresh Debian (mmdebstrap), run there, checked, purged: nothing is left
#   rpm      the same by rpm, in a root in which there is nothing but what rpm made
#   image    run by podman with the rights of the DaemonSet, read only; less than 10 MB to pull
#   sbom     every package of the program is in it, with version and licence, and every reference leads somewhere
#   sums     SHA256SUMS
#   twice    two builds of this commit, in two folders and with two target folders, have the same bytes
#
# Without a stage: all but `twice`, which builds. A stage prints one line, and the script ends at the first that fails.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
target=$(rustc -vV | sed -n 's/^host: //p')
profile=${PROFILE:-release}
built=${CARGO_TARGET_DIR:-target}
static=$built/$target/$profile/tcpstate
out=target/packages
# In small letters: podman makes a name of an image of it.
work=${TMPDIR:-/tmp}/tcpstate-verify-$$
mkdir "$work"
trap 'umount "$work/store/overlay" 2>/dev/null || true; rm -rf "$work"' EXIT

fail() {
    echo "verify.sh: $*" >&2
    exit 1
}

bytes() { stat -c %s "$1"; }

# A command in a root with its own /proc, and mounts that end with it.
inside() {
    root=$1
    shift
    mkdir -p "$root/proc"
    unshare --mount --pid --fork --kill-child -- sh -c \
        'mount -t proc proc "$0/proc" && exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C chroot "$0" "$@"' "$root" "$@"
}

# What the program must say anywhere.
works() {
    root=$1
    program=$2
    inside "$root" "$program" --version --verbose >"$work/version" || fail "$program --version"
    grep -q "^tcpstate $version" "$work/version" || fail "another version: $(cat "$work/version")"
    inside "$root" "$program" summary --json >"$work/summary" || fail "$program summary"
    jq -e '.states | length > 10' "$work/summary" >/dev/null || fail "summary: $(cat "$work/summary")"
    inside "$root" "$program" list --json --all >"$work/list" || fail "$program list"
    jq -e '.total == (.sockets | length)' "$work/list" >/dev/null || fail "list: $(head -c 300 "$work/list")"
    code=0
    inside "$root" "$program" doctor --once --json >"$work/doctor" || code=$?
    [ "$code" -le 1 ] && jq -e '.findings' "$work/doctor" >/dev/null || fail "$program doctor: $code"
}

chroot() {
    [ -x "$static" ] || fail "there is no $static; packaging/build.sh binaries makes it"
    if ldd "$static" 2>/dev/null | grep -q '=>'; then fail "$static is not static"; fi
    root=$work/empty
    mkdir -p "$root/etc" "$root/lib/x86_64-linux-gnu" "$root/lib64"
    cp "$static" "$root/tcpstate"
    works "$root" /tcpstate
    # The modules that this names are not there, or not those of the C library that is in the program.
    printf 'passwd: systemd sss files\nhosts: mymachines mdns4_minimal files dns\n' >"$root/etc/nsswitch.conf"
    printf 'root:x:0:0::/:/bin/sh\nbackup:x:34:34::/:/bin/sh\n' >"$root/etc/passwd"
    printf '127.0.0.1 localhost\n192.0.2.7 db.example\n' >"$root/etc/hosts"
    for name in systemd sss mymachines mdns4_minimal; do
        # A file that is no library: to load it would be an error.
        echo no >"$root/lib/x86_64-linux-gnu/libnss_$name.so.2"
    done
    works "$root" /tcpstate
    by_name='user = backup or dst db.example'
    names=$(inside "$root" /tcpstate list --json "$by_name") || fail "a user or a host is not found by name"
    echo "$names" | jq -e '.total >= 0' >/dev/null || fail "$names"
    if inside "$root" /tcpstate list 'user = nobody-of-this-name' >/dev/null 2>&1; then fail "a user that is nowhere was found"; fi
    if inside "$root" /tcpstate list 'dst nothing.invalid' >/dev/null 2>&1; then fail "a host that is nowhere was found"; fi
    if command -v strace >/dev/null; then
        strace -f -qq -e trace=openat,open -o "$work/opened" env chroot "$root" /tcpstate list "$by_name" >/dev/null 2>&1 || true
        grep -q '"/etc/passwd"' "$work/opened" || fail "no user was looked up: $(cat "$work/opened")"
        if grep libnss "$work/opened"; then fail "it loads modules of the C library"; fi
    fi
    echo "chroot: the static program of $(bytes "$static") bytes works in an empty root"
}

# What a package leaves in a root: files that were not there before.
files_of() { (cd "$1" && find . -path ./proc -prune -o \( -type f -o -type l \) -print | sort); }

installed_files() {
    for file in usr/bin/tcpstate usr/share/man/man1/tcpstate.1.gz usr/share/man/man1/tcpstate-doctor.1.gz \
        usr/share/bash-completion/completions/tcpstate etc/tcpstate/config.toml \
        usr/lib/systemd/system/tcpstate-export.service usr/lib/systemd/system/tcpstate-record.service; do
        [ -e "$1/$file" ] || fail "/$file was not installed"
    done
}

deb() {
    package=$(ls "$out"/tcpstate_"$version"*.deb)
    root=$work/debian
    suite=${SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
    mmdebstrap --quiet --variant=minbase "$suite" "$root" >"$work/log" 2>&1 || fail "mmdebstrap: $(tail -n 3 "$work/log")"
    files_of "$root" >"$work/before"
    cp "$package" "$root/package.deb"
    inside "$root" dpkg --install /package.deb >"$work/log" 2>&1 || fail "dpkg: $(tail -n 3 "$work/log")"
    rm "$root/package.deb"
    installed_files "$root"
    changed=$(inside "$root" dpkg --verify tcpstate)
    [ -z "$changed" ] || fail "dpkg --verify: $changed"
    works "$root" /usr/bin/tcpstate
    # Nothing is started unasked, and what was enabled is not any more after the purge.
    wanted=$root/etc/systemd/system/multi-user.target.wants/tcpstate-export.service
    [ ! -L "$wanted" ] || fail "the installation enables a unit"
    inside "$root" env DPKG_MAINTSCRIPT_PACKAGE=tcpstate deb-systemd-helper enable tcpstate-export.service 2>/dev/null || true
    [ -L "$wanted" ] || fail "deb-systemd-helper enable"
    # A setting of the site outlives the removal of the package, and goes with the purge.
    echo '# of this site' >>"$root/etc/tcpstate/config.toml"
    inside "$root" dpkg --remove tcpstate >/dev/null
    [ -e "$root/etc/tcpstate/config.toml" ] && [ ! -e "$root/usr/bin/tcpstate" ] || fail "remove took the configuration, or left the program"
    inside "$root" dpkg --purge tcpstate >/dev/null
    left "$root" "var/lib/dpkg|var/log|var/cache"
    [ ! -e "$root/etc/tcpstate" ] || fail "left behind: /etc/tcpstate"
    echo "deb: $(bytes "$package") bytes; installed, run, removed and purged in a fresh $suite"
}

# Fails where a root has more files than before; the second argument are those of the package manager itself.
left() {
    files_of "$1" >"$work/after"
    more=$(comm -13 "$work/before" "$work/after" | grep -Ev "^\./($2)/" || true)
    [ -z "$more" ] || fail "left behind: $more"
}

rpm() {
    package=$(ls "$out"/tcpstate-"$version"*.rpm)
    root=$work/rpm
    mkdir -p "$root"
    command rpm --root "$root" --initdb
    files_of "$root" >"$work/before"
    command rpm --root "$root" --install "$package" 2>"$work/log" || fail "rpm --install: $(cat "$work/log")"
    installed_files "$root"
    # It has no other package: nothing is required.
    command rpm --root "$root" --verify tcpstate >"$work/log" || fail "rpm --verify: $(cat "$work/log")"
    works "$root" /usr/bin/tcpstate
    command rpm --root "$root" --erase tcpstate 2>"$work/log" || fail "rpm --erase: $(cat "$work/log")"
    left "$root" "var/lib/rpm|usr/lib/sysimage|root/.rpmdb|home"
    echo "rpm: $(bytes "$package") bytes; installed, verified, run and erased in an empty root"
}

image() {
    archive=$(ls "$out"/tcpstate-"$version"-oci.tar)
    mkdir -p "$work/oci"
    tar -C "$work/oci" -xf "$archive"
    manifest=$(jq -r '.manifests[0].digest' "$work/oci/index.json" | tr : /)
    pull=$(jq '.config.size + ([.layers[].size] | add)' "$work/oci/blobs/$manifest")
    [ "$pull" -lt 10000000 ] || [ "$profile" != release ] || fail "the image is $pull bytes to pull"
    # A root of its own, whatever the machine has; limits and cgroups as a CI service permits them.
    printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n' >"$work/containers.conf"
    runtime=$(command -v runc || command -v crun)
    run() {
        CONTAINERS_CONF=$work/containers.conf podman --root "$work/store" --runroot "$work/run" --tmpdir "$work/tmp" \
            --cgroup-manager cgroupfs --events-backend none --runtime "$runtime" "$@"
    }
    id=$(run pull --quiet "oci:$work/oci:$version") || fail "podman pull"
    rights=$(sed -n 's/^ *add: \[\(.*\)\]/\1/p' packaging/kubernetes/daemonset.yaml | tr -d '",')
    # Kubernetes filters no system calls unless told to, podman does.
    set -- --rm --network host --pid host --read-only --user 0 --cap-drop all \
        --security-opt no-new-privileges --security-opt seccomp=unconfined
    for right in $rights; do set -- "$@" --cap-add "$right"; done
    run run "$@" "$id" --version --verbose >"$work/version" || fail "podman run"
    grep -q "^tcpstate $version" "$work/version" || fail "another version: $(cat "$work/version")"
    run run "$@" "$id" list --json --listening >"$work/list" || fail "podman run: list"
    # It names the process of the host behind a listener of the host, which is root's.
    python3 -c 'import socket, time; s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print(s.getsockname()[1], flush=True); time.sleep(600)' >"$work/port" &
    listener=$!
    while [ ! -s "$work/port" ]; do sleep 0.1; done
    run run "$@" "$id" list --json "listen and sport = :$(cat "$work/port")" >"$work/list" || fail "podman run: list"
    kill "$listener"
    jq -e --argjson pid "$listener" '.sockets[0].owners[0].pid == $pid' "$work/list" >/dev/null || fail "the owner is not known: $(cat "$work/list")"
    run run "$@" "$id" export --once >"$work/metrics" || fail "podman run: export"
    grep -q '^tcpstate_build_info{' "$work/metrics" || fail "podman run: export: $(head -c 300 "$work/metrics")"
    run rmi --force "$id" >/dev/null
    echo "image: $pull bytes to pull; run by podman with $(echo "$rights" | tr ' ' ,) alone, on a read-only root"
}

sbom() {
    file=$out/tcpstate-$version.cdx.json
    jq -e --arg version "$version" '
        .bomFormat == "CycloneDX" and .metadata.component.version == $version
        and (.components | length > 50) and all(.components[]; .name and .version and .purl and .licenses)
        and (([.components[]."bom-ref"] + [.metadata.component."bom-ref"]) as $known
            | all(.dependencies[]; (.ref | IN($known[])) and all(.dependsOn[]; IN($known[]))))' "$file" >/dev/null || fail "$file"
    # pip install 'cyclonedx-python-lib[json-validation]'
    checked="the schema was not asked: cyclonedx-python-lib is not installed"
    if python3 -c 'import cyclonedx.validation.json' 2>/dev/null; then
        python3 - "$file" <<'END' || fail "$file is not CycloneDX 1.5"
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
wrong = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())
sys.exit(str(wrong) if wrong else 0)
END
        checked="valid to the letter of CycloneDX 1.5"
    fi
    echo "sbom: $(jq '.components | length' "$file") packages, $checked"
}

sums() {
    (cd "$out" && sha256sum --quiet --check SHA256SUMS) || fail "SHA256SUMS"
    echo "sums: $(wc -l <"$out/SHA256SUMS") files"
}

twice() {
    for place in first a/second/place; do
        mkdir -p "$work/$(dirname "$place")"
        git clone --quiet . "$work/$place"
        (cd "$work/$place" && CARGO_TARGET_DIR="$work/of-$(basename "$place")" packaging/build.sh static) >"$work/log" 2>&1 || fail "$(tail -n 5 "$work/log")"
    done
    one=$(sha256sum <"$work/of-first/$target/$profile/tcpstate")
    two=$(sha256sum <"$work/of-place/$target/$profile/tcpstate")
    [ "$one" = "$two" ] || fail "two builds differ: $one $two"
    echo "twice: the static program of two folders is ${one%% *}"
}

[ $# -gt 0 ] || set -- chroot deb rpm image sbom sums
for stage; do
    case $stage in
    chroot | deb | rpm | image | sbom | sums | twice) "$stage" ;;
    *)
        echo "verify.sh: \`$stage\` is not a stage; see the head of packaging/verify.sh" >&2
        exit 2
        ;;
    esac
done
