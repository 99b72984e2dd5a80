# For the checks that run in the emulated machine, to be sourced: how they talk with the host, find the
# emulated NICs and change who drives them. The second serial port leads to the host.

exec 3<>/dev/ttyS1
share=/mnt

tell() { printf '%s\n' "$*" >&3; }

# Has the host do something, and waits until it has: its answer is then in $answer.
ask() {
    tell "$@"
    read -r answer <&3
}

held() { tell "ok $*"; }
broke() { tell "fail $*"; }
note() { tell "note $*"; }
fact() { tell "fact $*"; }

# A check: verify WHAT COMMAND...
verify() {
    local what=$1
    shift
    if "$@"; then held "$what"; else broke "$what"; fi
}

# Waits for a condition: await SECONDS COMMAND...
await() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        if ((SECONDS >= end)); then return 1; fi
        sleep 0.1
    done
}

# The PCI addresses of the Ethernet controllers, the one on the first node first.
find_nics() {
    local class address
    nics=()
    for class in /sys/bus/pci/devices/*/class; do
        if [[ $(<"$class") == 0x020000 ]]; then
            address=${class%/class}
            nics+=("${address##*/}")
        fi
    done
}

driver_of() {
    local link
    link=$(readlink "/sys/bus/pci/devices/$1/driver") || return 0
    echo "${link##*/}"
}
driver_is() { [[ $(driver_of "$1") == "$2" ]]; }
node_of() { cat "/sys/bus/pci/devices/$1/numa_node"; }
# Interfaces that the kernel has made of a device; a virtio device has them one level down.
interface_of() { compgen -G "/sys/bus/pci/devices/$1/net/*" || compgen -G "/sys/bus/pci/devices/$1/virtio*/net/*"; }
has_interface() { interface_of "$1" >/dev/null; }

# Takes a device from its kernel driver, by sysfs, and gives it to another: rebind ADDRESS DRIVER
rebind() {
    local device=/sys/bus/pci/devices/$1
    if [[ -e $device/driver ]]; then echo "$1" >"$device/driver/unbind"; fi
    echo "$2" >"$device/driver_override"
    echo "$1" >/sys/bus/pci/drivers_probe
    driver_is "$1" "$2"
}

# Gives a device back to the kernel driver that it had.
give_back() {
    local device=/sys/bus/pci/devices/$1
    echo "$1" >"$device/driver/unbind"
    echo >"$device/driver_override"
    echo "$1" >/sys/bus/pci/drivers_probe
}

# After a failure: what was said last.
tail_of() {
    local line
    tail -n "${2:-12}" "$1" | while read -r line; do note "  $line"; done
}
