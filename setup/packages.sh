#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the Debian packages that Headwater needs and that are missing, and give the machine an
# identity if it has none; nothing when nothing is missing.
#
# usage: setup/packages.sh run|test|images|pressure|fresh
#   run    what `headwater` needs           test   and what `make test` needs
#   pressure  and what `make test-pressure` and bench/workload_cost run
#   images  and what `make images` needs
#   fresh  and what `make test-fresh` needs
# Shell, because it runs before there is a Python.
set -eu

# ca-certificates: pip's downloads           python3-bpfcc, bpftool: compile and load the programs
# python3-venv: the virtual environment      graphviz: pictures of lineage
# gcc, libc6-dev, python3-dev: the agent's one compiled module
# qemu-system-x86, busybox-static, kmod: the node VM
# iproute2, nftables: two hosts and a Service between them, in the node VM
packages="ca-certificates python3 python3-venv python3-bpfcc bpftool graphviz
	gcc libc6-dev python3-dev qemu-system-x86 busybox-static kmod"
case "${1:-run}" in
run) ;;
test) packages="$packages git iproute2 nftables" ;;
pressure) packages="$packages git iproute2 nftables make auditd nodejs postgresql ripgrep" ;;
images) packages="$packages buildah debian-archive-keyring git mmdebstrap" ;;
fresh) packages="$packages git mmdebstrap debian-archive-keyring" ;;
*)
	echo "usage: setup/packages.sh run|test|images|pressure|fresh" >&2
	exit 2
	;;
esac

# A container or a fresh root that never booted has no identity yet; systemd would make it like this.
if [ ! -s /etc/machine-id ] && [ "$(id -u)" = 0 ]; then
	echo "setup: making /etc/machine-id, the identity that records carry"
	tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
fi

missing=
for package in $packages; do
	state=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | head -n 1) || state=
	[ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "setup: Debian packages are missing and only root can install them; run" >&2
	echo "  sudo apt-get install --no-install-recommends$missing" >&2
	exit 1
fi
echo "setup: installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quiet() {
	"$@" >"$log" 2>&1 || {
		status=$?
		tail -n 20 "$log" >&2
		echo "setup: \"$*\" failed" >&2
		exit "$status"
	}
}
# Another apt may be at work on a machine that has just started.
quiet apt-get -o DPkg::Lock::Timeout=300 update
# shellcheck disable=SC2086 # a list of words
quiet apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends $missing
