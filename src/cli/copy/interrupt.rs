//! SIGINT and SIGTERM during a copy: while a session runs it ends in order, and everything else ends at once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::{Exit, out};
use crate::sys::signals;

/// Time for a session to end in order: what arrived is stored, and what is proven is noted.
const ORDER_MAX: Duration = Duration::from_secs(3);
/// How often is looked whether a second signal has come meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Watches for signals until the process ends.
pub(super) struct Interrupts {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    in_session: AtomicBool,
    temporary: Mutex<Option<PathBuf>>,
}

impl Interrupts {
    /// Watch from now on.
    pub(super) fn watch() -> anyhow::Result<Interrupts> {
        let mut raised = Signals::new([SIGINT, SIGTERM]).context("signals")?;
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        let watch = move || {
            // Whoever asks for them in his own way while he starts ssh has to get them.
            let _ = signals::leave_interrupts_to_others();
            if raised.forever().next().is_some() {
                watched.handle(&mut raised);
            }
        };
        std::thread::Builder::new().name("signals".to_string()).spawn(watch).context("a thread cannot be started")?;
        Ok(Interrupts { shared })
    }

    /// Run what notices signals by itself.
    pub(super) fn in_session<T>(&self, session: impl FnOnce() -> T) -> T {
        self.shared.in_session.store(true, Ordering::SeqCst);
        let result = session();
        self.shared.in_session.store(false, Ordering::SeqCst);
        result
    }

    /// A folder that is not to be left behind; nothing once it is gone.
    pub(super) fn set_temporary(&self, folder: Option<&Path>) {
        *self.shared.temporary.lock().unwrap_or_else(PoisonError::into_inner) = folder.map(Path::to_path_buf);
    }
}

impl Shared {
    /// A signal has come. This does not return: the process ends here if it does not end elsewhere.
    fn handle(&self, raised: &mut Signals) {
        let looks = ORDER_MAX.as_millis() / LOOK_AGAIN.as_millis();
        for _ in 0..looks {
            // What notices it by itself is faster, and says so itself.
            std::thread::sleep(LOOK_AGAIN);
            if !self.in_session.load(Ordering::SeqCst) || raised.pending().next().is_some() {
                break;
            }
        }
        if let Some(folder) = self.temporary.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = std::fs::remove_dir_all(folder);
        }
        out::say("linerate: interrupted");
        std::process::exit(Exit::Interrupted as i32);
    }
}
