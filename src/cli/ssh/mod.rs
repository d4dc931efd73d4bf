//! Starting the far end over ssh, as scp does: nothing has to run there before, and nothing stays.
//!
//! ssh carries the far end's ticket to us, its errors, and its end: when our end of the pipe to its standard input
//! closes, however that comes about, it ends. The data goes its own way, but for `--through-ssh`.
//!
//! What a ticket holds is no business of this module: it is a secret word that is passed on and never shown. Neither
//! is what is done with the far end once it runs.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys::signals::Interrupts;

mod address;
mod args;
mod client;
mod error;
mod install;
mod quote;
mod target;
mod words;

pub use address::address_of_ssh_connection;
pub use args::{PortRange, SshArgs};
pub use error::SshError;
pub use install::install;
pub use target::Target;

use client::{Client, Heard};

/// The longest that a start takes: a person may have to type a password and take out a second factor.
pub const START_MAX: Duration = Duration::from_secs(60);
/// What a shell's start files may print before the ticket.
const NOISE_MAX: usize = 64 << 10;
/// How often ports are chosen anew when one is taken.
const PORT_ATTEMPTS: u32 = 4;
/// Ports that no service has as its own: what is free there is free for us.
const PRIVATE_PORTS: PortRange = PortRange { low: 49152, high: 65535 };
/// What the line with the ticket begins with.
const TICKET_MARK: &str = "linerate-ticket ";
/// What the tickets begin with that this release understands.
const TICKET_KIND: &str = "lr1";
/// A longer one is none.
const TICKET_MAX: usize = 4 << 10;
/// The program that we are, even when its file was replaced meanwhile.
const OUR_PROGRAM: &str = "/proc/self/exe";

/// A linerate that runs on the far end; it ends, and ssh with it, when this is dropped.
pub struct Remote {
    client: Client,
    ticket: String,
    /// Where to connect to instead of where the ticket says: the near end of the way through ssh.
    pub connect_to: Option<SocketAddr>,
}

impl Remote {
    /// Start `linerate serve --once --ticket-on-stdout` with `serve_args` on the far end and wait until it listens,
    /// at most [`START_MAX`] after the person's consent to `--install`, if that is asked for.
    pub fn start(args: &SshArgs, target: &Target, serve_args: &[OsString]) -> Result<Remote, SshError> {
        Remote::start_or_install(args, target, serve_args, Path::new(OUR_PROGRAM))
    }

    /// [`Remote::start`], where `program` is what `--install` copies.
    pub fn start_or_install(
        args: &SshArgs,
        target: &Target,
        serve_args: &[OsString],
        program: &Path,
    ) -> Result<Remote, SshError> {
        let wanted = if args.install { None } else { Some(Remote::launch(args, target, &args.program(), serve_args)) };
        match wanted {
            Some(Err(SshError::Missing { .. })) if args.is_default_program() && install::is_wanted(target) => {}
            Some(done) => return done,
            None => {}
        }
        install(args, target, program)?;
        // By its path: another one may stand before it in the PATH there.
        Remote::launch(args, target, &quote::program(install::PATH_THERE.as_ref()), serve_args)
    }

    /// The ticket. Whoever has it can use the far end: show it to nobody.
    pub fn ticket(&self) -> &str {
        &self.ticket
    }

    /// The last lines that ssh and the far end have said on standard error, safe to show: why it failed, perhaps.
    pub fn server_words(&self) -> Vec<String> {
        self.client.words().last()
    }

    /// Where there is no connection to it any more: end it; how ssh failed, if it did so by itself.
    pub fn end_of_lost(mut self) -> Option<String> {
        let has_ended = self.client.ends_by_itself();
        let ending = self.client.finish();
        (has_ended && ending.is_failure_of_ssh()).then(|| format!("its ssh has ended: {}", ending.words()))
    }

    /// End it, and hear what ssh and the far end had to say until then, in one line; empty if nothing.
    pub fn last_words(self) -> String {
        let ending = self.client.finish();
        if ending.lines.is_empty() { String::new() } else { ending.words() }
    }

    /// Start `program`, which is quoted already, over a way of its own.
    fn launch(args: &SshArgs, target: &Target, program: &[u8], serve_args: &[OsString]) -> Result<Remote, SshError> {
        let interrupts = hold_interrupts()?;
        let number =
            getrandom::u32().map_err(|error| SshError::System { what: "random numbers", error: error.into() })?;
        let mut words = String::new();
        for attempt in 0..PORT_ATTEMPTS {
            // The next one each time, so that a small range is tried as a whole.
            let way = Way::choose(args, number.wrapping_add(attempt))?;
            let script = script(program, &way.serve, serve_args);
            let mut client = Client::start(args, &way.options, target, &script)?;
            let Some(ticket) = wait_for_ticket(&mut client, target, Instant::now() + START_MAX, &interrupts)? else {
                let ending = client.finish();
                match (ending.is_port_taken(), args.remote_port) {
                    (true, _) if way.connect_to.is_some() => words = ending.taken_words(),
                    // The far end has tried them all.
                    (true, Some(range)) => return Err(SshError::of_range(target, range, ending.taken_words())),
                    _ => return Err(ending.into_error(target)),
                }
                continue;
            };
            return Ok(Remote { client, ticket, connect_to: way.connect_to });
        }
        let tried = format!("for --through-ssh in {PORT_ATTEMPTS} attempts");
        Err(SshError::Ports { target: target.clone(), tried, words })
    }
}

