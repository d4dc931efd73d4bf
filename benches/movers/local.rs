//! Movers without a network: `cp`, and `dd` as the bound of a disk.

use crate::mover::{Job, Mover, Ready, text, words};
use crate::programs::versions;
use crate::workload::Kind;

/// `cp -a`.
pub struct Cp;

impl Mover for Cp {
    fn label(&self) -> String {
        "cp -a".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        versions([("cp", "--version")])
    }

    fn plays(&self, kind: Kind) -> bool {
        !matches!(kind, Kind::Tls | Kind::Again)
    }

    fn ready(&self, job: &Job) -> anyhow::Result<Ready> {
        let copy = words(["cp", "-a", &text(&job.source.path), &text(&job.target())]);
        Ok(Ready::alone(job.durable(copy)))
    }
}

/// `dd` past the page cache: what the disk takes, not that it is there for good.
pub struct Dd;

impl Mover for Dd {
    fn label(&self) -> String {
        "dd oflag=direct bs=1M".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        versions([("dd", "--version")])
    }

    fn plays(&self, kind: Kind) -> bool {
        kind == Kind::BigDisk
    }

    fn ready(&self, job: &Job) -> anyhow::Result<Ready> {
        let (from, to) = (format!("if={}", text(&job.source.path)), format!("of={}", text(&job.target())));
        Ok(Ready::alone(words(["dd", &from, &to, "oflag=direct", "bs=1M", "status=none"])))
    }
}
