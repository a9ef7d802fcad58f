# shellcheck shell=sh
# Shared part of the scripts that fetch a data set; they set these variables, read
# this file and call get_data "$@":
#   script      name of the calling script         title     name of the data set
#   root        directory of the project           default   DIR below it
#   content     what comes into DIR                files     what its files are called
#   table       one line a file: NAME BYTES SUM ("-" where none is known)
#   sum         md5, sha1 or sha256: the kind of SUM
#   archive     name of the tarball or zip file    archive_md5  its MD5, or "-"
#   archive_dir directory inside it, or empty      official  its address
#   resume      1: a broken official download is kept in DIR.part and continued
#   check_data  function that looks into DIR and sets why, or ":"
#   package     function that makes the files from a package, or empty
#   package_name, environment_note  text for messages
#
# A function that can fail returns 1 and leaves the reason, one line, in why.

# shellcheck disable=SC2154  # set by the calling script

work=           # temporary directory beside DIR
child=          # process that is being waited for
why=            # reason of the last failure
status=         # exit status of the last command that run waited for
parent=
ancestor=       # nearest directory above DIR that was there before

have() { command -v "$1" >/dev/null 2>&1; }

say() { printf '%s\n' "$*"; }

failed() { printf '%s: %s\n' "$1" "$why" >&2; }

die() { printf '%s: %s\n' "$script" "$2" >&2; exit "$1"; }

usage() {
    cat <<EOF
usage: $script [DIR]

Puts $content into DIR (default: $default in the project).
Sources, in this order:
  1. the files already in DIR
  2. the mirror that LATEPHASE_MIRROR names
  3. $official
EOF
    if [ -n "$package" ]; then say "  4. $package_name"; fi
    cat <<EOF

environment:
  LATEPHASE_MIRROR  a directory or an http, https or file URL with
                    $archive or the bare $files in it
  LATEPHASE_SUMS    a file with lines "HEX NAME" that replace the built-in
                    checksums: $(sum_name "$sum") for the $files, MD5 for $archive
$environment_note
exit status: 0 the files are in DIR, 1 no source had them, 2 wrong usage
EOF
}

# ---- checks -------------------------------------------------------------------

# sum_name md5|sha1|sha256: the usual way to write it
sum_name() {
    case $1 in md5) say MD5 ;; sha1) say SHA-1 ;; *) say SHA-256 ;; esac
}

# digest md5|sha1|sha256 FILE: its checksum in hex; nothing if no tool is there
digest() {
    case $1 in
    md5)
        if have md5sum; then md5sum <"$2"
        elif have openssl; then openssl dgst -md5 -r <"$2"
        elif have md5; then md5 -q <"$2"; fi ;;
    *)          # openssl first: it is often several times as fast
        if have openssl; then openssl dgst "-$1" -r <"$2"
        elif have "${1}sum"; then "${1}sum" <"$2"
        elif have shasum; then shasum -a "${1#sha}" <"$2"; fi ;;
    esac | sed 's/[^0-9a-f].*//'
}

