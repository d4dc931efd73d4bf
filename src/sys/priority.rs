//! How much a thread may get in the way of others: CPU and I/O class.

use std::io;

/// Of `ioprio_set(2)`: one thread.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
/// Of `ioprio_set(2)`: served only when nobody else wants the device.
const IOPRIO_CLASS_IDLE: libc::c_int = 3;
/// Where the class stands in what `ioprio_set(2)` takes.
const IOPRIO_CLASS_SHIFT: libc::c_int = 13;
/// The calling thread.
const THIS_THREAD: libc::id_t = 0;
/// The lowest priority that there is.
const NICE_MAX: libc::c_int = 19;

/// Put the calling thread behind all others: nice 19, SCHED_IDLE, I/O class idle. Threads that it starts inherit it.
/// What can be had is, whatever else is refused; the first error is returned.
pub fn yield_to_all() -> io::Result<()> {
    // SAFETY: no memory is handed over. For Linux 0 is the calling thread, not its process.
    let nice = unsafe { libc::setpriority(libc::PRIO_PROCESS, THIS_THREAD, NICE_MAX) };
    let nice = result(nice.into());
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter lives through the call, which only reads it.
    let idle = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) };
    let idle = result(idle.into());
    let class = IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT;
    // SAFETY: three numbers; no memory is handed over.
    let io = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0 as libc::c_int, class) };
    nice.and(idle).and(result(io))
}

fn result(got: libc::c_long) -> io::Result<()> {
    if got == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Nice value, scheduling policy and I/O class of the calling thread, to look at in tests.
#[cfg(test)]
pub fn of_this_thread() -> (i32, i32, i64) {
    // SAFETY: three questions about the calling thread; no memory is handed over.
    unsafe {
        let io = libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0 as libc::c_int);
        (libc::getpriority(libc::PRIO_PROCESS, THIS_THREAD), libc::sched_getscheduler(0), io >> IOPRIO_CLASS_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_yields_alone_and_hands_it_on() {
        let before = of_this_thread();
        let within = std::thread::spawn(|| {
            yield_to_all().unwrap();
            (of_this_thread(), std::thread::spawn(of_this_thread).join().unwrap())
        });
        let wanted = (NICE_MAX, libc::SCHED_IDLE, i64::from(IOPRIO_CLASS_IDLE));
        assert_eq!(within.join().unwrap(), (wanted, wanted));
        assert_eq!(of_this_thread(), before);
    }
}
