# What an emulated machine is made of, to be sourced by scripts/lab: the emulator, installed; a guest
# kernel and a busybox, fetched from the distribution and only unpacked; an initramfs. Kept in a
# directory of the caller's, and made again only if something they come from has changed.

machine_say() { printf 'lab: %s\n' "$*"; }

# Raise it when what machine_setup makes changes: then it is made again.
machine_format=1

# Drivers that the guest loads, in order; what they depend on comes along. The first line is needed to
# reach the host's files, the second to take a device away from the kernel, the third are the kernel's own
# drivers of the emulated devices, from which a device is taken and to which it is given back.
machine_modules_files=(virtio_pci 9pnet_virtio 9p)
machine_modules_vfio=(vfio_iommu_type1 vfio-pci)
machine_modules_nic=(igb e1000e vmxnet3 virtio_net)

# Runs a command as root.
machine_root() {
    if ((EUID == 0)); then
        env DEBIAN_FRONTEND=noninteractive "$@"
    elif command -v sudo >/dev/null; then
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    else
        machine_say "this needs root: $*" >&2
        return 1
    fi
}

# The installed emulator's major version, 0 without one.
machine_qemu_major() {
    local text
    text=$(qemu-system-x86_64 --version 2>/dev/null | sed -n '1s/.*version \([0-9]*\).*/\1/p') || true
    echo "${text:-0}"
}

# The major version of the package that apt would install, 0 if it knows none.
machine_qemu_candidate() {
    local text
    text=$(apt-cache policy qemu-system-x86 | sed -n 's/^ *Candidate: \(.*:\)\{0,1\}\([0-9]*\).*/\2/p')
    echo "${text:-0}"
}

# Installs the emulator. The igb model came with QEMU 8: where the distribution's own is older, the one
# of its backports is taken. For that a list of sources is made for this one call: what is configured
# for the whole machine stays as it is.
machine_install_qemu() {
    local scratch=$1 options=() uri codename
    if (($(machine_qemu_candidate) < 8)); then
        read -r uri codename < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
            awk '$2 !~ /-/ && !found { print; found = 1 }')
        if [[ -z ${codename:-} || $(. /etc/os-release && echo "$ID") != debian ]]; then
            machine_say "QEMU 8 or later is needed, and this system's packages have none; install one by hand" >&2
            return 1
        fi
        machine_say "this system's QEMU is too old (8 is needed); taking the one of $codename-backports"
        rm -rf "$scratch/apt"
        mkdir -p "$scratch/apt/parts"
        cp /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list "$scratch/apt/parts/" 2>/dev/null || true
        cat /etc/apt/sources.list >"$scratch/apt/sources.list" 2>/dev/null || true
        local keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed=
        if [[ -e $keyring ]]; then signed="[signed-by=$keyring]"; fi
        echo "deb $signed $uri $codename-backports main" >>"$scratch/apt/sources.list"
        # The lists that others use are not to be removed because this call does not name them.
        options=(-o "Dir::Etc::SourceList=$scratch/apt/sources.list" -o "Dir::Etc::SourceParts=$scratch/apt/parts"
            -o APT::Get::List-Cleanup=0)
        machine_root apt-get "${options[@]}" update -qq
        options+=(-t "$codename-backports")
    fi
    machine_say "installing qemu-system-x86"
    machine_root apt-get "${options[@]}" -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
        qemu-system-x86 >"$scratch/apt.log" 2>&1 || {
        cat "$scratch/apt.log" >&2
        return 1
    }
}

