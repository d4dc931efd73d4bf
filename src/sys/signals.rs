//! Signals around a child that shares our terminal: who is told of Ctrl-C, and ending a child gently.

use std::io;
use std::marker::PhantomData;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

/// While this lives, SIGINT and SIGTERM wait to be asked for instead of ending the process.
///
/// It holds for the calling thread and those that it starts from now on, so it is of use where no others run.
/// What nobody asked for acts as it would have once this is dropped.
pub struct Interrupts {
    raised: SignalFd,
    before: SigSet,
    /// The mask is the thread's: it must be put back by the same one.
    of_this_thread: PhantomData<*const ()>,
}

impl Interrupts {
    /// Hold them back.
    pub fn hold() -> io::Result<Interrupts> {
        let mut held = SigSet::empty();
        held.add(Signal::SIGINT);
        held.add(Signal::SIGTERM);
        let raised = SignalFd::with_flags(&held, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let before = held.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Interrupts { raised, before, of_this_thread: PhantomData })
    }

    /// Whether one came since this was asked last.
    pub fn is_raised(&self) -> bool {
        matches!(self.raised.read_signal(), Ok(Some(_)))
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        // A mask that was in force can be put back.
        let _ = self.before.thread_set_mask();
    }
}

/// Leave SIGINT and SIGTERM to the other threads from now on.
pub fn leave_interrupts_to_others() -> io::Result<()> {
    let mut left = SigSet::empty();
    left.add(Signal::SIGINT);
    left.add(Signal::SIGTERM);
    Ok(left.thread_block()?)
}

/// Have the child ignore Ctrl-C although it shares our process group, and hold back no other signal.
pub fn ignore_interrupt(command: &mut Command) {
    let before_exec = || {
        // SAFETY: setting a signal to be ignored installs no handler, and signal(2) is async-signal-safe.
        if unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        // The mask of the thread that starts it is inherited.
        Ok(SigSet::empty().thread_set_mask()?)
    };
    // SAFETY: between fork and exec it makes two async-signal-safe calls, and allocates and locks nothing.
    unsafe { command.pre_exec(before_exec) };
}

/// Ask a child to end (SIGTERM). One that was reaped is left alone.
pub fn terminate(child: &mut Child) -> io::Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    // It was not reaped yet, so the number is its own.
    Ok(kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_held_signal_is_told_once_and_the_mask_is_put_back() {
        std::thread::spawn(|| {
            let before = SigSet::thread_get_mask().unwrap();
            let interrupts = Interrupts::hold().unwrap();
            assert!(!interrupts.is_raised());
            // SAFETY: it raises a signal that this thread blocks.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGINT) };
            assert!(interrupts.is_raised());
            assert!(!interrupts.is_raised());
            drop(interrupts);
            assert_eq!(SigSet::thread_get_mask().unwrap(), before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_child_ignores_the_interrupt_and_ends_when_asked_to() {
        std::thread::spawn(|| {
            // Even when started while they are held back.
            let _interrupts = Interrupts::hold().unwrap();
            let mut command = Command::new("sh");
            command.args(["-c", "kill -INT $$; exec sleep 60"]);
            ignore_interrupt(&mut command);
            let mut child = command.spawn().unwrap();
            let name = || std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
            while name().trim() != "sleep" {
                assert_ne!(name().trim(), "", "it ended");
                std::thread::yield_now();
            }
            terminate(&mut child).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
            terminate(&mut child).unwrap();
        })
        .join()
        .unwrap();
    }
}
