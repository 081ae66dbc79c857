/**
 * `GET /join.sh`: what the printed join line runs. POSIX shell with curl and the coreutils of a minimal Debian.
 *
 * The line's curl has checked the server's public key before a byte of this ran; the script reads the same pin from the
 * token and uses it for its own downloads, and the agent then pins the cluster's root key. Everything is inside
 * functions that the last line calls: a script that was cut off runs nothing.
 */
import type { AddressInfo } from "./address.ts";

/**
 * The line to paste. With a certificate of our own, curl checks the server's public key in place of a chain. When curl
 * fails, what is run ends with `exit 1`: a pipe into `sh` would take nothing for a success. The script takes the token
 * as a word, as people know such lines, and hands it on in the environment.
 */
export function joinCommand({ url, spki }: AddressInfo, token: string): string {
  const pin = spki === null ? "" : ` -k --pinnedpubkey 'sha256//${spki.replaceAll("-", "+").replaceAll("_", "/")}='`;
  return `(curl -fsSL${pin} ${url}/join.sh || echo exit 1) | sh -s -- ${token}`;
}

export const JOIN_SCRIPT = `#!/bin/sh
# Joins this machine to a berth cluster.  TOKEN [--name NAME] [--foreground]
set -eu

lib=/usr/local/lib/berth
init=/run/systemd/system

fail() { printf 'berth: %s\\n' "$1" >&2; exit 1; }
say() { printf 'berth: %s\\n' "$1"; }

read_token() {
  case $token in berth_join_*) ;; *) fail "there is no join token behind sh -s --; paste the whole line that 'berth join-token create' printed" ;; esac
  body=$(printf '%s' "\${token#berth_join_}" | tr -- '-_' '+/')
  while [ $(( \${#body} % 4 )) -ne 0 ]; do body="$body="; done
  json=$(printf '%s' "$body" | base64 -d 2>/dev/null) || fail "the join token is damaged; paste the whole line again"
  url=$(printf '%s' "$json" | sed -n 's/.*"url":"\\([^"]*\\)".*/\\1/p')
  spki=$(printf '%s' "$json" | sed -n 's/.*"spki":"\\([A-Za-z0-9_-]*\\)".*/\\1/p')
  [ -n "$url" ] || fail "the join token names no control plane; make a new one with 'berth join-token create'"
}

fetch() {
  if [ -n "$spki" ]; then
    curl -fsSL --retry 3 -k --pinnedpubkey "sha256//$(printf '%s=' "$spki" | tr -- '-_' '+/')" -o "$2" "$url/agent/v1/dist/$1"
  else
    curl -fsSL --retry 3 -o "$2" "$url/agent/v1/dist/$1"
  fi || fail "could not fetch $1 from $url; is the control plane running and reachable from here?"
}

check_machine() {
  [ "$(uname -s)" = Linux ] || fail "nodes run Linux; on macOS or Windows use a Linux virtual machine as the node"
  case $(uname -m) in
    x86_64 | amd64) arch=x64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) fail "nodes run on x64 or arm64, and this machine is $(uname -m)" ;;
  esac
  [ "$(id -u)" = 0 ] || fail "the agent drives the container engine and needs root; run the line as root, or put sudo before it"
  for loader in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 /lib64/ld-linux-aarch64.so.1; do
    if [ -e "$loader" ]; then return; fi
  done
  fail "the agent needs a Linux with glibc (Debian, Ubuntu, Fedora, …); this one has none"
}

# As the agent does it.
find_socket() {
  case \${DOCKER_HOST-} in
    '') socket=/var/run/docker.sock ;;
    unix://*) socket=\${DOCKER_HOST#unix://} ;;
    /*) socket=$DOCKER_HOST ;;
    *) fail "DOCKER_HOST is $DOCKER_HOST; the agent needs a local socket, as unix:///var/run/docker.sock" ;;
  esac
}

ask_engine() { curl -fsS -m 20 --unix-socket "$socket" "http://localhost/$1" 2>/dev/null; }
engine_answers() { [ -S "$socket" ] && [ "$(ask_engine _ping)" = OK ]; }

check_engine() {
  find_socket
  if ! engine_answers; then
    [ -z "\${DOCKER_HOST-}" ] || fail "no container engine answers on $socket, which DOCKER_HOST names; start it, or unset DOCKER_HOST, and run the line again"
    install_engine
  fi
  version=$(ask_engine version) && info=$(ask_engine info) || fail "the container engine on $socket does not answer; start it and run the line again"
  case $version in *[Pp]odman*) fail "Podman answers on $socket; berth needs Docker Engine (API 1.41 or newer)" ;; esac
  case $info in *name=rootless*) fail "rootless Docker answers on $socket, which cannot set the limits and mounts that berth promises; install Docker Engine as a system service" ;; esac
  minor=$(printf '%s' "$version" | sed -n 's/.*"ApiVersion":"1\\.\\([0-9]*\\)".*/\\1/p')
  [ "\${minor:-0}" -ge 41 ] || fail "the container engine on $socket speaks API 1.\${minor:-?}; berth needs 1.41 or newer, which Docker Engine 20.10 brought"
}

install_engine() {
  if ! command -v dockerd >/dev/null 2>&1; then
    command -v apt-get >/dev/null 2>&1 || fail "no container engine answers on $socket; install Docker Engine 20.10 or newer, start it, and run the line again"
    say "no container engine answers on $socket: installing docker.io with apt"
    apt-get -q update >/dev/null || fail "apt could not update its lists; mend that, or install Docker Engine 20.10 or newer, and run the line again"
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends docker.io iptables >/dev/null || fail "apt could not install docker.io; install Docker Engine 20.10 or newer and run the line again"
  fi
  if [ -d "$init" ]; then
    systemctl start docker 2>/dev/null || fail "systemd could not start the container engine; see why with 'journalctl -u docker', start it, and run the line again"
  elif ! engine_answers; then
    say "no init runs here: starting dockerd (log: /var/log/dockerd.log)"
    setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &
  fi
  tries=0
  until engine_answers; do
    tries=$((tries + 1))
    [ "$tries" -le 60 ] || fail "the container engine did not start within 60 s; see its log, start it, and run the line again"
    sleep 1
  done
}

sum_of() { sha256sum "$1" | cut -d ' ' -f 1; }
is_same() { [ -f "$1" ] && [ "$(sum_of "$1")" = "$2" ]; }

# Into a directory of this version; one rename then replaces the agent and its Node together.
install_agent() {
  mkdir -p "$lib"
  work=$(mktemp -d "$lib/.new-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  fetch agent.mjs.sha256 "$work/agent.sum"
  fetch "node-linux-$arch.sha256" "$work/node.sum"
  agent_sum=$(cut -d ' ' -f 1 "$work/agent.sum")
  node_sum=$(cut -d ' ' -f 1 "$work/node.sum")
  rm "$work/agent.sum" "$work/node.sum"
  version=$(printf '%s %s' "$agent_sum" "$node_sum" | sha256sum | cut -c 1-16)
  dir=$lib/$version
  if ! { is_same "$dir/agent.mjs" "$agent_sum" && is_same "$dir/node" "$node_sum"; }; then
    install_file agent.mjs agent.mjs "$agent_sum"
    install_file "node-linux-$arch" node "$node_sum"
    chmod 755 "$work" "$work/node"
    rm -rf "$dir"
    mv "$work" "$dir"
  fi
  mkdir -p "$work"
  ln -s "$version" "$work/current"
  mv -T "$work/current" "$lib/current"
  rm -rf "$work"
  trap - EXIT
}

# install_file NAME AS SUM: from the version that is here if it is the same, else fetched.
install_file() {
  if is_same "$lib/current/$2" "$3"; then ln "$lib/current/$2" "$work/$2"; return; fi
  say "fetching $1"
  fetch "$1" "$work/$2"
  is_same "$work/$2" "$3" || fail "$1 arrived damaged; run the line again"
}

# When nothing starts from them any more: other versions, and what runs that were cut off have left.
sweep_versions() {
  for path in "$lib"/* "$lib"/.new-*; do
    case $path in "$dir" | "$lib/current") ;; *) rm -rf "$path" ;; esac
  done
}

main() {
  foreground=
  name=
  token=
  while [ $# -gt 0 ]; do
    case $1 in
      --foreground) foreground=1 ;;
      --name) [ $# -ge 2 ] || fail "--name needs a name"; name=$2; shift ;;
      berth_join_*) token=$1 ;;
      *) fail "unknown argument $1; there are TOKEN, --name NAME and --foreground" ;;
    esac
    shift
  done
  read_token
  check_machine
  check_engine
  install_agent
  BERTH_JOIN_TOKEN=$token "$dir/node" "$dir/agent.mjs" join \${name:+--name "$name"}
  if [ -n "$foreground" ]; then exec "$dir/node" "$dir/agent.mjs" run; fi
  if [ -d "$init" ]; then
    "$dir/node" "$dir/agent.mjs" install
  else
    say "no systemd runs here; start the agent with: $lib/current/node $lib/current/agent.mjs run"
  fi
  sweep_versions
}

main "$@"
`;
