//! What every mover of files stands behind: a job in, a server that runs and the words of its client out.

use std::path::{Path, PathBuf};

use crate::process::{Process, Words};
use crate::setup::Setup;
use crate::trees::Source;
use crate::workload::Kind;

/// One run's job.
pub struct Job<'a> {
    /// The workload.
    pub kind: Kind,
    /// What is moved.
    pub source: &'a Source,
    /// The folder in which it has to arrive, under the same name.
    pub destination: &'a Path,
    /// A folder of this run's own, for configurations.
    pub folder: &'a Path,
    /// Keys and certificates.
    pub setup: &'a Setup,
}

impl Job<'_> {
    /// Start a program as all programs here are started.
    pub fn start(&self, words: &Words) -> anyhow::Result<Process> {
        Process::start(words, &self.setup.home())
    }

    /// Where the source arrives.
    pub fn target(&self) -> PathBuf {
        self.destination.join(&self.source.name)
    }

    /// The client's words, with the sync after it that a durable workload asks of those who cannot do it themselves.
    pub fn durable(&self, words: Words) -> Words {
        if !self.kind.is_durable() {
            return words;
        }
        let shell = ["sh", "-c", "\"$@\" && sync -f \"$0\""].map(String::from);
        shell.into_iter().chain([text(self.destination)]).chain(words).collect()
    }
}

/// A mover at its start line.
pub struct Ready {
    /// Its server, which listens already.
    pub server: Option<Process>,
    /// What to run, and to time.
    pub client: Words,
    /// Whether the job is done only once the server has ended by itself too.
    pub server_ends: bool,
}

impl Ready {
    /// With a server that goes on for ever.
    pub fn with(server: Process, client: Words) -> Ready {
        Ready { server: Some(server), client, server_ends: false }
    }

    /// Without any.
    pub fn alone(client: Words) -> Ready {
        Ready { server: None, client, server_ends: false }
    }
}

/// A mover.
pub trait Mover {
    /// How to call it in a table.
    fn label(&self) -> String;

    /// The versions of its programs; the reason why it cannot be used here.
    fn version(&self) -> Result<String, String>;

    /// Whether it takes part in a workload.
    fn plays(&self, kind: Kind) -> bool;

    /// Everything that comes before the time is taken.
    fn ready(&self, job: &Job) -> anyhow::Result<Ready>;

    /// Whether it is linerate.
    fn is_ours(&self) -> bool {
        false
    }
}

/// A path in a command line. All of ours are UTF-8 as far as the folders are that were asked for.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The words of a command.
pub fn words<const N: usize>(words: [&str; N]) -> Words {
    words.map(String::from).to_vec()
}
