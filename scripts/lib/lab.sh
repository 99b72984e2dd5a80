# Hosts for a demonstration, to be sourced: network namespaces without names, so that nothing can be
# left behind. Each is held open by one process and is gone with it. Needs bash, iproute2, util-linux.

# Runs the calling script again in a network namespace of its own: as root, or rootless in a user
# namespace. Everything else happens in there; the machine's own interfaces are not even visible.
#   lab_enter "$0" "$@"
lab_enter() {
    if [[ -n ${LAB_INSIDE:-} ]]; then return; fi
    if unshare --net true 2>/dev/null; then
        LAB_INSIDE=root exec unshare --net "$@"
    fi
    if unshare --user --map-root-user --net true 2>/dev/null; then
        LAB_INSIDE=rootless exec unshare --user --map-root-user --net "$@"
    fi
    cat >&2 <<'TEXT'
error: no network namespace can be made here: not root, and user namespaces are off.
  Run this as root, or allow user namespaces with one of:
    sudo sysctl kernel.unprivileged_userns_clone=1
    sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0
    sudo sysctl user.max_user_namespaces=10000
TEXT
    exit 1
}

lab_pids=()            # Processes to end, in order.
declare -A lab_holder  # By host: the process that holds its namespace open.

# Waits for a condition: lab_await SECONDS WHAT COMMAND...
lab_await() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if ((SECONDS >= end)); then
            echo "error: waited in vain for $what" >&2
            return 1
        fi
        sleep 0.02
    done
}

lab_namespace_differs() {
    local theirs
    theirs=$(readlink "/proc/$1/ns/net") && [[ $theirs != "$(readlink /proc/self/ns/net)" ]]
}

# Starts a process that ends with this script at the latest, even if the script is killed.
#   lab_start COMMAND...   (its pid is then in $!)
lab_start() {
    setpriv --pdeathsig KILL -- "$@" &
    lab_pids+=($!)
}

# A host named $1 whose interface cable0 is one end of a cable; the other end is interface $2 here.
# Not eth0: a mistake about the namespace may never find an interface of the machine's own.
# The host's end stays down. The end here gets no address, not even a link-local one, and answers
# no ARP: its kernel is to stay silent, so that whatever the host receives was sent by the forwarder.
lab_host() {
    local host=$1 port=$2
    lab_start unshare --net sleep infinity
    lab_holder[$host]=$!
    lab_await 10 "host $host" lab_namespace_differs "$!"
    ip link add name "$port" type veth peer name cable0 netns "$!"
    ip link set dev "$port" addrgenmode none arp off up
    on "$host" ip link set lo up
}

# Gives a host's interface its addresses and connects it: lab_up HOST ADDRESS...
lab_up() {
    local host=$1 address
    shift
    for address in "$@"; do
        if [[ $address == *:* ]]; then
            # Without waiting for duplicate address detection: usable at once.
            on "$host" ip address add "$address" dev cable0 nodad
        else
            on "$host" ip address add "$address" dev cable0
        fi
    done
    on "$host" ip link set cable0 up
}

# Runs a command on a host.
on() {
    local host=$1
    shift
    nsenter --target "${lab_holder[$host]}" --net -- "$@"
}

# As on, in the background.
on_start() {
    local host=$1
    shift
    lab_start nsenter --target "${lab_holder[$host]}" --net -- "$@"
}

# Frames that a host's kernel has received and sent: "RX TX".
lab_counters() {
    on "$1" ip -s link show dev cable0 |
        awk '$1 == "RX:" { getline; rx = $2 } $1 == "TX:" { getline; tx = $2 } END { print rx, tx }'
}

# Whether somebody listens on a TCP port of a host: lab_listening HOST PORT
lab_listening() { [[ -n $(on "$1" ss -Hltn "sport = :$2") ]]; }

# Ends what was started, the last first.
lab_end() {
    local i
    # The shell would report each one that it sees killed.
    {
        for ((i = ${#lab_pids[@]} - 1; i >= 0; i--)); do
            kill -KILL "${lab_pids[i]}" || true
        done
        wait || true
    } 2>/dev/null
    lab_pids=()
}
