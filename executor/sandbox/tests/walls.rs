//! What a process in the sandbox sees and may do, asked from inside. Needs root.

mod room;

use room::Room;

fn check(script: &str, expected: &str) {
    let ran = Room::new().run(script);
    assert_eq!(ran.stdout, expected, "stderr: {}", ran.stderr);
}

#[test]
fn root_only_only_the_listed_file_systems_are_mounted() {
    check(
        "tail -n +2 /proc/mounts | cut -d' ' -f2-3 | grep -v ' tmpfs$' | grep -v thermal_throttle",
        "/dev/pts devpts\n/proc proc\n/dev/mqueue mqueue\n/sys sysfs\n/sys/fs/cgroup cgroup2\n\
         /proc/bus proc\n/proc/fs proc\n/proc/irq proc\n/proc/sys proc\n",
    );
}

#[test]
fn root_only_mounts_carry_their_attributes() {
    let script = "for at in /dev /dev/pts /dev/shm /dev/mqueue /proc /sys /sys/fs/cgroup /proc/sys; do \
                  grep \" $at \" /proc/mounts | cut -d' ' -f2,4 | sed 's/,\\(size\\|mode\\|gid\\|ptmx\\|inode\\).*//;s/,relatime//'; done";
    check(
        script,
        "/dev rw,nosuid\n/dev/pts rw,nosuid,noexec\n/dev/shm rw,nosuid,nodev,noexec\n\
         /dev/mqueue rw,nosuid,nodev,noexec\n/proc rw,nosuid,nodev,noexec\n/sys ro,nosuid,nodev,noexec\n\
         /sys/fs/cgroup ro,nosuid,nodev,noexec\n/proc/sys ro,nosuid,nodev,noexec\n",
    );
}

#[test]
fn root_only_masked_paths_are_empty() {
    let script = "for it in /proc/acpi /proc/asound /proc/scsi /sys/firmware /sys/devices/virtual/powercap; do \
                  [ ! -e $it ] || ls -A $it; done; \
                  for it in interrupts kcore keys latency_stats timer_list timer_stats sched_debug; do \
                  [ ! -e /proc/$it ] || stat -c '%F %t:%T' /proc/$it | grep -v '^character special file 1:3$'; done; \
                  cat /sys/devices/system/cpu/cpu*/thermal_throttle/* 2>/dev/null; echo done";
    check(script, "done\n");
}
