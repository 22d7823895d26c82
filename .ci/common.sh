# Sourced by `run` and `soak`: which Pythons there are, copies of the tree, and steps that are timed and counted.

# Without liburing's headers its tests are skipped; here they are to fail.
export URING_IOPF_REQUIRE_LIBURING=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
exec </dev/null

work=$(mktemp -d "${TMPDIR:-/tmp}/uring-iopf-ci.XXXXXX")
groups=()
trap 'for group in "${groups[@]}"; do kill -- "-$group" 2>/dev/null || true; done; rm -rf "$work"' EXIT

# In the background, and ended with all that it has started when this script ends before it.
beside() {
	set -m
	"$@" &
	set +m
	groups+=($!)
}

say() { printf '\n== %s\n' "$*"; }

# step NAME COMMAND...: runs it under `set -e`, with its output shown, and remembers how it ended.
passed=() failed=()
step() {
	local name=$1 start=$SECONDS status=0
	shift
	say "$name"
	set +e
	(set -e; "$@")
	status=$?
	set -e
	printf -- '-- %s: %s, %d s\n' "$name" "$([ $status = 0 ] && echo passed || echo "FAILED with status $status")" \
		$((SECONDS - start))
	if [ $status = 0 ]; then passed+=("$name"); else failed+=("$name"); fi
}

summary() {
	echo
	if [ ${#failed[@]} = 0 ]; then
		echo "$1: passed, ${#passed[@]} steps in $SECONDS s"
	else
		printf -v names '%s; ' "${failed[@]}"
		echo "$1: FAILED: ${names%; } (${#failed[@]} of $((${#passed[@]} + ${#failed[@]})) steps, $SECONDS s)"
		exit 1
	fi
}

# begin_aside FUNCTION: runs its steps beside those that follow; end_aside waits for it, shows what it printed, and adds
# its steps to the others'.
begin_aside() {
	beside aside "$1" >"$work/aside.log" 2>&1
	aside=$!
}

aside() {
	local name
	passed=() failed=()
	"$1"
	for name in "${passed[@]}"; do echo "$name"; done >"$work/aside.passed"
	for name in "${failed[@]}"; do echo "$name"; done >"$work/aside.failed"
}

end_aside() {
	local status=0 names
	wait "$aside" || status=$?
	cat "$work/aside.log"
	if [ $status != 0 ]; then
		failed+=("what ran beside (it ended with status $status)")
		return
	fi
	mapfile -t names <"$work/aside.passed" && passed+=("${names[@]}")
	mapfile -t names <"$work/aside.failed" && failed+=("${names[@]}")
}

shown() { echo "+ $*"; "$@"; }

# What is on the PATH may be a shim that cannot run, or lack venv or its headers: only those count that have it all.
usable() {
	"$1" - <<-'PYTHON' 2>/dev/null
		import ensurepip, os, sys, sysconfig, venv
		assert (3, 11) <= sys.version_info < (3, 15) and sys.implementation.name == "cpython"
		assert os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
		print(sys.version_info[1], sys.executable)
	PYTHON
}

# Prints "MINOR EXECUTABLE" of every Python that can be used, oldest first.
pythons() {
	local candidate pyenv_root=${PYENV_ROOT:-$HOME/.pyenv}
	for candidate in python3 python3.{11,12,13,14} /usr/bin/python3 "$pyenv_root"/versions/*/bin/python3; do
		command -v "$candidate" >/dev/null && usable "$candidate" || true
	done | sort -n -s -k1,1 -u
}

has_header() { echo "#include <$1>" | gcc -E - >/dev/null 2>&1; }

# Sets $oldest and $newest. A bare Debian gets what README.md names, if we are allowed to.
find_pythons() {
	local found
	found=$(pythons)
	if { [ -z "$found" ] || ! command -v gcc >/dev/null || ! has_header stdlib.h || ! has_header liburing.h; } &&
		[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		shown apt-get update -qq
		DEBIAN_FRONTEND=noninteractive shown apt-get install -y -qq gcc libc6-dev liburing-dev python3-dev python3-venv
		found=$(pythons)
	fi
	[ -n "$found" ] || { echo "no Python 3.11 to 3.14 with venv and headers (Debian: python3-dev python3-venv)"; exit 1; }
	command -v gcc >/dev/null || { echo "no gcc"; exit 1; }
	has_header liburing.h || { echo "no liburing headers, which tests/test_liburing_client.py needs (Debian: liburing-dev)"; exit 1; }
	oldest=$(head -1 <<<"$found" | cut -d' ' -f2-)
	newest=$(tail -1 <<<"$found" | cut -d' ' -f2-)
}

# copy_tree TO: the files that git would take, committed or not, so that nothing here depends on what was built before.
copy_tree() {
	mkdir -p "$1"
	git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
		[ ! -e "$file" ] || printf '%s\0' "$file"
	done | tar --null --files-from=- -c | tar -x -C "$1"
}

# make_venv PYTHON TREE VENV: the package, editable, with all that its tests need.
make_venv() {
	shown "$1" -m venv "$3"
	(cd "$2" && shown "$3/bin/pip" install --quiet -e '.[test]')
}
