//! One run of the bare loop: this program again, once as receiver and once as sender.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::common::child::Guard;
use crate::common::corpus::Corpus;
use crate::options::Options;
use crate::{bare_receive, bare_send};

/// Time for the sender to end once the receiver is gone.
const END_MAX: Duration = Duration::from_secs(10);

/// Bytes per second that its receiver took, by the receiver's own clock.
pub fn run(options: &Options, corpus: &Corpus, method: &str, size: u64) -> anyhow::Result<f64> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let (sender_cpu, receiver_cpu) = options.cpus;
    let millis = |time: Duration| time.as_millis().to_string();
    let mut command = Command::new(&program);
    command.args([bare_receive::ROLE, &receiver_cpu.to_string(), &size.to_string()]);
    command.args([millis(options.warmup), millis(options.duration)]);
    let mut receiver = Guard::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut said = BufReader::new(receiver.stdout.take().context("no output")?).lines();
    // The receiver bounds its own life, so these reads end.
    let mut line = || said.next().context("the bare receiver ended without a word")?.context("the bare receiver");
    let address = line()?;
    let mut command = Command::new(&program);
    command.args([bare_send::ROLE, &sender_cpu.to_string(), &size.to_string(), method, &address]);
    let mut sender = Guard::spawn(command.arg(corpus.path()).stdin(Stdio::null()))?;
    let rate = rate(&line()?)?;
    let status = sender.wait(END_MAX)?;
    anyhow::ensure!(status.success(), "the bare sender: {status}");
    Ok(rate)
}

/// `BYTES NANOSECONDS` as bytes per second.
fn rate(line: &str) -> anyhow::Result<f64> {
    let (bytes, ns) = line.split_once(' ').with_context(|| format!("the bare receiver said {line:?}"))?;
    let (bytes, ns): (u64, u64) = (bytes.parse()?, ns.parse()?);
    anyhow::ensure!(bytes > 0 && ns > 0, "nothing arrived within the window");
    Ok(bytes as f64 / ns as f64 * 1e9)
}
