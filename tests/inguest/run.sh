#!/bin/bash
# What can only be tested with systemd as PID 1, cgroup v2 and AppArmor; runs as root in the guest of scripts/inguest.sh,
# in the checkout. One line for each check; the last is "N passed, N failed, N skipped".
set -u
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
passed=0 failed=0 skipped=0
ok() { passed=$((passed + 1)); echo "ok   $*"; }
bad() { failed=$((failed + 1)); echo "FAIL $*"; }
skip() { skipped=$((skipped + 1)); echo "SKIP $1: $2"; }
note() { echo "     [$SECONDS s] $*"; }
check() { # TEXT COMMAND...
    local text=$1
    shift
    if "$@" >/tmp/check 2>&1; then ok "$text"; else bad "$text"; sed 's/^/       /' /tmp/check | tail -n 15; fi
}
same() { # TEXT GOT WANTED
    if [ "$2" = "$3" ]; then ok "$1"; else bad "$1: '$2', not '$3'"; fi
}
within() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

# tests BINARY FILTER...: a test binary of the project, counted test by test as `make test` does
tests() {
    local name=$1 file p f s
    shift
    file=$(sed -n "s|^[^ ]*$name[^ ]* ||p" /share/tests | head -n1)
    if [ -z "$file" ]; then
        bad "$name: no such test binary"
        return
    fi
    timeout 240 "$file" --test-threads=2 --show-output "$@" >/tmp/tests 2>&1 || sed 's/^/     /' /tmp/tests | tail -n 60
    read -r p f < <(sed -n 's/^test result: [a-zA-Z]*\. \([0-9]*\) passed; \([0-9]*\) failed.*/\1 \2/p' /tmp/tests)
    s=$(grep -c '^SKIP ' /tmp/tests)
    if [ -z "${p:-}" ]; then
        bad "$name: it ended without a result"
        return
    fi
    passed=$((passed + p - s)) failed=$((failed + f)) skipped=$((skipped + s))
    echo "$([ "$f" = 0 ] && echo ok || echo FAIL)   $name $*: $((p - s)) passed, $f failed, $s skipped"
    grep '^SKIP ' /tmp/tests
    note "$name"
}

work=/srv/inguest
mkdir -p $work
cp -a /share/stage/. /
cgroups=/sys/fs/cgroup

# ---- the machine -----------------------------------------------------------------------------------------------------

same "systemd is PID 1" "$(cat /proc/1/comm)" systemd
same "cgroup v2 alone is mounted" "$(grep -c ' - cgroup ' /proc/self/mountinfo) $(grep -c ' - cgroup2 ' /proc/self/mountinfo)" "0 1"
check "AppArmor is on" grep -q Y /sys/module/apparmor/parameters/enabled
for name in cpu io memory pids cpuset; do
    grep -qw $name $cgroups/cgroup.controllers || bad "no $name controller"
done

# ---- the packaged unit -----------------------------------------------------------------------------------------------

check "the packaged users are made" systemd-sysusers
check "QEMU's user is in the group kvm" bash -c 'id -nG domus-qemu | grep -qw kvm'
check "the unit file is sound" systemd-analyze verify --man=no /usr/lib/systemd/system/domusd.service \
    /usr/lib/systemd/system/domusd.socket /usr/lib/systemd/system/domusd-libvirt.socket
systemctl daemon-reload
busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig >/dev/null
check "the daemon starts and says it is ready" systemctl start domusd
systemctl --quiet is-active domusd || journalctl -u domusd --no-pager | tail -n 20
check "it serves the system bus" domus --system version
check "it found systemd" bash -c 'journalctl -u domusd --no-pager | grep -q "transient scopes of systemd"'
note "daemon"

# ---- a container and a virtual machine, each in a scope --------------------------------------------------------------

