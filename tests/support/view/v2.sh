# A pure cgroup v2 tree at /sys/fs/cgroup, for the private mount namespace of whoever runs this.
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
