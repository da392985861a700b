# shellcheck shell=bash
# What `up` and `down` share. Source it; it changes nothing by itself.
#
# Everything lives in one state directory, $CLUSTER_DIR:
#
#   env.sh             source it to use the cluster
#   conf/              slurm.conf, slurmdbd.conf, gres.conf, cgroup.conf, node_count
#   pids/NAME.pid      NAME is munged, mariadbd, slurmdbd, slurmctld, slurmd-n1, slurmd-n2, ...
#   logs/NAME.log      what the daemon logs (munged and mariadbd: see .out)
#   logs/NAME.out      its standard output and error; logs go when a stopped cluster starts
#   nodes/NODE/        tmp (the node's own /tmp) and spool
#   munge/ mariadb/ state/   key and socket, database, slurmctld's memory: all outlive `down`
#   far/               conf/ and state/ of the second cluster (`far`); the rest is with the first's
#   shared/            for jobs: writable by every user, seen by every node; outlives `down`
#   temporary          exists if a test session started the cluster and may end it
#   lock               held while `up` or `down` works
#
# A node n1 is the network namespace hpctf-n1, joined to the bridge hpctf-br by the link hpctf-n1,
# with a slurmd in it. A second network, hpctf-ib, stands for a fast one: there n1 is n1-ib. Two clusters cannot stand on one machine at once: names and addresses clash.

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

CLUSTER_DIR=${HPCTF_CLUSTER_DIR:-/var/lib/hpctf-test-cluster}
HOSTS_FILE=${HOSTS_FILE:-/etc/hosts}
SYSTEM_SLURM_CONF=${SYSTEM_SLURM_CONF:-/etc/slurm/slurm.conf}

BRIDGE=hpctf-br
SECOND_BRIDGE=hpctf-ib
CONTROLLER_ADDRESS=10.77.0.1
SECOND_ADDRESS=10.78.0.1
NETWORK_BITS=16
LINK_GROUP=771001
HOSTS_MARK='# hpctf-test-cluster'
CONF=$CLUSTER_DIR/conf # `far` has its own
DATABASE_SOCKET=$CLUSTER_DIR/mariadb/mariadb.socket

say() { printf '%s\n' "$*" >&2; }

# fail STATUS MESSAGE
fail() {
    local status=$1
    shift
    say "${0##*/}: $*"
    exit "$status"
}

require_root() {
    [[ $EUID -eq 0 ]] || fail 2 "the test cluster needs root (network namespaces, daemons):" \
        "run it with sudo, or in a container as root."
}

