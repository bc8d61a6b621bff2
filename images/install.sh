# SPDX-License-Identifier: Apache-2.0
# install.sh EXTRA: our wheel with one extra into the environment /opt/headwater, as it will run.
# Called by the Containerfile's build stages. Bytecode is checked by nothing at run time, so that the
# root can be read-only and files have no times of the build in them.
set -eu
python3 -m venv --without-pip /opt/headwater
wheel=$(echo /wheels/headwater-*.whl)
# Wheels only: what has none, nkeys, is among ours.
/build/bin/python -m pip --quiet --python /opt/headwater/bin/python install --no-compile \
	--constraint /source/setup/constraints.txt --only-binary :all: --find-links /wheels "$wheel[$1]"
# Debugging symbols: nine tenths of that module. Not of all: strip(1) breaks libraries that a wheel's build has patched.
strip --strip-debug /opt/headwater/lib/python3*/site-packages/zstandard/*.so
find /opt/headwater -type d -name tests -prune -exec rm -rf {} +
