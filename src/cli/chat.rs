//! `linerate chat`: the room of a share, in a terminal.

mod editor;

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context;

use self::editor::{Editor, Printer, tell_signals};
use super::access::AccessArgs;
use super::exit::Misuse;
use super::share::visit::{self, Strangers};
use super::{Exit, out};
use crate::share::client::events::{Heard, listen};
use crate::share::client::link::Link;
use crate::share::client::{Client, ClientError};
use crate::text::{printable_limit, printable_str};

/// Longest line that is read; the server takes less.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// What waits to be shown or sent.
const WAITING_MAX: usize = 64;
/// How often a lost connection is made again before that is the end.
const ATTEMPTS_MAX: u32 = 6;
/// How often a message is sent again that comes too soon after others.
const PATIENT_MAX: u32 = 60;
/// Longest name that is shown, and most of them in one line.
const NICK_CHARS_MAX: usize = 60;
const NAMES_MAX: usize = 20;

/// Talk with the people on a share: lines from standard input are said, what others say is printed.
///
/// On a terminal what others say is printed above the line that is being typed, and the arrow keys bring back what was
/// said before. It ends with its input (Ctrl-D), at Ctrl-C, and with the share.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  linerate chat https://192.168.1.5:5291/t/TOKEN --nick Ann --fingerprint 1f:0a:…")]
pub(super) struct Args {
    /// The link of the share, as it shows it.
    link: String,
    /// How to be called there [default: asked for on a terminal, else the name of the user].
    #[arg(long)]
    nick: Option<String>,
    #[command(flatten)]
    access: AccessArgs,
    /// Without a fingerprint, do not ask whether the one that is found is right.
    #[arg(long, conflicts_with = "fingerprint")]
    insecure: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let link: Link = args.link.parse().map_err(|error| Misuse(format!("{error}")))?;
    talk(&args, &link)
}

/// Something for the loop that shows and sends.
enum Turn {
    /// A line was not said.
    Unsaid(ClientError),
    /// There are no more lines, and all were said.
    InputEnded,
    /// Ctrl-C, or a signal that says the same.
    Interrupted,
    Heard(Heard),
    /// Nothing more is heard, though the share has not ended.
    Deaf(ClientError),
}

fn talk(args: &Args, link: &Link) -> anyhow::Result<Exit> {
    let strangers = if args.insecure { Strangers::Taken } else { Strangers::AskedOrInsecure };
    let client = visit::open(link, &args.access, strangers)?;
    let nick = nick(args);
    let listener = client.again().with_context(|| link.origin())?;
    let (tell, turns) = sync_channel(WAITING_MAX);
    let (hear, called) = (tell.clone(), nick.clone());
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name(name.to_string()).spawn(work).context("a thread cannot be started")
    };
    spawn("events", Box::new(move || keep_listening(listener, &called, &hear)))?;
    let mut typing = Some((tell, Speaker { client, nick }));
    let mut called = String::new();
    let mut screen = Screen { is_tty: io::stdin().is_terminal(), ..Screen::default() };
    let mut exit = Exit::Ok;
    while let Ok(turn) = turns.recv() {
        match turn {
            Turn::Unsaid(error) if error.status().is_some() => {
                exit = Exit::Partial;
                screen.say(&format!("linerate: not sent: {error}"));
            }
            Turn::InputEnded => return Ok(exit),
            Turn::Interrupted => return Ok(Exit::Interrupted),
            Turn::Heard(Heard::Bye) => {
                screen.close();
                out::say("the share has ended");
                return Ok(exit);
            }
            Turn::Heard(heard) => {
                if let Heard::Hello { nick, .. } = &heard {
                    called.clone_from(nick);
                }
                // Whoever may not chat has no name, and is not told who is there.
                let is_in =
                    matches!(&heard, Heard::Who(_)) || matches!(&heard, Heard::Hello { nick, .. } if nick.is_empty());
                screen.show(heard)?;
                // Only whoever is known there speaks: what is typed is read when it is shown what was said, and who is
                // there.
                if let Some((tell, mut speaker)) = typing.take_if(|_| is_in) {
                    let (type_in, typed) = sync_channel(WAITING_MAX);
                    let told = tell.clone();
                    spawn("speaker", Box::new(move || speaker.speak(&typed, &told)))?;
                    match Editor::new(&called)? {
                        Some((editor, printer)) => {
                            screen.above = Some(printer);
                            tell_signals(&tell)?;
                            spawn("input", Box::new(move || editor.read_lines(&type_in, &tell)))?;
                        }
                        None => drop(spawn("input", Box::new(move || read_lines(&type_in)))?),
                    }
                }
            }
            Turn::Unsaid(error) | Turn::Deaf(error) => {
                screen.close();
                return Err(anyhow::Error::from(error).context(link.origin()));
            }
        }
    }
    Ok(exit)
}

/// How to be called: as it was said, or is said now; else as the user is called here.
fn nick(args: &Args) -> String {
    if let Some(nick) = &args.nick {
        return nick.clone();
    }
    let user = std::env::var("USER").unwrap_or_default();
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return user;
    }
    let asked = format!("your name there [{}]: ", printable_limit(user.as_bytes(), NICK_CHARS_MAX));
    let answer = out::ask_text(&asked, LINE_BYTES_MAX);
    Some(answer).filter(|answer| !answer.is_empty()).unwrap_or(user)
}

/// Says what is typed.
struct Speaker {
    client: Client,
    nick: String,
}