# wanted_sum NAME BUILT_IN: the checksum to ask of the file NAME
wanted_sum() {
    given=
    if [ -n "${LATEPHASE_SUMS:-}" ]; then
        given=$(awk -v name="$1" '
            { sub(/\r$/, "") } $2 == name || $2 == "*" name { sum = $1 }
            END { print tolower(sum) }' <"$LATEPHASE_SUMS")
    fi
    printf '%s\n' "${given:-$2}"
}

# check_sum md5|sha1|sha256 FILE NAME BUILT_IN
check_sum() {
    want=$(wanted_sum "$3" "$4")
    if [ "$want" = - ]; then return 0; fi
    got=$(digest "$1" "$2")
    if [ "$got" = "$want" ]; then return 0; fi
    kind=$(sum_name "$1")
    if [ -n "$got" ]; then
        why="$3 is corrupted: its $kind is $got, not $want"
    else
        why="no $kind of $3: install coreutils or openssl"
    fi
    return 1
}

# check_files DIRECTORY: all files there, of the right size and content
check_files() {
    found=0
    missing=
    while read -r name bytes hex; do
        if [ -f "$1/$name" ]; then found=1; else missing="$missing $name"; fi
    done <<EOF
$table
EOF
    if [ "$found" -eq 0 ]; then
        why="no $files there"
        return 1
    elif [ -n "$missing" ]; then
        why="not there:$missing"
        return 1
    fi
    while read -r name bytes hex; do
        if [ ! -r "$1/$name" ]; then
            why="$name cannot be read"
            return 1
        fi
        size=$(wc -c <"$1/$name" | tr -d ' ')
        if [ "$size" != "$bytes" ]; then
            why="$name is corrupted: it has $size bytes, not $bytes"
            return 1
        fi
        check_sum "$sum" "$1/$name" "$name" "$hex" || return 1
    done <<EOF
$table
EOF
    $check_data "$1"
}

# ---- getting files ------------------------------------------------------------

# run COMMAND...: wait for it such that a signal to this script need not wait
run() {
    "$@" >/dev/null 2>"$work/errors" &
    child=$!
    status=0
    wait "$child" || status=$?
    child=
    return "$status"
}

# last_error WHAT: why, from the last line the command wrote
last_error() {
    why=$(sed '/^[[:space:]]*$/d' "$work/errors" | tail -n 1)
    why="$1: ${why:-exit status $status}"
}

# download URL FILE [on]: "on" goes on behind what FILE holds, and keeps it when
# the connection breaks
download() {
    if have curl; then
        run curl -fsSL --connect-timeout 15 --speed-limit 1000 --speed-time 60 \
            ${3:+-C -} -o "$2" "$1" && return 0
        last_error "no download"
    elif have wget; then
        run wget -q -T 15 -t 2 ${3:+-c} -O "$2" "$1" && return 0
        last_error "no download by wget"
    else
        why="no download: neither curl nor wget is installed"
    fi
    if [ -z "${3:-}" ]; then rm -f "$2"; fi
    return 1
}

unzip_archive() {
    if have unzip; then
        run unzip -q -o "$1" -d "$2" && return 0
        last_error "unzip"
    elif have python3; then
        run python3 -m zipfile -e "$1" "$2" && return 0
        last_error "python3 -m zipfile"
    else
        why="neither unzip nor python3 is installed: $archive cannot be unpacked"
    fi
    return 1
}

untar_archive() {
    run tar -xozf "$1" -C "$2" && return 0
    last_error "tar"
    return 1
}

# unpack FILE: check the archive, put its files into $work/files
unpack() {
    check_sum md5 "$1" "$archive" "$archive_md5" || return 1
    mkdir "$work/unpacked"
    case $archive in
    *.zip) unzip_archive "$1" "$work/unpacked" || return 1 ;;
    *) untar_archive "$1" "$work/unpacked" || return 1 ;;
    esac
    while read -r name bytes hex; do
        inside=${archive_dir:+$archive_dir/}$name
        if ! mv "$work/unpacked/$inside" "$work/files/" 2>/dev/null; then
            why="$archive has no $inside"
            return 1
        fi
    done <<EOF
$table
EOF
    check_files "$work/files" || return 1
    if [ "$(wanted_sum "$archive" "$archive_md5")" != - ]; then
        checked_by="MD5 of $archive, $checked_by"
    fi
}

from_directory() {
    if [ ! -d "$1" ]; then
        why="no directory $1"
        return 1
    fi
    if [ -f "$1/$archive" ]; then
        if unpack "$1/$archive"; then return 0; fi
        archive_why=$why
        fresh
    else
        archive_why="no $archive"
    fi
    while read -r name bytes hex; do
        if [ -f "$1/$name" ] && ! run cp "$1/$name" "$work/files/$name"; then
            last_error "cp"
            return 1
        fi
    done <<EOF
$table
EOF
    if check_files "$work/files"; then return 0; fi
    why="$archive_why; $why"
    return 1
}

from_url() {
    if download "$1/$archive" "$work/$archive" &&
        unpack "$work/$archive"; then
        return 0
    fi
    archive_why=$why
    fresh
    while read -r name bytes hex; do
        if ! download "$1/$name" "$work/files/$name"; then
            why="$archive: $archive_why; $name: $why"
            return 1
        fi
    done <<EOF
$table
EOF
    if check_files "$work/files"; then return 0; fi
    why="$archive: $archive_why; $why"
    return 1
}

