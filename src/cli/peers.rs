//! `linerate peers`: the shares that announce themselves on this network.

use std::time::Duration;

use anyhow::Context;

use super::{Exit, out};
use crate::cli::exit::Misuse;
use crate::share::announce::{self, Peer};
use crate::text::{printable_json, printable_str};
use crate::units::Span;

/// Longest time to listen.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// List the shares that announce themselves on this network. Their links, which let in, come from who shares.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate peers\n  linerate peers --json --wait 10s")]
pub(super) struct Args {
    /// Print one JSON array.
    #[arg(long)]
    json: bool,
    /// For how long to listen.
    #[arg(long, value_name = "TIME", default_value = "3s")]
    wait: Span,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.wait.0.is_zero() || args.wait.0 > WAIT_MAX {
        return Err(Misuse(format!("--wait {}: write a time from 1ms to {}", args.wait, Span(WAIT_MAX))).into());
    }
    let why = "nobody can be heard of: see that a network is up and that nothing keeps this user from UDP port 5353";
    let peers = announce::listen(args.wait.0).context(why)?;
    if args.json {
        out::print(&(printable_json(&serde_json::to_string_pretty(&peers)?) + "\n"))?;
        return Ok(Exit::Ok);
    }
    if peers.is_empty() {
        out::say("linerate: nobody announces a share on this network");
    }
    out::print(&peers.iter().map(lines).collect::<String>())?;
    Ok(Exit::Ok)
}

fn lines(peer: &Peer) -> String {
    let scheme = if peer.https { "https" } else { "http" };
    let at = |ip: &String| if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
    let addresses: Vec<String> =
        peer.addresses.iter().map(|ip| format!("{scheme}://{}:{}", at(ip), peer.port)).collect();
    let mut text =
        format!("{} on {}\n  {}\n", printable_str(&peer.title), printable_str(&peer.host), addresses.join(" "));
    if let Some(fingerprint) = &peer.fingerprint {
        text.push_str(&format!("  SHA-256 {fingerprint}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_tell_of_themselves_commands_no_terminal() {
        let peer = Peer {
            title: "\x1b[2Jphotos\n".to_string(),
            host: "desk\u{202e}".to_string(),
            https: true,
            addresses: vec!["192.0.2.1".to_string(), "2001:db8::1".to_string()],
            port: 7,
            fingerprint: None,
        };
        let text = lines(&peer);
        assert!(!text.contains('\x1b') && !text.contains('\u{202e}') && text.lines().count() == 2);
        assert!(text.contains("https://192.0.2.1:7 https://[2001:db8::1]:7"));
    }
}
