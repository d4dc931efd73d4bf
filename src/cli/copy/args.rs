//! The options of a copy, as they are typed, and what they mean to the engine.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ArgAction;

use super::values::{self, Direct, Durability, Existing, Since};
use crate::cli::access::AccessArgs;
use crate::cli::exit::Misuse;
use crate::cli::reach::Ways;
use crate::cli::ssh::SshArgs;
use crate::engine::dial::Family;
use crate::measure::environment;
use crate::proto::copy::options::{Compression, CopyOptions, PIECE_BYTES_DEFAULT, Purpose, Selection};
use crate::proto::copy::report::Choice;
use crate::proto::message::SocketOptions;
use crate::store::filter::{Filter, FilterRules};
use crate::store::media::MediaKind;
use crate::transfer::choices::choice_of;
use crate::units::{Bytes, Rate, Span};

/// Most streams unless told otherwise.
const STREAMS_AUTO_MAX: usize = 8;

/// All options of a copy.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    #[command(flatten)]
    pub(super) landing: LandingArgs,
    #[command(flatten)]
    pub(super) proof: ProofArgs,
    #[command(flatten)]
    pub(super) pace: PaceArgs,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// What of the source is wanted.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct SelectionArgs {
    /// Only files that match one of these patterns, such as '*.rs' or '/src/**'.
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Nothing that matches one of these patterns, such as '*.tmp' or 'cache/' with all that is in it.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Only files of these kinds: video, audio, image, text, code, archive.
    #[arg(long = "type", value_name = "KINDS", value_delimiter = ',', value_parser = kind)]
    kinds: Vec<String>,
    /// Only files that were modified after this: 12h for the last twelve hours, or a date.
    #[arg(long, value_name = "TIME")]
    newer: Option<Since>,
    /// Only files of at most this size.
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Bytes>,
    /// Only files of at least this size.
    #[arg(long, value_name = "SIZE")]
    min_size: Option<Bytes>,
}

/// What becomes of it at the destination.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Destination")]
pub(super) struct LandingArgs {
    /// What becomes of a file that is there and differs.
    #[arg(long, value_name = "WHAT", value_enum, default_value = "replace")]
    existing: Existing,
    /// Remove what is there and not in the source; what a filter leaves out stays.
    #[arg(long)]
    pub(super) delete: bool,
    /// Do not ask before --delete.
    #[arg(long, short, requires = "delete")]
    pub(super) yes: bool,
    /// Say what would be done, and do nothing.
    #[arg(long, short = 'n')]
    pub(super) dry_run: bool,
    /// Further names of a file become hard links.
    #[arg(long, short = 'H')]
    hard_links: bool,
    /// Extended attributes and access lists, too.
    #[arg(long, short = 'X')]
    xattrs: bool,
    /// Users and groups by number, and set-uid bits; as root, and to a daemon only where it has --allow-owner.
    #[arg(long)]
    owner: bool,
    /// What outlasts a power failure: what is said to be done, content but perhaps not names, or nothing in particular.
    #[arg(long, value_name = "WHAT", value_enum, default_value = "full")]
    durability: Durability,
    /// Write past the page cache.
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    direct: Direct,
}

/// How it is proven.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Verification")]
pub(super) struct ProofArgs {
    /// Hash nothing: rely on the network and the disks.
    #[arg(long, conflicts_with_all = ["reread", "checksum"])]
    pub(super) no_verify: bool,
    /// Read what was stored back past the page cache, and hash it again.
    #[arg(long)]
    reread: bool,
    /// Compare files of the same length by content, whatever their times.
    #[arg(long)]
    checksum: bool,
    /// Write the hashes of all files there, as b3sum does.
    #[arg(long, value_name = "FILE")]
    pub(super) manifest: Option<PathBuf>,
}

/// How fast.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Pace")]
pub(super) struct PaceArgs {
    /// Data connections [default: by the cores of this machine, at most 8].
    #[arg(long, short = 'P', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    streams: Option<u32>,
    /// Bytes that one frame carries: a power of two from 64KiB to 16MiB.
    #[arg(long, value_name = "SIZE", value_parser = values::piece, default_value = "1MiB")]
    block: u64,
    /// Send no faster than this, over all streams, such as 100MB/s or 1Gbit/s.
    #[arg(long, value_name = "RATE")]
    limit: Option<Rate>,
    /// In the background: idle CPU and I/O classes on both ends.
    #[arg(long)]
    nice: bool,
    /// Compress what is sent: none, auto (where it shrinks and the network is what everything waits for), zstd[:LEVEL].
    #[arg(long, value_name = "HOW", value_parser = values::compression, default_value = "none")]
    compress: Compression,
}

