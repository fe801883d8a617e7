# For the scripts beside this one, which source it: builds the programs unless HOLDFAST_BUILD names a
# folder with them, and finds a server. Sets HOLDFAST_BUILD, HOLDFAST_TEST_SERVER and `python`.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tests/support/install_dependencies --build-only
if [[ -z ${HOLDFAST_BUILD:-} ]]; then
    echo "Building Holdfast" >&2
    log=$(mktemp)
    if ! { cmake --preset release && cmake --build --preset release; } >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "$(basename "$0"): the build failed; the whole output is in $log" >&2
        exit 2
    fi
    rm -f "$log"
    HOLDFAST_BUILD=$PWD/build/bin
fi
HOLDFAST_BUILD=$(cd "$HOLDFAST_BUILD" && pwd)
python=$(tests/support/python_environment)
found=$(tests/support/find_server) # says which one it takes
HOLDFAST_TEST_SERVER=${found#* }
export HOLDFAST_BUILD HOLDFAST_TEST_SERVER
