#!/bin/sh
# Puts enwik8 into a directory; --help says how.
# It is the first 10^8 bytes of a dump of the English Wikipedia of 3 March 2006: XML
# in UTF-8, the text of the Large Text Compression Benchmark.
set -eu

here_dir=$(CDPATH='' cd "$(dirname "$0")" && pwd -P)
root=$(dirname "$here_dir")

# shellcheck disable=SC2034  # used in common.sh
{
script=get_enwik8.sh
title=enwik8
default=data/enwik8
content=enwik8
files='file enwik8'
sum=sha1
resume=1
table='enwik8 100000000 57b8363b814821dc9d47aa4d41f58733519076b2'
archive=enwik8.zip
archive_md5=-
archive_dir=
official=http://mattmahoney.net/dc/enwik8.zip
check_data=:
checked_by="size and SHA-1 checked"
package=
package_name=
environment_note="
enwik8.zip is unpacked by unzip or, where that is missing, by python3. A download
from source 3 that breaks off is kept beside DIR, in DIR.part; the next run goes on
from there.
"
}

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here_dir/common.sh"
get_data "$@"
