//! The links and the code as they were shown last: shown again when this machine gets other addresses, and when the
//! terminal gets another size, where the code may not fit any more, or fit now.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::address;
use super::show::{self, Shown};
use crate::cli::out;
use crate::share::state::Share;

/// A size that has stayed for so long is the one that was wanted: whoever drags a window passes through many.
const SETTLED: Duration = Duration::from_millis(500);

type Size = (usize, usize);

/// What is shown of how to get in.
pub(super) struct Front {
    share: Arc<Share>,
    shown: Shown,
    links: Vec<String>,
    is_tty: bool,
    size: Option<Size>,
    /// Another size, since then.
    changing: Option<(Option<Size>, Instant)>,
}

impl Front {
    /// As it was shown just now.
    pub(super) fn new(share: Arc<Share>, shown: Shown) -> Front {
        let links = share.about.links(&share.token);
        let is_tty = std::io::stdout().is_terminal();
        Front { share, shown, links, is_tty, size: show::size_of_stdout(), changing: None }
    }

    /// The folder that uploads go into, if there is one.
    pub(super) fn folder(&self) -> Option<&str> {
        self.shown.folder.as_deref()
    }

    /// What to say when the links have become others. Where standard output is no terminal they go there, a line each,
    /// as the first did.
    pub(super) fn moved(&mut self) -> Vec<String> {
        let before = std::mem::replace(&mut self.links, self.share.about.links(&self.share.token));
        let is_same = before.first() == self.links.first();
        let new: Vec<&String> = self.links.iter().filter(|link| !before.contains(link)).collect();
        if !self.is_tty {
            let lines: String = if is_same { lines(&new) } else { lines(&self.links.iter().collect::<Vec<_>>()) };
            // Nobody can be told if that fails, and the share goes on.
            let _ = out::print(&lines);
            if is_same && new.is_empty() {
                return Vec::new();
            }
            let what = if is_same { "more addresses" } else { "other addresses: its link is another one" };
            return vec![format!("linerate: this machine has {what}")];
        }
        if is_same {
            let new = new.into_iter().cloned().collect::<Vec<_>>();
            return address::for_people(&new).iter().map(|link| format!("linerate: also {link}")).collect();
        }
        // Below the link, where it stays in sight.
        vec![self.text(), "linerate: this machine has other addresses: the link is another one".to_string()]
    }

    /// All of it again, on a screen that is pushed up, once the terminal has got another size.
    pub(super) fn resized(&mut self, now: Instant) -> Option<String> {
        if !self.is_tty {
            return None;
        }
        let size = show::size_of_stdout();
        if size == self.size {
            self.changing = None;
            return None;
        }
        match self.changing {
            Some((seen, since)) if seen == size => {
                if now.saturating_duration_since(since) < SETTLED {
                    return None;
                }
            }
            _ => {
                self.changing = Some((size, now));
                return None;
            }
        }
        (self.size, self.changing) = (size, None);
        let lines = size.map_or(0, |(_, lines)| lines);
        // What stood there stays in what can be scrolled back to; lines that were broken anew are in nobody's way.
        Some(format!("\x1b[{lines}H{}\x1b[H\x1b[J{}", "\n".repeat(lines), self.text()))
    }

    fn text(&self) -> String {
        // Without the line's end: whoever says it adds one.
        self.shown.now(&address::for_people(&self.links)).trim_end().to_string()
    }
}

fn lines(links: &[&String]) -> String {
    links.iter().fold(String::new(), |mut text, link| {
        let _ = writeln!(text, "{link}");
        text
    })
}
