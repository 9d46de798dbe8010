#!/usr/bin/env bash
# unpack.sh FOLDER: unpacks the distribution's newest QEMU into FOLDER, next to its own libraries. Nothing is installed
# and no rights are needed. Start it with FOLDER/run ARGUMENTS. MIRROR names a package mirror other than the system's.
set -euo pipefail
folder=$(mkdir -p "${1:?usage: unpack.sh FOLDER}" && cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
apt=$work/apt root=$work/root
mkdir -p "$apt"/{etc/apt.conf.d,etc/preferences.d,state/lists/partial,cache/archives/partial} "$root"
: >"$apt/state/status"

mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | sort -u | grep '/debian/*$' | head -n 1)}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
for suite in trixie trixie-backports; do
  echo "deb [signed-by=$keyring] $mirror $suite main"
done >"$apt/etc/sources.list"
cat >"$apt/apt.conf" <<C
Dir "$apt"; Dir::Etc "etc"; Dir::Etc::sourcelist "$apt/etc/sources.list"; Dir::Etc::sourceparts "/dev/null";
Dir::State "state"; Dir::State::status "$apt/state/status"; Dir::Cache "cache";
APT::Architecture "amd64"; APT::Architectures "amd64"; APT::Install-Recommends "0"; APT::Sandbox::User "root";
Acquire::Languages "none"; Debug::NoLocking "true";
C
export APT_CONFIG=$apt/apt.conf
apt-get update -qq
apt-get install -qq -y --download-only --no-install-recommends -t trixie-backports qemu-system-x86 >/dev/null
for deb in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done

lib=$root/usr/lib/x86_64-linux-gnu loader=$root/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
mkdir -p "$folder"/{lib,mod,share}
"$loader" --library-path "$lib:$lib/pulseaudio" --list "$root/usr/bin/qemu-system-x86_64" |
  awk -v p="$root" '{for (i = 1; i <= NF; i++) if (index($i, p) == 1) print $i}' | sort -u |
  while read -r so; do cp -L "$so" "$folder/lib/"; done
cp -L "$loader" "$folder/lib/"
cp "$root/usr/bin/qemu-system-x86_64" "$folder/"
cp "$lib/qemu/accel-qtest.so" "$folder/mod/"
cp "$root"/usr/share/seabios/bios-256k.bin "$root"/usr/share/qemu/{linuxboot_dma.bin,kvmvapic.bin} "$folder/share/"
cat >"$folder/run.new" <<'R'
#!/bin/sh
d=$(dirname "$(readlink -f "$0")")
export QEMU_MODULE_DIR=$d/mod
exec "$d/lib/ld-linux-x86-64.so.2" --library-path "$d/lib" "$d/qemu-system-x86_64" -L "$d/share" "$@"
R
chmod +x "$folder/run.new"
mv "$folder/run.new" "$folder/run"
