//! The options that `share`, `send` and `receive` have in common.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::watch::WatchArgs;
use crate::units::Span;

/// How it is hosted.
#[derive(Debug, Default, clap::Args)]
pub(in crate::cli) struct HostArgs {
    #[command(flatten)]
    pub(super) found: FoundArgs,
    #[command(flatten)]
    pub(super) trust: TrustArgs,
    #[command(flatten)]
    pub(super) watch: WatchArgs,
}

/// Where it is found.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Being found")]
pub(in crate::cli) struct FoundArgs {
    /// Where to listen; port 0 takes a free one [default: [::]:5291, which takes IPv4 too].
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: Option<SocketAddr>,
    /// Be reached only through this network interface, such as wlan0.
    #[arg(long, value_name = "NAME", conflicts_with = "listen")]
    pub(super) interface: Option<String>,
    /// Do not tell the network by mDNS that there is a share. The link, which lets in, is never told.
    #[arg(long)]
    pub(super) no_announce: bool,
}

/// Who comes in.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Trust")]
pub(in crate::cli) struct TrustArgs {
    /// Ask visitors for a password, besides the link; it is taken from LINERATE_SHARE_PASSWORD, else asked for here.
    #[arg(long)]
    pub(super) password: bool,
    /// The same with the password that is the first line of this file.
    #[arg(long, value_name = "PATH", conflicts_with = "password")]
    pub(super) password_file: Option<PathBuf>,
    /// End after so long, such as 1h: nobody comes in then, nor goes on. Open pages are told; what is moved then has 5 s
    /// to finish.
    #[arg(long, value_name = "TIME")]
    pub(super) expires: Option<Span>,
    /// Show this certificate, a chain in PEM, instead of the one that was made for this user.
    #[arg(long, value_name = "PATH", requires = "key")]
    pub(super) cert: Option<PathBuf>,
    /// The private key to --cert, in PEM.
    #[arg(long, value_name = "PATH", requires = "cert")]
    pub(super) key: Option<PathBuf>,
    /// In the clear: whoever can read the network reads everything, the link too. A warning on standard error says so,
    /// also with --quiet and --json.
    #[arg(long, conflicts_with_all = ["cert", "key"])]
    pub(super) http: bool,
}