# Fetches a package and unpacks it into a directory, without installing it: machine_unpack PACKAGE DIR
machine_unpack() {
    local package=$1 dir=$2 fetched
    fetched=$(mktemp -d "$dir.XXXXXX")
    machine_say "fetching $package (unpacked, not installed)"
    (cd "$fetched" && apt-get -o APT::Sandbox::User=root -qq download "$package") || {
        rm -rf "$fetched"
        return 1
    }
    mkdir -p "$dir"
    dpkg-deb --extract "$fetched"/*.deb "$dir"
    rm -rf "$fetched"
}

# The kernel inside a compressed image, as an ELF file, which the emulator starts at once: unpacking
# itself takes an emulated processor a quarter of a minute. Fails if it cannot be found.
machine_uncompress() {
    python3 - "$1" "$2" <<'PYTHON'
import subprocess, sys
image = open(sys.argv[1], "rb").read()
for magic, tool in ((b"\xfd7zXZ\0", ["xz", "-dc", "--single-stream"]), (b"\x28\xb5\x2f\xfd", ["zstd", "-dc"]), (b"\x1f\x8b\x08", ["gzip", "-dc"])):
    at = image.find(magic)
    while at >= 0:
        try:
            kernel = subprocess.run(tool, input=image[at:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        except FileNotFoundError:
            break
        if kernel[:4] == b"\x7fELF":
            open(sys.argv[2], "wb").write(kernel)
            sys.exit(0)
        at = image.find(magic, at + 1)
sys.exit(1)
PYTHON
}

# Makes the guest's kernel and initramfs in a directory: machine_build DIR INIT-SCRIPT
machine_build() {
    local dir=$1 init=$2 package release module root
    # The meta package names the newest kernel.
    package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
    if [[ -z $package ]]; then
        machine_say "apt knows no linux-image-amd64; the lab's guest kernel is Debian's" >&2
        return 1
    fi
    # With what an interrupted attempt may have left.
    rm -rf "$dir"/{kernel,busybox}{,.*} "$dir/initramfs" "$dir/ready"
    machine_unpack "$package" "$dir/kernel"
    machine_unpack busybox-static "$dir/busybox"
    # On a system with /bin merged into /usr, modules may be in either place.
    root=$dir/kernel
    if [[ -d $root/usr/lib/modules ]]; then root=$root/usr; fi
    release=$(basename "$root"/lib/modules/*)
    PATH=$PATH:/sbin:/usr/sbin depmod --basedir "$root" "$release"

    machine_say "unpacking Linux $release"
    if ! machine_uncompress "$dir"/kernel/boot/vmlinuz-* "$dir/vmlinux"; then
        machine_say "cannot find the kernel inside its image; it is started compressed, 15 s slower"
        cp "$dir"/kernel/boot/vmlinuz-* "$dir/vmlinux"
    fi

    machine_say "building the initramfs"
    local tree=$dir/initramfs
    mkdir -p "$tree"/{bin,proc,sys,dev,host,lib/modules/"$release"}
    cp "$(find "$dir/busybox" -type f -path '*bin/busybox' | head -n 1)" "$tree/bin/busybox"
    cp "$init" "$tree/init"
    chmod 755 "$tree/init"
    for module in "${machine_modules_files[@]}" "${machine_modules_vfio[@]}" "${machine_modules_nic[@]}"; do
        # Each with all that it depends on; what is built into the kernel has no file.
        modprobe --dirname "$root" --set-version "$release" --show-depends "$module" |
            awk '$1 == "insmod" { print $2 }' >"$dir/files" || {
            machine_say "this kernel has no $module" >&2
            return 1
        }
        while read -r file; do
            file=${file#"$root/lib/modules/$release/"}
            mkdir -p "$tree/lib/modules/$release/$(dirname "$file")"
            cp "$root/lib/modules/$release/$file" "$tree/lib/modules/$release/$file"
        done <"$dir/files"
    done
    cp "$root/lib/modules/$release"/modules.{builtin,builtin.modinfo,order} "$tree/lib/modules/$release/"
    PATH=$PATH:/sbin:/usr/sbin depmod --basedir "$tree" "$release"
    printf '%s\n' "${machine_modules_files[@]}" "${machine_modules_vfio[@]}" >"$tree/modules"
    (cd "$tree" && find . | cpio --create --format newc --owner 0:0 --quiet) >"$dir/initramfs.cpio"
    rm -rf "$dir/kernel" "$dir/busybox" "$dir/initramfs" "$dir/files"
    echo "$release" >"$dir/release"
}

# All of it, or only what is missing: machine_setup DIR INIT-SCRIPT
machine_setup() {
    local dir=$1 init=$2 package tool missing=() key
    mkdir -p "$dir"
    dir=$(realpath "$dir")
    # Two labs started at once must not build into the same directory.
    exec {machine_lock}>"$dir/lock"
    flock "$machine_lock"
    if ! command -v apt-get >/dev/null; then
        machine_say "this system has no apt-get; the lab sets itself up on Debian only" >&2
        return 1
    fi
    while read -r package tool; do
        if ! PATH=$PATH:/sbin:/usr/sbin command -v "$tool" >/dev/null; then missing+=("$package"); fi
    done <<'TEXT'
cpio     cpio
kmod     depmod
xz-utils xz
python3  python3
TEXT
    if ((${#missing[@]} > 0)); then
        machine_say "installing ${missing[*]}"
        machine_root apt-get update -qq
        machine_root apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >"$dir/apt.log" 2>&1 || {
            cat "$dir/apt.log" >&2
            return 1
        }
    fi
    if (($(machine_qemu_major) < 8)); then machine_install_qemu "$dir"; fi
    key="$machine_format $(sha256sum <"$init")"
    if [[ ! -s $dir/ready || $(cat "$dir/ready") != "$key" ]]; then
        machine_build "$dir" "$init"
        echo "$key" >"$dir/ready"
        machine_say "ready: QEMU $(machine_qemu_major), guest Linux $(cat "$dir/release"), in $dir"
    fi
    exec {machine_lock}>&-
}