mkdir -p $work/busybox/bin
cp /bin/busybox $work/busybox/bin/
for applet in sh sleep cat dd mkdir; do ln -sf busybox $work/busybox/bin/$applet; done
cat >$work/busybox/init <<'INIT'
#!/bin/sh
mkdir -p /sys/fs/cgroup/below && echo "may make groups: yes"
echo "+pids" >/sys/fs/cgroup/cgroup.subtree_control || echo "process in it, as it should be"
cat /proc/self/cgroup /proc/self/mounts >/report
while :; do sleep 1; done
INIT
chmod 755 $work/busybox/init
cat >$work/container.xml <<XML
<domain type='lxc'>
  <name>box</name>
  <memory unit='MiB'>64</memory>
  <vcpu cpuset='0'>1</vcpu>
  <cputune><shares>512</shares><period>100000</period><quota>50000</quota></cputune>
  <memtune><hard_limit unit='MiB'>48</hard_limit><soft_limit unit='MiB'>32</soft_limit><swap_hard_limit unit='MiB'>64</swap_hard_limit></memtune>
  <blkiotune><weight>300</weight></blkiotune>
  <os><type>exe</type><init>/init</init></os>
  <devices>
    <filesystem type='mount'><source dir='$work/busybox'/><target dir='/'/></filesystem>
    <console type='pty'/>
  </devices>
</domain>
XML
cat >$work/vm.xml <<XML
<domain type='qemu'>
  <name>machine</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <cputune><shares>2048</shares></cputune>
  <memtune><hard_limit unit='MiB'>512</hard_limit></memtune>
  <resource><partition>/machine/web-shop</partition></resource>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><serial type='pty'/></devices>
</domain>
XML
check "define container" domus define $work/container.xml
check "define machine" domus define $work/vm.xml
check "start container" domus start box
check "start machine" domus start machine
note "guests"
systemctl --quiet is-active domusd || journalctl -u domusd --no-pager | tail -n 20

scope_of() { systemctl list-units --type=scope --plain --no-legend 'machine-*.scope' | cut -d' ' -f1 | grep "$1"; }
property() { systemctl show -P "$2" "$1"; }
box=$(scope_of 'lxc') || box=''
machine=$(scope_of 'qemu') || machine=''
if [ -z "$box" ] || [ -z "$machine" ]; then
    bad "the container has a scope, the machine has one: '$box', '$machine'"
    echo "$passed passed, $failed failed, $skipped skipped"
    exit 1
fi
ok "the container has a scope, the machine has one"
same "the container's scope is in machine.slice" "$(property "$box" ControlGroup)" "/machine.slice/$box"
same "the machine's is in its partition's slice" "$(property "$machine" ControlGroup)" '/machine.slice/machine-web\x2dshop.slice/'"$machine"
same "described" "$(property "$box" Description), $(property "$machine" Description)" "Container box, Virtual machine machine"
same "delegated, and no limit of tasks" "$(property "$box" Delegate) $(property "$box" TasksMax)" "yes infinity"
same "only the guest is left in it" "$(cat "$cgroups/machine.slice/$box/cgroup.procs"; ls -d "$cgroups/machine.slice/$box"/*/)" "$cgroups/machine.slice/$box/domus/"
group=$cgroups/machine.slice/$box/domus
vm=$cgroups/$(property "$machine" ControlGroup)/domus
# What supervisors are forked from is the daemon's, and ends with it.
beside=$(grep -vx "$(systemctl show -P MainPID domusd)" "$cgroups/system.slice/domusd.service/cgroup.procs" |
    while read -r pid; do tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n 2p; done)
same "nothing of them is in the daemon's unit" "$beside" serve

# ---- limits ----------------------------------------------------------------------------------------------------------

values() { # DIRECTORY FILE...
    local dir=$1 file
    shift
    for file in "$@"; do
        printf '%s=%s ' "$file" "$(paste -sd, "$dir/$file" 2>/dev/null | sed 's/^default //')"
    done
}
limits() {
    values "$group" memory.max memory.high memory.swap.max cpu.max cpuset.cpus pids.max cpu.weight
    values "$vm" memory.max cpu.weight
}
wanted="memory.max=50331648 memory.high=33554432 memory.swap.max=16777216 cpu.max=50000 100000 cpuset.cpus=0 pids.max=16384 cpu.weight=20 memory.max=536870912 cpu.weight=79 "
same "limits are in the kernel's files" "$(limits)" "$wanted"
if ls "$group"/io*.weight >/dev/null 2>&1; then
    check "the I/O weight is" grep -qw 300 "$group"/io.weight "$group"/io.bfq.weight
