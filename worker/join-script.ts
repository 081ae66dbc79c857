/**
 * `GET /join.sh`: what the printed join line pipes into `sh`. POSIX shell with curl and the coreutils of a minimal Debian.
 *
 * The line's curl has checked the server's public key before a byte of this ran; the script reads the same pin from the
 * token and uses it for its own downloads, and the agent then pins the cluster's root key. Everything is inside
 * functions that the last line calls: a script that was cut off runs nothing.
 */
import type { AddressInfo } from "./address.ts";

/** The line to paste. With a certificate of our own, curl checks the server's public key in place of a chain. */
export function joinCommand({ url, spki }: AddressInfo, token: string): string {
  const pin = spki === null ? "" : ` -k --pinnedpubkey 'sha256//${spki.replaceAll("-", "+").replaceAll("_", "/")}='`;
  return `curl -fsSL${pin} ${url}/join.sh | sh -s -- ${token}`;
}

export const JOIN_SCRIPT = `#!/bin/sh
# Joins this machine to a berth cluster:  … | sh -s -- TOKEN [--name NAME] [--foreground]
set -eu

lib=/usr/local/lib/berth
socket=/var/run/docker.sock

fail() { printf 'berth: %s\\n' "$1" >&2; exit 1; }
say() { printf 'berth: %s\\n' "$1"; }

read_token() {
  case $token in berth_join_*) ;; *) fail "the first argument is not a join token; paste the whole line that 'berth join-token create' printed" ;; esac
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
  [ "$(id -u)" = 0 ] || fail "the agent drives the container engine and needs root; run the line as root or with: … | sudo sh -s -- TOKEN"
  for loader in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 /lib64/ld-linux-aarch64.so.1; do
    if [ -e "$loader" ]; then return; fi
  done
  fail "the agent needs a Linux with glibc (Debian, Ubuntu, Fedora, …); this one has none"
}

engine_answers() { [ -S "$socket" ] && [ "$(curl -fsS -m 5 --unix-socket "$socket" http://localhost/_ping 2>/dev/null)" = OK ]; }

check_engine() {
  if ! engine_answers; then install_engine; fi
  version=$(curl -fsS -m 10 --unix-socket "$socket" http://localhost/version) || fail "the container engine on $socket does not answer; start it and run the line again"
  case $version in *[Pp]odman*) fail "Podman answers on $socket; berth needs Docker Engine (API 1.41 or newer)" ;; esac
}

install_engine() {
  if ! command -v dockerd >/dev/null 2>&1; then
    command -v apt-get >/dev/null 2>&1 || fail "no container engine answers on $socket; install Docker Engine 20.10 or newer, start it, and run the line again"
    say "no container engine answers on $socket: installing docker.io with apt"
    apt-get -q update >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends docker.io iptables >/dev/null || fail "apt could not install docker.io; install Docker Engine 20.10 or newer and run the line again"
  fi
  if [ -d /run/systemd/system ]; then systemctl start docker
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

install_agent() {
  mkdir -p "$lib"
  work=$(mktemp -d "$lib/.new-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  install_file agent.mjs agent.mjs
  install_file "node-linux-$arch" node
  chmod 755 "$lib/node"
  rm -rf "$work"
  trap - EXIT
}

# install_file NAME AS: fetches it unless the very same file is there already.
install_file() {
  fetch "$1.sha256" "$work/sum"
  wanted=$(cut -d ' ' -f 1 "$work/sum")
  if [ -f "$lib/$2" ] && [ "$(sha256sum "$lib/$2" | cut -d ' ' -f 1)" = "$wanted" ]; then return; fi
  say "fetching $1"
  fetch "$1" "$work/$2"
  [ "$(sha256sum "$work/$2" | cut -d ' ' -f 1)" = "$wanted" ] || fail "$1 arrived damaged; run the line again"
  mv "$work/$2" "$lib/$2"
}

main() {
  token=\${1-}
  [ $# -eq 0 ] || shift
  foreground=
  name=
  while [ $# -gt 0 ]; do
    case $1 in
      --foreground) foreground=1 ;;
      --name) [ $# -ge 2 ] || fail "--name needs a name"; name=$2; shift ;;
      *) fail "unknown argument $1; there are --name NAME and --foreground" ;;
    esac
    shift
  done
  read_token
  check_machine
  check_engine
  install_agent
  if [ -n "$name" ]; then "$lib/node" "$lib/agent.mjs" join "$token" --name "$name"; else "$lib/node" "$lib/agent.mjs" join "$token"; fi
  if [ -n "$foreground" ]; then exec "$lib/node" "$lib/agent.mjs" run; fi
  if [ -d /run/systemd/system ]; then
    "$lib/node" "$lib/agent.mjs" install
  else
    say "no systemd runs here; start the agent with: $lib/node $lib/agent.mjs run"
  fi
}

main "$@"
`;
