#!/usr/bin/env bash
# Mutation check: takes one guard after the other out of a copy of the core and says which named test notices.
#
#   scripts/mutate.sh [PATTERN]    only mutants whose name matches the pattern (a bash regex)
#   SIMULATE=2000 scripts/mutate.sh [PATTERN]    the guards of voting against so many seeds of the simulation instead, which is
#                                                no check: it says what the scenarios notice, and which seed does first
#
# The table is scripts/mutations.txt. Fails if a mutant survives, if a text to be changed does not occur exactly once, or if
# the unchanged core fails. The copy and its build are kept under AITBC_CACHE.
set -euo pipefail
cd "$(dirname "$0")/.."
pattern=${1:-.}
cargo=${CARGO:-cargo} # may be more than one word, for example with a lock before it
work=${AITBC_CACHE:-$HOME/.cache/aitbc}/mutants
# A mutant may loop for ever and eat memory on its way.
seconds_max=${MUTANT_SECONDS:-120}
kib_max=${MUTANT_KIB:-4000000}
src=node/core/src
export CARGO_TARGET_DIR=$work/target
simulate=${SIMULATE:-0}
export EXPLORE=small
# Nobody looks at a backtrace.
export CARGO_PROFILE_DEV_DEBUG=none
# Unit tests that take nearly all of the time of an unoptimised run. What the others notice is not run against these.
slow=(any_mix_of_peers s3_a_chunk_ s3_a_genuine_chunk more_headers_than_fit neighbouring_full_blocks at_once_end_as in_random_histories random_candidates
  random_blocks_end progress_grows comes_too_slowly asks_for_ever)
export SIM_SEEDS=$simulate SIM_STOP=1

# Only what differs is written, with the time of now: cargo builds by time.
copy() {
  local from=$1 to=$2 file
  while IFS= read -r file; do
    [ -f "$from/$file" ] || continue
    cmp -s "$from/$file" "$to/$file" || install -D -m 644 "$from/$file" "$to/$file"
  done
}

# The tree as it is now; whoever edits it meanwhile does not disturb the check.
copy_tree() {
  rm -rf "$work/origin"
  git ls-files --cached --others --exclude-standard | copy . "$work/origin"
  restore .
}

restore() {
  (cd "$work/origin" && find "$1" -type f) | copy "$work/origin" "$work/tree"
}

# Builds tests of the copy and prints the binary: `build core --lib` unoptimised, or `build core --release --test explore`.
build() {
  local crate=$1
  shift
  (cd "$work/tree" && $cargo test --locked -p "aitbc-$crate" "$@" --no-run) 2>&1 | tee "$work/build.log" |
    sed -nE 's/^ *Executable .*\((.*)\)$/\1/p'
}

# Runs a test binary, or those of its tests that match a filter or are not skipped; prints the tests that noticed: failed ones, or the one at which a bound was met.
run_tests() {
  local binary=$1 log=$2 status=0
  (ulimit -v "$kib_max" && cd "$work/tree/node/core" && exec timeout "$seconds_max" nice -n 10 "$binary" --test-threads 1 "${@:3}") >"$log" 2>&1 || status=$?
  [ $status -eq 0 ] && return 0
  local failed
  failed=$(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p' "$log")
  if [ -n "$failed" ]; then
    echo "$failed"
  else
    # It neither failed nor passed: the last one begun has run out of time (124) or memory.
    echo "$(sed -nE 's/^test ([^ ]+) \.\.\..*$/\1/p' "$log" | tail -n 1) (never ends: status $status)"
  fi
}

# Replaces one text by another in a file of the copy; the text must occur exactly once.
change() {
  local file=$work/tree/$src/$1 old=$2 new=$3 text rest
  text=$(cat "$file"; echo .)
  rest=${text#*"$old"}
  [ "$rest" != "$text" ] || { echo "the text to be changed is not in $1 any more:" >&2; echo "$old" >&2; return 1; }
  [[ $rest != *"$old"* ]] || { echo "the text to be changed is more than once in $1:" >&2; echo "$old" >&2; return 1; }
  text=${text%%"$old"*}$new$rest
  printf '%s' "${text%.}" >"$file"
}

# The table: a name in brackets, then for each change its file, old lines with "- ", new ones with "+ ". All run the unit
# tests; those with "and explore" the exploration too; "only FILTER" is for mutants that
# never end, whose first looping test would hide the one that is meant; "absent WHY" is for guards that are not in the core.
declare -a names=()
declare -A changes=() explored=() only=() absent=()
read_table() {
  local line name=
  while IFS= read -r line; do
    case $line in
      '['*) name=${line#[}; name=${name%]}; names+=("$name") ;;
      '#'* | '') ;;
      'and explore') explored[$name]=yes ;;
      'absent '*) absent[$name]=${line#absent } ;;
      'only '*) only[$name]=${line#only } ;;
      *) changes[$name]+=$line$'\n' ;;
    esac
  done <"${MUTATIONS:-scripts/mutations.txt}"
}