# Jobs need a file system all nodes share, and every node has a /tmp of its own.
require_shared_directory() {
    case $(realpath -m -- "$CLUSTER_DIR")/ in
        /tmp/* | /proc/* | /sys/* | /dev/*)
            fail 2 "HPCTF_CLUSTER_DIR is $CLUSTER_DIR, but every node has its own /tmp:" \
                "choose a directory such as /var/lib/hpctf-test-cluster."
            ;;
    esac
    [[ $CLUSTER_DIR =~ ^/[A-Za-z0-9/._-]+$ ]] || fail 2 \
        "HPCTF_CLUSTER_DIR is '$CLUSTER_DIR', but it must be an absolute path of letters," \
        "digits and /._- only."
}

require_packages() {
    local -A package=(
        [slurmctld]=slurm-wlm [slurmd]=slurm-wlm [srun]=slurm-wlm [slurmdbd]=slurmdbd
        [munged]=munge [mungekey]=munge [mariadbd]=mariadb-server
        [mariadb-install-db]=mariadb-server [mariadb]=mariadb-client [ip]=iproute2 [nsenter]=util-linux
        [unshare]=util-linux [flock]=util-linux [useradd]=passwd
    )
    local command missing=()
    for command in "${!package[@]}"; do
        command -v "$command" >/dev/null || missing+=("${package[$command]}")
    done
    [[ ${#missing[@]} -eq 0 ]] || fail 2 "missing Debian packages. Install them:" \
        "apt-get install -y $(printf '%s\n' "${missing[@]}" | sort -u | paste -sd ' ')"
}

# Two clusters would fight over names and addresses; the bridge remembers whose it is.
require_no_other_cluster() {
    local owner
    owner=$(bridge_owner)
    [[ -z $owner || $owner == "$CLUSTER_DIR" ]] || fail 2 \
        "another test cluster stands on this machine, in $owner." \
        "End it first: HPCTF_CLUSTER_DIR=$owner tests/cluster/down"
}

bridge_owner() { cat "/sys/class/net/$BRIDGE/ifalias" 2>/dev/null || true; }

# Waits for another `up` or `down` on the same directory. Descriptor 9 holds the lock: whatever
# outlives the script must close it.
take_lock() {
    exec 9>"$CLUSTER_DIR/lock"
    flock --wait 120 9 || fail 1 "another up or down has held $CLUSTER_DIR/lock for two minutes."
}

# --- daemons ---------------------------------------------------------------------------------

pid_file() { printf '%s/pids/%s.pid' "$CLUSTER_DIR" "$1"; }
output_file() { printf '%s/logs/%s.out' "$CLUSTER_DIR" "$1"; }

# slurmd-n1 runs slurmd, which on Debian is a link to slurmd-wlm.
program_of() { realpath -- "$(command -v "${1%%-*}")"; }

# daemon_pid NAME: prints the process id if the daemon we started as NAME lives. A pid file alone
# proves nothing after a crash, so the process must run that program with our directory in the
# environment it was started with.
daemon_pid() {
    local name=$1 pid exe
    { read -r pid <"$(pid_file "$name")"; } 2>/dev/null || return 1
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    exe=$(readlink "/proc/$pid/exe") || return 1
    [[ ${exe% (deleted)} == "$(program_of "$name")" ]] || return 1
    grep -qzxF "HPCTF_CLUSTER_DIR=$CLUSTER_DIR" "/proc/$pid/environ" 2>/dev/null || return 1
    printf '%s' "$pid"
}

alive() { daemon_pid "$1" >/dev/null; }

# ended NAME: true once the process started as NAME is gone or a zombie. Not the opposite of
# alive: on its way to the daemon, the process runs other programs (setsid, unshare, ...).
ended() { ! readlink "/proc/$(cat "$(pid_file "$1")" 2>/dev/null)/exe" >/dev/null; }

# logs_of NAME: the files to point at when it fails.
logs_of() { find "$CLUSTER_DIR/logs" -name "$1.*" -size +0 | sort | paste -sd ' '; }

# start_daemon NAME COMMAND...: COMMAND must end by exec'ing the daemon in the foreground, so
# that the process id stays the one recorded here. It gets a clean environment, as on a real node.
#
# Ranks wait for each other on the CPU, and get on only while all of them have one: what else this
# machine does, such as other tests, makes a training take several times its CPU time. So Slurm and
# its jobs come first (slurm.conf(5), PropagatePrioProcess: tasks have slurmd's priority).
NICE=-10
start_daemon() {
    local name=$1
    shift
    setsid nice -n "$NICE" env --chdir=/ --ignore-environment LANG=C.UTF-8 \
        PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin \
        HPCTF_CLUSTER_DIR="$CLUSTER_DIR" SLURM_CONF="$CONF/slurm.conf" \
        MYSQL_UNIX_PORT="$DATABASE_SOCKET" \
        "$@" </dev/null >>"$(output_file "$name")" 2>&1 9>&- &
    echo $! >"$(pid_file "$name")"
}

# stop_daemons SIGNAL NAME...: ends them together and waits; SIGKILL after 10 s.
stop_daemons() {
    local signal=$1 name pid
    local -A running=()
    shift
    for name in "$@"; do
        if pid=$(daemon_pid "$name"); then
            running[$name]=$pid
            kill -s "$signal" "$pid" 2>/dev/null || true
        fi
    done
    local deadline=$((SECONDS + 10))
    for name in "${!running[@]}"; do
        while alive "$name"; do
            if ((SECONDS >= deadline)); then
                say "$name did not end within 10 s: killing it."
                kill -s KILL "${running[$name]}" 2>/dev/null || true
                deadline=$((SECONDS + 5))
            fi
            sleep 0.02
        done
    done
    for name in "$@"; do rm -f "$(pid_file "$name")"; done
}

# wait_for SECONDS DAEMON WHAT CONDITION...: polls CONDITION; gives up early if DAEMON dies.
wait_for() {
    local seconds=$1 daemon=$2 what=$3
    shift 3
    local deadline=$((SECONDS + seconds))
    until "$@"; do
        ! ended "$daemon" ||
            fail 1 "$daemon ended while waiting for the $what. See $(logs_of "$daemon")"
        ((SECONDS < deadline)) ||
            fail 1 "no $what after $seconds s. See $(logs_of "$daemon")"
        sleep 0.05
    done
}

# as_controller NAME PROGRAM...
as_controller() {
    local name=$1
    shift
    start_daemon "$name" unshare --uts bash -ec 'hostname ctl; exec "$@"' bash "$@"
}

start_slurmdbd() {
    alive slurmdbd && return
    as_controller slurmdbd slurmdbd -D
}

# start_slurmctld [NAME [-c]]: -c forgets the jobs and node states of the last run, not the job
# counter.
start_slurmctld() {
    local name=${1-slurmctld}
    alive "$name" && return
    as_controller "$name" slurmctld -D -f "$CONF/slurm.conf" "${@:2}"
}

# Looks, but does not connect: Slurm logs an empty connection as an error.
port_open() { [[ -n $(ss --no-header --listening --tcp --numeric "sport = :$1") ]]; }

# --- nodes -----------------------------------------------------------------------------------

# The names of nodes n1 .. nCOUNT, one a line.
node_names() { seq -f 'n%.0f' 1 "$1"; }

# f1 and its like are the nodes of the second cluster.
node_address() {
    case $1 in
        f*) printf '10.77.3.%d' "${1#f}" ;;
        *) printf '10.77.1.%d' "${1#n}" ;;
    esac
}

# Of NODE-ib.
second_address() { printf '10.78.1.%d' "${1#n}"; }

# Fixed, so that a link made anew is the one that the other nodes' neighbour tables know.
node_hardware_address() {
    case $1 in
        f*) printf '02:48:50:43:55:%02x' "${1#f}" ;;
        *) printf '02:48:50:43:54:%02x' "${1#n}" ;;
    esac
}

# Folders under /tmp that the nodes are to see all the same: a checkout that somebody tries there,
# and a home.
folders_under_tmp() {
    local folder
    for folder in "$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")" "$(realpath "${HOME:-/}")"; do
        [[ $folder != /tmp/* ]] || printf '%s\n' "$folder"
    done
}

# NODE's slurmd runs with the node's network, host name and /tmp; all other files are shared. One that
# crashes is started again, as with a Restart=on-abort of systemd's, and its .out says so: Slurm
# 22.05's was seen to abort itself ("unaligned tcache chunk detected"). What was killed stays dead. A
# node that has a folder pm_counters sees it where a Cray's meters are, in /sys/cray.
start_slurmd() {
    local node=$1 folders
    mapfile -t folders < <(folders_under_tmp)
    mkdir -p "$CLUSTER_DIR/nodes/$node/spool" "$CLUSTER_DIR/nodes/$node/tmp"
    chmod 1777 "$CLUSTER_DIR/nodes/$node/tmp"
    # `ip netns exec` would remount /sys, and slurmd would find no cgroups.
    # shellcheck disable=SC2016  # expanded by the inner shell
    start_daemon "slurmd-$node" nsenter --net="/run/netns/hpctf-$node" \
        unshare --uts --mount bash -ec '
            node=$1 tmp=$2 conf=$3 pid_file=$4 meters=$5
            shift 5
            hostname "$node"
            for folder; do
                mkdir -p "$tmp${folder#/tmp}"
                mount --bind "$folder" "$tmp${folder#/tmp}"
            done
            mount --rbind "$tmp" /tmp
            if [[ -d $meters ]]; then
                sys=$(mktemp -d)
                mount -t tmpfs sys "$sys"
                for folder in /sys/*; do
                    mkdir "$sys/${folder##*/}"
                    mount --rbind "$folder" "$sys/${folder##*/}"
                done
                mkdir -p "$sys/cray/pm_counters"
                mount --bind "$meters" "$sys/cray/pm_counters"
                mount --rbind "$sys" /sys
            fi
            until [[ -s $pid_file && $(<"$pid_file") == "$$" ]]; do sleep 0.01; done # or it would be written over ours
            while true; do
                slurmd -D -N "$node" -f "$conf" &
                echo "$!" >"$pid_file"
                status=0
                wait "$!" || status=$?
                case $status in
                    134 | 135 | 136 | 139) # SIGABRT, SIGBUS, SIGFPE, SIGSEGV
                        echo "$(date --iso-8601=seconds) slurmd of $node crashed, signal" \
                            "$((status - 128)): starting it again"
                        ;;
                    *) exit "$status" ;;
                esac
            done' \
        bash "$node" "$CLUSTER_DIR/nodes/$node/tmp" "$CONF/slurm.conf" "$(pid_file "slurmd-$node")" \
        "$CLUSTER_DIR/nodes/$node/pm_counters" ${folders[@]+"${folders[@]}"}
}

