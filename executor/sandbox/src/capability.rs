//! Capabilities of a sandboxed process, as data.

/// What root keeps inside by default: docker's fourteen. Other users have none, but programs with
/// file capabilities or set-user-ID can give them back up to these.
pub const DEFAULT: [Capability; 14] = [
    Capability("CHOWN", 0),
    Capability("DAC_OVERRIDE", 1),
    Capability("FOWNER", 3),
    Capability("FSETID", 4),
    Capability("KILL", 5),
    Capability("SETGID", 6),
    Capability("SETUID", 7),
    Capability("SETPCAP", 8),
    Capability("NET_BIND_SERVICE", 10),
    Capability("NET_RAW", 13),
    Capability("SYS_CHROOT", 18),
    MKNOD,
    Capability("AUDIT_WRITE", 29),
    Capability("SETFCAP", 31),
];

/// Making device nodes; taken away where the host cannot keep such nodes from being opened.
pub const MKNOD: Capability = Capability("MKNOD", 27);

/// Mounting, and most of what else only an administrator can do.
pub(crate) const SYS_ADMIN: Capability = Capability("SYS_ADMIN", 21);

/// A capability: its name without `CAP_`, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability(pub &'static str, pub u8);

impl Capability {
    /// Its bit in a set.
    pub const fn bit(self) -> u64 {
        1 << self.1
    }
}

/// The bits of several.
pub(crate) fn set(of: &[Capability]) -> u64 {
    of.iter().fold(0, |set, it| set | it.bit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_the_mask_that_docker_shows() {
        assert_eq!(set(&DEFAULT), 0xa804_25fb);
    }
}