/// The way there.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkArgs {
    /// Data streams unencrypted; control never is.
    #[arg(long)]
    clear: bool,
    /// Go on trying after a connection was lost, for so long since the last progress.
    #[arg(long, value_name = "TIME", default_value = "5min")]
    pub(super) retry_for: Span,
    #[command(flatten)]
    pub(super) way: WayArgs,
}

/// What all that is done with a peer has in common.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct WayArgs {
    /// Congestion control [default: the system's; cubic on loopback where the system's paces].
    #[arg(long, short = 'C', value_name = "NAME", help_heading = "Network")]
    congestion: Option<String>,
    /// Use IPv4 only.
    #[arg(short = '4', conflicts_with = "ipv6", action = ArgAction::SetTrue, help_heading = "Network")]
    ipv4: bool,
    /// Use IPv6 only.
    #[arg(short = '6', action = ArgAction::SetTrue, help_heading = "Network")]
    ipv6: bool,
    /// Our own address.
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub(super) bind: Option<IpAddr>,
    #[command(flatten)]
    pub(in crate::cli) access: AccessArgs,
    #[command(flatten)]
    ssh: SshArgs,
}

/// What comes out.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Events on standard output, one JSON object a line, instead of text.
    #[arg(long)]
    pub(super) json: bool,
    /// Say nothing but what failed.
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// Write what was done there, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) receipt: Option<PathBuf>,
}

fn kind(text: &str) -> Result<String, String> {
    text.parse::<MediaKind>().map(|_| text.to_string()).map_err(|error| error.to_string())
}

impl Options {
    /// Those of whoever gives none.
    pub(super) fn usual() -> anyhow::Result<Options> {
        use clap::{Args as _, FromArgMatches as _};
        let matches = Options::augment_args(clap::Command::new("copy")).try_get_matches_from(["copy"])?;
        Ok(Options::from_arg_matches(&matches)?)
    }

    /// What both ends have to know.
    pub(super) fn copy_options(&self) -> Result<CopyOptions, Misuse> {
        let Options { landing, proof, pace, .. } = self;
        if pace.limit.is_some_and(|rate| rate.0 == 0) {
            let why = "--limit 0: nothing would ever arrive: leave it out, or write a rate such as 100MB/s";
            return Err(Misuse(why.to_string()));
        }
        let options = CopyOptions {
            purpose: if landing.dry_run { Purpose::DryRun } else { Purpose::Copy },
            verify: !proof.no_verify,
            reread: proof.reread,
            checksum: proof.checksum,
            hard_links: landing.hard_links,
            owner: landing.owner,
            xattrs: landing.xattrs,
            existing: landing.existing.into(),
            durability: landing.durability.into(),
            delete: landing.delete,
            piece_bytes: pace.block,
            direct: landing.direct.into(),
            compress: pace.compress,
            limit: pace.limit.map(|rate| rate.0),
            nice: pace.nice,
            selection: self.selection.selection()?,
        };
        options.check().map_err(|why| Misuse(why.to_string()))?;
        Ok(options)
    }

    /// Data streams.
    pub(super) fn streams(&self) -> u32 {
        self.pace.streams.unwrap_or_else(|| streams_for(std::thread::available_parallelism().map_or(1, |n| n.get())))
    }

    /// What follows from no option but from what is so by default, with its reason. `congestion` is what the sockets
    /// have.
    pub(super) fn choices(&self, congestion: Option<&str>, is_local: bool) -> Vec<Choice> {
        let Options { landing, pace, network, .. } = self;
        let or = |is_default: bool, option: &'static str, why: &'static str| if is_default { why } else { option };
        let why = or(pace.streams.is_none(), "--streams", "one for every two cores of this machine, at most 8");
        let mut choices = match is_local {
            true => vec![choice_of("streams", 0, "within one machine nothing goes over a network")],
            false => vec![choice_of("streams", self.streams(), why)],
        };
        let is_default = pace.block == PIECE_BYTES_DEFAULT;
        let why = or(is_default, "--block", "by default: large enough to be moved at full speed, small in memory");
        choices.push(choice_of("block", pace.block, why));
        let is_default = matches!(landing.durability, Durability::Full);
        let why = or(is_default, "--durability", "by default: what is said to be done outlasts a power failure");
        choices.push(choice_of("durability", landing.durability.name(), why));
        if let Some(name) = congestion {
            let is_chosen = network.way.congestion.is_none();
            let why = or(is_chosen, "--congestion", "the system's default paces, which slows loopback down");
            choices.push(choice_of("congestion", name, why));
        }
        if is_local && pace.compress != Compression::None {
            choices.push(choice_of("compress", "none", "within one machine nothing is compressed"));
        }
        choices
    }