impl std::fmt::Debug for Remote {
    /// Without the ticket.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("connect_to", &self.connect_to).finish_non_exhaustive()
    }
}

/// How control and data reach the far end.
struct Way {
    /// Of ssh.
    options: Vec<String>,
    /// Of `linerate serve`.
    serve: Vec<String>,
    connect_to: Option<SocketAddr>,
}

impl Way {
    /// With the port of that number, where one port is to be chosen.
    fn choose(args: &SshArgs, number: u32) -> Result<Way, SshError> {
        let serve = |words: [&str; 2]| words.map(str::to_string).to_vec();
        if !args.through_ssh {
            // Forwardings that a config has for people could fail, and are of no use here.
            let options = ["-o", "ClearAllForwardings=yes"].map(str::to_string).to_vec();
            let range = args.remote_port.map(|range| serve(["--port-range", &range.to_string()]));
            return Ok(Way { options, serve: range.unwrap_or_default(), connect_to: None });
        }
        let local = free_port().map_err(|error| SshError::System { what: "no free port on 127.0.0.1", error })?;
        let remote = args.remote_port.unwrap_or(PRIVATE_PORTS).pick(number);
        let options = [
            "-o",
            "ExitOnForwardFailure=yes",
            // A connection of its own: a shared one would keep the forwarding when we are gone.
            "-o",
            "ControlPath=none",
            "-o",
            "Compression=no",
            "-L",
            &format!("127.0.0.1:{local}:127.0.0.1:{remote}"),
        ];
        Ok(Way {
            options: options.map(str::to_string).to_vec(),
            serve: serve(["--listen", &format!("127.0.0.1:{remote}")]),
            connect_to: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, local))),
        })
    }
}

/// A port that is free now. ssh says if it no longer is by then.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn hold_interrupts() -> Result<Interrupts, SshError> {
    Interrupts::hold().map_err(|error| SshError::System { what: "signals", error })
}

/// What `sh` does on the far end. The PATH of a shell that is not interactive often lacks the user's own folders;
/// they come last, as a program that an administrator has put there goes first.
fn script(program: &[u8], serve: &[String], serve_args: &[OsString]) -> Vec<u8> {
    let mut script = b"PATH=\"$PATH:$HOME/.local/bin:$HOME/.cargo/bin\"; export PATH; ".to_vec();
    // Paths begin at the home there, wherever the start files of a shell have gone.
    script.extend_from_slice(b"cd >/dev/null 2>&1; exec ");
    script.extend_from_slice(program);
    script.extend_from_slice(b" serve --once --ticket-on-stdout");
    for word in serve.iter().map(std::ffi::OsStr::new).chain(serve_args.iter().map(OsString::as_os_str)) {
        script.push(b' ');
        script.extend(quote::for_sh(word));
    }
    script
}

/// The ticket; `None` when the far end ends without one.
fn wait_for_ticket(
    client: &mut Client,
    target: &Target,
    until: Instant,
    interrupts: &Interrupts,
) -> Result<Option<String>, SshError> {
    let mut noise = 0;
    loop {
        match client.hear(until, interrupts) {
            Heard::Line(line) => match ticket_in(&line) {
                Found::Ticket(ticket) => return Ok(Some(ticket)),
                Found::OtherKind => {
                    let words = "it gave a ticket of another kind".to_string();
                    return Err(SshError::OtherRelease { target: target.clone(), words });
                }
                Found::Noise => noise += line.len(),
            },
            Heard::End => return Ok(None),
            Heard::Late => {
                let words = error::words(&client.words().last());
                return Err(SshError::Late { target: target.clone(), seconds: START_MAX.as_secs(), words });
            }
            Heard::Interrupted => return Err(SshError::Interrupted),
        }
        if noise > NOISE_MAX {
            return Err(SshError::Noise { target: target.clone(), kib: NOISE_MAX >> 10 });
        }
    }
}

/// What a line holds.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Ticket(String),
    OtherKind,
    Noise,
}

