# What `./dev RECIPE` runs. Above each recipe stand what it needs, which ./dev sees to, and what it is for, which ./dev help prints.
# Needs: rust, postgres, redis, kafka, node, docker, or the group of a lock file tests/tools/requirements-GROUP.txt.

set quiet
set no-exit-message
set positional-arguments
set shell := ["bash", "-euo", "pipefail", "-c"]

export NEXTEST_PROFILE := if env("CI", "") == "" { "default" } else { "ci" }

# In CI a lock file that does not fit is an error; at a desk cargo brings it up to date.
locked := if env("CI", "") == "" { "" } else { "--locked" }
identityd := env("CARGO_TARGET_DIR") / "debug/identityd"

# needs: rust postgres
# start identityd on this machine, with a database of its own (arguments: identityd dev --help)
run *args: _binary
    exec "{{ identityd }}" dev "$@"

# needs: rust
# build the binary as it is released
build *args:
    cargo build --locked --release --bin identityd "$@"

# needs: rust postgres redis kafka servers
# run every test against real servers (arguments: cargo nextest run --help); `./dev servers down` ends the servers
test *args:
    #!/usr/bin/env bash
    set -euo pipefail
    tests/servers up
    mapfile -t variables <"$CARGO_TARGET_DIR/test-servers.env"
    export "${variables[@]}"
    cargo nextest run {{ locked }} "$@"
    # A selection of tests names none of the documentation's.
    [ $# != 0 ] || cargo test {{ locked }} --doc

# needs: postgres redis kafka servers
# start, end or show the servers the tests speak to: up, down, env
servers verb="up":
    tests/servers "$@"

# needs: rust
# check format, lints, documentation and dependencies
lint:
    cargo fmt --check
    cargo clippy {{ locked }} --all-targets -- --deny warnings
    RUSTDOCFLAGS="--deny warnings" cargo doc {{ locked }} --no-deps --document-private-items
    cargo deny --log-level error check --deny unmatched-skip --deny unnecessary-skip bans licenses sources

# needs: rust
# format the code
fmt *args:
    cargo fmt "$@"

# needs: rust
# hold the policies against the role and action matrix in policies/matrix.snap, and against what they must never allow
policy: _binary
    {{ identityd }} policy matrix --check
    {{ identityd }} policy lint
    {{ identityd }} policy test

# needs: rust postgres node contract
# lint docs/openapi.json, generate a client from it, and try every operation on a running server
contract *args: _binary
    tests/tools/contract "$@"

# needs: rust postgres
# do what README.md and docs/quickstart.md say, on a running server
quickstart: _binary
    tests/tools/with-dev-server tests/tools/quickstart

# needs: rust chart
# lint and render charts/identityd, and start the binary with what its containers get
chart: _binary
    tests/tools/chart

# needs: rust postgres load
# run the load smoke on a running server (arguments: k6 run --help)
load *args: _binary
    UNLIMITED=1 tests/tools/with-dev-server k6 run --quiet --no-usage-report "$@" benches/smoke.js

# needs: rust postgres redis kafka servers load
# measure what docs/performance.md reports
bench *args:
    cargo build --locked --release --bin identityd
    benches/run "$@"

# needs: rust postgres redis kafka servers
# measure how soon a revocation on one replica is seen by another (arguments: benches/revocation --help)
revocation *args:
    #!/usr/bin/env bash
    set -euo pipefail
    tests/servers up
    mapfile -t variables <"$CARGO_TARGET_DIR/test-servers.env"
    export "${variables[@]}"
    cargo build --locked --release --bin identityd
    benches/revocation "$@"

# needs: rust postgres redis kafka servers
# attack one account and one organization from many networks (arguments: benches/attack --help)
attack *args:
    #!/usr/bin/env bash
    set -euo pipefail
    tests/servers up
    mapfile -t variables <"$CARGO_TARGET_DIR/test-servers.env"
    export "${variables[@]}"
    cargo build --locked --release --bin identityd
    benches/attack "$@"

# needs: rust
# migrate the configured database: up, down, status, check
migrate *args:
    cargo run {{ locked }} -- migrate "$@"

# needs: docker
# build the container image identityd:dev
image *args:
    docker build --tag identityd:dev "$@" .

# needs: rust postgres redis kafka servers
# write every generated file anew: OpenAPI, configuration reference, policy matrix, schema files, migration catalogue
regenerate: _binary
    #!/usr/bin/env bash
    set -euo pipefail
    # Never into the file itself: a command that fails would leave it empty, and the next build may read it.
    new=$(mktemp)
    trap 'rm -f "$new"' EXIT
    write() { "{{ identityd }}" "${@:2}" >"$new"; cmp --silent "$new" "$1" || cat "$new" >"$1"; }
    write docs/openapi.json openapi
    write docs/configuration.md config reference
    write policies/matrix.snap policy matrix
    tests/servers up
    mapfile -t variables <"$CARGO_TARGET_DIR/test-servers.env"
    export "${variables[@]}" IDENTITYD_REGENERATE=1
    cargo nextest run {{ locked }} generated

_binary:
    cargo build {{ locked }} --bin identityd
