//! The running kernel's type information, mapped where the kernel permits it.
//!
//! Input: `/sys/kernel/btf/vmlinux` (5.5 MB on Linux 6.18). Output: its bytes. Not here: what they mean (`btf`).
//!
//! Since Linux 6.16 the file can be mapped (`btf_sysfs_vmlinux_mmap` in kernel/bpf/sysfs_btf.c), which costs microseconds;
//! a read() gives one page at a time, and all of it takes some milliseconds.
#![allow(unsafe_code, reason = "mmap(2) has no safe interface")]

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Deref;
use std::os::fd::AsFd as _;

use rustix::mm::{MapFlags, ProtFlags};

use super::mapping::Mapping;
use super::{KERNEL_BTF, Unavailable};

/// The bytes of [`KERNEL_BTF`].
pub(super) enum KernelBtf {
    Mapped(Mapping),
    Read(Vec<u8>),
}

impl KernelBtf {
    /// # Errors
    /// [`Unavailable::NoBtf`] when the file is missing or cannot be read.
    pub(super) fn new() -> Result<KernelBtf, Unavailable> {
        KernelBtf::load().map_err(Unavailable::NoBtf)
    }

    fn load() -> io::Result<KernelBtf> {
        let mut file = File::open(KERNEL_BTF)?;
        if let Some(mapping) = map(&file) {
            return Ok(KernelBtf::Mapped(mapping));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(KernelBtf::Read(bytes))
    }
}

/// The file as memory. The kernel takes no other than a private mapping that can only be read.
fn map(file: &File) -> Option<Mapping> {
    let bytes = usize::try_from(file.metadata().ok()?.len()).ok().filter(|bytes| *bytes > 0)?;
    Mapping::new(file.as_fd(), 0, bytes, (ProtFlags::READ, MapFlags::PRIVATE)).ok()
}

impl Deref for KernelBtf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // SAFETY: this is the kernel's read-only data (`__start_BTF` to `__stop_BTF`), which nobody writes.
            KernelBtf::Mapped(mapping) => unsafe { mapping.bytes() },
            KernelBtf::Read(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_is_what_is_read() {
        let Ok(read) = std::fs::read(KERNEL_BTF) else {
            eprintln!("skipped what_is_mapped_is_what_is_read: no BTF");
            return;
        };
        assert!(*KernelBtf::new().unwrap() == *read);
        if let Some(mapped) = map(&File::open(KERNEL_BTF).unwrap()) {
            assert!(*KernelBtf::Mapped(mapped) == *read);
        }
        assert!(map(&File::open("/proc/self/status").unwrap()).is_none(), "a file without a size is read");
    }
}
