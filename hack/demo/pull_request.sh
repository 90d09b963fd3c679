# The life of a pull request, on a forge of the demo's own (hack/demo/forge) that
# tekton-webhook follows as docs/webhook.md says. Sourced by demo.sh, which sets
# dir, run, own and port.

hook=$dir/webhook # belongs to a user without rights
followers=()      # process ids of the forge and tekton-webhook
forge=            # its URL

# host_of_pull_requests are lines of Host.spec.
host_of_pull_requests() {
  cat <<CONFIG
  readSocketGroup: nogroup
  git: {user: nobody}
  previews: {domain: localhost}
  sources:
  - {name: specs, path: $dir/specs}
  - {name: pull-requests, path: $hook/specs, allow: {kinds: [Preview], repositories: [shop], domains: ["*.localhost"], maxObjects: 1}}
CONFIG
}

prepare_pull_requests() {
  mkdir -p "$hook/specs" "$hook/state" "$dir/specs"
  cp -r examples/preview-app/app "$hook/"
  cp bin/tekton-webhook "$hook/" # where that user may execute it
  go build -o "$hook/forge" ./hack/demo/forge
  local secret
  for secret in token secret; do
    head -c 24 /dev/urandom | base64 | tr -d '\n' >"$hook/$secret"
    chmod 0600 "$hook/$secret"
  done
  chown -R nobody:nogroup "$hook"
}

# follow starts the forge and tekton-webhook, which end with this script.
follow() {
  local at
  forge=http://127.0.0.1:$(port=$((port + 1)) && free_port)
  at=127.0.0.1:$(port=$((${forge##*:} + 1)) && free_port)
  printf 'listen: %s\nspecs: %s/specs\nstate: %s/state\nsocket: %s/read.sock\nforges:\n- {name: demo, type: github, url: "%s", secretFiles: [secret], tokenFile: token}\n' \
    "$at" "$hook" "$hook" "$run" "$forge" >"$hook/webhook.yaml"
  as_nobody "$hook/forge" -dir "$hook" -listen "${forge#http://}" -hook "http://$at/webhook/demo"
  as_nobody "$hook/tekton-webhook" --config "$hook/webhook.yaml"
  printf 'apiVersion: tekton.host/v1alpha1\nkind: Repository\nmetadata: {name: shop}\nspec: {url: "%s/team/shop.git"}\n' "$forge" >"$dir/specs/repository.yaml"
  curl -sS --fail --noproxy '*' --retry 100 --retry-delay 1 --retry-all-errors -o /dev/null "http://$at/healthz" "$forge/demo/comment" 2>/dev/null ||
    { tail -n 5 "$own/webhook.log" >&2 && return 1; }
}

as_nobody() {
  setpriv --reuid=nobody --regid=nogroup --clear-groups --pdeathsig=KILL "$@" >>"$own/webhook.log" 2>&1 9<&- &
  followers+=("$!")
}

# unfollow ends both.
unfollow() {
  [ ${#followers[@]} -gt 0 ] || return 0
  kill "${followers[@]}" 2>/dev/null || true
  wait "${followers[@]}" 2>/dev/null || true
  followers=()
}

# told has something happen to the pull request, and waits until its comment says
# of its commit what became of it.
told() {
  local commit comment i
  commit=$(curl -sS --fail-with-body --noproxy '*' -X POST "$forge/demo/$1") || return 1
  for i in $(seq 900); do
    comment=$(curl -sS --noproxy '*' "$forge/demo/comment") || return 1
    case $comment in *"**$2** · commit \` ${commit:0:12} "*) grep -v '^<!--' <<<"$comment" && return ;; esac
    sleep 0.1
  done
  echo "$comment; $(tail -n 5 "$own/webhook.log")" >&2
  return 1
}

# look follows the link of the comment that it is given, and shows it.
look() {
  local link
  link=$(grep -oE 'http://[^>]*' <<<"$1") && echo "$1" && show "$link"
}

show_pull_request() {
  local said preview
  follow || return 1
  say "A pull request is opened on a forge of the demo's own; its comment says"
  said=$(told open "The preview is ready") && look "$said" || return 1
  say "Somebody pushes another commit to it; the same comment says"
  sed -i 's/<h1>Notes/<h1>Better notes/' "$hook/app/web.py"
  said=$(told push "The preview is ready") && look "$said" || return 1
  say "It is closed; the same comment says"
  preview=$(tekton get -o name | grep ^preview/) && told close "No preview" || return 1
  interruptible tekton wait --for=delete --timeout 1m "$preview" || return 1
  unfollow
}
