# Runs as the first process of the box's namespaces, and becomes its systemd.
# $1 is a directory to mount on; the rest are directories to show from the host, because / does not hold them.
set -eu
place=$1; shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 box "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" box "$place/root"
cd "$place/root"
# The host's /tmp is another one; but what has to be shown may lie in it.
mount -t tmpfs -o mode=1777 tmpfs tmp
for shown; do
    mkdir -p ".$shown"
    mount --bind "$shown" ".$shown"
    mount -o remount,bind,ro ".$shown"
done

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
# The cgroup namespace makes our fresh cgroup the root of this hierarchy.
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mkdir run/lock

# Only what a test names is started: no unit of the host, nothing that the distribution wants.
rm -rf etc/systemd/system etc/rc[0-6S].d usr/lib/systemd/system/*.target.wants
rm -rf etc/systemd/system-generators usr/lib/systemd/system-generators
mkdir -p etc/systemd/system/sockets.target.wants etc/systemd/system/multi-user.target.wants
for socket in systemd-journald.socket systemd-journald-dev-log.socket; do
    ln -s "/lib/systemd/system/$socket" "etc/systemd/system/sockets.target.wants/$socket"
done
: > etc/fstab
# Without an id it would be a first boot, with presets applied and questions asked.
echo 0123456789abcdef0123456789abcdef > etc/machine-id
hostname box
echo box > etc/hostname
ip link set lo up

pivot_root . .
umount -l .
cd /
# As on a host that systemd booted: mounts made here are seen by the services.
mount --make-rshared /
exec env -i container=box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no
