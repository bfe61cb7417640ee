//! Programs of another processor: one to run, and the kernel told how.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Where Debian's package `qemu-user-static` has the emulator.
const EMULATOR: &str = "/usr/bin/qemu-aarch64-static";

/// Has the kernel run arm64's programs with Debian's emulator, until this is dropped.
pub struct Arm64 {
    formats: OwnedFd,
    name: String,
}

impl Arm64 {
    /// Tells the kernel. Needs root, and takes no mount point.
    ///
    /// # Errors
    /// If the kernel has no `binfmt_misc`, or Debian's package `qemu-user-static` is not installed.
    pub fn register() -> io::Result<Self> {
        if !std::path::Path::new(EMULATOR).exists() {
            return Err(io::Error::other(
                "this test needs Debian's package qemu-user-static",
            ));
        }
        let system = fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&system)?;
        let formats = fsmount(
            &system,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?;
        let name = format!("rbuild-test-arm64-{}", std::process::id());
        let magic = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
        let mask =
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
        // F: the kernel opens the emulator now, so that root file systems need not have it.
        let line = format!(":{name}:M::{magic}:{mask}:{EMULATOR}:F");
        let emulation = Self { formats, name };
        emulation.write("register", &line)?;
        Ok(emulation)
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.formats, file, flags, Mode::empty())?;
        std::fs::File::from(opened).write_all(text.as_bytes())
    }
}

impl Drop for Arm64 {
    fn drop(&mut self) {
        let _ = self.write(&self.name, "-1");
    }
}

/// A static program for arm64 that writes `text`, at most 4 KiB, and ends.
pub fn arm64_program(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a short text");
    let code: [u32; 8] = [
        0xd280_0020,                 // mov x0, #1
        0x1000_00e1,                 // adr x1, text
        0xd280_0002 | (length << 5), // mov x2, #length
        0xd280_0808,                 // mov x8, #64: write
        0xd400_0001,                 // svc #0
        0xd280_0000,                 // mov x0, #0
        0xd280_0ba8,                 // mov x8, #93: exit
        0xd400_0001,                 // svc #0
    ];
    let mut content: Vec<u8> = code.iter().flat_map(|it| it.to_le_bytes()).collect();
    content.extend_from_slice(text.as_bytes());
    program(183, &content)
}

/// The beginning of a program that no machine runs here: a 64-bit one for a processor that has only 32.
pub fn impossible_program() -> Vec<u8> {
    program(20, &[0; 32])
}

/// An ELF file for `machine` whose one segment is itself, and which starts behind its headers.
fn program(machine: u16, content: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 120;
    let size = HEADERS + content.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(2u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend((BASE + HEADERS).to_le_bytes());
    file.extend(64u64.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes());
    file.extend(5u32.to_le_bytes());
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(u64::to_le_bytes(word));
    }
    file.extend_from_slice(content);
    file
}
