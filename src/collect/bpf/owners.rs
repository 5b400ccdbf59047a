//! Which processes hold each TCP socket of the host, in one pass through the kernel's descriptor tables.
//!
//! Output: one [`SocketFd`] per descriptor of a TCP socket in any process, network namespace or mount namespace.
//! Process names come from /proc.
//!
//! The kernel walks all tasks and their files (`task_file` iterator, `kernel/bpf/task_iter.c`) and runs a program on
//! each file; the program writes 24 bytes for a TCP socket and nothing for anything else. Facts that the code relies
//! on:
//!
//! * **PID namespaces.** The iterator visits the tasks of the PID namespace that *created* it (`init_seq_pidns`:
//!   `task_active_pid_ns(current)`), so in a container it would see only the container. The numbers it reads,
//!   `task->tgid` and `task->pid`, are nevertheless those of the initial namespace. Only in the initial namespace
//!   are both right: the whole host, and numbers that /proc knows. Everywhere else this module refuses.
//! * **Threads with their own descriptor table** (`unshare(CLONE_FILES)`) are visited: only threads that share their
//!   leader's table are skipped (`skip_if_dup_files`), since Linux 5.11. The program does the same for older
//!   kernels. Such a descriptor has `tid != tgid`, and is found under `/proc/TGID/task/TID/fd`.
//! * **A thread group whose leader has exited** has no leader table to compare with, so each of its threads reports
//!   the table that they share. These duplicates are removed here; see [`Stats::doubles`].
//! * **Descriptors are not a snapshot.** A descriptor closed or opened during the walk may be missed. Inode numbers
//!   of sockets come from one counter for the whole host (`get_next_ino`), so they are not reused meanwhile.
//! * **TCP** is decided from `struct socket` alone: a stream socket whose operations are of an internet family. That
//!   includes MPTCP, whose TCP subflows report its inode (`mptcp_subflow_create_socket`), and a rare SCTP socket,
//!   which does no harm. Reading family, protocol and cookie from `struct sock` instead costs up to three cache
//!   misses per socket: 49 ms against 31 ms for 100,000, measured.
//! * **A socket without a descriptor** is not found: in flight over a unix socket, or an io_uring direct descriptor.

use std::io::Read;
use std::os::fd::AsFd;

use super::asm::{Asm, AsmError, Helper, Insn, Reg, Width};
use super::btf::{Btf, BtfError, Field, Kind, Wanted};
use super::kernel_btf::KernelBtf;
use super::sys::{self, Attach};
use super::{Unavailable, pids_are_ours};

/// One descriptor of one process that refers to a TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketFd {
    /// The number in `socket:[N]`, `idiag_inode` of `sock_diag`.
    pub inode: u64,
    /// The process.
    pub tgid: u32,
    /// The thread whose table it is: the process itself, except for a thread with its own table.
    pub tid: u32,
    pub fd: u32,
}

/// Statistics of the pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Descriptors reported.
    pub descriptors: u64,
    /// Records dropped because another thread of the same process reported the same descriptor.
    pub doubles: u64,
    /// Whether only stream sockets of the internet families were reported. Before Linux 5.11 every kind of socket
    /// is.
    pub tcp_only: bool,
}

/// Layout of a record: inode (8 bytes), tgid, tid, fd, padding (4 bytes each).
const RECORD: usize = 24;
/// Where it begins on the program's stack.
const BASE: i32 = -24;
const _: () = assert!(BASE.unsigned_abs() as usize == RECORD);
/// `SOCKFS_MAGIC`, `include/uapi/linux/magic.h`.
const SOCKFS_MAGIC: u32 = 0x534F_434B;
const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
const SOCK_STREAM: i32 = 1;
/// The iterator's own buffer is 8 pages (`bpf_seq_read`), so a larger one would never fill.
const READ_BYTES: usize = 32 * 1024;

/// How the program recognises a socket among files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefilter {
    /// `bpf_sock_from_file` returns the socket, so its type and family can be read (Linux 5.11).
    Tcp,
    /// The file's inode is on sockfs. `S_IFSOCK` would not do: the inode of a unix socket's path, held by an
    /// `O_PATH` descriptor, has it too, and its number could be that of some socket.
    AnySocket,
}

/// The offsets in the running kernel.
#[derive(Clone, Copy, Debug)]
struct Offsets {
    iterator: u32,
    file_inode: Field,
    inode_number: Field,
    inode_sb: Field,
    sb_magic: Field,
    task_tgid: Field,
    task_pid: Field,
    task_leader: Field,
    task_files: Field,
    socket_type: Field,
    socket_ops: Field,
    ops_family: Field,
}

