//! A terminal of a test's own: a program runs on a pty, what it writes is shown on a screen, and keys are typed.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, OutputFlags, Termios, tcgetattr};

use super::{PATIENCE, signal_process, wait_bounded};

/// What of the screen can be scrolled back to.
const SCROLLBACK_LINES: usize = 1000;

struct State {
    parser: vt100::Parser,
    raw: Vec<u8>,
    is_over: bool,
}

/// A program on a terminal, killed with the test.
pub struct Pty {
    child: Child,
    keys: std::fs::File,
    /// Held open, so that its settings can be looked at after the program has ended.
    far: OwnedFd,
    before: Termios,
    shared: Arc<(Mutex<State>, Condvar)>,
}

fn winsize((rows, columns): (u16, u16)) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Pty {
    /// Run a command on a terminal of so many rows and columns.
    pub fn start(command: &mut Command, size: (u16, u16)) -> Pty {
        let OpenptyResult { master, slave } = openpty(Some(&winsize(size)), None).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
        // SAFETY: setsid and ioctl are safe to be called between fork and exec, and touch no memory of ours.
        unsafe {
            command.pre_exec(|| {
                // A command that is run again does this twice, of which the second time fails.
                libc::setsid();
                if libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let before = tcgetattr(&slave).unwrap();
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let parser = vt100::Parser::new(size.0, size.1, SCROLLBACK_LINES);
        let state = State { parser, raw: Vec::new(), is_over: false };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let mut master = std::fs::File::from(master);
        let (keys, told) = (master.try_clone().unwrap(), shared.clone());
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                let read = master.read(&mut piece);
                let mut state = told.0.lock().unwrap();
                match read {
                    Ok(n @ 1..) => {
                        state.raw.extend_from_slice(&piece[..n]);
                        state.parser.process(&piece[..n]);
                    }
                    Ok(0) | Err(_) => state.is_over = true,
                }
                told.1.notify_all();
                if state.is_over {
                    return;
                }
            }
        });
        Pty { child, keys, far: slave, before, shared }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        signal_process(self.pid(), signal);
    }

    /// Type keys: `"\r"` is Enter, `"\x03"` Ctrl-C, `"\x04"` Ctrl-D.
    pub fn keys(&self, keys: &str) {
        (&self.keys).write_all(keys.as_bytes()).unwrap();
    }

    /// Give the window another size, of which the program is told.
    pub fn resize(&self, size: (u16, u16)) {
        self.state().parser.screen_mut().set_size(size.0, size.1);
        let size = winsize(size);
        // SAFETY: the descriptor is open and the struct lives; the kernel only reads it.
        let set = unsafe { libc::ioctl(self.keys.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(set, 0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    /// Wait until the screen shows something; panics with what it shows when it never does.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, mut seen: impl FnMut(&vt100::Screen) -> Option<T>) -> T {
        let (mut state, deadline) = (self.state(), Instant::now() + PATIENCE);
        loop {
            if let Some(found) = seen(state.parser.screen()) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let contents = state.parser.screen().contents();
                drop(state);
                panic!("never seen: {what}; the screen:\n{contents}");
            }
            state = self.shared.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Wait until the screen shows a text, wherever its lines are broken by the edge of the screen.
    #[track_caller]
    pub fn wait_text(&self, text: &str) {
        self.wait(text, |screen| screen.contents().contains(text).then_some(()));
    }

    /// Wait until some row of the screen holds all these words.
    #[track_caller]
    pub fn wait_line(&self, words: &[&str]) -> String {
        self.wait(&words.join(" … "), |screen| {
            screen.rows(0, screen.size().1).find(|row| words.iter().all(|word| row.contains(word)))
        })
    }

    /// What the screen shows now.
    pub fn contents(&self) -> String {
        self.state().parser.screen().contents()
    }

    /// All bytes that were ever written.
    pub fn raw(&self) -> Vec<u8> {
        self.state().raw.clone()
    }

    /// All that was ever written, as text.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.raw()).into_owned()
    }

    /// Whether what is typed is shown by the terminal itself.
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.far).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    /// Wait for the end of the program; gives its exit code. The terminal is as it was, and all is on the screen.
    #[track_caller]
    pub fn finish(mut self) -> (Option<i32>, String) {
        let code = wait_bounded(&mut self.child).code();
        let now = tcgetattr(&self.far).unwrap();
        assert_eq!(now.local_flags, self.before.local_flags, "echo and line editing are as they were");
        assert_eq!(now.input_flags, self.before.input_flags, "input is as it was");
        assert!(now.output_flags.contains(OutputFlags::OPOST), "output is as it was");
        // What stands before this has been read once this has.
        let shared = self.shared.clone();
        let marker = b"\n\x1b[8m<end>\x1b[m";
        nix::unistd::write(&self.far, marker).unwrap();
        let mut state = shared.0.lock().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !state.raw.ends_with(b"<end>\x1b[m") {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the terminal is not read to its end");
            state = shared.1.wait_timeout(state, left).unwrap().0;
        }
        let screen = state.parser.screen();
        assert!(!screen.hide_cursor() && !screen.alternate_screen(), "the cursor is shown, on the usual screen");
        let said = String::from_utf8_lossy(&state.raw).into_owned();
        let said = said.rsplit_once("\r\n\x1b[8m<end>").map_or(String::new(), |(said, _)| said.to_string());
        assert!(!said.contains("panicked"), "{said}");
        (code, said)
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What in a program's output is neither text nor one of the sequences that the program itself uses: colours, moving
/// the cursor, erasing, showing it.
pub fn foreign_controls(said: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = said;
    while let Some(at) = rest.find(|c: char| linerate::text::is_unsafe(c)) {
        let here = &rest[at..];
        let first = here.chars().next().unwrap();
        let own = match first {
            '\r' | '\n' => Some(1),
            '\x1b' => csi(here),
            _ => None,
        };
        if own.is_none() {
            found.push(here.chars().take(12).collect::<String>().escape_debug().to_string());
        }
        rest = &here[own.unwrap_or(first.len_utf8())..];
    }
    found
}

/// The length of a control sequence that a program may use.
fn csi(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("\x1b[")?;
    let len = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, ';' | '?')))?;
    let is_own =
        matches!(rest.as_bytes()[len], b'm' | b'A' | b'B' | b'C' | b'D' | b'G' | b'H' | b'J' | b'K' | b'h' | b'l');
    is_own.then_some(2 + len + 1)
}
