#!/usr/bin/env bash
# Modules import only from layers above their own, as lib.rs of node and operator numbers them (ARCHITECTURE.md, direction).
set -euo pipefail
cd "$(dirname "$0")/.."

# Lines `//! 3  names of modules` of lib.rs are the layers; tests may import from anywhere.
check() {
  local src=$1
  git ls-files "$src/*.rs" | grep -vE "/tests(/|\.rs$)|^$src/(lib|main|fuzz)\.rs$" | xargs awk -v src="$src" '
    function wrong(what) { printf "%s:%d: %s\n", FILENAME, FNR, what > "/dev/stderr"; failed = 1 }
    FILENAME == src "/lib.rs" {
      if ($1 == "//!" && $2 ~ /^[0-9]+$/) for (i = 3; i <= NF; i++) layer[$i] = $2 + 0
      next
    }
    FNR == 1 {
      module = substr(FILENAME, length(src) + 2)
      sub(/[\/.].*/, "", module)
      tests = 0
      if (!(module in layer)) wrong("module " module " stands in no layer of " src "/lib.rs")
    }
    /^mod tests \{/ { tests = 1 }
    tests { next }
    {
      line = $0
      sub(/\/\/.*/, "", line)
      if (line ~ /crate::\{[^}]*$/) wrong("a group over several lines: write one use a module")
      while (match(line, /crate::(\{[^}]*\}|[a-z_]+)/)) {
        count = split(substr(line, RSTART + 7, RLENGTH - 7), names, /[{}, ]+/)
        line = substr(line, RSTART + RLENGTH)
        for (i = 1; i <= count; i++) {
          sub(/::.*/, "", names[i])
          if (names[i] in layer && names[i] != module && layer[names[i]] >= layer[module])
            wrong(module " (layer " layer[module] ") imports from " names[i] " (layer " layer[names[i]] ")")
        }
      }
    }
    END { exit failed }
  ' "$src/lib.rs"
}

check node/src
check operator/src