else
    skip "I/O weight" "this kernel has no I/O weights"
fi
systemctl daemon-reload
same "systemd's reload leaves them" "$(limits)" "$wanted"

check "live: less memory" domus memtune box --live --hard-limit 40M --soft-limit 20M --swap-hard-limit 50M
same "live: in the kernel's files" "$(values "$group" memory.max memory.high memory.swap.max)" "memory.max=41943040 memory.high=20971520 memory.swap.max=10485760 "
same "live: read back" "$(domus -q memtune box | sed -n 's/^\([a-z_]*\) *: */\1=/p' | grep limit | paste -sd' ')" "hard_limit=40960 soft_limit=20480 swap_hard_limit=51200"
check "live: no limit at all" domus memtune box --live --hard-limit -1 --soft-limit -1 --swap-hard-limit -1
same "live: none in the kernel's files" "$(values "$group" memory.max memory.high memory.swap.max)" "memory.max=max memory.high=max memory.swap.max=max "
check "live: shares, quota, period" domus schedinfo box --live cpu_shares=1024 vcpu_quota=20000 vcpu_period=50000
same "live: in the kernel's files" "$(values "$group" cpu.weight cpu.max)" "cpu.weight=39 cpu.max=20000 50000 "

# ---- inside the container --------------------------------------------------------------------------------------------

check "the container has looked around" within 30 test -s $work/busybox/report
same "its cgroup namespace begins at its own group" "$(sed -n 's/^0:://p' $work/busybox/report)" /
same "it sees one cgroup mount, of version 2" "$(grep -c ' cgroup' $work/busybox/report) $(grep -c ' /sys/fs/cgroup cgroup2 ' $work/busybox/report)" "1 1"
check "it may make groups below its own" test -d "$group/guest/below"
init=$(head -n1 "$group/guest/cgroup.procs")
check "root inside is somebody else outside" bash -c "[ \$(stat -c %u /proc/$init) -gt 65535 ]"
# The device program belongs to the group: whoever is in it is under it.
in_group() { bash -c 'echo $$ >"$0/guest/cgroup.procs"; exec "$@"' "$group" "$@"; }
check "devices: null may be opened" in_group dd if=/dev/null of=/dev/zero
refused() { ! in_group "$@" && grep -q 'Operation not permitted' /tmp/check; }
check "devices: the disk may not" refused dd if=/dev/vda of=/dev/null count=1
check "devices: outside of the group it may" dd if=/dev/vda of=/dev/null count=1

# ---- numbers and the freezer -----------------------------------------------------------------------------------------

check "suspend the container" domus suspend box
same "it is frozen" "$(grep frozen "$group/guest/cgroup.events")" "frozen 1"
same "its supervisor is not" "$(grep frozen "$group/supervisor/cgroup.events")" "frozen 0"
same "state" "$(domus -q domstate box)" paused
check "resume it" domus resume box
same "it is not frozen" "$(grep frozen "$group/guest/cgroup.events")" "frozen 0"
number() { domus -q domstats "$1" | sed -n "s/^ *$2=//p"; }
for item in "box cpu.time" "machine cpu.time" "box balloon.rss"; do
    # shellcheck disable=SC2086
    check "statistics: $item is counted" test "$(number $item)" -gt 0
done
note "limits and numbers"

# ---- the daemon goes, the guests stay ---------------------------------------------------------------------------------

pids() { cat "$group/guest/cgroup.procs" "$group/supervisor/cgroup.procs" "$vm/cgroup.procs" | head -n1000 | sort -n | paste -sd' '; }
inits() { echo "$(head -n1 "$group/guest/cgroup.procs") $(cat "$group/supervisor/cgroup.procs") $(cat "$vm/cgroup.procs")"; }
before=$(inits)
states() { echo "$(domus -q domstate box) $(domus -q domstate machine)"; }
check "restart of the unit" systemctl restart domusd
same "the same processes" "$(inits)" "$before"
same "both found running" "$(states)" "running running"
same "the same scopes" "$(scope_of lxc) $(scope_of qemu)" "$box $machine"
main=$(systemctl show -P MainPID domusd)
kill -9 "$main"
back() { [ "$(systemctl show -P MainPID domusd)" != "$main" ] && domus -q version; }
check "systemd starts a killed daemon again" within 30 back
same "the same processes after that" "$(inits)" "$before"
same "both found running after that" "$(states)" "running running"
check "stop of the unit" systemctl stop domusd
same "the same processes without a daemon" "$(inits)" "$before"
check "its directory is still there" test -d /run/domus/lxc
check "start of the unit" systemctl start domusd
note "restarts"

