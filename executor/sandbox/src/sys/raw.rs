//! System calls without the C library, whose wrappers write `errno` into memory that a child shares
//! with the thread that started it.

use std::arch::asm;

/// Makes a system call; what the kernel answers, errors as negative numbers.
///
/// # Safety
/// As whatever call `number` names: pointers among the arguments must be to live memory of the
/// shape that it reads or writes.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn syscall<const N: usize>(number: libc::c_long, arguments: [usize; N]) -> isize {
    let [a, b, c, d, e, f] = six(arguments);
    let answer: isize;
    // SAFETY: the registers are those of the kernel's calling convention; rcx and r11 are what it
    // overwrites besides the answer. The rest is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// Makes a system call; what the kernel answers, errors as negative numbers.
///
/// # Safety
/// As whatever call `number` names: pointers among the arguments must be to live memory of the
/// shape that it reads or writes.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn syscall<const N: usize>(number: libc::c_long, arguments: [usize; N]) -> isize {
    let [a, b, c, d, e, f] = six(arguments);
    let answer: isize;
    // SAFETY: the registers are those of the kernel's calling convention, which preserves all
    // others. The rest is the caller's promise.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a as isize => answer,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    answer
}

fn six<const N: usize>(arguments: [usize; N]) -> [usize; 6] {
    let mut all = [0; 6];
    for (to, from) in all.iter_mut().zip(arguments) {
        *to = from;
    }
    all
}

/// `raw!(SYS_close, fd)`: a system call with any number of arguments, each a number or a pointer.
macro_rules! raw {
    ($number:ident $(, $argument:expr)*) => {
        $crate::sys::raw::syscall(libc::$number, [$($argument as usize),*])
    };
}
pub(super) use raw;
