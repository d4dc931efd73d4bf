//! What the server says that files hash to, asked for on a connection of its own while they are downloaded.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;

use super::{Client, ClientError};

/// The server reads the file for it, and says nothing meanwhile.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// Asks for hashes.
pub(super) struct Hashes {
    questions: Option<Sender<(u64, String)>>,
    answers: Receiver<(u64, Result<Hashed, ClientError>)>,
    /// The number of the last question.
    last: u64,
    thread: Option<JoinHandle<()>>,
}

/// What a file is, as the server says.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Hashed {
    /// 64 hex digits.
    blake3: String,
    bytes: u64,
}

impl Hashed {
    /// Whether it is of such content.
    pub(super) fn is(&self, hash: &blake3::Hash, bytes: u64) -> bool {
        blake3::Hash::from_hex(&self.blake3).is_ok_and(|said| said == *hash) && self.bytes == bytes
    }
}

impl Hashes {
    /// Of the share of that client.
    pub(super) fn of(client: &Client) -> Result<Hashes, ClientError> {
        let mut client = client.again()?;
        client.patience = PATIENCE;
        let (questions, asked) = channel::<(u64, String)>();
        let (answer, answers) = channel();
        let ask = move || {
            for (number, path) in asked {
                let hashed = client.get(&format!("{path}?blake3")).and_then(|reply| reply.json());
                if answer.send((number, hashed)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("hashes".to_string()).spawn(ask).map_err(ClientError::System)?;
        Ok(Hashes { questions: Some(questions), answers, last: 0, thread: Some(thread) })
    }

    /// Ask for the hash of a file.
    pub(super) fn ask(&mut self, path: &str) {
        self.last += 1;
        if let Some(questions) = &self.questions {
            // Whoever asks nobody gets no answer.
            let _ = questions.send((self.last, path.to_string()));
        }
    }

    /// Wait for the answer to the last question. Those to questions before it, which nobody waited for, are dropped.
    pub(super) fn answer(&self) -> Result<Hashed, ClientError> {
        loop {
            let answer = self.answers.recv();
            let (number, hashed) = answer.map_err(|_| ClientError::Lies("nobody asks it for hashes any more"))?;
            if number == self.last {
                return hashed;
            }
        }
    }
}

impl Drop for Hashes {
    fn drop(&mut self) {
        self.questions = None;
        // A thread that waits for an answer that nobody wants is left to the end of the process.
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}
