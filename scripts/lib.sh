# Sourced by the scripts beside it: the language of messages, and Debian's packages where they may be installed.
# shellcheck shell=bash

# say VI EN: one line in the terminal's language, chosen as ngsp/text.py chooses it.
say() {
  local chosen=${NGSP_LANGUAGE:-${LC_ALL:-${LANG:-vi}}}
  case ${chosen,,} in
    en*) printf '%s\n' "$2" ;;
    *) printf '%s\n' "$1" ;;
  esac
}

# fail VI EN: says it in both languages, because it will be pasted into a message to somebody, and ends the script.
fail() {
  printf '\n%s\n%s\n' "$1" "$2" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
  command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

# apt_install PACKAGE…: without questions, and what is there already is not upgraded; shows its output when it fails.
apt_install() {
  local log
  log=$(mktemp)
  if as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null >"$log" 2>&1 \
    && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-upgrade \
      --no-install-recommends "$@" </dev/null >>"$log" 2>&1; then
    rm -f "$log"
    return 0
  fi
  tail -n 30 "$log" >&2
  rm -f "$log"
  return 1
}