    /// Data streams are encrypted.
    pub(super) fn tls(&self) -> bool {
        !self.network.clear
    }

    /// Options of data streams to a peer; on loopback where it is this machine.
    pub(super) fn sockets(&self, is_loopback: bool) -> SocketOptions {
        // Smooths what the bucket lets through; the bucket holds for all streams together.
        self.network.way.sockets(is_loopback)
    }
}

impl WayArgs {
    /// How peers are reached.
    pub(super) fn ways(&self) -> Ways<'_> {
        let family = match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        };
        Ways { access: &self.access, ssh: &self.ssh, family, bind: self.bind }
    }

    /// Options of data streams.
    pub(super) fn sockets(&self, is_loopback: bool) -> SocketOptions {
        let unpaced = || environment::congestion_of_loopback().filter(|_| is_loopback).map(str::to_string);
        SocketOptions { congestion: self.congestion.clone().or_else(unpaced), ..SocketOptions::default() }
    }
}

impl SelectionArgs {
    fn selection(&self) -> Result<Selection, Misuse> {
        // What makes no sense is said before anybody is called.
        let rules = FilterRules {
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            min_size: self.min_size.map(|size| size.0),
            max_size: self.max_size.map(|size| size.0),
            ..FilterRules::default()
        };
        Filter::new(rules).map_err(|error| Misuse(error.to_string()))?;
        Ok(Selection {
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            kinds: self.kinds.clone(),
            newer: self.newer.map(|since| since.unix),
            max_size: self.max_size.map(|size| size.0),
            min_size: self.min_size.map(|size| size.0),
        })
    }
}

/// With one core for each stream both ends of a machine would have none for hashing and storing.
fn streams_for(cores: usize) -> u32 {
    // At most 8.
    cores.div_ceil(2).clamp(1, STREAMS_AUTO_MAX) as u32
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::proto::copy::options;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        options: Options,
    }

    fn parse(words: &[&str]) -> Result<CopyOptions, String> {
        let whole = Whole::try_parse_from([&["x"], words].concat()).map_err(|error| error.to_string())?;
        whole.options.copy_options().map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_everything_is_as_it_is_by_default() {
        assert_eq!(parse(&[]), Ok(CopyOptions::default()));
    }

    #[test]
    fn options_reach_the_engine() {
        let all = parse(&[
            "-HX",
            "--owner",
            "--reread",
            "--checksum",
            "--existing",
            "keep-newer",
            "--durability",
            "none",
            "--delete",
            "--yes",
            "--block",
            "64KiB",
            "--direct",
            "on",
            "--compress",
            "zstd:9",
            "--limit",
            "1MB/s",
            "--nice",
            "--include",
            "*.a",
            "--include",
            "*.b",
            "--exclude",
            "c/",
            "--type",
            "image,code",
            "--newer",
            "1970-01-02",
            "--max-size",
            "1KiB",
            "--min-size",
            "1",
            "-n",
        ]);
        let selection = Selection {
            include: vec!["*.a".to_string(), "*.b".to_string()],
            exclude: vec!["c/".to_string()],
            kinds: vec!["image".to_string(), "code".to_string()],
            newer: Some((86_400, 0)),
            max_size: Some(1024),
            min_size: Some(1),
        };
        let wanted = CopyOptions {
            purpose: Purpose::DryRun,
            verify: true,
            reread: true,
            checksum: true,
            hard_links: true,
            owner: true,
            xattrs: true,
            existing: options::Existing::KeepNewer,
            durability: options::Durability::None,
            delete: true,
            piece_bytes: 64 << 10,
            direct: options::Direct::On,
            compress: Compression::Zstd(9),
            limit: Some(1_000_000),
            nice: true,
            selection,
        };
        assert_eq!(all, Ok(wanted));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for words in [
            &["--no-verify", "--reread"][..],
            &["--no-verify", "--checksum"],
            &["--yes"],
            &["--streams", "0"],
            &["--streams", "1000"],
            &["--type", "cake"],
            &["--include", "["],
            &["--limit", "0"],
            &["--min-size", "2", "--max-size", "1"],
            &["--existing", "never"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn streams_grow_with_the_cores() {
        let table = [(1, 1), (2, 1), (3, 2), (4, 2), (15, 8), (64, 8)];
        assert!(table.iter().all(|(cores, streams)| streams_for(*cores) == *streams));
    }
}
