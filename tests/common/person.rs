//! One who is in the room of a share by `linerate chat`, without a terminal.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use super::{PATIENCE, wait_bounded};

/// Is there until the test ends.
pub struct Person {
    child: Child,
    input: ChildStdin,
    heard: Receiver<String>,
}

impl Person {
    /// By this command.
    pub fn enter(command: &mut Command) -> Person {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        Person { child, input, heard }
    }

    pub fn say(&mut self, text: &str) {
        writeln!(self.input, "{text}").unwrap();
    }

    /// The next line that is shown; nothing at the end.
    pub fn hear(&mut self) -> String {
        match self.heard.recv_timeout(PATIENCE) {
            Ok(line) => line + "\n",
            Err(RecvTimeoutError::Disconnected) => String::new(),
            Err(RecvTimeoutError::Timeout) => panic!("nothing more is shown"),
        }
    }

    /// Wait until the program ends by itself: its code.
    pub fn wait(mut self) -> Option<i32> {
        wait_bounded(&mut self.child).code()
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
