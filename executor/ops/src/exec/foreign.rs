//! Programs for other processors: which one a file is for, so that a process that cannot start can
//! say so.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use snapshot::Root;

/// The processor that a program in `root` is for, in Go's words, if it is another than ours.
///
/// `program` is looked for as the kernel and shells do: in `path`, the value of `PATH`, unless it has
/// a `/` of its own; what is relative is below `cwd`. A script is for the processor of its interpreter.
pub(super) fn architecture(
    root: &Root,
    program: &str,
    cwd: &str,
    path: &str,
) -> Option<&'static str> {
    let candidates: Vec<PathBuf> = match program.contains('/') {
        true => vec![Path::new(cwd).join(program)],
        false => path
            .split(':')
            .map(|it| Path::new(it).join(program))
            .collect(),
    };
    let found = candidates.iter().find_map(|it| head(root, it));
    let head = found?;
    let head = match interpreter(&head) {
        Some(interpreter) => self::head(root, Path::new(&interpreter))?,
        None => head,
    };
    machine(&head).filter(|it| *it != oci::Platform::host().architecture)
}

/// The first bytes of a file.
fn head(root: &Root, path: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let file = root.open_file(path).ok()?;
    file.take(256).read_to_end(&mut head).ok()?;
    Some(head)
}

fn interpreter(head: &[u8]) -> Option<String> {
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    line.split_whitespace().next().map(str::to_owned)
}

/// `e_machine` of an ELF header.
fn machine(head: &[u8]) -> Option<&'static str> {
    let header = head.get(..20).filter(|it| it.starts_with(b"\x7fELF"))?;
    let bytes = [header[18], header[19]];
    let (is_wide, is_little) = (header[4] == 2, header[5] == 1);
    let machine = if is_little {
        u16::from_le_bytes(bytes)
    } else {
        u16::from_be_bytes(bytes)
    };
    Some(match (machine, is_wide, is_little) {
        (3, ..) => "386",
        (8, _, true) => "mips64le",
        (20, ..) => "ppc",
        (21, _, true) => "ppc64le",
        (21, ..) => "ppc64",
        (22, ..) => "s390x",
        (40, ..) => "arm",
        (62, ..) => "amd64",
        (183, ..) => "arm64",
        (243, ..) => "riscv64",
        (258, ..) => "loong64",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16, is_little: bool) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        if !is_little {
            head[5] = 2;
        }
        let bytes = if is_little {
            machine.to_le_bytes()
        } else {
            machine.to_be_bytes()
        };
        head[18..20].copy_from_slice(&bytes);
        head
    }

    #[test]
    fn a_program_says_what_it_is_for() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            std::fs::write(directory.path().join(name), content).unwrap();
        };
        std::fs::create_dir(directory.path().join("bin")).unwrap();
        write("bin/s390x", &elf(22, false));
        write("bin/riscv", &elf(243, true));
        write("bin/script", b"#! /bin/riscv -e\n");
        write("bin/text", b"echo hello\n");
        write("bin/short", b"\x7fELF");
        let root = Root::open(directory.path()).unwrap();
        let of = |program: &str| architecture(&root, program, "/bin", "/sbin:/bin");
        assert_eq!(of("s390x"), Some("s390x"));
        assert_eq!(of("./riscv"), Some("riscv64"));
        assert_eq!(of("/bin/script"), Some("riscv64"));
        assert_eq!((of("text"), of("short"), of("missing")), (None, None, None));
    }
}
