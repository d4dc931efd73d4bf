//! A child process that is killed and reaped with its guard.

use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::interrupt;

/// How often a child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running child. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    program: String,
}

impl Guard {
    /// Start one.
    pub fn spawn(command: &mut Command) -> anyhow::Result<Guard> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("{program}: cannot be started"))?;
        Ok(Guard { child, program })
    }

    /// Wait until it ends by itself, at most so long.
    pub fn wait(&mut self, longest: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + longest;
        loop {
            if let Some(status) = self.child.try_wait().with_context(|| self.program.clone())? {
                return Ok(status);
            }
            interrupt::check()?;
            anyhow::ensure!(Instant::now() < deadline, "{}: not done after {longest:?}", self.program);
            sleep(LOOK_EVERY);
        }
    }
}

impl std::ops::Deref for Guard {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.child
    }
}

impl std::ops::DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // One that has ended and was reaped already is not touched again by either.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