# ---- ends ------------------------------------------------------------------------------------------------------------

check "destroy container" domus destroy box
check "destroy machine" domus destroy machine
same "both off" "$(states)" "shut off shut off"
no_scope() { [ -z "$(scope_of .)" ] && [ -z "$(find $cgroups/machine.slice -name '*.scope')" ]; }
check "no scope is left" within 5 no_scope
same "no process is left" "$(for pid in $before; do [ -e "/proc/$pid" ] && echo "$pid"; done)" ""
check "no unit failed" bash -c '! systemctl list-units --failed --plain --no-legend | grep .'

# A daemon killed in the middle of a start: the next one takes scope and processes away.
for point in start.cgroup start.spawn start.wait; do
    mkdir -p /run/systemd/system/domusd.service.d
    printf '[Service]\nEnvironment=DOMUS_FAULT=%s:kill\nRestart=no\n' $point >/run/systemd/system/domusd.service.d/fault.conf
    systemctl daemon-reload
    systemctl restart domusd
    domus start box >/dev/null 2>&1
    dead() { [ "$(systemctl show -P Result domusd)" = signal ]; }
    check "killed at $point: it was" within 5 dead
    rm /run/systemd/system/domusd.service.d/fault.conf
    systemctl daemon-reload
    systemctl reset-failed domusd 2>/dev/null
    check "killed at $point: the next daemon starts" systemctl restart domusd
    check "killed at $point: no scope is left" within 5 no_scope
    same "killed at $point: state" "$(domus -q domstate box)" "shut off"
done
note "crashes"

# ---- AppArmor --------------------------------------------------------------------------------------------------------

# Everything above ran with it. What the drivers do not do is neither claimed nor quietly left out.
same "no AppArmor model is reported" "$(domus -c lxc capabilities | grep -c apparmor) $(domus -c qemu capabilities | grep -c apparmor)" "0 0"
for kind in container vm; do
    sed "s|</domain>|<seclabel type='dynamic' model='apparmor'/></domain>|; s|<name>[^<]*|<name>label|" $work/$kind.xml >$work/label.xml
    refused() { ! domus create $work/label.xml && domus create $work/label.xml 2>&1 | grep -q "'apparmor' is not available"; }
    check "$kind: a label nobody applies is refused" refused
done
skip "AppArmor profiles" "the drivers put no guest under a profile of its own"

# ---- KVM, if the emulated processor gives it -------------------------------------------------------------------------

if modprobe kvm_amd 2>/dev/null && within 5 test -c /dev/kvm && [ -e /share/guest/kernel ]; then
    udevadm settle --timeout=5
    cp /share/guest/kernel /share/guest/initrd $work/
    cat >$work/kvm.xml <<XML
<domain type='kvm'>
  <name>fast</name>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <cpu mode='host-passthrough'/>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>$work/kernel</kernel><initrd>$work/initrd</initrd>
    <cmdline>console=ttyS0 quiet no_timer_check</cmdline>
  </os>
  <devices><serial type='pty'><log file='$work/kvm.log' append='off'/></serial></devices>
</domain>
XML
    check "KVM: a guest starts" domus create $work/kvm.xml
    booted() { grep -aq domus-guest $work/kvm.log; }
    check "KVM: its kernel and init run" within 90 booted
    domus destroy fast >/dev/null 2>&1 || true
    note "KVM"
else
    skip "KVM" "the emulated processor has none, or there is no guest image"
fi

# ---- the project's own tests, on these hierarchies -------------------------------------------------------------------

systemctl stop domusd
tests src/lib.rs cgroup:: sys:: lxc::
tests lxc_run
tests lxc_driver
check "no scope is left after all" within 5 no_scope
check "no unit failed after all" bash -c '! systemctl list-units --failed --plain --no-legend | grep .'

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
