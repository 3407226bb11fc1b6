//! Docker's default seccomp profile (moby/profiles, June 2026): which calls a container may make. Everything else answers EPERM.

use super::call::{Action, Arch, Call, Is, Profile, Test};

/// Allowed for everybody, whatever the arguments. The last line is for kernels since 4.8 (we require a newer one), and for one
/// architecture each.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
    futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid
    getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
    getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt
    get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64
    ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
    lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek
    lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod
    mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync
    munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv
    preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename
    renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
    sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
    setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
    setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat
    shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketpair
    splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee
    tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64
    ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4
    waitid waitpid write writev
    process_vm_readv process_vm_writev ptrace
    arch_prctl modify_ldt";

/// Allowed where one argument is right. The kernel looks at the lower 32 bits of these arguments only, and so do we: a compare of
/// all 64 bits would let a forbidden family pass with a bit set in the upper half.
const CONDITIONAL: [(&str, &[Test]); 3] = [
    // AF_ALG (38) and AF_VSOCK (40) are refused.
    ("socket", &[low(0, Is::Below(38)), low(0, Is::Equal(39)), low(0, Is::Above(40))]),
    (
        "personality",
        &[
            low(0, Is::Equal(0)),
            low(0, Is::Equal(8)),
            low(0, Is::Equal(0x2_0000)),
            low(0, Is::Equal(0x2_0008)),
            low(0, Is::Equal(0xffff_ffff)),
        ],
    ),
    // No new namespace of any kind.
    ("clone", &[low(0, Is::Masked { mask: 0x7e02_0000, value: 0 })]),
];

/// Answered with ENOSYS, so that the C library falls back to calls whose arguments can be looked at: `clone`, and `socket` and its
/// like. `socketcall` of 32-bit programs takes its arguments in memory: with it AF_ALG and AF_VSOCK would be had after all. (Docker
/// allows it where AppArmor or SELinux refuse those families.)
const UNKNOWN: [&str; 2] = ["clone3", "socketcall"];

/// Allowed with a capability (its number), whatever the arguments.
const WITH_CAPABILITY: [(u8, &str); 12] = [
    (2, "open_by_handle_at"),
    (
        21,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
         sethostname setns syslog umount umount2 unshare",
    ),
    (22, "reboot"),
    (18, "chroot"),
    (16, "delete_module init_module finit_module"),
    (20, "acct"),
    (19, "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    (17, "iopl ioperm"),
    (25, "settimeofday stime clock_settime clock_settime64"),
    (26, "vhangup"),
    (23, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (34, "syslog"),
];
/// The two capabilities that came out of `CAP_SYS_ADMIN`.
const WITH_NEWER_CAPABILITY: [(u8, &str); 2] = [(39, "bpf"), (38, "perf_event_open")];

const fn low(argument: u8, is: Is) -> Test {
    Test { argument, half: true, is }
}

/// Docker's profile for a container that holds these capabilities (a bit mask).
pub(super) fn docker(aarch64: bool, capabilities: u64) -> Profile {
    let mut allowed: Vec<&str> = ALLOWED.split_ascii_whitespace().collect();
    for (bit, names) in WITH_CAPABILITY.iter().chain(&WITH_NEWER_CAPABILITY) {
        if capabilities >> bit & 1 == 1 {
            allowed.extend(names.split_ascii_whitespace());
        }
    }
    allowed.sort_unstable();
    allowed.dedup();
    let one = |name: &str, action, tests| Call { names: vec![name.to_owned()], action, tests };
    let free = |name: &str| allowed.contains(&name);
    let mut further = Vec::new();
    for name in UNKNOWN.iter().filter(|name| !free(name)) {
        further.push(one(name, Action::UNKNOWN, Vec::new()));
    }
    for (name, tests) in CONDITIONAL.iter().filter(|(name, _)| !free(name)) {
        further.extend(tests.iter().map(|test| one(name, Action::Allow, vec![*test])));
    }
    let names = allowed.iter().map(|name| (*name).to_owned()).collect();
    let mut calls = vec![Call { names, action: Action::Allow, tests: Vec::new() }];
    calls.extend(further);
    Profile { otherwise: Action::REFUSE, arches: Arch::machine(aarch64).to_vec(), calls }
}