impl Speaker {
    /// Until there is nothing more.
    fn speak(&mut self, typed: &Receiver<String>, tell: &SyncSender<Turn>) {
        for text in typed {
            if let Err(error) = self.say(&text)
                && tell.send(Turn::Unsaid(error)).is_err()
            {
                return;
            }
        }
        let _ = tell.send(Turn::InputEnded);
    }

    /// Say something; what comes too soon after others is said a little later, and what a lost connection may have
    /// taken with it is said again.
    fn say(&mut self, text: &str) -> Result<(), ClientError> {
        let body = serde_json::json!({ "text": text, "nick": self.nick });
        let (mut soon, mut lost) = (0, 0);
        loop {
            let error = match self.client.post_json("/api/chat", &body).and_then(|reply| reply.finish()) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.status() == Some(429) && soon < PATIENT_MAX {
                soon += 1;
                std::thread::sleep(Duration::from_secs(1));
            } else if error.status().is_none() && error.is_passing() && lost < ATTEMPTS_MAX {
                std::thread::sleep(pause(lost));
                lost += 1;
            } else {
                return Err(error);
            }
        }
    }
}

/// How long to wait before trying again.
fn pause(attempt: u32) -> Duration {
    Duration::from_secs(1 << attempt.min(5)) / 2
}

/// Listen, and again when the connection is lost, until it is over.
fn keep_listening(mut client: Client, nick: &str, tell: &SyncSender<Turn>) {
    let (mut seen, mut attempt) = (0, 0);
    loop {
        let (mut is_over, mut is_wanted) = (false, true);
        let ended = listen(&mut client, nick, seen, |heard| {
            attempt = 0;
            is_over |= heard == Heard::Bye;
            if let Heard::Chat { number, .. } = &heard {
                seen = *number;
            }
            is_wanted = tell.send(Turn::Heard(heard)).is_ok();
            is_wanted && !is_over
        });
        if is_over || !is_wanted {
            return;
        }
        attempt += 1;
        if let Err(error) = ended
            && (!error.is_passing() || attempt >= ATTEMPTS_MAX)
        {
            let _ = tell.send(Turn::Deaf(error));
            return;
        }
        std::thread::sleep(pause(attempt));
        if let Ok(again) = client.again() {
            client = again;
        }
    }
}

fn read_lines(type_in: &SyncSender<String>) {
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        match (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        let text = String::from_utf8_lossy(&line).trim().to_string();
        if !text.is_empty() && type_in.send(text).is_err() {
            return;
        }
    }
}

/// What is on the terminal.
#[derive(Default)]
struct Screen {
    is_tty: bool,
    /// Prints above the line that is being typed, where there is such a line.
    above: Option<Printer>,
    you: String,
    people: Option<BTreeSet<String>>,
}

impl Screen {
    /// Say something that nobody else said.
    fn say(&mut self, text: &str) {
        match &mut self.above {
            Some(printer) => printer.print(&format!("{text}\n")),
            None => out::say(text),
        }
    }

    /// The end: the terminal is as it was, without the line that was being typed.
    fn close(&mut self) {
        if let Some(printer) = self.above.take() {
            printer.close();
        }
    }

    fn show(&mut self, heard: Heard) -> anyhow::Result<()> {
        match heard {
            Heard::Hello { you, nick } => {
                let is_again = !self.you.is_empty();
                self.you = you;
                self.say(&format!("{} {}", if is_again { "connected again, as" } else { "you are" }, name(&nick)));
            }
            Heard::Who(people) => self.show_people(people.into_iter().collect()),
            // What was typed on a terminal stands there.
            Heard::Chat { from, .. } if self.is_tty && from == self.you => {}
            Heard::Chat { nick, text, .. } => match &mut self.above {
                Some(printer) => printer.print(&message(&nick, &text)),
                None => out::print(&message(&nick, &text))?,
            },
            Heard::Bye => {}
        }
        Ok(())
    }

    fn show_people(&mut self, now: BTreeSet<String>) {
        let names = |names: Vec<&String>| {
            let some: Vec<String> = names.iter().take(NAMES_MAX).map(|nick| name(nick)).collect();
            let more = names.len().saturating_sub(NAMES_MAX);
            if more == 0 { some.join(", ") } else { format!("{} and {more} more", some.join(", ")) }
        };
        match self.people.take() {
            None => self.say(&format!("here: {}", names(now.iter().collect()))),
            Some(before) => {
                let (came, went): (Vec<_>, Vec<_>) =
                    (now.difference(&before).collect(), before.difference(&now).collect());
                if !came.is_empty() {
                    self.say(&format!("came: {}", names(came)));
                }
                if !went.is_empty() {
                    self.say(&format!("went: {}", names(went)));
                }
            }
        }
        self.people = Some(now);
    }
}

fn name(nick: &str) -> String {
    printable_limit(nick.as_bytes(), NICK_CHARS_MAX)
}

/// A message as lines; those after the first are set in, so that none looks like somebody else's.
fn message(nick: &str, text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(printable_str).collect();
    format!("{}: {}\n", name(nick), lines.join("\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_act_on_no_terminal_and_look_like_nobody_elses() {
        assert_eq!(message("Ann", "hello"), "Ann: hello\n");
        assert_eq!(message("A\u{1b}[2J", "x\nBob: y\u{202e}"), "A\\u{1b}[2J: x\n    Bob: y\\u{202e}\n");
        assert!(message(&"n".repeat(10_000), "x").len() < 300);
    }
}
