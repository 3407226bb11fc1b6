//! Memory that a pull used goes back to the machine. glibc keeps a heap for each thread and what was freed in it; a
//! daemon that sleeps most of the time has no use for that.
#![expect(unsafe_code, reason = "mallopt and malloc_trim take numbers and have no safe wrapper")]

/// So many threads as use the heap at once.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// Few heaps for all threads. Counts for threads that start later.
pub(super) fn few() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

/// Gives back what is free.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: returns free pages to the kernel; takes the heaps' own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
