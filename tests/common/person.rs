//! One who is in the room of a share by `linerate chat`, without a terminal.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::wait_bounded;

/// Is there until the test ends.
pub struct Person {
    child: Child,
    input: ChildStdin,
    heard: BufReader<ChildStdout>,
}

impl Person {
    /// By this command.
    pub fn enter(command: &mut Command) -> Person {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, heard) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Person { child, input, heard }
    }

    pub fn say(&mut self, text: &str) {
        writeln!(self.input, "{text}").unwrap();
    }

    /// The next line that is shown.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        self.heard.read_line(&mut line).unwrap();
        line
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