impl Offsets {
    fn new(btf: &mut Btf<'_>) -> Result<Offsets, BtfError> {
        let [iterator, file, inode, sb, task, socket, ops] = btf.find([
            Wanted::new(Kind::Func, "bpf_iter_task_file"),
            Wanted::new(Kind::Struct, "file"),
            Wanted::new(Kind::Struct, "inode"),
            Wanted::new(Kind::Struct, "super_block"),
            Wanted::new(Kind::Struct, "task_struct"),
            Wanted::new(Kind::Struct, "socket"),
            Wanted::new(Kind::Struct, "proto_ops"),
        ])?;
        Ok(Offsets {
            iterator,
            file_inode: btf.field(file, "f_inode")?,
            inode_number: btf.field(inode, "i_ino")?,
            inode_sb: btf.field(inode, "i_sb")?,
            sb_magic: btf.field(sb, "s_magic")?,
            task_tgid: btf.field(task, "tgid")?,
            task_pid: btf.field(task, "pid")?,
            task_leader: btf.field(task, "group_leader")?,
            task_files: btf.field(task, "files")?,
            socket_type: btf.field(socket, "type")?,
            socket_ops: btf.field(socket, "ops")?,
            ops_family: btf.field(ops, "family")?,
        })
    }

    /// The program. Its context is `struct bpf_iter__task_file { meta, task, u32 fd, file }`, 8 bytes each.
    fn program(&self, prefilter: Prefilter) -> Result<Vec<Insn>, AsmError> {
        use Reg::{Frame, R0, R1, R2, R3, R6, R7, R8};
        let mut a = Asm::new();
        let out = a.label();

        a.mov(R6, R1);
        // Both are null in the final call, after the walk.
        a.load(Width::Double, R7, R6, 8); //            r7 = ctx->task
        a.jump_if_eq(R7, 0, out);
        a.load(Width::Double, R8, R6, 24); //           r8 = ctx->file
        a.jump_if_eq(R8, 0, out);

        match prefilter {
            Prefilter::Tcp => {
                a.mov(R1, R8);
                a.call(Helper::SockFromFile); //         r0 = struct socket, or null
                a.jump_if_eq(R0, 0, out);
                a.load_field(R1, R0, self.socket_type);
                a.jump_if_ne(R1, SOCK_STREAM, out);
                let internet = a.label();
                a.load_field(R1, R0, self.socket_ops);
                a.load_field(R1, R1, self.ops_family);
                a.jump_if_eq(R1, AF_INET, internet);
                a.jump_if_ne(R1, AF_INET6, out);
                a.bind(internet);
                a.load_field(R3, R8, self.file_inode);
            }
            Prefilter::AnySocket => {
                a.load_field(R3, R8, self.file_inode);
                a.load_field(R1, R3, self.inode_sb);
                a.load_field(R1, R1, self.sb_magic);
                a.jump_if_ne_u32(R1, SOCKFS_MAGIC, out);
            }
        }
        a.load_field(R1, R3, self.inode_number);
        a.store(Width::Double, Frame, BASE, R1);

        a.load_field(R1, R7, self.task_tgid);
        a.store(Width::Word, Frame, BASE + 8, R1);
        a.load_field(R2, R7, self.task_pid);
        a.store(Width::Word, Frame, BASE + 12, R2);
        // A thread reports its table only if it is not its leader's.
        let report = a.label();
        a.load_field(R1, R7, self.task_leader);
        a.jump_if_same(R1, R7, report);
        a.load_field(R1, R1, self.task_files);
        a.load_field(R2, R7, self.task_files);
        a.jump_if_same(R1, R2, out);
        a.bind(report);

        a.load(Width::Word, R1, R6, 16); //             ctx->fd
        a.store(Width::Word, Frame, BASE + 16, R1);
        a.store_imm(Width::Word, Frame, BASE + 20, 0);
        a.load(Width::Double, R1, R6, 0); //            ctx->meta
        a.load(Width::Double, R1, R1, 0); //            meta->seq
        a.address(R2, Frame, BASE);
        a.mov_imm(R3, -BASE);
        a.call(Helper::SeqWrite);
        a.bind(out);
        a.exit();
        a.finish()
    }
}

/// Reports every descriptor of a TCP socket on the host, in no particular order.
///
/// # Errors
/// Why it cannot be done here. Descriptors may have been reported before an error: discard them.
pub fn socket_holders(each: &mut dyn FnMut(SocketFd)) -> Result<Stats, Unavailable> {
    pids_are_ours()?;
    let layout = Offsets::new(&mut Btf::parse(&KernelBtf::new()?)?)?;
    match walk(&layout, Prefilter::Tcp, each) {
        // Nothing was reported: the program did not load. Before Linux 5.11 the helper is unknown.
        Err(Unavailable::Refused { .. }) => walk(&layout, Prefilter::AnySocket, each),
        result => result,
    }
}

