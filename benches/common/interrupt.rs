//! Ctrl-C and SIGTERM end a bench in order, so that child processes and temporary files go with it.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on signals are only noted; [`check`] says so. A second one ends the process at once.
pub fn watch() -> anyhow::Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 130, asked.clone()).context("signals")?;
        flag::register(signal, asked.clone()).context("signals")?;
    }
    Ok(())
}

/// An error once somebody asked to stop.
pub fn check() -> anyhow::Result<()> {
    let asked = ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed));
    anyhow::ensure!(!asked, "interrupted");
    Ok(())
}