/// Noise may come without a newline at its end, so the ticket need not be at the start of its line.
fn ticket_in(line: &[u8]) -> Found {
    let text = String::from_utf8_lossy(line);
    let Some(at) = text.rfind(TICKET_MARK).filter(|_| text.ends_with('\n')) else { return Found::Noise };
    let ticket = text[at + TICKET_MARK.len()..].trim_end();
    let is_word = ticket.len() <= TICKET_MAX && ticket.chars().all(|c| c.is_ascii_graphic());
    match is_word && ticket.len() > TICKET_KIND.len() && ticket.starts_with(TICKET_KIND) {
        true => Found::Ticket(ticket.to_string()),
        false => Found::OtherKind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticket_is_found_in_what_a_shell_prints() {
        let ticket = || Found::Ticket("lr1abc".to_string());
        let table = [
            ("linerate-ticket lr1abc\n", ticket()),
            ("linerate-ticket lr1abc\r\n", ticket()),
            ("Welcome! linerate-ticket lr1abc\n", ticket()),
            ("\u{1b}[0mlinerate-ticket lr1abc\n", ticket()),
            // It was cut, or its end is still to come.
            ("linerate-ticket lr1abc", Found::Noise),
            ("linerate-ticket\n", Found::Noise),
            ("listening on 127.0.0.1:1\n", Found::Noise),
            ("\n", Found::Noise),
            ("linerate-ticket lr2abc\n", Found::OtherKind),
            ("linerate-ticket lr1\n", Found::OtherKind),
            ("linerate-ticket lr1a b\n", Found::OtherKind),
            ("linerate-ticket \n", Found::OtherKind),
        ];
        for (line, expected) in table {
            assert_eq!(ticket_in(line.as_bytes()), expected, "{line:?}");
        }
        let long = format!("{TICKET_MARK}{TICKET_KIND}{}\n", "a".repeat(TICKET_MAX));
        assert_eq!(ticket_in(long.as_bytes()), Found::OtherKind);
    }

    /// A local program that takes the place of ssh.
    fn client(ssh: &str) -> Client {
        let args = SshArgs { ssh: ssh.to_string(), ..SshArgs::default() };
        Client::start(&args, &[], &"nas".parse().unwrap(), b"true").unwrap()
    }

    #[test]
    fn a_far_end_that_says_nothing_is_given_up() {
        std::thread::spawn(|| {
            let mut client = client("sh -c 'echo slow >&2; echo motd; exec sleep 60'");
            let interrupts = hold_interrupts().unwrap();
            while client.words().last().is_empty() {
                std::thread::yield_now();
            }
            let until = Instant::now() + Duration::from_millis(300);
            let error = wait_for_ticket(&mut client, &"nas".parse().unwrap(), until, &interrupts).unwrap_err();
            assert!(error.to_string().starts_with("nas: no linerate got ready within 60 s: slow: "), "{error}");
            assert_eq!(client.finish().code, None);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_ssh_that_will_not_end_is_killed() {
        let mut stubborn = client("sh -c 'trap \"\" TERM; echo linerate-ticket lr1x; while :; do sleep 0.1; done'");
        std::thread::spawn(move || {
            let interrupts = hold_interrupts().unwrap();
            let until = Instant::now() + START_MAX;
            let ticket = wait_for_ticket(&mut stubborn, &"nas".parse().unwrap(), until, &interrupts);
            assert_eq!(ticket.unwrap().as_deref(), Some("lr1x"));
            let start = Instant::now();
            assert_eq!(stubborn.finish().code, None);
            assert!(start.elapsed() < Duration::from_secs(10));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_way_is_in_the_options_of_both_ends() {
        let direct = SshArgs { remote_port: Some("7000-7009".parse().unwrap()), ..SshArgs::default() };
        let way = Way::choose(&direct, 3).unwrap();
        assert_eq!((way.serve, way.connect_to), (vec!["--port-range".to_string(), "7000-7009".to_string()], None));

        let through = SshArgs { remote_port: Some("7000".parse().unwrap()), through_ssh: true, ..SshArgs::default() };
        let way = Way::choose(&through, 3).unwrap();
        let near = way.connect_to.unwrap();
        assert!(near.ip().is_loopback());
        assert_eq!(way.options.last().unwrap(), &format!("{near}:127.0.0.1:7000"));
        assert_eq!(way.serve, ["--listen", "127.0.0.1:7000"]);
    }

    #[test]
    fn the_script_quotes_what_it_is_given() {
        let args = SshArgs { remote_linerate: "~/my bin/linerate".to_string(), ..SshArgs::default() };
        let script = script(&args.program(), &["--listen".to_string()], &["it's".into()]);
        let script = String::from_utf8(script).unwrap();
        let end = "exec \"$HOME\"/'my bin/linerate' serve --once --ticket-on-stdout '--listen' 'it'\\''s'";
        assert!(script.ends_with(end) && !script.contains('\n'), "{script}");
    }
}