fn walk(layout: &Offsets, prefilter: Prefilter, each: &mut dyn FnMut(SocketFd)) -> Result<Stats, Unavailable> {
    let code = layout.program(prefilter).map_err(|source| Unavailable::Assemble { program: "owners", source })?;
    let program = sys::load_program("owners", &code, Attach::Iterator, layout.iterator)?;
    let mut iterator = std::fs::File::from(sys::open_iterator(program.as_fd())?);
    let mut threads = Vec::new();
    let mut stats = Stats { tcp_only: prefilter == Prefilter::Tcp, ..Stats::default() };
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        let read = match iterator.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            // EAGAIN: a million files without a socket; the kernel yields and wants another read (`bpf_seq_read`).
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => continue,
            Err(source) => return Err(Unavailable::Failed { operation: "walking the descriptors", source }),
        };
        filled += read;
        let (records, rest) = buffer[..filled].as_chunks::<RECORD>();
        for record in records {
            let descriptor = decode(record);
            if descriptor.tid == descriptor.tgid {
                stats.descriptors += 1;
                each(descriptor);
            } else {
                threads.push(descriptor);
            }
        }
        let (start, left) = (filled - rest.len(), rest.len());
        buffer.copy_within(start..filled, 0);
        filled = left;
    }
    let reported = threads.len();
    let threads = without_doubles(threads);
    stats.doubles = (reported - threads.len()) as u64;
    stats.descriptors += threads.len() as u64;
    threads.into_iter().for_each(each);
    Ok(stats)
}

/// What the threads reported, each descriptor of a process once, with the lowest thread.
///
/// Two threads with their own tables that hold the same socket under the same number also become one: the process
/// holds it, and one of the two places is named.
fn without_doubles(mut threads: Vec<SocketFd>) -> Vec<SocketFd> {
    threads.sort_unstable_by_key(|d| (d.tgid, d.fd, d.inode, d.tid));
    threads.dedup_by_key(|d| (d.tgid, d.fd, d.inode));
    threads
}

fn decode(record: &[u8; RECORD]) -> SocketFd {
    let (words, _) = record.as_chunks::<4>();
    let word = |i: usize| u32::from_ne_bytes(words[i]);
    let (doubles, _) = record.as_chunks::<8>();
    SocketFd { inode: u64::from_ne_bytes(doubles[0]), tgid: word(2), tid: word(3), fd: word(4) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::bpf::testkit::kernel_or_skip;

    fn descriptor(tgid: u32, tid: u32, fd: u32) -> SocketFd {
        SocketFd { inode: 9, tgid, tid, fd }
    }

    #[test]
    fn a_table_reported_by_several_threads_counts_once() {
        let reported = vec![descriptor(5, 7, 3), descriptor(5, 6, 3), descriptor(5, 7, 4), descriptor(8, 9, 3)];
        let kept = without_doubles(reported);
        assert_eq!(kept, [descriptor(5, 6, 3), descriptor(5, 7, 4), descriptor(8, 9, 3)]);
    }

    #[test]
    fn a_record_reads_back_field_by_field() {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&1_u64.to_ne_bytes());
        for (i, value) in [2_u32, 3, 4].iter().enumerate() {
            record[8 + 4 * i..][..4].copy_from_slice(&value.to_ne_bytes());
        }
        let expected = SocketFd { inode: 1, tgid: 2, tid: 3, fd: 4 };
        assert_eq!(decode(&record), expected);
    }

    /// The fallback for kernels before 5.11 works on this one too, and sees at least the TCP sockets.
    #[test]
    fn both_prefilters_see_the_same_tcp_socket() {
        let Some(()) = kernel_or_skip("both_prefilters_see_the_same_tcp_socket") else { return };
        let tcp = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let udp = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let layout = Offsets::new(&mut Btf::parse(&KernelBtf::new().unwrap()).unwrap()).unwrap();
        let ours = |prefilter| {
            let mut inodes = Vec::new();
            let stats = walk(&layout, prefilter, &mut |d: SocketFd| {
                if d.tgid == std::process::id() {
                    inodes.push(d.inode);
                }
            });
            assert_eq!(stats.unwrap().tcp_only, prefilter == Prefilter::Tcp);
            inodes
        };
        let inode = |socket: &dyn AsFd| rustix::fs::fstat(socket.as_fd()).unwrap().st_ino;
        for (prefilter, sees_udp) in [(Prefilter::Tcp, false), (Prefilter::AnySocket, true)] {
            let inodes = ours(prefilter);
            assert!(inodes.contains(&inode(&tcp)), "{prefilter:?}");
            assert_eq!(inodes.contains(&inode(&udp)), sees_udp, "{prefilter:?}");
        }
    }
}