# remove_cgroups LETTER: of the nodes n1 .. or f1 .., in version 1 and version 2 of cgroups.
remove_cgroups() {
    local directory
    for directory in /sys/fs/cgroup/*/slurm_"$1"[0-9]* \
        /sys/fs/cgroup/system.slice/"$1"[0-9]*_slurmstepd.scope; do
        [[ ! -d $directory ]] ||
            find "$directory" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}

# --- network ---------------------------------------------------------------------------------

ensure_bridge() {
    [[ -d /sys/class/net/$BRIDGE ]] || ip link add "$BRIDGE" type bridge
    ip link set "$BRIDGE" alias "$CLUSTER_DIR"
    ip address replace "$CONTROLLER_ADDRESS/$NETWORK_BITS" dev "$BRIDGE"
    ip link set "$BRIDGE" up
    [[ -d /sys/class/net/$SECOND_BRIDGE ]] || ip link add "$SECOND_BRIDGE" type bridge
    ip address replace "$SECOND_ADDRESS/$NETWORK_BITS" dev "$SECOND_BRIDGE"
    ip link set "$SECOND_BRIDGE" up
}

# A namespace file that no namespace is mounted on is left over from a crash.
ensure_namespace() {
    local namespace=$1
    if [[ -e /run/netns/$namespace ]]; then
        nsenter --net="/run/netns/$namespace" true 2>/dev/null && return
        ip netns delete "$namespace" 2>/dev/null || rm -f "/run/netns/$namespace"
    fi
    ip netns add "$namespace"
}

ensure_node_network() {
    local node=$1 name=hpctf-$1
    ensure_namespace "$name"
    if ! ip -n "$name" link show eth0 >/dev/null 2>&1; then
        [[ ! -d /sys/class/net/$name ]] || ip link delete "$name"
        ip link add "$name" group "$LINK_GROUP" type veth \
            peer name eth0 address "$(node_hardware_address "$node")" netns "$name"
    fi
    ip link set "$name" master "$BRIDGE" up
    ip -n "$name" -batch - <<EOF
link set lo up
address replace $(node_address "$node")/$NETWORK_BITS dev eth0
link set eth0 up
EOF
    [[ $node == f* ]] || ensure_second_network "$node"
}

# A bridge of its own: over one bridge, a node whose first link is cut would answer by its second.
ensure_second_network() {
    local node=$1 name=hpctf-$1
    if ! ip -n "$name" link show ib0 >/dev/null 2>&1; then
        [[ ! -d /sys/class/net/$name-ib ]] || ip link delete "$name-ib"
        ip link add "$name-ib" group "$LINK_GROUP" type veth peer name ib0 netns "$name"
    fi
    ip link set "$name-ib" master "$SECOND_BRIDGE" up
    ip -n "$name" -batch - <<EOF
address replace $(second_address "$node")/$NETWORK_BITS dev ib0
link set ib0 up
EOF
}

our_namespaces() {
    find /run/netns -maxdepth 1 -name 'hpctf-[nf]*' -printf '%f\n' 2>/dev/null || true
}

# Links go first: a namespace may live on for a while, and would keep its link's name taken.
# As a group they go at once; one by one, 64 take the kernel 3 s.
remove_network() {
    local name path
    ip link delete group "$LINK_GROUP" 2>/dev/null || true
    for path in /sys/class/net/hpctf-[nf]*; do
        [[ ! -e $path ]] || ip link delete "${path##*/}"
    done
    for name in $(our_namespaces); do
        ip netns delete "$name" 2>/dev/null || rm -f "/run/netns/$name"
    done
    for name in "$BRIDGE" "$SECOND_BRIDGE"; do
        [[ ! -d /sys/class/net/$name ]] || ip link delete "$name"
    done
}