apply() {
  local line file= old= new= side=
  while IFS= read -r line; do
    case $line in
      'in '*)
        [ -z "$file" ] || change "$file" "${old%$'\n'}" "${new%$'\n'}" || return 1
        file=${line#in } old= new= ;;
      '- '*) old+=${line#- }$'\n' ;;
      '+ '*) new+=${line#+ }$'\n' ;;
      *) echo "scripts/mutations.txt: what is \"$line\"?" >&2; return 1 ;;
    esac
  done <<<"${1%$'\n'}"
  change "$file" "${old%$'\n'}" "${new%$'\n'}"
}

# "a" or "a and 3 more", without the path of the module.
summary() {
  local count
  count=$(grep -c . <<<"$1" || true)
  local first
  first=$(head -n 1 <<<"$1" | sed 's/^consensus::tests:://')
  case $count in 0) echo "${2:--}" ;; 1) echo "$first" ;; *) echo "$first and $((count - 1)) more" ;; esac
}

# Takes out one guard and prints the first seed that notices, and what it notices.
check_seeds() {
  local name=$1 binary seen
  binary=$(build sim --release --test seeds) || true
  if [ -z "$binary" ]; then
    broken+=("$name: does not compile"); grep -A 6 '^error' "$work/build.log" >&2 || true; return
  fi
  (ulimit -v "$kib_max" && exec timeout "$seconds_max" nice -n 10 "$binary" no_seed_violates --nocapture) >"$work/seeds.log" 2>&1 || true
  seen=$(sed -nE 's/^seed ([0-9]+), (.*)$/\1 \2/p' "$work/seeds.log" | sort -n | head -n 1)
  if [ -n "$seen" ]; then
    printf '| %s | %s | %s |\n' "$name" "${seen%% *}" "${seen#* }"
  elif grep -q '^test result: ok' "$work/seeds.log"; then
    printf '| %s | none of %s | - |\n' "$name" "$simulate"
  else
    printf '| %s | never ends | - |\n' "$name"
  fi
}

# Takes out one guard and prints its row of the result.
check() {
  local name=$1 unit explore by_unit by_explore=
  restore "$src"
  if ! apply "${changes[$name]}"; then
    broken+=("$name: cannot be applied"); return
  fi
  if [ "$simulate" -gt 0 ]; then
    check_seeds "$name"; return
  fi
  unit=$(build core --lib) || true
  if [ -z "$unit" ]; then
    broken+=("$name: does not compile"); grep -A 6 '^error' "$work/build.log" >&2 || true; return
  fi
  by_unit=$(run_tests "$unit" "$work/unit.log" ${only[$name]:-} "${slow[@]/#/--skip=}")
  [ -n "$by_unit" ] || by_unit=$(run_tests "$unit" "$work/unit.log" ${only[$name]:-})
  if [ -n "${explored[$name]:-}" ]; then
    explore=$(build core --release --test explore) || true
    by_explore=$(run_tests "$explore" "$work/explore.log")
  fi
  printf '| %s | %s | %s |\n' "$name" "$(summary "$by_unit" none)" "$(summary "$by_explore" "${explored[$name]:+none}")"
  [ -n "$by_unit$by_explore" ] || broken+=("$name: SURVIVES")
}

read_table
copy_tree
builds=("core --lib" "core --release --test explore")
[ "$simulate" -eq 0 ] || builds=()
for build in "${builds[@]}"; do
  binary=$(build $build) || true
  [ -n "$binary" ] || { cat "$work/build.log" >&2; exit 1; }
  failed=$(run_tests "$binary" "$work/unchanged.log")
  [ -z "$failed" ] || { echo "the unchanged core fails: $failed" >&2; exit 1; }
done

broken=()
checked=0
if [ "$simulate" -gt 0 ]; then
  echo "| guard taken out | first seed that notices | what it notices |"
else
  echo "| guard taken out | unit test that fails | exploration that fails |"
fi
echo "|---|---|---|"
for name in "${names[@]}"; do
  [[ $name =~ $pattern ]] || continue
  # The same guards as in the exploration: those of votes, which are all that a run has.
  [ "$simulate" -eq 0 ] || [ -n "${explored[$name]:-}" ] || continue
  if [ -n "${absent[$name]:-}" ]; then
    echo "| $name | ${absent[$name]} | - |"; continue
  fi
  checked=$((checked + 1))
  check "$name"
done
restore "$src"
echo "$checked guards taken out, ${#broken[@]} not noticed or not applied"
[ ${#broken[@]} -eq 0 ] || { printf '%s\n' "${broken[@]}" >&2; exit 1; }
