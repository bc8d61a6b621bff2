# SPDX-License-Identifier: Apache-2.0
# reduce.sh NAME: say in an SBOM what is in this root, compile it, and take away what only sets a system
# up. Called by the Containerfile's root stages. dpkg's list of packages is kept up to date, for scanners.
set -eu
rm -f /reduce.sh
remove=
for package in apt debian-archive-keyring e2fsprogs gpgv libapt-pkg6.0 libperl5.36 login mount passwd \
	perl perl-base perl-modules-5.36 util-linux; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' $package 2>/dev/null)" != installed ] || remove="$remove $package"
done
# Words are split on purpose. The last thing that their scripts could do is warn of each other.
dpkg --purge --force-all $remove >/dev/null 2>&1
rm -rf /usr/share/doc /usr/share/info /usr/share/lintian /usr/share/locale /usr/share/man /usr/share/perl* \
	/usr/lib/python3*/ensurepip /usr/lib/python3*/idlelib /usr/lib/python3*/lib2to3 /usr/lib/python3*/pydoc_data \
	/usr/lib/*/gconv /usr/lib/*/perl* /var/lib/apt /var/cache/* /var/log/* /tmp/* /etc/apt
# A name for the user that runs, and nothing by which it could become another one.
echo 'headwater:x:65532:65532::/:/usr/sbin/nologin' >>/etc/passwd
echo 'headwater:x:65532:' >>/etc/group
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
# Not by time: the build gives every file the same one. Not at all at run time: the root is read-only.
find / -xdev -name '*.pyc' -delete
python3 -m compileall -q -f --invalidation-mode unchecked-hash /opt/headwater/lib /usr/lib/python3*
mkdir -p /usr/share/headwater
/opt/headwater/bin/python /sbom.py "$1" >/usr/share/headwater/sbom.cdx.json
rm /sbom.py
