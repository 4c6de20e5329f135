#!/usr/bin/env bash
# Prints the path of a Python interpreter that works here: `scripts/find-python.sh 3.13`.
# One that starts, is the version that its name says and can make virtual environments: a pyenv
# shim on PATH may exist and do none of that. Exit status 1 and no output if there is none.
set -euo pipefail

version=$1
check="import ensurepip, venv, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')"
while read -r candidate; do
    if [[ -x $candidate ]] && "$candidate" -c "$check" >/dev/null 2>&1; then
        echo "$candidate"
        exit
    fi
done < <(
    type -aP "python$version" || true
    compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version.*/bin/python" || true
    echo "/usr/bin/python$version"
)
exit 1