# --- /etc/hosts ------------------------------------------------------------------------------

# Our lines go on top, each with the mark: taking them out leaves the rest as it was, byte for
# byte. Written in place, because in containers the file is often a mount.
add_hosts() {
    local count=$1 node rest lines
    lines=$(
        printf '%s ctl %s\n' "$CONTROLLER_ADDRESS" "$HOSTS_MARK"
        for node in $(node_names "$count"); do
            printf '%s %s %s\n' "$(node_address "$node")" "$node" "$HOSTS_MARK"
            printf '%s %s-ib %s\n' "$(second_address "$node")" "$node" "$HOSTS_MARK"
        done
    )
    [[ $(grep -F "$HOSTS_MARK" "$HOSTS_FILE") != "$lines" ]] || return 0
    remove_hosts
    rest=$(mktemp "$CLUSTER_DIR/hosts.XXXXXX")
    cat "$HOSTS_FILE" >"$rest"
    { printf '%s\n' "$lines" && cat "$rest"; } >"$HOSTS_FILE"
    rm -f "$rest"
}

# remove_hosts [MARK]
remove_hosts() {
    local mark=${1:-$HOSTS_MARK} rest
    grep -qF "$mark" "$HOSTS_FILE" 2>/dev/null || return 0
    rest=$(mktemp "$CLUSTER_DIR/hosts.XXXXXX")
    sed "/ $mark\$/d" "$HOSTS_FILE" >"$rest"
    cat "$rest" >"$HOSTS_FILE"
    rm -f "$rest"
}
