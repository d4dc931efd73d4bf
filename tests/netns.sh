#!/bin/sh
# Measure across two network namespaces joined by a veth pair, and take everything away again.
#
# usage: tests/netns.sh LINERATE RESULT.json [BENCH OPTION ...]
#
# Needs root and `ip`. Exit code 77 with a reason on standard output: it cannot be done here. Nothing outside the two
# namespaces is touched, so any number may run at once.
set -eu

program=$1
result=$2
shift 2

skip() {
    echo "$1"
    exit 77
}

[ "$(id -u)" = 0 ] || skip "making network namespaces needs root"
command -v ip >/dev/null || skip "the program ip (iproute2) is missing"

near=linerate-near-$$
far=linerate-far-$$
folder=$(mktemp -d)
server=

clean() {
    trap - EXIT
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    # The veth pair goes with its namespaces.
    ip netns del "$near" 2>/dev/null || true
    ip netns del "$far" 2>/dev/null || true
    rm -rf "$folder"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

why=$(ip netns add "$near" 2>&1) || skip "network namespaces are not permitted: $why"
ip netns add "$far"
why=$(ip link add near netns "$near" mtu 1400 type veth peer name far netns "$far" mtu 1400 2>&1) ||
    skip "veth pairs are not permitted: $why"
ip -n "$near" address add 10.0.0.1/30 dev near
ip -n "$far" address add 10.0.0.2/30 dev far
for end in near far; do
    eval "namespace=\$$end"
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link set "$end" up
done

# It says so once it is ready; should it fail, the pipe ends instead.
mkfifo "$folder/ready"
ip netns exec "$far" "$program" serve --listen 10.0.0.2:5290 --ticket-file "$folder/ticket" >"$folder/ready" &
server=$!
read -r line <"$folder/ready" || line=
case $line in
"listening on "*) ;;
*)
    echo "the server did not get ready: $line" >&2
    exit 1
    ;;
esac

# Both ends are of one user, but the client takes the server for another machine: it needs a ticket.
timeout 60 ip netns exec "$near" "$program" bench 10.0.0.2 --ticket-file "$folder/ticket" --json "$result" "$@"