from_mirror() {
    mirror=${LATEPHASE_MIRROR%/}
    case $mirror in
    http://* | https://*) from_url "$mirror" ;;
    file://*)
        mirror=${mirror#file://}
        from_directory "/${mirror#*/}" ;;
    *://*)
        why="not a directory nor an http, https or file URL"
        return 1 ;;
    "") from_directory / ;;
    /*) from_directory "$mirror" ;;
    *) from_directory "$PWD/$mirror" ;;
    esac
}

from_official() {
    if [ -n "$resume" ]; then from_official_in_parts; return; fi
    download "$official" "$work/$archive" && unpack "$work/$archive"
}

# The same by way of $dir.part, which a run that is cut off leaves to the next.
from_official_in_parts() {
    part=$dir.part
    before=0
    if [ -s "$part" ]; then
        before=1
        if unpack "$part"; then rm -f "$part"; return 0; fi
        fresh
        say "going on from $part"
    fi
    if ! download "$official" "$part" on; then
        case $before-$status in     # nothing to go on from, says curl or wget
        1-22 | 1-33 | 1-36 | 1-8) rm -f "$part"; from_official_in_parts; return ;;
        esac
        if [ -s "$part" ]; then why="$why; $part keeps what came, run this again to go on"
        else rm -f "$part"; fi
        return 1
    fi
    if unpack "$part"; then rm -f "$part"; return 0; fi
    rm -f "$part"
    if [ "$before" -eq 0 ]; then return 1; fi
    fresh
    from_official_in_parts
}

# ---- the frame ----------------------------------------------------------------

# fresh: an empty $work/files and nothing else
fresh() {
    rm -rf "${work:?}"/*
    mkdir "$work/files"
}

# shellcheck disable=SC2317  # called by trap
cleanup() {
    trap - EXIT
    trap '' HUP INT TERM
    if [ -n "$child" ]; then
        kill "$child" 2>/dev/null || :
        wait "$child" 2>/dev/null || :
    fi
    if [ -n "$work" ]; then rm -rf "$work"; fi
    # directories made for DIR, as far as they stayed empty
    while [ "$parent" != "$ancestor" ] && rmdir "$parent" 2>/dev/null; do
        parent=$(dirname "$parent")
    done
}

make_work() {
    parent=$(dirname "$dir")
    ancestor=$parent
    while [ ! -d "$ancestor" ]; do ancestor=$(dirname "$ancestor"); done
    trap cleanup EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if ! mkdir -p "$parent" 2>/dev/null ||
        ! work=$(mktemp -d "$dir.tmp.XXXXXX" 2>/dev/null); then
        die 1 "cannot write into $parent"
    fi
}

# finish: move the checked files to DIR; every step is one rename
finish() {
    trap '' HUP INT TERM
    if [ ! -e "$dir" ]; then
        mv "$work/files" "$dir" || die 1 "cannot write $dir"
    else
        while read -r name bytes hex; do
            mv -f "$work/files/$name" "$dir/$name" || die 1 "cannot write $dir/$name"
        done <<EOF
$table
EOF
    fi
    say "$1: good"
    done_line
}

done_line() { say "$title is in $dir ($checked_by)"; }

get_data() {
    dir=
    options=1
    for argument; do
        if [ $options -eq 1 ]; then
            case $argument in
            -h | --help) usage; exit 0 ;;
            --) options=0; continue ;;
            -*) die 2 "unknown option $argument (--help shows the usage)" ;;
            esac
        fi
        if [ -z "$argument" ]; then die 2 "DIR is empty"; fi
        if [ -n "$dir" ]; then die 2 "more than one DIR (--help shows the usage)"; fi
        dir=$argument
    done
    if [ -z "$dir" ]; then dir=$root/$default; fi
    case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
    if [ -d "$dir" ]; then
        dir=$(CDPATH='' cd "$dir" && pwd -P) || die 1 "cannot enter DIR"
    elif [ -e "$dir" ]; then
        die 1 "$dir is not a directory"
    fi
    while [ "$dir" != "${dir%/}" ]; do dir=${dir%/}; done
    if [ -z "$dir" ]; then die 2 "DIR is the root directory"; fi
    if [ -n "${LATEPHASE_SUMS:-}" ]; then
        if [ ! -f "$LATEPHASE_SUMS" ] || [ ! -r "$LATEPHASE_SUMS" ]; then
            die 1 "LATEPHASE_SUMS: cannot read $LATEPHASE_SUMS"
        fi
        say "checksums are taken from $LATEPHASE_SUMS"
    fi

    label="files in $dir"
    if check_files "$dir"; then
        say "$label: good"
        done_line
        return 0
    fi
    failed "$label"

    make_work

    if [ -n "${LATEPHASE_MIRROR:-}" ]; then
        label="mirror $LATEPHASE_MIRROR"
        fresh
        if from_mirror; then finish "$label"; return 0; fi
        failed "$label"
    else
        why="LATEPHASE_MIRROR is not set"
        failed "mirror"
    fi

    label="official $official"
    fresh
    say "trying $official"
    if from_official; then finish "$label"; return 0; fi
    failed "$label"

    if [ -n "$package" ]; then
        label=$package_name
        fresh
        say "trying $package_name"
        if $package; then finish "$label"; return 0; fi
        failed "$label"
    fi

    die 1 "no source gave $title: set LATEPHASE_MIRROR to a directory or URL that holds $archive or the $files, and run this again."
}
